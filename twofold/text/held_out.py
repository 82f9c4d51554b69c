"""Evaluation rows: every held-out document exactly once, in fixed order, by itself.

Each document is scored as a user would score it: from its start token on, with no other text before it.
A document longer than a row is cut into consecutive pieces; each scores its own tokens, the first of
them from one token of context. Neither start nor end tokens are targets, because they are not text: bits
per byte = (sum of -log2 p over all targets) / text_bytes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from twofold.errors import DataError, UsageError
from twofold.text.packing import IGNORED
from twofold.text.shards import Shards


class HeldOutRows:
    """Rows of inputs and targets over documents. tokens: targets in all; text_bytes: the UTF-8 bytes that
    they spell; documents: how many documents they cover."""

    def __init__(self, shards: Shards, length: int, *, most_tokens: int | None = None):
        """length: steps in a row. most_tokens: use only as many of the first documents as keep within it
        (at least one), None for all."""
        if length < 1:
            raise UsageError(f"A row needs at least one token, not {length}.")
        self.shards, self.length = shards, length
        targets = shards.lengths - 1  # of each document
        self.documents = shards.documents
        if most_tokens is not None:
            within = int(np.searchsorted(np.cumsum(targets), most_tokens, side="right"))
            self.documents = max(within, 1)
            targets = targets[: self.documents]
        self.tokens = int(targets.sum())
        self.text_bytes = int(shards.document_bytes[: self.documents].sum())
        if not self.tokens or not self.text_bytes:
            raise DataError("The held-out documents hold no text to score.")
        pieces = -(-targets // length)
        # For each row: its document, its first step, and how many steps it has.
        self._document = np.repeat(np.arange(self.documents), pieces)
        ordinal = np.arange(len(self._document)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        self._start = ordinal * length
        self._steps = np.minimum(targets[self._document] - self._start, length)

    def __len__(self) -> int:
        return len(self._document)

    def rows(self, numbers: np.ndarray | range) -> tuple[np.ndarray, np.ndarray]:
        """inputs_BT and targets_BT, int64, of the rows with these numbers. T is the longest of them;
        shorter ones end in IGNORED targets."""
        numbers = np.asarray(numbers, np.int64)
        width = int(self._steps[numbers].max())
        inputs = np.zeros((len(numbers), width), np.int64)
        targets = np.full((len(numbers), width), IGNORED, np.int64)
        for place, number in enumerate(numbers.tolist()):
            start, steps = int(self._start[number]), int(self._steps[number])
            tokens = self.shards[int(self._document[number])][start : start + steps + 1]
            inputs[place, :steps] = tokens[:-1]
            targets[place, :steps] = tokens[1:]
        return inputs, targets

    def batches(self, steps: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """All rows once, in batches of at most `steps` places (rows x longest row; at least one row).
        Rows of like length go together, so that little of a batch is padding."""
        order = np.argsort(-self._steps, kind="stable")
        first = 0
        while first < len(order):
            count = max(steps // int(self._steps[order[first]]), 1)
            yield self.rows(order[first : first + count])
            first += count
