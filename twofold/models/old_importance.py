"""The form that llama.cpp's imatrix files had before they were GGUFs, often named `.dat` or `.imatrix`.

Little-endian: the number of entries (int32); for each its name (int32 length, bytes), `calls` and `values` (int32),
and the mean squares times `calls` (float32 [values]); then how many chunks were read and which text, which newer ones
have. Experts stand one after the other in one entry: their widths cannot be told, so those of no model that opens here.
Source: llama.cpp (`tools/imatrix/imatrix.cpp`, its legacy form).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from twofold.errors import FileError

_MOST_ENTRIES = 1 << 17
_LONGEST_NAME = 256
_MOST_COLUMNS = 1 << 24  # of one entry
_MOST_BYTES = 1 << 30  # of a file; of the largest models it is less


def read_old_importance(path: Path) -> dict[str, np.ndarray]:
    """Mean squares, float32 [width], by llama.cpp's names of the tensors. Raises FileError."""
    data = np.memmap(path, dtype=np.uint8, mode="r")
    if len(data) > _MOST_BYTES:
        raise FileError(f"{path} has {len(data):,} bytes; no imatrix of a model that opens here is so large.")
    position = 0

    def take(count: int) -> bytes:
        nonlocal position
        if count > len(data) - position:
            raise FileError(f"{path} ends in the middle of an entry. It is cut short, or no imatrix.")
        position += count
        return data[position - count : position].tobytes()

    def number(least: int, most: int, what: str) -> int:
        value = int.from_bytes(take(4), "little", signed=True)
        if not least <= value <= most:
            raise FileError(f"{path} is no imatrix: {value:,} stands where {what} should.")
        return value

    found: dict[str, np.ndarray] = {}
    for _ in range(number(1, _MOST_ENTRIES, "the number of its entries")):
        name = take(number(1, _LONGEST_NAME, "the length of a name")).decode("utf-8", "replace")
        calls = number(0, (1 << 31) - 1, "a number of calls")
        sums = np.frombuffer(take(4 * number(0, _MOST_COLUMNS, "a number of columns")), "<f4")
        if name in found:
            raise FileError(f"{path}: {name[:80]!a} is there twice.")
        if not (np.isfinite(sums).all() and (sums >= 0).all()):
            raise FileError(f"{path}: {name[:80]!a} holds what is no sum of squares.")
        if calls and len(sums):  # else the matrix was never used
            found[name] = sums / np.float32(calls)
    if not found:
        raise FileError(f"{path} is no imatrix: it holds no sums of squares.")
    return found
