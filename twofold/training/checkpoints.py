"""Checkpoints: everything a run needs to go on as if it had never stopped.

`checkpoints/step-00001200/` holds model.safetensors, optimizer.safetensors and state.json with the
counters and the SHA-256 of the other two. A folder takes its name only when it is whole and on the
disk, so a kill at any moment leaves the older ones. A damaged newest one is set aside for the one before.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from twofold.errors import FileError
from twofold.files import atomic_folder, explained, read_json, sha256, write_json
from twofold.models.transformer import Transformer
from twofold.training.optimizers import Optimizer

KEEP = 2  # the newest, and one to fall back on
_NAME = re.compile(r"step-(\d{8,})")


def list_checkpoints(run: Path) -> list[Path]:
    """The whole checkpoints of a run folder, oldest first."""
    folder = run / "checkpoints"
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if _NAME.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")))


def save_checkpoint(run: Path, model: Transformer, optimizer: Optimizer, state: dict[str, Any]) -> Path:
    """Write `checkpoints/step-N` (N = state["step"]) and drop all but the newest KEEP."""
    path = run / "checkpoints" / f"step-{state['step']:08d}"
    if path.exists():
        return path
    with atomic_folder(path) as folder:
        files = {"model.safetensors": model.state_dict(), "optimizer.safetensors": optimizer.tensors()}
        hashes = {}
        for name, tensors in files.items():
            with explained(folder / name, "write"):
                try:
                    save_file({key: t.detach().contiguous() for key, t in tensors.items()}, folder / name)
                except SafetensorError as error:  # how the library reports a full disk
                    raise FileError(
                        f"Cannot write the checkpoint {path}: {error}. Free some space and go on; the older "
                        "checkpoints are still there."
                    ) from error
            hashes[name] = sha256(folder / name)
        state = {**state, "sha256": hashes}
        write_json(folder / "state.json", {**state, "sha256_of_state": _digest(state)})
    for old in list_checkpoints(run)[:-KEEP]:
        shutil.rmtree(old, ignore_errors=True)
    return path


def load_checkpoint(
    run: Path, model: Transformer, optimizer: Optimizer, tell: Callable[[str], None]
) -> dict[str, Any] | None:
    """Put the newest sound checkpoint into `model` and `optimizer`; return its state, None if there is none.

    A damaged one is named through `tell`, and the one before it is used. Raises FileError when
    checkpoints exist but none is sound.
    """
    for half_written in (run / "checkpoints").glob("*.partial"):
        shutil.rmtree(half_written, ignore_errors=True)
    checkpoints = list_checkpoints(run)
    faults = []
    for path in reversed(checkpoints):
        try:
            state = _load(path, model, optimizer)
        except FileError as error:
            faults.append(str(error))
            continue
        for fault in faults:
            tell(f"{fault} Going on from {path.name} instead.")
        for later in checkpoints[checkpoints.index(path) + 1 :]:
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


def _load(path: Path, model: Transformer, optimizer: Optimizer) -> dict[str, Any]:
    state = read_json(path / "state.json")
    if not isinstance(state, dict) or state.pop("sha256_of_state", None) != _digest(state):
        raise FileError(f"{path / 'state.json'} is damaged: its contents have changed since it was written.")
    tensors = {}
    for name in ("model.safetensors", "optimizer.safetensors"):
        if sha256(path / name) != state["sha256"].get(name):
            raise FileError(f"{path / name} is damaged: its contents have changed since it was written.")
        try:
            tensors[name] = load_file(path / name)
        except SafetensorError as error:
            raise FileError(f"{path / name} is damaged: {error}.") from error
    own = model.state_dict()
    weights = tensors["model.safetensors"]
    if {n: t.shape for n, t in own.items()} != {n: t.shape for n, t in weights.items()}:
        raise FileError(f"{path} belongs to a model of another shape.")
    optimizer.load(tensors["optimizer.safetensors"], str(path))
    with torch.no_grad():
        for name, target in own.items():
            target.copy_(weights[name])
    return state
