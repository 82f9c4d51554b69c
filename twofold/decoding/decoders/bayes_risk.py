"""Minimum-Bayes-risk choice: of many samples, the one that the others agree with most.

Sources: Kumar & Byrne 2004; Eikema & Aziz 2020 (arXiv 2005.10283). The utility is chrF, the F-score of character
n-grams (Popović 2015), here of bytes of the text, or of tokens where no text is known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from twofold.decoding.branch import Branch
from twofold.decoding.decoders.decoder import Answer, Program
from twofold.decoding.draw import Draw
from twofold.decoding.task import Task
from twofold.errors import UsageError

ORDERS = 6  # of n-grams
BETA = 2  # how much more recall counts


@dataclass(frozen=True, slots=True)
class MinimumBayesRisk:
    """`n` samples; the `keep` with the highest mean utility against all of them (equal ones count each)."""

    n: int = 16
    keep: int = 1

    def __post_init__(self) -> None:
        if self.n < 2 or not 1 <= self.keep <= self.n:
            raise UsageError(f"n must be 2 or more and keep from 1 to n; they are {self.n} and {self.keep}.")

    def program(self, task: Task) -> Program:
        """Draw, compare all with all, and tell the best."""
        branches = yield Draw([task.start()] * self.n, tell=False)
        texts = [_units(task, branch) for branch in branches]
        scores = expected_utility(texts)
        order = sorted(range(self.n), key=lambda i: -scores[i])[: self.keep]
        for rank, i in enumerate(order):
            task.tell(rank, branches[i])
        return [Answer(branches[i], scores[i]) for i in order]


def _units(task: Task, branch: Branch) -> tuple:
    tokens = [token for token in branch.chosen if token not in task.stop_ids]
    return tuple(tokens) if task.token_bytes is None else tuple(b"".join(map(task.token_bytes, tokens)))


def expected_utility(texts: Sequence[tuple]) -> list[float]:
    """The mean chrF of each text against all, itself included, from 0 to 1."""
    counts = [[_ngrams(text, order) for order in range(1, ORDERS + 1)] for text in texts]
    return [sum(chrf(own, other) for other in counts) / len(texts) for own in counts]


def chrf(candidate: Sequence[Counter], reference: Sequence[Counter]) -> float:
    """F-score of n-gram precision and recall, each averaged over the orders that both texts have."""
    precision, recall, orders = 0.0, 0.0, 0
    for own, other in zip(candidate, reference, strict=True):
        a, b = own.total(), other.total()
        if not a or not b:
            continue
        common = sum(min(count, other[gram]) for gram, count in own.items())
        precision, recall, orders = precision + common / a, recall + common / b, orders + 1
    if not orders:  # one of them is empty
        return float(candidate[0].total() == reference[0].total())
    precision, recall = precision / orders, recall / orders
    if not precision + recall:
        return 0.0
    return (1 + BETA**2) * precision * recall / (BETA**2 * precision + recall)


def _ngrams(units: tuple, order: int) -> Counter:
    return Counter(units[i : i + order] for i in range(len(units) - order + 1))
