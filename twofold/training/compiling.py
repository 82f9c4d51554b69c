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
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from twofold.errors import TwofoldError
from twofold.files import read_json, write_json

WORTH_TRYING = 150.0  # seconds of run, below which compiling would cost more than it could gain
GAIN = 1.05  # times as fast as the plain step, to be used


def cannot_compile(error: BaseException) -> bool:
    """Whether `error` says that this machine cannot compile (no compiler, or one that fails)."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & {"TorchDynamoException", "InductorError", "BackendCompilerFailed", "CppCompileError"})


def can_compile(first_call: Callable[[], Any]) -> bool:
    """Whether the first call of what torch.compile gave goes through."""
    try:
        first_call()
    except Exception as error:
        if not cannot_compile(error):
            raise
        return False
    return True


def seconds_of(step: Callable[[], Any], tries: int = 3) -> float:
    """The least time of `tries` calls, after one that does not count."""
    step()
    best = float("inf")
    for _ in range(tries):
        start = time.perf_counter()
        step()
        best = min(best, time.perf_counter() - start)
    return best


class Computation:
    """How the loss is computed, plainly or compiled: `loss_of(model, batch)`.

    One region holds all of it where a process has the whole model. Where many share it, each block is compiled
    for itself, since weights arrive between them.
    """

    def __init__(self, objective: Callable[..., Tensor], blocks: Iterable[nn.Module] = ()) -> None:
        self.plain = self.loss_of = objective
        self.blocks = [(block, block.forward) for block in blocks]

    def compile(self) -> None:
        """From now on compiled; the work is done at the first call."""
        if not self.blocks:
            self.loss_of = torch.compile(self.plain, dynamic=False)
            return
        limits = torch._dynamo.config  # each block is another program, as it knows its number
        limits.recompile_limit = max(limits.recompile_limit, 8 + 2 * len(self.blocks))
        for block, forward in self.blocks:
            block.forward = torch.compile(forward, dynamic=False)

    def undo(self) -> None:
        """Plain again."""
        self.loss_of = self.plain
        for block, forward in self.blocks:
            block.forward = forward

    @contextmanager
    def set_aside(self) -> Iterator[None]:
        """Plain blocks for a while: for rows of other lengths, each of which would be compiled anew."""
        compiled = [block.forward for block, _ in self.blocks]
        for block, forward in self.blocks:
            block.forward = forward
        yield
        for (block, _), forward in zip(self.blocks, compiled, strict=True):
            block.forward = forward


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
