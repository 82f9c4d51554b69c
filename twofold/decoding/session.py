"""A model one can talk with: what `twofold.load(path)` returns. Text in, text out.

model = twofold.load("demo/assistant")
print(model.generate("Once upon a time", max_tokens=40))
print(model.generate("Once upon a time", decoder=Beam(8), mask=Regex(r"[a-z ,]+\\.")))
for piece in model.stream("Once upon a time"):
    print(piece, end="")
print(model.chat([{"role": "user", "content": "Who is Ada?"}]))
print(model.score("It was a dark and stormy night.").bits_per_byte)
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from twofold.decoding.branch import Finish, Node
from twofold.decoding.decoders.decoder import Decoder
from twofold.decoding.decoders.required import RequiredWords
from twofold.decoding.decoders.sample import Sample
from twofold.decoding.distribution import as_scores, log_probabilities
from twofold.decoding.engine import Engine
from twofold.decoding.request import Request
from twofold.decoding.sampling import Sampling
from twofold.decoding.task import Choice
from twofold.decoding.text import TextOut
from twofold.errors import UsageError
from twofold.models.language_model import Ask, LanguageModel
from twofold.tokens.chat import Turn, encode_chat
from twofold.tokens.codec import whole

if TYPE_CHECKING:
    from torch import Tensor

    from twofold.decoding.masks.mask import Mask
    from twofold.decoding.masks.vocabulary import MaskVocabulary
    from twofold.tokens.tokenizer import Tokenizer

MAX_TOKENS = 256
Pieces = Generator[tuple[int, str, Choice], None, None]
_SCORES_AT_ONCE = 1 << 23  # float32 numbers: 32 MB


@dataclass(slots=True)
class Completion:
    """One continuation. `choices` are all tokens that were chosen, a stop token included; `text` ends before
    it, and before a stop string. `log_probability`: the model's own, nats; `log_allowed`: the log of the mass
    that a mask allowed, summed; `score`: what the decoder ranks by, if it does. `finish` is None while it is
    not finished."""

    text: str = ""
    choices: list[Choice] = field(default_factory=list)
    finish: Finish | None = None
    score: float | None = None

    def add(self, piece: str, choice: Choice) -> None:
        """Take one more choice and the text that became certain with it."""
        self.text += piece
        self.choices.append(choice)
        self.finish = choice.finish

    @property
    def tokens(self) -> list[int]:
        """Their ids."""
        return [choice.token for choice in self.choices]

    @property
    def log_probability(self) -> float:
        """Of all tokens, in nats."""
        return sum(choice.log_probability for choice in self.choices)

    @property
    def log_allowed(self) -> float:
        """How hard a mask pushed: 0 not at all; -5 means that the text so far had a chance of e⁻⁵ to stay
        within the mask at each step."""
        return sum(choice.allowed for choice in self.choices)


@dataclass(frozen=True, slots=True)
class Score:
    """How well a model predicts a text. `log_probability` in nats, over `tokens` tokens that stand for
    `bytes` bytes of UTF-8."""

    log_probability: float
    tokens: int
    bytes: int

    @property
    def bits_per_byte(self) -> float:
        """Bits that a perfect compressor with this model would need for each byte."""
        return -self.log_probability / math.log(2) / self.bytes


@dataclass(frozen=True)
class LoadedModel:
    """A `LanguageModel` with its tokenizer. `stop_ids` end a text; `is_chat`: it was taught conversations.

    `adapters`, by name: the same model as each adapter makes it, on the same engine, so that requests to all of them
    share every pass. `adapter` and `base`: of one of those, its name and the model that has it.
    """

    model: LanguageModel
    tokenizer: Tokenizer
    stop_ids: tuple[int, ...]
    is_chat: bool = False
    name: str = "model"
    adapter: str | None = None
    base: LoadedModel | None = None
    adapters: dict[str, LoadedModel] = field(default_factory=dict)

    @cached_property
    def engine(self) -> Engine:
        """What all requests to this model run in, with as much memory as the model finds free."""
        if self.base is not None:
            return self.base.engine
        count = min(self.tokenizer.vocab_size, self.model.vocab_size)
        fit = getattr(self.model, "pages_that_fit", None)
        return Engine(self.model, vocab_size=count, pages=None if fit is None else fit())

    @cached_property
    def vocabulary(self) -> MaskVocabulary:
        """The tokens as masks see them."""
        from twofold.decoding.masks.vocabulary import MaskVocabulary

        return MaskVocabulary(self.tokenizer, self.engine.vocab_size, self.stop_ids)

    def generate(
        self,
        prompt: str | Sequence[str],
        *,
        decoder: Decoder | None = None,
        mask: Mask | None = None,
        max_tokens: int = MAX_TOKENS,
        stop: str | Sequence[str] = (),
        timeout: float | None = None,
        **sampling: Any,
    ) -> str | list[Any]:
        """How the text goes on after `prompt` (without it); a list for a list of prompts, and a list for
        each prompt if the decoder gives several answers.

        decoder: one of `twofold.decoding.decoders`; default `Sample()`. mask: one of
        `twofold.decoding.masks`. `stop`: strings before which to end. timeout: seconds. sampling: the fields
        of `Sampling` (temperature, top_p, seed, …); with a seed, prompt i of a list has seed + i; strings
        stand for tokens in bias, banned, bad_words and dry_breakers.
        Raises UsageError for settings that cannot be and for a prompt longer than the model's context.
        """
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        answers = self.answers(
            [self.start(text) for text in prompts],
            decoder=decoder,
            mask=mask,
            settings=self.sampling(**sampling),
            max_tokens=max_tokens,
            stop=stop,
            timeout=timeout,
        )
        texts = [[one.text for one in some] for some in answers]
        single = [some[0] if len(some) == 1 else some for some in texts]
        return single[0] if isinstance(prompt, str) else single

    def stream(self, prompt: str, **options: Any) -> Iterator[str]:
        """As `generate` for one prompt, piece by piece, with the same options: of beams what they all agree
        on. Closing the iterator stops the model."""
        return _only_text(self.pieces([self.start(prompt)], **self._options(options)))

    async def stream_async(self, prompt: str, **options: Any) -> AsyncIterator[str]:
        """As `stream`, for an event loop; many at once share each forward pass."""
        from twofold.decoding.background import choices

        [(request, texts)] = self._submit([self.start(prompt)], **self._options(options))
        async for choice in choices(request):
            if choice.sample == 0 and (piece := texts.piece(choice)):
                yield piece

    def chat(self, messages: Sequence[Turn], **options: Any) -> str:
        """The assistant's next answer, with the options of `generate`.

        `messages`: {"role": "system" | "user" | "assistant", "content": …}. Raises UsageError for a
        conversation longer than the context, DataError for a wrong role.
        """
        return self.complete([self.start_chat(messages)], **self._options(options), begins=True)[0].text

    def choose(
        self, prompt: str | Sequence[Turn], choices: Sequence[str], *, ends: bool = False
    ) -> dict[str, float]:
        """The probability of each choice as the continuation of a text, or as the answer in a conversation,
        over whole texts, given that it is one of them. See `twofold.decoding.choose`."""
        from twofold.decoding.choose import choose

        tokens = self.start(prompt) if isinstance(prompt, str) else self.start_chat(prompt)
        goes_on = isinstance(prompt, str)
        return choose(self, tokens, choices, ends=ends or not goes_on, goes_on=goes_on)

    def score(self, text: str) -> Score:
        """The log-probability of `text`, and its bits per byte.

        A text longer than the context is read in windows that overlap by half, each begun as every sequence
        is, so that every token but the first ones has half a context before it. Where sequences begin with
        nothing, the first token is given, not scored. Raises UsageError for an empty text.
        """
        tokens = self.tokenizer.encode(text)
        size = len(whole(text).encode())
        if not size:
            raise UsageError("There is no text to score.")
        total, count = 0.0, 0
        for scores, following in self.scored(tokens):
            total += float(log_probabilities(scores, following).double().sum())
            count += len(following)
        return Score(total, count, size)

    def scored(self, tokens: list[int], *, context: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """(scores [n, V], the n tokens that follow), piece by piece, until all `tokens` have had their turn.

        In windows as `score` says, of at most `context` tokens (default: the model's own). Models of one
        tokenizer and context give equal pieces.
        """
        start = self.start("")
        room = max(1, min(self.model.context_length, context or self.model.context_length) - len(start))
        done = 0 if start else 1
        while done < len(tokens):
            back = min(done, room // 2)
            window = [*start, *tokens[done - back : done - back + room]]
            yield from self._window(window, len(start) + back)
            done += len(window) - len(start) - back

    def _window(self, tokens: list[int], given: int) -> Iterator[tuple[Tensor, Tensor]]:
        """`scored` of what comes after the first `given` of `tokens`, at least one."""
        import torch

        memory = self.model.new_memory()
        sequence = memory.new(**({} if self.adapter is None else {"adapter": self.adapter}))
        step = max(1, _SCORES_AT_ONCE // self.tokenizer.vocab_size)
        for start in range(0, len(tokens) - 1, step):
            stop = min(start + step, len(tokens) - 1)
            rows = min(stop - start, max(0, stop + 1 - given))
            scores = as_scores(self.model.scores(memory, [Ask(sequence, tokens[start:stop], rows)]))
            if rows:
                yield scores, torch.tensor(tokens[stop + 1 - rows : stop + 1], device=scores.device)

    def start(self, prompt: str) -> list[int]:
        """A prompt's tokens: those with which every sequence starts, and the text's."""
        return self.tokenizer.encode(prompt, start=True)

    def start_chat(self, messages: Sequence[Turn]) -> list[int]:
        """A conversation's tokens, up to where the assistant's answer begins."""
        return encode_chat(self.tokenizer, messages, add_generation_prompt=True)[0]

    def sampling(self, **options: Any) -> Sampling:
        """`Sampling` with strings where it has tokens; UsageError for an unknown name."""
        known = {f.name for f in fields(Sampling)}
        if unknown := sorted(options.keys() - known):
            raise UsageError(f"There is no setting {unknown[0]}. There are: {', '.join(sorted(known))}.")
        for name in ("banned", "dry_breakers"):
            if options.get(name):
                options[name] = [self._token(name, value) for value in options[name]]
        if options.get("bias"):
            options["bias"] = {self._token("bias", t): number for t, number in dict(options["bias"]).items()}
        if options.get("bad_words"):
            options["bad_words"] = [
                spelled for word in options["bad_words"] for spelled in self._spellings(word)
            ]
        return Sampling(**options)

    def _token(self, name: str, value: str | int) -> int:
        if not isinstance(value, str):
            return value
        tokens = self.tokenizer.encode(value, goes_on=True)
        if len(tokens) != 1:
            raise UsageError(f"{name}: {value!r} is {len(tokens)} tokens, and has to be one.")
        return tokens[0]

    def _spellings(self, word: str | Sequence[int]) -> list[list[int]]:
        """The tokens of a word, at the start of a line and after a space."""
        if not isinstance(word, str):
            return [list(word)]
        return [self.tokenizer.encode(space + word, goes_on=True) for space in ("", " ")]

    def complete(self, prompts: Sequence[Sequence[int]], **options: Any) -> list[Completion]:
        """The best continuation of each token prompt (see `start`, `start_chat`); options as `pieces`."""
        return [answers[0] for answers in self.answers(prompts, **options)]

    def answers(self, prompts: Sequence[Sequence[int]], **options: Any) -> list[list[Completion]]:
        """All continuations of each token prompt, best first, with all that is known of each."""
        return list(self.each(prompts, **options))

    def each(self, prompts: Sequence[Sequence[int]], **options: Any) -> Iterator[list[Completion]]:
        """As `answers`, each as soon as it and all before it are finished."""
        return _in_order(self.engine, self._submit(prompts, **options))

    def watched(self, prompt: Sequence[int], **options: Any) -> tuple[list[Completion], list[Node], set[int]]:
        """`answers` to one token prompt, with every token that was looked at on the way, and the `id` of
        those that are part of an answer."""
        [(request, texts)] = self._submit([prompt], **options)
        request.task.looked_at = looked_at = []
        [answers] = _in_order(self.engine, [(request, texts)])
        chosen = {id(node) for answer in request.answers for node in answer.branch.nodes()}
        return answers, looked_at, chosen

    def pieces(self, prompts: Sequence[Sequence[int]], **options: Any) -> Pieces:
        """(prompt's number, text that became certain, the choice) for every token of every token prompt.

        options: `settings` (one `Sampling`, or one for each prompt), `decoder`, `mask`, `max_tokens`, `stop`,
        `timeout`, `alternatives`, how many of the best tokens to note beside each choice, and `begins`: the
        answer is a text of its own, as in a conversation, and does not continue the prompt's.
        """
        told = _drive(self.engine, self._submit(prompts, **options))
        return _numbered(told)

    def _submit(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        settings: Sampling | Sequence[Sampling] = Sampling(),  # noqa: B008 - frozen
        decoder: Decoder | None = None,
        mask: Mask | None = None,
        max_tokens: int | None = MAX_TOKENS,
        stop: str | Sequence[str] = (),
        timeout: float | None = None,
        alternatives: int = 0,
        begins: bool = False,
    ) -> list[tuple[Request, _Texts]]:
        """Queue all prompts, or none."""
        if max_tokens is not None and max_tokens < 0:
            raise UsageError(f"max_tokens must be 0 or more, and is {max_tokens}.")
        if not isinstance(settings, Sampling) and len(settings) != len(prompts):
            raise UsageError(f"There are {len(prompts)} prompts and {len(settings)} settings.")
        stops = [stop] if isinstance(stop, str) else list(stop)
        state = None if mask is None else mask.compile(self.vocabulary)
        if isinstance(decoder, RequiredWords):
            decoder = decoder.spelled(partial(self.tokenizer.encode, goes_on=True))
        requests: list[tuple[Request, _Texts]] = []
        try:
            for index, prompt in enumerate(prompts):
                is_new = mask is None and (begins or not any(map(self.tokenizer.is_text, prompt)))
                texts = _Texts(
                    self.tokenizer, stops, self.stop_ids, goes_on=not is_new
                )  # refuses an empty stop
                own = settings if isinstance(settings, Sampling) else settings[index]
                if isinstance(settings, Sampling) and own.seed is not None:
                    own = replace(own, seed=own.seed + index)
                request = self.engine.submit(
                    prompt,
                    decoder or Sample(),
                    timeout=timeout,
                    index=index,
                    settings=own,
                    max_tokens=max_tokens,
                    stop_ids=self.stop_ids,
                    stops=[whole(text).encode() for text in stops],
                    token_bytes=self.tokenizer.token_bytes,
                    mask=state,
                    adapter=self.adapter,
                    alternatives=alternatives,
                )
                requests.append((request, texts))
        except BaseException:
            for request, _ in requests:
                request.cancel()
            raise
        return requests

    def _options(self, options: dict[str, Any]) -> dict[str, Any]:
        """Options of `generate` as those of `pieces`."""
        own = {"decoder", "mask", "max_tokens", "stop", "timeout", "settings", "alternatives", "begins"}
        rest = {name: value for name, value in options.items() if name not in own}
        given = {name: value for name, value in options.items() if name in own}
        return given if "settings" in given else given | {"settings": self.sampling(**rest)}


class _Texts:
    """The texts of one request's answers as they grow."""

    def __init__(
        self, tokenizer: Tokenizer, stops: Sequence[str], stop_ids: Sequence[int], *, goes_on: bool
    ) -> None:
        self._make = lambda: TextOut(tokenizer, stops, goes_on=goes_on)
        self._stop_ids = stop_ids
        self._texts = {0: self._make()}

    def piece(self, choice: Choice) -> str:
        """What becomes certain with this choice."""
        text = self._texts.get(choice.sample) or self._texts.setdefault(choice.sample, self._make())
        if choice.token not in self._stop_ids:
            text.feed(choice.token)
        return text.take() if choice.finish is None else text.finish()


def _drive(
    engine: Engine, requests: list[tuple[Request, _Texts]]
) -> Generator[tuple[Request, str, Choice], None, None]:
    """Step until all are done; closing it cancels what is not."""
    live = list(requests)
    try:
        while live:
            for request, texts in live:
                for choice in request.take():
                    yield request, texts.piece(choice), choice
            live = [pair for pair in live if not pair[0].is_over]
            if live and not any(request.task.events for request, _ in live):
                engine.step()
    finally:
        for request, _ in requests:
            request.cancel()


def _in_order(engine: Engine, requests: list[tuple[Request, _Texts]]) -> Iterator[list[Completion]]:
    """The finished answers of each request, as soon as those before it are finished too."""
    found: list[dict[int, Completion]] = [{0: Completion()} for _ in requests]
    number = {id(request): i for i, (request, _) in enumerate(requests)}
    shown = 0
    with closing(_drive(engine, requests)) as told:
        for request, piece, choice in told:
            found[number[id(request)]].setdefault(choice.sample, Completion()).add(piece, choice)
            while shown < len(requests) and requests[shown][0].is_over:
                yield _completions(requests[shown][0], found[shown])
                shown += 1
    for (request, _), some in zip(requests[shown:], found[shown:], strict=True):
        yield _completions(request, some)


def _completions(request: Request, found: dict[int, Completion]) -> list[Completion]:
    """With what is known at the end: scores, and whether time was up."""
    for i, answer in enumerate(request.answers):
        found.setdefault(i, Completion()).score = answer.score
    if request.timed_out:
        for completion in found.values():
            completion.finish = completion.finish or "time"
    return [found[i] for i in sorted(found)]


def _numbered(told: Generator[tuple[Request, str, Choice], None, None]) -> Pieces:
    with closing(told):
        for request, piece, choice in told:
            yield request.task.index, piece, choice


def _only_text(pieces: Pieces) -> Iterator[str]:
    with closing(pieces):
        for _, piece, choice in pieces:
            if piece and choice.sample == 0:
                yield piece
