"""Contrastive search: a probable token whose place in the text is unlike what stood there before.

Of the k most probable tokens, the one with the highest (1 - alpha) · probability - alpha · similarity, where
similarity is the largest cosine between the model's last activations after that token and after each earlier
one. Deterministic, and with little repetition. Source: Su et al. 2022 (arXiv 2202.06417), equation 5.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from twofold.decoding.branch import Branch
from twofold.decoding.decoders.decoder import Answer, Program, Rows, States
from twofold.decoding.decoders.expansion import Expansion
from twofold.decoding.distribution import check
from twofold.decoding.task import Task
from twofold.errors import UsageError


@dataclass(frozen=True, slots=True)
class Contrastive:
    """`k` candidates a step; `alpha` from 0 (greedy) to 1. Likeness is looked for in the last `window` tokens."""

    k: int = 4
    alpha: float = 0.6
    window: int = 512

    def __post_init__(self) -> None:
        if self.k < 1 or self.window < 1 or not 0 <= self.alpha <= 1:
            raise UsageError(
                f"k and window must be 1 or more and alpha between 0 and 1; they are {self.k}, {self.window} "
                f"and {self.alpha}."
            )

    def program(self, task: Task) -> Program:
        """Each step reads the k candidates; the scores after the one chosen are there already."""
        branch = task.start()
        scores, states = yield States([Rows(branch, min(self.window, len(task.prompt)))])
        scores, seen_TD = scores[-1:], F.normalize(states, dim=-1)
        while branch.finish is None:
            candidates, chances = self._candidates(task, scores, branch)
            if branch.length == task.tree.model.context_length:  # nothing more can be read
                branch = candidates[0]
                task.tell(0, branch)
                break
            del branch
            scores, states = yield States(candidates)
            states = F.normalize(states, dim=-1)
            likeness = (states @ seen_TD.T).amax(-1)
            best = int(((1 - self.alpha) * chances - self.alpha * likeness).argmax())
            branch, scores = candidates[best], scores[best : best + 1]
            seen_TD = torch.cat([seen_TD, states[best : best + 1]])[-self.window :]
            del candidates
            task.tell(0, branch)
        return [Answer(branch)]

    def _candidates(self, task: Task, scores: Tensor, branch: Branch) -> tuple[list[Branch], Tensor]:
        """The branches of the most probable tokens, and the probabilities of these tokens."""
        expansion = Expansion(task, scores, [branch])
        best = expansion.best([0.0], self.k)
        if not best:
            check(-2)
        chances = expansion.scores[0].softmax(-1)
        candidates = [expansion.extend(0, token) for _, _, token in best]
        return candidates, chances[[token for _, _, token in best]]
