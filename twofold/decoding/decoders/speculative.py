"""Speculative decoding: guess some tokens cheaply, check them all in one pass, keep what plain sampling might
have said. The output has exactly the distribution of plain sampling; greedy output is the same.

A guess comes from a draft model, or from the text itself: what followed the last time its newest tokens stood
there. Sources: Leviathan et al. 2023 (arXiv 2211.17192), algorithm 1; prompt look-up, Saxena 2023.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from twofold.decoding.branch import Branch
from twofold.decoding.decoders.decoder import Answer, Program, Rows
from twofold.decoding.distribution import adjust, check, draw, log_probabilities
from twofold.decoding.draw import allowed_mass, best_tokens
from twofold.decoding.row import Row
from twofold.decoding.task import Task
from twofold.errors import UsageError
from twofold.models.language_model import LanguageModel


@dataclass(frozen=True, slots=True)
class Speculative:
    """`ahead` tokens are guessed at a time, by `draft` (same tokens as the model), or by looking up the last
    `ngram` tokens, or fewer, in the text so far."""

    draft: LanguageModel | None = None
    ahead: int = 4
    ngram: int = 3

    def __post_init__(self) -> None:
        if self.ahead < 1 or self.ngram < 1:
            raise UsageError(f"ahead and ngram must be 1 or more; they are {self.ahead} and {self.ngram}.")

    def program(self, task: Task) -> Program:
        """Guess, check, go on."""
        settings = task.settings
        if settings.mirostat is not None or settings.xtc_probability:
            raise UsageError(
                "Speculative decoding cannot follow mirostat or XTC: what they draw from is not fixed."
            )
        return self._run(task)

    def _run(self, task: Task) -> Program:
        branch = task.start()
        drafter = _Lookup(self.ngram) if self.draft is None else _Draft(task, self.draft)
        while branch.finish is None:
            room = task.tree.model.context_length - branch.length
            guesses = yield from drafter.guess(branch, min(self.ahead, room))
            chain = _Chain(task, branch, guesses)
            del branch, guesses  # the chain alone holds its pages, so that nothing is copied
            branch = chain.verify((yield [Rows(chain.end, len(chain.guesses) + 1)]))
            del chain
            task.tell(0, branch)
        return [Answer(branch)]


@dataclass(frozen=True, slots=True)
class _Guess:
    """A token and the distribution [V] it was drawn from; None: it was certain."""

    token: int
    drawn_from: Tensor | None


class _Chain:
    """A branch and the guesses after it; `end` is the longest one."""

    def __init__(self, task: Task, branch: Branch, guesses: list[_Guess]) -> None:
        self.task = task
        self.count = branch.count
        self.guesses: list[_Guess] = []
        self.rows: list[Row] = [task.row(branch)]
        self._states = [(branch.mask, branch.tail)]
        for guess in guesses:
            if branch.finish is not None or (branch.mask and not branch.mask.allowed()[guess.token]):
                break
            branch = task.extend(branch, guess.token, 0.0)
            self.guesses.append(guess)
            self._states.append((branch.mask, branch.tail))
            if branch.finish is None:
                self.rows.append(task.row(branch))
        self.end = branch

    def verify(self, scores_RV: Tensor) -> Branch:
        """The branch with all guesses that hold, and one token more unless it is finished."""
        task, random = self.task, self.task.random()
        scores_RV = scores_RV[:, : task.vocab_size]
        wanted = distribution(scores_RV[: len(self.rows)], self.rows)
        tokens = torch.tensor([guess.token for guess in self.guesses], device=scores_RV.device)
        logs = log_probabilities(scores_RV[: len(tokens)], tokens).tolist()
        for node, log in zip(self.end.nodes(self.count), logs, strict=True):
            node.log_probability = log
        for place, guess in enumerate(self.guesses):
            p = wanted[place]
            q = 1.0 if guess.drawn_from is None else float(guess.drawn_from[guess.token])
            if random.random() * q < float(p[guess.token]):
                continue
            rest = p.clone()
            if guess.drawn_from is None:
                rest[guess.token] = 0
            else:
                rest = (rest - guess.drawn_from).clamp_min(0)
            return self._go_on(place, rest, scores_RV)
        if self.end.finish is not None:
            return self._noted(self.end, scores_RV)
        return self._go_on(len(self.guesses), wanted[-1], scores_RV)

    def _go_on(self, kept: int, weights_V: Tensor, scores_RV: Tensor) -> Branch:
        """The first `kept` guesses and a token drawn by `weights_V`."""
        mask, tail = self._states[kept]
        branch = self.end.back(self.count + kept, mask=mask, tail=tail)
        chosen = draw(weights_V.log()[None], [self.task.random().random()])
        log = log_probabilities(scores_RV[kept : kept + 1], chosen)
        return self._noted(self.task.extend(branch, check(int(chosen)), float(log)), scores_RV)

    def _noted(self, branch: Branch, scores_RV: Tensor) -> Branch:
        """With what its mask allowed at each new token, and the alternatives there."""
        nodes = branch.nodes(self.count)
        scores = scores_RV[: len(nodes)]
        allowed = allowed_mass(scores, self.rows[: len(nodes)])
        best = best_tokens(scores, self.task.alternatives) if self.task.alternatives else None
        for place, node in enumerate(nodes):
            node.allowed = allowed.get(place, 0.0)
            node.alternatives = best[place] if best else ()
        return branch


class _Lookup:
    """Guesses what followed the newest tokens where they stood before."""

    def __init__(self, ngram: int) -> None:
        self.ngram = ngram
        self._after: dict[tuple[int, ...], int] = {}  # the place after each n-gram's last occurrence
        self._known = 1  # places that are in it

    def guess(self, branch: Branch, count: int) -> Generator[Any, Any, list[_Guess]]:
        """No question is asked."""
        tokens = branch.tokens
        for end in range(self._known, len(tokens)):
            for length in range(1, min(self.ngram, end) + 1):
                self._after[tokens[end - length : end]] = end
        self._known = len(tokens)
        for length in range(min(self.ngram, len(tokens)), 0, -1):
            if (at := self._after.get(tokens[len(tokens) - length :])) is not None:
                return [_Guess(token, None) for token in tokens[at : at + count]]
        return []
        yield  # a generator like the other


class _Draft:
    """Guesses what a smaller model says."""

    def __init__(self, task: Task, model: LanguageModel) -> None:
        if model.vocab_size < task.vocab_size:
            raise UsageError(
                f"The draft model knows {model.vocab_size:,} tokens and the model {task.vocab_size:,}: they "
                f"must share a tokenizer."
            )
        self.task = task
        self.context = model.context_length
        self.branch = task.start(task.other(model))
        self._agreed = 0  # tokens of the answer on which both branches agree for sure

    def guess(self, branch: Branch, count: int) -> Generator[Any, Any, list[_Guess]]:
        """One question a token, to the draft's tree."""
        self._follow(branch)
        guesses: list[_Guess] = []
        while len(guesses) < count and self.branch.finish is None and self.branch.length < self.context:
            scores = (yield [self.branch])[:, : self.task.vocab_size]
            q = distribution(scores, [self.task.row(self.branch)])
            token = check(int(draw(q.log(), [self.task.random().random()])))
            guesses.append(_Guess(token, q[0]))
            self.branch = self.task.extend(self.branch, token, 0.0)
        return guesses

    def _follow(self, branch: Branch) -> None:
        """Say what `branch` says, keeping what was read of it."""
        mine, theirs = self.branch.nodes(self._agreed), branch.nodes(self._agreed)
        same = 0
        while same < min(len(mine), len(theirs)) and mine[same].token == theirs[same].token:
            same += 1
        state = {"mask": branch.mask, "tail": branch.tail}
        self.branch = self.branch.back(self._agreed + same, **state)
        for node in theirs[same:]:
            self.branch = self.branch.then(node.token, **state)
        self._agreed = branch.count


def distribution(scores_BV: Tensor, rows: list[Row]) -> Tensor:
    """What the settings make of the scores: probabilities [B, V] in float64; greedy puts all on one token."""
    if not scores_BV.amax(-1).isfinite().all():
        check(-1)
    adjusted_BV = adjust(scores_BV, rows)
    if adjusted_BV.amax(-1).isneginf().any():
        check(-2)
    return adjusted_BV.double().softmax(-1)
