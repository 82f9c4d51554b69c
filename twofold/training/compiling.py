"""Whether to compile the step: tried on the machine at hand, timed beside the plain one, and remembered.

torch.compile fuses what lies between the matrix products. It takes a C++ compiler and from ten seconds to a
minute, and what it gains differs between processors, from nothing to nearly half. So a run that is long
enough for it tries both ways once; the answer is kept for the next run of the same shape on this machine.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from twofold.errors import TwofoldError
from twofold.files import read_json, write_json

WORTH_TRYING = 150.0  # seconds of run, below which compiling would cost more than it could gain
GAIN = 1.05  # times as fast as the plain step, to be used


def cannot_compile(error: BaseException) -> bool:
    """Whether `error` says that this machine cannot compile (no compiler, or one that fails)."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & {"TorchDynamoException", "InductorError", "BackendCompilerFailed", "CppCompileError"})


def seconds_of(step: Callable[[], Any], tries: int = 3) -> float:
    """The least time of `tries` calls, after one that does not count."""
    step()
    best = float("inf")
    for _ in range(tries):
        start = time.perf_counter()
        step()
        best = min(best, time.perf_counter() - start)
    return best


class Remembered:
    """A small file of answers, by machine and shape. One that cannot be read or written is as good as none."""

    def __init__(self, shape: Any, folder: Path | None = None) -> None:
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        self.path = (folder or Path(cache) / "twofold") / "compiling.json"
        machine = [platform.node(), os.cpu_count(), torch.get_num_threads(), torch.__version__]
        self.key = hashlib.sha256(json.dumps([machine, shape], sort_keys=True).encode()).hexdigest()[:16]

    def get(self) -> bool | None:
        """Whether compiling paid off for this shape here; None: not known."""
        found = self._all().get(self.key)
        return found if isinstance(found, bool) else None

    def put(self, pays: bool) -> None:
        """Keep the answer."""
        try:
            write_json(self.path, {**self._all(), self.key: pays})
        except TwofoldError:
            return

    def _all(self) -> dict[str, Any]:
        try:
            found = read_json(self.path) if self.path.is_file() else {}
        except (TwofoldError, OSError):
            return {}
        return found if isinstance(found, dict) else {}
