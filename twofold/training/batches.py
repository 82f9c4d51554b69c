"""Batches for the loop: a pure function of the step, so that a resumed run sees what it would have seen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch

from twofold.text.packing import PackedRows
from twofold.training.objectives import Batch


class Batches(Protocol):
    """What the loop asks of its data."""

    def step(self, step: int, first: int = 0, rows: int | None = None) -> Batch:
        """The batch of a step, or `rows` of its rows from `first` on."""
        ...

    def epoch(self, step: int) -> float:
        """How many times the data has been seen when `step` begins."""


class RowBatches:
    """`rows` consecutive packed rows for each step."""

    def __init__(self, packed: PackedRows, rows: int) -> None:
        self.packed, self.rows = packed, rows

    def step(self, step: int, first: int = 0, rows: int | None = None) -> Batch:
        """The step's rows, or some of them, of T tokens each."""
        found = self.packed.batch(step * self.rows + first, self.rows if rows is None else rows)
        return Batch(*map(torch.from_numpy, found))

    def epoch(self, step: int) -> float:
        """Rows given so far over rows an epoch."""
        return step * self.rows / self.packed.rows_per_epoch


def split_batch(batch: Batch, rows: int | None) -> Iterator[Batch]:
    """Cut a batch into micro-batches of `rows` rows; None leaves it whole."""
    if rows is None or rows >= len(batch.inputs):
        yield batch
        return
    for first in range(0, len(batch.inputs), rows):
        yield batch.each(lambda tensor, first=first: tensor[first : first + rows])
