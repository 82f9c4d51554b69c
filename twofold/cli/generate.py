"""`twofold generate`: how a model goes on with a text."""

from __future__ import annotations

import sys
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from twofold.cli.opening import PLAIN, Model, Opening
from twofold.cli.show import strong
from twofold.cli.terminal import harmless, json_line, note, say, standard_input
from twofold.errors import UsageError

if TYPE_CHECKING:
    from twofold.decoding.session import Completion, LoadedModel

Flag = Parameter(negative="")


def generate(
    model: Model,
    /,
    *prompts: str,
    max_tokens: int = 256,
    temperature: float = 0.8,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    seed: int | None = None,
    stop: list[str] | None = None,
    more: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
    decoder: str | None = None,
    mask: str | None = None,
    timeout: float | None = None,
    opened: Opening = PLAIN,
    explain: Annotated[bool, Flag] = False,
    tree: Path | None = None,
    count: Annotated[int, Parameter(name=["--count", "-n"])] = 1,
    as_json: Annotated[bool, Parameter("--json", negative="")] = False,
    verbose: Annotated[bool, Flag] = False,
) -> None:
    """Let a model go on with a text.

    Prints the prompt and what the model writes after it, as it is written. Several prompts, or `-n`, run
    together as one batch, which is much faster than one after the other; they are printed in order.

    A base model continues any text. To ask an assistant, use `twofold chat`.

    Decoders are written `name` or `name:setting=value,...`: `sample:n=3`, `best-of:n=8`, `beam:width=4`,
    `diverse-beam:width=6,groups=3`, `stochastic-beam`, `required-words:words=bread+river`, `bayes-risk:n=16`,
    `speculative:draft=MODEL` (without draft: what stood in the text before). Masks are `choices:yes|no`,
    `regex:[0-9]+`, `json` (any), `json:SCHEMA` and `grammar:GRAMMAR` (Lark or GBNF), where a schema or a
    grammar may be a file. Any decoder goes with any mask.

    Parameters
    ----------
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
    more
        Any other setting of the choice, as name=value: repetition_penalty, frequency_penalty,
        presence_penalty, no_repeat_ngram, dry_multiplier, bias, banned, bad_words, min_tokens,
        dynamic_temperature, typical_p, epsilon_cutoff, eta_cutoff, top_n_sigma, xtc_probability, mirostat,
        compat, ...; a wrong name lists all. Can be given several times.
    decoder
        How to search for the text; without it, one sample.
    mask
        What the text may be.
    timeout
        Stop after so many seconds, with what there is.
    explain
        Also print each token with its probability and the alternatives.
    tree
        Write what was looked at to this HTML file, as a tree.
    count
        Write so many continuations of each prompt.
    as_json
        Print one JSON object for each continuation: prompt, text, tokens, log_probability, finish.
    verbose
        Also print how fast it was, on standard error.
    """
    if count < 1:
        raise UsageError(f"-n must be 1 or more, and is {count}.")
    options = dict(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, seed=seed)
    texts = [text for text in read_prompts(prompts) for _ in range(count)]
    if tree is not None and len(texts) > 1:
        raise UsageError("--tree shows one prompt at a time.")

    from twofold.decoding.named import read_decoder, read_mask, read_settings

    draft = Opening(engine=opened.engine)
    chooser = None if decoder is None else read_decoder(decoder, lambda path: draft.load(path).model)
    options |= read_settings(more or [])
    begun = time.perf_counter()
    loaded = opened.load(model)
    clock = _Clock(time.perf_counter() - begun)
    asked = {
        "settings": loaded.sampling(**options),
        "max_tokens": max_tokens,
        "stop": stop or [],
        "decoder": chooser,
        "mask": None if mask is None else read_mask(mask),
        "timeout": timeout,
        "alternatives": 5 if explain or tree else 0,
    }
    if tree is not None:
        from twofold.cli.explain import write_tree

        write_tree(loaded, texts[0], asked, tree)
    elif len(texts) == 1 and chooser is None and not as_json and not explain:
        _stream(loaded, texts[0], asked, clock)
    else:
        _batch(loaded, texts, asked, clock, as_json, explain)
    if verbose:
        note(clock.summary())


def read_prompts(prompts: tuple[str, ...]) -> list[str]:
    """The prompts as given, `-` replaced by standard input; an empty one where there is none."""
    if not prompts:
        return [""]
    if prompts.count("-") > 1:
        raise UsageError("Standard input (-) can be read only once.")
    return [standard_input() if prompt == "-" else prompt for prompt in prompts]


def _stream(loaded: LoadedModel, prompt: str, options: dict, clock: _Clock) -> None:
    say_prompt(prompt)
    clock.start()
    with closing(loaded.pieces([loaded.start(prompt)], **options)) as pieces:
        for _, piece, _ in pieces:
            clock.tick()
            say(piece)
    print()


def _batch(
    loaded: LoadedModel, prompts: list[str], options: dict, clock: _Clock, as_json: bool, explain: bool
) -> None:
    """Print the answers to each prompt as soon as they and all before are finished."""
    clock.start()
    each = loaded.each([loaded.start(text) for text in prompts], **options)
    for index, answers in enumerate(each):
        for number, answer in enumerate(answers):
            clock.count(len(answer.choices))
            if as_json:
                print(
                    json_line(_fields(loaded, prompts[index], answer, explain, options["mask"] is not None)),
                    flush=True,
                )
                continue
            if len(prompts) > 1 or len(answers) > 1:
                label = f"{index + 1} of {len(prompts)}" if len(prompts) > 1 else ""
                label += f"{', ' if label else ''}answer {number + 1} of {len(answers)}" * (len(answers) > 1)
                print(f"{chr(10) if index or number else ''}[{label}]")
            say_prompt(prompts[index])
            print(harmless(answer.text), flush=True)
            if explain:
                from twofold.cli.explain import show_choices

                show_choices(loaded, answer, options["mask"] is not None)


def _fields(loaded: LoadedModel, prompt: str, answer: Completion, explain: bool, masked: bool) -> dict:
    fields = {
        "prompt": prompt,
        "text": answer.text,
        "tokens": len(answer.tokens),
        "log_probability": answer.log_probability,
        "finish": answer.finish,
    }
    if answer.score is not None:
        fields["score"] = answer.score
    if masked:
        fields["log_allowed"] = answer.log_allowed
    if explain:
        fields["choices"] = [
            {
                "token": choice.token,
                "text": loaded.tokenizer.token_bytes(choice.token).decode("utf-8", errors="replace"),
                "log_probability": choice.log_probability,
                "log_allowed": choice.allowed,
                "alternatives": [
                    {
                        "token": token,
                        "text": loaded.tokenizer.token_bytes(token).decode("utf-8", errors="replace"),
                        "log_probability": log,
                    }
                    for token, log in choice.alternatives
                ],
            }
            for choice in answer.choices
        ]
    return fields


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

    def count(self, tokens: int) -> None:
        """So many tokens came at once."""
        self.tick()
        self.tokens += tokens - 1

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
