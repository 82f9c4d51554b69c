"""Classification: the exact probability of each of some texts, given that it is one of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from twofold.decoding.branch import Branch
from twofold.decoding.decoders.decoder import Answer, Program, Rows
from twofold.decoding.sampling import Sampling
from twofold.decoding.task import Task
from twofold.errors import UsageError

if TYPE_CHECKING:
    from twofold.decoding.session import LoadedModel


def choose(
    model: LoadedModel,
    prompt: Sequence[int],
    choices: Sequence[str],
    *,
    ends: bool,
    goes_on: bool = True,
) -> dict[str, float]:
    """The probability of each choice after `prompt` (tokens), over all its tokens as the tokenizer writes
    them, normalised over the choices.

    ends: also that the text ends there, which must be so if one choice begins like another. goes_on: a choice
    continues the prompt's text, and is no text of its own. The prompt is read once. Raises UsageError for
    fewer than two choices, an empty one, or one twice.
    """
    if len(choices) < 2 or not all(choices) or len(set(choices)) < len(choices):
        raise UsageError("There must be two choices or more, none empty and none twice.")
    if not ends:
        for one in choices:
            if longer := next((other for other in choices if other != one and other.startswith(one)), None):
                raise UsageError(f"{one!r} is how {longer!r} begins; compare whole texts (ends=True).")
    tokens = [tuple(model.tokenizer.encode(choice, goes_on=goes_on)) for choice in choices]
    weigh = Weigh(tuple(tokens), ends)
    request = model.engine.submit(
        prompt, weigh, settings=Sampling(), stop_ids=model.stop_ids, adapter=model.adapter
    )
    try:
        logs = [answer.score for answer in request.result()]
    finally:
        request.cancel()
    highest = max(logs)
    weights = [math.exp(log - highest) for log in logs]
    return {choice: weight / sum(weights) for choice, weight in zip(choices, weights, strict=True)}


@dataclass(frozen=True, slots=True)
class Weigh:
    """A decoder that decides nothing: the log-probability of each of the given continuations, as the scores
    of its answers, in their order. `ends`: and of a stop token after it."""

    texts: tuple[tuple[int, ...], ...]
    ends: bool = False

    def program(self, task: Task) -> Program:
        """Read the prompt once, then what each text adds."""
        start = task.start()
        first = yield [start]
        branches = [_extended(start, text) for text in self.texts]
        asked = []
        for branch, text in zip(branches, self.texts, strict=True):
            rows = len(text) if self.ends else len(text) - 1
            if rows:
                asked.append(Rows(branch if self.ends else branch.back(len(text) - 1), rows))
        scores = yield asked
        answers, at = [], 0
        stops = torch.tensor(sorted(task.stop_ids), dtype=torch.long, device=first.device)
        for branch, text in zip(branches, self.texts, strict=True):
            rows = len(text) if self.ends else len(text) - 1
            logs_TV = torch.cat([first, scores[at : at + rows]]).double().log_softmax(-1)
            at += rows
            total = logs_TV[range(len(text)), list(text)].sum()
            if self.ends:
                total = total + logs_TV[-1, stops].logsumexp(-1)
            answers.append(Answer(branch, float(total)))
        return answers


def _extended(branch: Branch, tokens: Sequence[int]) -> Branch:
    for token in tokens:
        branch = branch.then(token)
    return branch
