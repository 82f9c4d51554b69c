"""`twofold generate`: how a model goes on with a text."""

from __future__ import annotations

import sys
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from twofold.cli.show import strong
from twofold.cli.terminal import harmless, json_line, note, say
from twofold.decoding.sampling import Sampling
from twofold.errors import UsageError

if TYPE_CHECKING:
    from twofold.decoding.session import LoadedModel

Flag = Parameter(negative="")


def generate(
    model: Path,
    /,
    *prompts: str,
    max_tokens: int = 256,
    temperature: float = 0.8,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    seed: int | None = None,
    stop: list[str] | None = None,
    count: Annotated[int, Parameter(name=["--count", "-n"])] = 1,
    as_json: Annotated[bool, Parameter("--json", negative="")] = False,
    verbose: Annotated[bool, Flag] = False,
) -> None:
    """Let a model go on with a text.

    Prints the prompt and what the model writes after it, as it is written. Several prompts, or `-n`, run
    together as one batch, which is much faster than one after the other; they are printed in order.

    A base model continues any text. To ask an assistant, use `twofold chat`.

    Parameters
    ----------
    model
        A run folder, a Hugging Face folder, what `twofold create` left, or a .gguf file.
    prompts
        The beginnings. `-` reads one from standard input; without any, the model begins by itself.
    max_tokens
        The most tokens to write for each prompt.
    temperature
        Below 1 is safer, above 1 is wilder; 0 always takes the best token.
    top_k
        Choose among the k best tokens only.
    top_p
        Choose among the best tokens that together have this probability only.
    min_p
        Choose among tokens with at least this fraction of the best one's probability only.
    seed
        The same seed writes the same text. Prompt number i, from 0, uses seed + i.
    stop
        End before this string. Can be given several times.
    count
        Write so many continuations of each prompt.
    as_json
        Print one JSON object for each continuation: prompt, text, tokens, log_probability, finish.
    verbose
        Also print how fast it was, on standard error.
    """
    if count < 1:
        raise UsageError(f"-n must be 1 or more, and is {count}.")
    settings = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, seed=seed)
    texts = [text for text in read_prompts(prompts) for _ in range(count)]

    from twofold.decoding.session import load

    begun = time.perf_counter()
    loaded = load(model)
    clock = _Clock(time.perf_counter() - begun)
    options = {"settings": settings, "max_tokens": max_tokens, "stop": stop or []}
    if len(texts) == 1 and not as_json:
        _stream(loaded, texts[0], options, clock)
    else:
        _batch(loaded, texts, options, clock, as_json)
    if verbose:
        note(clock.summary())


def read_prompts(prompts: tuple[str, ...]) -> list[str]:
    """The prompts as given, `-` replaced by standard input; an empty one where there is none."""
    if not prompts:
        return [""]
    if prompts.count("-") > 1:
        raise UsageError("Standard input (-) can be read only once.")
    return [_standard_input() if prompt == "-" else prompt for prompt in prompts]


def _standard_input() -> str:
    try:
        return sys.stdin.buffer.read().decode("utf-8").removesuffix("\n")
    except UnicodeDecodeError as error:
        raise UsageError(f"Standard input is not text in UTF-8 (byte {error.start:,}).") from error


def _stream(loaded: LoadedModel, prompt: str, options: dict, clock: _Clock) -> None:
    say_prompt(prompt)
    clock.start()
    with closing(loaded.pieces([loaded.start(prompt)], **options)) as pieces:
        for _, piece, _ in pieces:
            clock.tick()
            say(piece)
    print()


def _batch(loaded: LoadedModel, prompts: list[str], options: dict, clock: _Clock, as_json: bool) -> None:
    """Print each continuation as soon as it and all before it are finished."""
    from twofold.decoding.session import Completion

    done = [Completion() for _ in prompts]
    shown = 0
    clock.start()
    with closing(loaded.pieces([loaded.start(text) for text in prompts], **options)) as pieces:
        for index, piece, choice in pieces:
            clock.tick()
            done[index].add(piece, choice)
            while shown < len(done) and done[shown].finish:
                _show(prompts[shown], done[shown], shown, len(done), as_json)
                shown += 1
    for index in range(shown, len(done)):  # max_tokens 0: nothing was chosen
        _show(prompts[index], done[index], index, len(done), as_json)


def _show(prompt: str, completion, index: int, total: int, as_json: bool) -> None:
    if as_json:
        fields = {
            "prompt": prompt,
            "text": completion.text,
            "tokens": len(completion.tokens),
            "log_probability": completion.log_probability,
            "finish": completion.finish,
        }
        print(json_line(fields), flush=True)
        return
    print(f"{'' if index == 0 else chr(10)}[{index + 1} of {total}]")
    say_prompt(prompt)
    print(harmless(completion.text), flush=True)


def say_prompt(prompt: str) -> None:
    """Show a prompt, bold where that can be seen."""
    if prompt:
        sys.stdout.write(strong(harmless(prompt)))
        sys.stdout.flush()


class _Clock:
    """How long the parts took."""

    def __init__(self, loading: float) -> None:
        self.loading = loading
        self.tokens = 0
        self.begun = self.first = self.last = 0.0

    def start(self) -> None:
        self.begun = self.first = self.last = time.perf_counter()

    def tick(self) -> None:
        self.last = time.perf_counter()
        if not self.tokens:
            self.first = self.last
        self.tokens += 1

    def summary(self) -> str:
        """One line: loading, time to the first token, tokens a second in all."""
        seconds = self.last - self.begun
        return (
            f"{self.tokens:,} tokens in {seconds:.2f} s: {self.tokens / max(seconds, 1e-9):,.0f} tokens/s; "
            f"first after {self.first - self.begun:.2f} s; opening the model took {self.loading:.2f} s"
        )
