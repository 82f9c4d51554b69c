"""Beam search, and diverse beam search in groups.

Length penalty and early stopping mean what they mean in `transformers`, whose results this equals: a finished
text has the score sum of log-probabilities / length ** length_penalty, twice as many candidates as beams are
looked at, and only those among the best `width` may finish.

Sources: Lowerre 1976; Vijayakumar et al. 2016 (arXiv 1610.02424), algorithm 1, with the Hamming penalty.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from twofold.decoding.branch import Branch
from twofold.decoding.decoders.decoder import Answer, Program
from twofold.decoding.decoders.expansion import Expansion
from twofold.decoding.task import Task
from twofold.errors import TwofoldError, UsageError


@dataclass(frozen=True, slots=True)
class Beam:
    """Keep the `width` most probable texts at each step; the `keep` best finished ones are the answers.

    length_penalty: above 0 favours long texts, below 0 short ones; 0 ranks by probability alone.
    early_stopping: False stops when the best running beam is not better than the worst finished one as of
    now; True as soon as `width` are finished; "never" only when no longer text could be better.
    """

    width: int = 4
    keep: int = 1
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False

    def __post_init__(self) -> None:
        _check_width(self.width, self.keep)
        if self.early_stopping not in (True, False, "never"):
            raise UsageError(f"early_stopping must be true, false or never, and is {self.early_stopping}.")

    def program(self, task: Task) -> Program:
        """Search, telling what all beams agree on."""
        beams = Beams(task, self.width, self.length_penalty, self.early_stopping)
        while beams.is_open:
            beams.step(Expansion(task, (yield beams.branches), beams.branches))
            task.tell_common(beams.candidates)
        return told(task, beams.finished[: self.keep])


@dataclass(frozen=True, slots=True)
class DiverseBeam:
    """`groups` beam searches of `width / groups` beams beside each other; in each step a group's scores lose
    `penalty` for each time an earlier group has just chosen that token."""

    width: int = 4
    groups: int = 2
    penalty: float = 0.5
    keep: int = 1
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False

    def __post_init__(self) -> None:
        _check_width(self.width, self.keep)
        if self.groups < 1 or self.width % self.groups:
            raise UsageError(f"groups must divide width: {self.width} is not a multiple of {self.groups}.")

    def program(self, task: Task) -> Program:
        """Search in all groups with one question a step."""
        size = self.width // self.groups
        groups = [Beams(task, size, self.length_penalty, self.early_stopping) for _ in range(self.groups)]
        while live := [group for group in groups if group.is_open]:
            self._step(task, live, (yield _all_branches(live)))
            task.tell_common([branch for group in groups for branch in group.candidates])
        finished = sorted((f for group in groups for f in group.finished), key=lambda f: -f[0])
        return told(task, finished[: self.keep])

    def _step(self, task: Task, groups: list[Beams], scores: Tensor) -> None:
        """One token for each group, in order: later ones see what earlier ones chose."""
        row_of = {id(branch): row for row, branch in enumerate(_all_branches(groups))}
        chosen: list[int] = []
        for group in groups:
            rows = [row_of[id(branch)] for branch in group.branches]
            expansion = Expansion(task, scores[rows], group.branches)
            changed = expansion.scores.clone()
            for token in chosen:
                changed[:, token] -= self.penalty
            chosen += group.step(expansion, changed)


def _all_branches(groups: list[Beams]) -> list[Branch]:
    return [branch for group in groups for branch in group.branches]


class Beams:
    """One beam search: `running` and `finished` are (score, branch), best first."""

    def __init__(
        self, task: Task, width: int, length_penalty: float, early_stopping: bool | Literal["never"]
    ) -> None:
        self.task = task
        self.width = width
        self.length_penalty = length_penalty
        self.early_stopping = early_stopping
        self.running: list[tuple[float, Branch]] = [(0.0, task.start())]
        self.finished: list[tuple[float, Branch]] = []
        self.is_open = True
        # so many candidates that enough go on even if every beam's best token ends it
        self._looked_at = max(2, 1 + len(task.stop_ids)) * width

    @property
    def branches(self) -> list[Branch]:
        """Those that go on."""
        return [branch for _, branch in self.running]

    @property
    def candidates(self) -> list[Branch]:
        """All that may still win, or begin what wins: the best finished text and the running ones that could
        become better."""
        best = self.finished[0][0] if self.finished else -math.inf
        length = self.task.longest if self.length_penalty > 0 else 1
        running = (
            [b for total, b in self.running if self._normed(total, length) > best] if self.is_open else []
        )
        return [branch for _, branch in self.finished[:1]] + running

    def step(self, expansion: Expansion, scores: Tensor | None = None) -> list[int]:
        """Go one token further; the tokens chosen. `scores`: others to choose by."""
        best = expansion.best([score for score, _ in self.running], self._looked_at, scores)
        running: list[tuple[float, Branch]] = []
        tokens = []
        for rank, (total, row, token) in enumerate(best):
            if len(running) == self.width:
                break
            branch = expansion.extend(row, token)
            if branch.finish is None:
                running.append((total, branch))
                tokens.append(token)
            elif rank < self.width:
                self.finished.append((self._normed(total, branch.count), branch))
                tokens.append(token)
        self.finished = sorted(self.finished, key=lambda pair: -pair[0])[: self.width]
        self.running = running
        self.is_open = bool(running) and not self._is_decided(running[0])
        return tokens

    def _is_decided(self, best: tuple[float, Branch]) -> bool:
        """Whether `width` texts are finished and no running one can be better."""
        if len(self.finished) < self.width:
            return False
        if self.early_stopping is True:
            return True
        length = best[1].count
        if self.early_stopping == "never" and self.length_penalty > 0:
            length = self.task.longest
        return self._normed(best[0], length) <= self.finished[-1][0]

    def _normed(self, total: float, length: int) -> float:
        return total / length**self.length_penalty


def told(task: Task, finished: list[tuple[float, Branch]]) -> list[Answer]:
    """The answers of a search, told to whoever listens. Raises TwofoldError if there is none."""
    if not finished:
        raise TwofoldError(
            "The search came to an end without a text: bans, penalties and mask together allow no token that "
            "goes on. Allow more."
        )
    for i, (_, branch) in enumerate(finished):
        task.tell(i, branch)
    return [Answer(branch, score) for score, branch in finished]


def _check_width(width: int, keep: int) -> None:
    if width < 1 or not 1 <= keep <= width:
        raise UsageError(f"width must be 1 or more and keep from 1 to width; they are {width} and {keep}.")
