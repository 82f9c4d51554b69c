"""Plain sampling for many prompts at once, over any `LanguageModel`.

Key idea: one step reads the newest token of every running request and the whole prompt of every new one,
in a single ask of the model; the choice is vectorised over the rows. Equal prompts are read once and forked.
When a request ends, the next one that waits takes its place.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Generator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch

from twofold.decoding.distribution import as_scores, check, choose, log_probabilities
from twofold.decoding.sampling import Sampling
from twofold.errors import UsageError
from twofold.models.language_model import Ask, LanguageModel, Memory, SequenceId

Finish = Literal["stop", "length", "context"]


@dataclass(frozen=True, slots=True)
class Choice:
    """One chosen token of the request `index`, with the model's own log-probability (nats).

    `finish` is set on a request's last choice: "stop" (a stop token, which is this one, or the caller's
    `ends`), "length" (max_tokens reached) or "context" (the model's context is full).
    """

    index: int
    token: int
    log_probability: float
    finish: Finish | None = None


@dataclass(slots=True)
class _Request:
    index: int
    tokens: Sequence[int]  # to be read in the next step
    settings: Sampling
    random: np.random.Generator
    sequence: SequenceId | None = None
    chosen: int = 0
    row: int = field(default=0)  # of its scores, in the step at hand


def generate(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    *,
    settings: Sampling | Sequence[Sampling] = Sampling(),  # noqa: B008 - frozen
    max_tokens: int | None = None,
    stop_ids: Collection[int] = (),
    ends: Callable[[int, int], bool] | None = None,
    choices_of: int | None = None,
    width: int = 32,
    memory: Memory | None = None,
) -> Generator[Choice, None, None]:
    """Continue each prompt (token ids, at least one), yielding choices as they are made, step by step.

    settings: one for all, or one for each prompt. With one for all and a seed, request i has seed + i; what
    a request says depends on its own seed only, not on its neighbours.
    max_tokens: most tokens for each prompt; None: until it stops or the context is full.
    stop_ids: tokens that end a request. ends(index, token): called with each other token; a true answer
    ends the request too.
    choices_of: only the first so many tokens of the vocabulary can be chosen (models pad theirs).
    width: how many requests run at once. memory: where to read into; default a fresh one.

    However it ends, also when the iterator is closed early, every sequence it made is freed. Raises
    UsageError for prompts that cannot be, TwofoldError for scores that are not numbers.
    """
    if not isinstance(settings, Sampling) and len(settings) != len(prompts):
        raise UsageError(f"There are {len(prompts)} prompts and {len(settings)} settings.")
    if max_tokens is not None and max_tokens < 0:
        raise UsageError(f"max_tokens must be 0 or more, and is {max_tokens}.")
    if width < 1:
        raise UsageError(f"width must be 1 or more, and is {width}.")
    waiting: deque[_Request] = deque()
    for index, prompt in enumerate(prompts):
        if not len(prompt):
            raise UsageError("A prompt has no tokens at all; begin it with <|endoftext|>.")
        if len(prompt) > model.context_length:
            raise UsageError(
                f"The prompt has {len(prompt):,} tokens, and this model's context holds "
                f"{model.context_length:,}. Shorten it by {len(prompt) - model.context_length:,}."
            )
        own = settings if isinstance(settings, Sampling) else settings[index]
        shift = index if isinstance(settings, Sampling) else 0
        random = np.random.default_rng(None if own.seed is None else own.seed + shift)
        waiting.append(_Request(index, tuple(prompt), own, random))
    if max_tokens == 0:
        waiting.clear()
    limit = model.vocab_size if choices_of is None else choices_of
    memory = model.new_memory() if memory is None else memory
    return _run(model, memory, waiting, width, max_tokens, frozenset(stop_ids), ends, limit)


def _run(
    model: LanguageModel,
    memory: Memory,
    waiting: deque[_Request],
    width: int,
    max_tokens: int | None,
    stop_ids: frozenset[int],
    ends: Callable[[int, int], bool] | None,
    limit: int,
) -> Generator[Choice, None, None]:
    active: list[_Request] = []
    try:
        while waiting or active:
            while waiting and len(active) < width:
                active.append(waiting.popleft())
            scores_BV = _ask(model, memory, active)[:, :limit]
            uniforms = [r.random.random() if r.settings.temperature else 0.0 for r in active]
            tokens_B = choose(scores_BV, [r.settings for r in active], uniforms)
            logs_B = log_probabilities(scores_BV, tokens_B.clamp_min(0))
            tokens, logs = torch.stack((tokens_B.double(), logs_B.double())).tolist()  # one transfer
            running = []
            choices = []
            for request, number, log in zip(active, tokens, logs, strict=True):
                token = check(int(number))
                request.chosen += 1
                request.tokens = (token,)
                finish: Finish | None = None
                if token in stop_ids or (ends is not None and ends(request.index, token)):
                    finish = "stop"
                elif request.chosen == max_tokens:
                    finish = "length"
                elif memory.length(request.sequence) >= model.context_length:
                    finish = "context"
                choices.append(Choice(request.index, token, log, finish))
                if finish is None:
                    running.append(request)
                else:
                    memory.free(request.sequence)
                    request.sequence = None
            active = running
            yield from choices
    finally:
        for request in active:
            if request.sequence is not None:
                memory.free(request.sequence)


def _ask(model: LanguageModel, memory: Memory, active: list[_Request]) -> torch.Tensor:
    """Read what each request has to read; scores for the next token of each [B, V]. New requests with
    equal prompts are read once and forked."""
    asks: list[Ask] = []
    first: dict[Sequence[int], _Request] = {}
    copies: list[tuple[_Request, _Request]] = []
    for request in active:
        if request.sequence is None:
            leader = first.setdefault(request.tokens, request)
            if leader is not request:
                copies.append((request, leader))
                request.row = leader.row
                continue
            request.sequence = memory.new()
        request.row = len(asks)
        asks.append(Ask(request.sequence, request.tokens))
    scores_BV = as_scores(model.scores(memory, asks))
    for request, leader in copies:
        request.sequence = memory.fork(leader.sequence)
    return scores_BV[[request.row for request in active]] if copies else scores_BV
