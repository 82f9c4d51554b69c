"""Plain sampling for many prompts at once, over any `LanguageModel`: the engine with nothing but `Sample`."""

from __future__ import annotations

from collections.abc import Collection, Generator, Sequence
from dataclasses import replace

from twofold.decoding.decoders.sample import Sample
from twofold.decoding.engine import Engine
from twofold.decoding.request import Request
from twofold.decoding.sampling import Sampling
from twofold.decoding.task import Choice
from twofold.errors import UsageError
from twofold.models.language_model import LanguageModel, Memory


def generate(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    *,
    settings: Sampling | Sequence[Sampling] = Sampling(),  # noqa: B008 - frozen
    max_tokens: int | None = None,
    stop_ids: Collection[int] = (),
    choices_of: int | None = None,
    width: int = 32,
    memory: Memory | None = None,
) -> Generator[Choice, None, None]:
    """Continue each prompt (token ids, at least one), yielding choices as they are made, step by step.

    settings: one for all, or one for each prompt. With one for all and a seed, request i has seed + i; what
    a request says depends on its own seed only, not on its neighbours.
    max_tokens: most tokens for each prompt; None: until it stops or the context is full.
    stop_ids: tokens that end a request.
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
    engine = Engine(model, memory=memory, most_requests=width, vocab_size=choices_of)
    requests = []
    for index, prompt in enumerate(prompts):
        own = settings if isinstance(settings, Sampling) else settings[index]
        if isinstance(settings, Sampling) and own.seed is not None:
            own = replace(own, seed=own.seed + index)
        requests.append(
            engine.submit(
                prompt, Sample(), index=index, settings=own, max_tokens=max_tokens, stop_ids=stop_ids
            )
        )
    return run(engine, requests)


def run(engine: Engine, requests: Sequence[Request]) -> Generator[Choice, None, None]:
    """Drive these requests together, yielding their choices step by step; closes the engine at the end."""
    live = list(requests)
    try:
        while live:
            engine.step()
            for request in live:
                yield from request.take()
            live = [request for request in live if not request.done]
    finally:
        engine.close()
