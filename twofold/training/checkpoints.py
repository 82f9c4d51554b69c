"""Checkpoints: everything a run needs to go on as if it had never stopped.

`checkpoints/step-00001200/` holds model.safetensors (what is learned of it), optimizer.safetensors (one of each for
every process) and state.json with the counters and the SHA-256 of the others. A folder takes its name only when it is
whole and on the disk, so a kill at any moment leaves the older ones. A damaged newest one is set aside for the one
before.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from twofold.errors import FileError
from twofold.files import atomic_folder, read_json, sha256, write_json
from twofold.models.transformer import Transformer
from twofold.training.adapting import learned
from twofold.training.optimizers import Optimizer
from twofold.training.parallel import Ranks
from twofold.training.slices import file_name, read_parts, write_parts

ALONE = Ranks()
KEEP = 2  # the newest, and one to fall back on
_NAME = re.compile(r"step-(\d{8,})")


def list_checkpoints(run: Path) -> list[Path]:
    """The whole checkpoints of a run folder, oldest first."""
    folder = run / "checkpoints"
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if _NAME.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")))


def save_checkpoint(
    run: Path, model: Transformer, optimizer: Optimizer, state: dict[str, Any], ranks: Ranks = ALONE
) -> Path:
    """Write `checkpoints/step-N` (N = state["step"]) and drop all but the newest KEEP.

    Every process writes the part that it holds, into one folder that all of them see. Raises FileError in each
    when one of them cannot.
    """
    path = run / "checkpoints" / f"step-{state['step']:08d}"
    if ranks.agree(path.exists()):
        return path
    kinds = {"model": learned(model), "optimizer": optimizer.tensors()}
    with atomic_folder(path) if ranks.first else nullcontext() as folder:
        folder = ranks.agree(folder)

        def write() -> dict[str, str]:
            found = {}
            for kind, tensors in kinds.items():
                name = file_name(kind, ranks.rank, ranks.world)
                write_parts(folder / name, tensors)
                found[name] = sha256(folder / name)
            return found

        written = ranks.all(write)
        if ranks.first:
            hashes = {name: digest for found in written for name, digest in found.items()}
            state = {**state, "sha256": hashes}
            write_json(folder / "state.json", {**state, "sha256_of_state": _digest(state)})
    ranks.agree(None)  # it has its name
    for old in list_checkpoints(run)[:-KEEP] if ranks.first else ():
        shutil.rmtree(old, ignore_errors=True)
    return path


def load_checkpoint(
    run: Path,
    model: Transformer,
    optimizer: Optimizer,
    tell: Callable[[str], None],
    ranks: Ranks = ALONE,
) -> dict[str, Any] | None:
    """Put the newest sound checkpoint into `model` and `optimizer`; return its state, None if there is none.

    A damaged one is named through `tell`, and the one before it is used. Raises FileError when
    checkpoints exist but none is sound.
    """
    for half_written in (run / "checkpoints").glob("*.partial") if ranks.first else ():
        shutil.rmtree(half_written, ignore_errors=True)
    checkpoints = ranks.agree(list_checkpoints(run))
    faults = []
    for path in reversed(checkpoints):
        try:
            state = ranks.all(partial(_load, path, model, optimizer, ranks))[0]
        except FileError as error:
            faults.append(str(error))
            continue
        for fault in faults:
            tell(f"{fault} Going on from {path.name} instead.")
        ranks.agree(path)  # everyone has read, before names change
        for later in checkpoints[checkpoints.index(path) + 1 :] if ranks.first else ():
            later.rename(later.with_name(later.name + ".damaged"))
        return state
    if faults:
        raise FileError(
            "None of the run's checkpoints can be used:\n  "
            + "\n  ".join(faults)
            + f"\nMove {run} away to begin again, or bring its checkpoints back from a copy."
        )
    return None


def _digest(state: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def _load(path: Path, model: Transformer, optimizer: Optimizer, ranks: Ranks) -> dict[str, Any]:
    state = read_json(path / "state.json")
    if not isinstance(state, dict) or state.pop("sha256_of_state", None) != _digest(state):
        raise FileError(f"{path / 'state.json'} is damaged: its contents have changed since it was written.")
    hashes = state["sha256"]
    for name in sorted(hashes)[ranks.rank :: ranks.world]:  # the processes share the checking
        if sha256(path / name) != hashes[name]:
            raise FileError(f"{path / name} is damaged: its contents have changed since it was written.")
    for kind, tensors in (("model", learned(model)), ("optimizer", optimizer.tensors())):
        read_parts([path / name for name in sorted(hashes) if name.startswith(kind)], tensors)
    return state
