"""Tensors that many processes hold between them, in safetensors files: each process writes what it holds.

The files of N processes are read by any other number: a file says of each of its tensors that is not whole which
part of the whole it is, and a reader takes from every file what falls into its own part. No process ever holds
more than its share. One process writes plain safetensors of whole tensors.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from twofold.errors import FileError
from twofold.files import explained
from twofold.training.parallel import part_of

_PARTS = "parts"  # the metadata's key: {name: [shape of the whole, offset of this part]}


def file_name(kind: str, part: int, parts: int) -> str:
    """`kind.safetensors`, or one of many."""
    return f"{kind}.safetensors" if parts == 1 else f"{kind}-{part + 1:05d}-of-{parts:05d}.safetensors"


def write_parts(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write what this process holds of `tensors` and no process before it has. Raises FileError."""
    held, parts = {}, {}
    for name, tensor in tensors.items():
        local, offset, writes = part_of(tensor.detach())
        if writes and (local.numel() or not tensor.numel()):
            held[name] = local.cpu().contiguous()
            if local.shape != tensor.shape:
                parts[name] = [list(tensor.shape), list(offset)]
    with explained(path, "write"):
        try:
            save_file(held, path, metadata={_PARTS: json.dumps(parts)} if parts else None)
        except SafetensorError as error:  # how the library reports a full disk
            raise FileError(f"Cannot write {path}: {error}. Free some space and go on.") from error
        with open(path, "rb") as file:
            os.fsync(file.fileno())


@torch.no_grad()
def read_parts(paths: list[Path], targets: dict[str, Tensor]) -> None:
    """Fill what this process holds of `targets` from the files of all the processes that wrote them.

    Raises FileError when a file is damaged, or when they do not hold just these tensors.
    """
    with ExitStack() as stack:
        where: dict[str, list[tuple[safe_open, list[int], tuple[int, ...]]]] = {}
        shapes = {}
        for path in paths:
            try:
                file = stack.enter_context(safe_open(path, "pt"))
                parts = json.loads((file.metadata() or {}).get(_PARTS, "{}"))
                for name in file.keys():  # noqa: SIM118 - not a dictionary
                    shape = file.get_slice(name).get_shape()
                    shapes[name], offset = parts.get(name, [shape, [0] * len(shape)])
                    where.setdefault(name, []).append((file, offset, tuple(shape)))
            except (SafetensorError, OSError, ValueError) as error:
                raise FileError(f"{path} is damaged: {error}.") from error
        if shapes != {name: list(target.shape) for name, target in targets.items()}:
            raise FileError(f"{paths[0].parent} belongs to a model of another shape.")
        for name, target in targets.items():
            local, offset, _ = part_of(target)
            filled = 0
            for file, begins, shape in where[name]:
                if (both := _overlap(offset, local.shape, begins, shape)) is None:
                    continue
                mine, theirs = both
                value = file.get_slice(name)[theirs] if shape else file.get_tensor(name)
                local[mine] = value.to(local)
                filled += value.numel()
            if filled != local.numel():
                raise FileError(f"{paths[0].parent} does not hold all of {name}.")


def _overlap(
    offset: tuple[int, ...], shape: tuple[int, ...], their_offset: list[int], their_shape: tuple[int, ...]
) -> tuple[tuple[slice, ...], tuple[slice, ...]] | None:
    """What two parts of one tensor have in common, as slices of the one and of the other."""

    def ranges() -> Iterator[tuple[slice, slice]]:
        for a, n, b, m in zip(offset, shape, their_offset, their_shape, strict=True):
            start, end = max(a, b), min(a + n, b + m)
            yield slice(start - a, end - a), slice(start - b, end - b)

    both = list(ranges())
    if any(mine.start >= mine.stop for mine, _ in both):
        return None
    return tuple(mine for mine, _ in both), tuple(theirs for _, theirs in both)
