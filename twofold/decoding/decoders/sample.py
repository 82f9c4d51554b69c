"""Sampling, greedy choice, and the best of several samples.

Sources: best-of-n by the model's own log-probability is the baseline of Meister et al. 2022 (arXiv 2202.00666);
by its mean a token (length-normalised), Murray & Chiang 2018 (arXiv 1808.10006).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from twofold.decoding.decoders.decoder import Answer, Program
from twofold.decoding.draw import Draw
from twofold.decoding.task import Task
from twofold.errors import UsageError


@dataclass(frozen=True, slots=True)
class Sample:
    """`n` answers drawn as the settings say (temperature 0: the best token each time), in their own streams
    of randomness: answer i is what a request with seed + i would say."""

    n: int = 1

    def __post_init__(self) -> None:
        if self.n < 1:
            raise UsageError(f"n must be 1 or more, and is {self.n}.")

    def program(self, task: Task) -> Program:
        """The engine draws for all requests at once, until this one's answers are finished."""
        branches = yield Draw([task.start()] * self.n)
        return [Answer(branch) for branch in branches]


@dataclass(frozen=True, slots=True)
class BestOf:
    """The `keep` best of `n` samples, by the model's own log-probability, whole or a token."""

    n: int = 8
    keep: int = 1
    by: Literal["total", "mean"] = "total"

    def __post_init__(self) -> None:
        if self.n < 1 or not 1 <= self.keep <= self.n:
            raise UsageError(f"n must be 1 or more and keep from 1 to n; they are {self.n} and {self.keep}.")
        if self.by not in ("total", "mean"):
            raise UsageError(f"by must be total or mean, and is {self.by}.")

    def program(self, task: Task) -> Program:
        """Draw all, without telling; then rank."""
        branches = yield Draw([task.start()] * self.n, tell=False)
        ranked = sorted(map(Answer, branches), key=self._score, reverse=True)[: self.keep]
        for i, answer in enumerate(ranked):
            task.tell(i, answer.branch)
        return [Answer(answer.branch, self._score(answer)) for answer in ranked]

    def _score(self, answer: Answer) -> float:
        total = answer.branch.log_probability
        return total if self.by == "total" else total / max(1, answer.branch.count)
