"""Stochastic beam search: texts drawn without replacement, exactly.

Each branch carries a Gumbel-perturbed log-probability; a child's is drawn so that the largest of all children
equals its parent's. The `width` largest leaves are then a sample without replacement from all texts.
Source: Kool et al. 2019 (arXiv 1903.06059), algorithm 1 and appendix B.3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from twofold.decoding.branch import Branch
from twofold.decoding.decoders.beam import told
from twofold.decoding.decoders.decoder import Program
from twofold.decoding.decoders.expansion import Expansion
from twofold.decoding.distribution import adjust
from twofold.decoding.task import Task
from twofold.errors import UsageError


@dataclass(frozen=True, slots=True)
class StochasticBeam:
    """`width` different texts, drawn without replacement from the distribution that the settings make; the
    first one alone is an ordinary sample. An answer's score is its perturbed log-probability."""

    width: int = 4

    def __post_init__(self) -> None:
        if self.width < 1:
            raise UsageError(f"width must be 1 or more, and is {self.width}.")

    def program(self, task: Task) -> Program:
        """Search until every one of the best `width` is finished."""
        if not task.settings.temperature:
            raise UsageError("Drawing without replacement needs a temperature above 0.")
        beams = [_Leaf(0.0, 0.0, task.start())]
        while live := [leaf for leaf in beams if leaf.branch.finish is None]:
            done = [leaf for leaf in beams if leaf.branch.finish is not None]
            beams = _grow(task, (yield [leaf.branch for leaf in live]), live, done, self.width)
            del live
        return told(task, [(leaf.perturbed, leaf.branch) for leaf in beams])


@dataclass(frozen=True, slots=True)
class _Leaf:
    """`log_probability`: under the settings' distribution; `perturbed`: with its Gumbel noise."""

    perturbed: float
    log_probability: float
    branch: Branch


def _grow(task: Task, scores: torch.Tensor, live: list[_Leaf], done: list[_Leaf], width: int) -> list[_Leaf]:
    """The `width` leaves of largest perturbed log-probability among `done` and the children of `live`."""
    branches = [leaf.branch for leaf in live]
    expansion = Expansion(task, scores, branches)
    adjusted = adjust(scores[:, : task.vocab_size], [task.row(branch) for branch in branches])
    logs = adjusted.double().log_softmax(-1).cpu().numpy()
    found: list[tuple[float, float, int, int]] = []
    for row, leaf in enumerate(live):
        total = leaf.log_probability + logs[row]
        perturbed = _children(leaf.perturbed, total, task.random())
        for token in np.argsort(-perturbed)[:width]:
            if total[token] > -np.inf:
                found.append((float(perturbed[token]), float(total[token]), row, int(token)))
    found += [(leaf.perturbed, leaf.log_probability, -1 - i, 0) for i, leaf in enumerate(done)]
    found.sort(reverse=True)
    return [
        _Leaf(perturbed, total, expansion.extend(row, token)) if row >= 0 else done[-1 - row]
        for perturbed, total, row, token in found[:width]
    ]


def _children(parent: float, total: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Perturbed log-probabilities of a branch's children, given that their largest is `parent`."""
    noisy = total + random.gumbel(size=len(total))
    best = noisy.max()
    with np.errstate(divide="ignore", invalid="ignore"):
        v = parent - noisy + np.log1p(-np.exp(noisy - best))
        result = parent - np.maximum(0, v) - np.log1p(np.exp(-np.abs(v)))
    return np.where(total == -np.inf, -np.inf, np.where(noisy == best, parent, result))
