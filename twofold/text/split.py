"""Which text is held out, decided before anything is trained.

Whole documents, in the order of their keyed digest: whether a text is held out hangs on the text and the
seed, not on where it stood in which file. Where too few documents exist for that (one long book), the
ends of the longest are held out instead, cut at a border a reader would accept.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

HELD_OUT_LIMIT = 4_000_000  # bytes; more makes evaluation slower and no more certain

# Borders from best to worst; the cut falls behind the match.
_BORDERS = (
    re.compile(rb"\n[ \t]*\n\s*"),
    re.compile(rb"\n\s*"),
    re.compile(rb"[.!?][\"')\]]*\s+|" + "。|！|？".encode()),
    re.compile(rb"\s+"),
)


def choose_documents(digests: np.ndarray, sizes: np.ndarray, budget: int) -> np.ndarray | None:
    """The documents to hold out, int64 indexes in order of digest; None where fewer than half of
    `budget` bytes could be gathered from whole documents.

    digests: uint64 [n, 2]; sizes: int64 [n] bytes. A document larger than what is left is passed over,
    so that one long document cannot take the place of all others.
    """
    left, chosen = budget, []
    for number in np.lexsort((digests[:, 1], digests[:, 0])):
        size = int(sizes[number])
        if size <= left:
            chosen.append(int(number))
            left -= size
            if left < budget // 50:
                break
    if budget - left < budget / 2 or len(chosen) == len(sizes):
        return None
    return np.array(chosen, np.int64)


def choose_ends(
    sizes: np.ndarray, budget: int, tail_of: Callable[[int, int], bytes]
) -> list[tuple[int, int]]:
    """Pairs (document, bytes to hold out from its end), from the longest document on, up to half of each.

    tail_of(document, count): the last `count` bytes of a document.
    """
    left, ends = budget, []
    for number in np.argsort(-sizes, kind="stable"):
        wanted = min(left, int(sizes[number]) // 2)
        if wanted < max(budget // 50, 1):
            break
        tail = tail_of(int(number), wanted)
        held = len(tail) - find_border(tail)
        if held and tail[len(tail) - held :].strip():
            ends.append((int(number), held))
            left -= held
    return ends


def find_border(tail: bytes) -> int:
    """Where in the first half of `tail` a paragraph, else a line, a sentence, a word, a character begins."""
    half = max(len(tail) // 2, 1)
    for border in _BORDERS:
        found = border.search(tail, 0, half)
        if found:
            return found.end()
    place = 0
    while place < len(tail) and tail[place] & 0xC0 == 0x80:  # inside a UTF-8 character
        place += 1
    return place
