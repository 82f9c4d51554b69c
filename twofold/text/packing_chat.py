"""Packing conversations into rows for fine-tuning: whole ones only, and what room is left is padding.

A conversation is never cut across rows, because an answer without its question teaches the wrong thing.
First-fit decreasing over lengths (D. S. Johnson, 1973) leaves little room. Which conversations share a
row changes from epoch to epoch among those of equal length, and so does the order of the rows; how many
rows there are does not, so row k of epoch e is a function of (seed, e).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from twofold.errors import DataError, UsageError
from twofold.text.packing import IGNORED, Piece, plan_whole, shuffled


def fitting_length(is_learned: np.ndarray, limit: int) -> int:
    """How many tokens of a conversation to keep so that it has at most `limit`: all of them, or up to the
    end of the last whole assistant turn that fits, or 0 where none does (skip it).

    is_learned: bool [n], True on the assistant's tokens; each unbroken run of them is a turn.
    """
    learned = np.asarray(is_learned, bool)
    if len(learned) <= limit:
        return len(learned)
    turn_ends = np.flatnonzero(learned & ~np.append(learned[1:], False)) + 1
    return int(max(turn_ends[turn_ends <= limit], default=0))


def pack_conversations(
    lengths: Sequence[int] | np.ndarray, row_length: int, *, seed: int = 0, epoch: int = 0
) -> list[list[int]]:
    """Which conversations make up each row: lists of indexes, each index once.

    lengths: places each conversation takes in a row; 0 leaves it out.
    Raises DataError where one is longer than a row: shorten it first (`fitting_length`).
    """
    lengths = np.asarray(lengths, np.int64)
    if row_length < 1:
        raise UsageError(f"A row needs at least one token, not {row_length}.")
    if len(lengths) and (int(lengths.max()) > row_length or int(lengths.min()) < 0):
        raise DataError(f"A conversation has {int(lengths.max())} tokens; a row has room for {row_length}.")
    order = shuffled(len(lengths), seed, epoch)
    order = order[lengths[order] > 0]
    pieces = [
        Piece(number, 0, size) for number, size in zip(order.tolist(), lengths[order].tolist(), strict=True)
    ]
    rows = [[piece.document for piece in row] for row in plan_whole(pieces, row_length)]
    return [rows[place] for place in shuffled(len(rows), seed, epoch, 1).tolist()]


class PackedConversations:
    """Fine-tuning rows over tokenized conversations, epoch after epoch; used as `PackedRows` is.

    A conversation of n tokens takes n - 1 steps: its last token is no input. Targets that are not the
    assistant's tokens, and padding, are IGNORED.
    rows_per_epoch; truncated and skipped: how many conversations did not fit whole, or not at all.
    """

    def __init__(self, conversations: Sequence[tuple[np.ndarray, np.ndarray]], length: int, *, seed: int = 0):
        """conversations: (token ids, is_learned) of each, both [n]. length: steps in a row."""
        self.length, self.seed = length, seed
        self.truncated = self.skipped = 0
        self._kept: list[tuple[np.ndarray, np.ndarray]] = []
        for ids, is_learned in conversations:
            keep = fitting_length(is_learned, length + 1)
            if keep < 2 or not np.any(is_learned[1:keep]):
                self.skipped += 1
                continue
            self.truncated += keep < len(ids)
            self._kept.append((np.asarray(ids[:keep]), np.asarray(is_learned[:keep], bool)))
        if not self._kept:
            raise DataError(
                f"No conversation can be learned from: none has an assistant's turn within {length} tokens."
            )
        self._lengths = np.array([len(ids) - 1 for ids, _ in self._kept], np.int64)
        self._epoch, self._rows = 0, pack_conversations(self._lengths, length, seed=seed)
        self.rows_per_epoch = len(self._rows)

    def __len__(self) -> int:
        """How many conversations are learned from."""
        return len(self._kept)

    def epoch(self, row: int) -> int:
        """The epoch that a row belongs to."""
        return row // self.rows_per_epoch

    def conversations(self, row: int) -> list[int]:
        """Which conversations row `row` (from 0, over all epochs) holds; numbers of those kept."""
        epoch, place = divmod(row, self.rows_per_epoch)
        if epoch != self._epoch:
            self._rows = pack_conversations(self._lengths, self.length, seed=self.seed, epoch=epoch)
            self._epoch = epoch
        return self._rows[place]

    def batch(self, first_row: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows `first_row` to `first_row + count`: inputs_BT, targets_BT and parts_BT (which conversation of its
        row a step belongs to, from 0; -1 for padding), int64."""
        inputs = np.zeros((count, self.length), np.int64)
        targets = np.full((count, self.length), IGNORED, np.int64)
        parts = np.full((count, self.length), -1, np.int64)
        for row in range(count):
            place = 0
            for part, number in enumerate(self.conversations(first_row + row)):
                ids, is_learned = self._kept[number]
                end = place + len(ids) - 1
                inputs[row, place:end] = ids[:-1]
                targets[row, place:end] = np.where(is_learned[1:], ids[1:], IGNORED)
                parts[row, place:end] = part
                place = end
        return inputs, targets, parts
