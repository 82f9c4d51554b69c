"""Which texts have been met: a hash table of 128-bit digests in flat arrays.

A Python set of ten million digests takes about a gigabyte; this takes a third of that, and the digests,
in order of first meeting, are wanted afterwards anyway. Open addressing with linear probing.
"""

from __future__ import annotations

import struct
from array import array

import numpy as np

_HALVES = struct.Struct(">QQ").unpack


class SeenDigests:
    """Digests of 16 bytes, each once, numbered from 0 in order of arrival."""

    def __init__(self) -> None:
        self._halves = array("Q")  # two a digest
        self._slots = array("I", bytes(4 * 1024))  # 0 is empty, n + 1 is digest number n
        self._mask = len(self._slots) - 1

    def __len__(self) -> int:
        return len(self._halves) // 2

    def add(self, digest: bytes) -> bool:
        """Remember a digest; True where it is new. Room for 2**31 digests."""
        high, low = _HALVES(digest)
        halves, slots, mask = self._halves, self._slots, self._mask
        place = low & mask
        while number := slots[place]:
            if halves[2 * number - 1] == low and halves[2 * number - 2] == high:
                return False
            place = (place + 1) & mask
        halves.append(high)
        halves.append(low)
        slots[place] = len(halves) // 2
        if len(halves) > len(slots):  # more than half full
            self._grow()
        return True

    def _grow(self) -> None:
        size = 2 * len(self._slots)
        self._slots = slots = array("I", bytes(4 * size))
        self._mask = mask = size - 1
        for number, low in enumerate(self._halves[1::2], 1):
            place = low & mask
            while slots[place]:
                place = (place + 1) & mask
            slots[place] = number

    def array(self) -> np.ndarray:
        """All digests as uint64 [n, 2], the high half first: a view, and no more can be added while it is
        held."""
        return np.frombuffer(self._halves, np.uint64).reshape(-1, 2)
