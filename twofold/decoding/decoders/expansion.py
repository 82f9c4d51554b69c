"""What a search looks at: the next tokens of several branches, with what each would add."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from twofold.decoding.branch import Branch
from twofold.decoding.distribution import check
from twofold.decoding.draw import allowed_mass, best_tokens
from twofold.decoding.task import Task


class Expansion:
    """The children of `branches`, from the scores [B, V] after them.

    `logs`: the model's own log-probabilities; `scores`: the same after bias, bans, penalties and mask, -inf
    for what cannot be.
    """

    def __init__(self, task: Task, scores_BV: Tensor, branches: Sequence[Branch]) -> None:
        if not scores_BV.amax(-1).isfinite().all():
            check(-1)  # NaN, infinite, or nothing possible: says so
        self.task = task
        self.branches = branches
        self.logs = scores_BV.log_softmax(-1)
        self.scores = task.scores(scores_BV, branches)
        self._raw = scores_BV
        self._allowed: dict[int, float] | None = None
        self._best: dict[int, tuple] = {}

    def best(self, totals: Sequence[float], count: int, scores: Tensor | None = None) -> list[tuple]:
        """The `count` best (total, row, token) of all children, where `totals` is what each branch has so
        far; those that cannot be are left out. `scores`: others to rank by."""
        scores = self.scores if scores is None else scores
        start = torch.tensor(totals, dtype=torch.float64, device=scores.device)
        sums_N = (scores.double() + start[:, None]).flatten()
        values, places = sums_N.topk(min(count, len(sums_N)))
        width = scores.shape[1]
        return [
            (value, place // width, place % width)
            for value, place in zip(values.tolist(), places.tolist(), strict=True)
            if value != float("-inf")
        ]

    def extend(self, row: int, token: int) -> Branch:
        """One child."""
        branch = self.branches[row]
        if branch.mask is not None and self._allowed is None:
            rows = [self.task.row(branch) for branch in self.branches]
            self._allowed = allowed_mass(self._raw, rows)
        if self.task.alternatives and row not in self._best:
            self._best[row] = best_tokens(self._raw[row : row + 1], self.task.alternatives)[0]
        return self.task.extend(
            branch,
            token,
            float(self.logs[row, token]),
            allowed=(self._allowed or {}).get(row, 0.0),
            alternatives=self._best.get(row, ()),
        )
