"""A model one can talk with: what `twofold.load(path)` returns. Text in, text out.

model = twofold.load("demo/assistant")
print(model.generate("Once upon a time", max_tokens=40))
for piece in model.stream("Once upon a time"):
    print(piece, end="")
print(model.chat([{"role": "user", "content": "Who is Ada?"}]))
print(model.score("It was a dark and stormy night.").bits_per_byte)
"""

from __future__ import annotations

import math
import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from twofold.decoding.distribution import as_scores, log_probabilities
from twofold.decoding.generate import Choice, Finish, generate
from twofold.decoding.sampling import Sampling
from twofold.decoding.text import TextOut
from twofold.errors import UsageError
from twofold.models.language_model import Ask, LanguageModel
from twofold.tokens.chat import Turn, encode_chat

if TYPE_CHECKING:
    from twofold.tokens.tokenizer import Tokenizer

MAX_TOKENS = 256
Pieces = Generator[tuple[int, str, Choice], None, None]
_SCORES_AT_ONCE = 1 << 23  # float32 numbers: 32 MB


@dataclass(slots=True)
class Completion:
    """One continuation. `tokens` are all that were chosen, a stop token included; `text` ends before it,
    and before a stop string. `log_probability`: the model's own, nats, of `tokens`. `finish` is None while
    it is not finished."""

    text: str = ""
    tokens: list[int] = field(default_factory=list)
    log_probability: float = 0.0
    finish: Finish | None = None

    def add(self, piece: str, choice: Choice) -> None:
        """Take one more choice and the text that became certain with it."""
        self.text += piece
        self.tokens.append(choice.token)
        self.log_probability += choice.log_probability
        self.finish = choice.finish


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
    """A `LanguageModel` with its tokenizer. `stop_ids` end a text; `is_chat`: it was taught conversations."""

    model: LanguageModel
    tokenizer: Tokenizer
    stop_ids: tuple[int, ...]
    is_chat: bool = False
    name: str = "model"

    def generate(
        self,
        prompt: str | Sequence[str],
        *,
        max_tokens: int = MAX_TOKENS,
        temperature: float = 0.8,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        seed: int | None = None,
        stop: str | Sequence[str] = (),
    ) -> str | list[str]:
        """How the text goes on after `prompt` (without it); a list for a list of prompts.

        temperature 0 always takes the best token; top_k, top_p and min_p keep only the best ones; the same
        seed gives the same text (prompt i of a list has seed + i). `stop`: strings before which to end.
        Raises UsageError for settings that cannot be and for a prompt longer than the model's context.
        """
        settings = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, seed=seed)
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        done = self.complete(
            [self.start(text) for text in prompts], settings=settings, max_tokens=max_tokens, stop=stop
        )
        texts = [completion.text for completion in done]
        return texts[0] if isinstance(prompt, str) else texts

    def stream(
        self,
        prompt: str,
        *,
        max_tokens: int = MAX_TOKENS,
        temperature: float = 0.8,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        seed: int | None = None,
        stop: str | Sequence[str] = (),
    ) -> Iterator[str]:
        """As `generate` for one prompt, piece by piece. Closing the iterator stops the model."""
        settings = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, seed=seed)
        return _only_text(
            self.pieces([self.start(prompt)], settings=settings, max_tokens=max_tokens, stop=stop)
        )

    def chat(
        self,
        messages: Sequence[Turn],
        *,
        max_tokens: int = MAX_TOKENS,
        temperature: float = 0.8,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        seed: int | None = None,
        stop: str | Sequence[str] = (),
    ) -> str:
        """The assistant's next answer. `messages`: {"role": "system" | "user" | "assistant", "content": …}.

        Raises UsageError for a conversation longer than the context, DataError for a wrong role.
        """
        settings = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, seed=seed)
        prompt = self.start_chat(messages)
        return self.complete([prompt], settings=settings, max_tokens=max_tokens, stop=stop)[0].text

    def score(self, text: str) -> Score:
        """The log-probability of `text`, and its bits per byte.

        A text longer than the context is read in windows that overlap by half, each begun with
        <|endoftext|>, so that every token but the first ones has half a context before it. Raises
        UsageError for an empty text.
        """
        tokens = self.tokenizer.encode(text)
        size = sum(len(self.tokenizer.token_bytes(token)) for token in tokens)
        if not size:
            raise UsageError("There is no text to score.")
        room = max(1, self.model.context_length - 1)  # beside <|endoftext|>
        total, done = 0.0, 0
        while done < len(tokens):
            back = min(done, room // 2)
            window = tokens[done - back : done - back + room]
            total += self._window(window, back)
            done += len(window) - back
        return Score(total, len(tokens), size)

    def _window(self, tokens: list[int], skip: int) -> float:
        """Log-probability of `tokens` after <|endoftext|>, without that of the first `skip` of them."""
        import torch

        memory = self.model.new_memory()
        sequence = memory.new()
        read = [self.tokenizer.end_of_text, *tokens[:-1]]  # read[i] is followed by tokens[i]
        step = max(1, _SCORES_AT_ONCE // self.model.vocab_size)
        total = 0.0
        for start in range(0, len(read), step):
            stop = min(start + step, len(read))
            rows = min(stop - start, max(0, stop - skip))
            scores = as_scores(self.model.scores(memory, [Ask(sequence, read[start:stop], rows)]))
            if rows:
                next_tokens = torch.tensor(tokens[stop - rows : stop], device=scores.device)
                total += float(log_probabilities(scores, next_tokens).double().sum())
        return total

    def start(self, prompt: str) -> list[int]:
        """A prompt's tokens: <|endoftext|>, with which every sequence starts, and the text's."""
        return self.tokenizer.encode(prompt, start=True)

    def start_chat(self, messages: Sequence[Turn]) -> list[int]:
        """A conversation's tokens, up to where the assistant's answer begins."""
        return encode_chat(self.tokenizer, messages, add_generation_prompt=True)[0]

    def complete(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        settings: Sampling | Sequence[Sampling],
        max_tokens: int | None = MAX_TOKENS,
        stop: str | Sequence[str] = (),
    ) -> list[Completion]:
        """Continuations of token prompts (see `start`, `start_chat`), with all that is known of each."""
        done = [Completion() for _ in prompts]
        for index, piece, choice in self.pieces(prompts, settings=settings, max_tokens=max_tokens, stop=stop):
            done[index].add(piece, choice)
        return done

    def pieces(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        settings: Sampling | Sequence[Sampling],
        max_tokens: int | None = MAX_TOKENS,
        stop: str | Sequence[str] = (),
    ) -> Pieces:
        """(prompt's number, text that became certain, the choice) for every token of every prompt."""
        stops = [stop] if isinstance(stop, str) else list(stop)
        texts = [TextOut(self.tokenizer, stops) for _ in prompts]
        choices = generate(
            self.model,
            prompts,
            settings=settings,
            max_tokens=max_tokens,
            stop_ids=self.stop_ids,
            ends=lambda index, token: texts[index].feed(token),
            choices_of=min(self.tokenizer.vocab_size, self.model.vocab_size),
        )
        return _with_text(choices, texts)


def _with_text(choices: Generator[Choice, None, None], texts: Sequence[TextOut]) -> Pieces:
    with closing(choices):
        for choice in choices:
            text = texts[choice.index]
            yield choice.index, text.take() if choice.finish is None else text.finish(), choice


def _only_text(pieces: Pieces) -> Iterator[str]:
    with closing(pieces):
        for _, piece, _ in pieces:
            if piece:
                yield piece


def load(path: str | os.PathLike, *, device: str | None = None) -> LoadedModel:
    """Open a run folder, a Hugging Face folder, a `create` folder or a `.gguf`.

    device: "cpu", "cuda", …; default the GPU if there is one. Raises FileError, saying what is amiss.
    """
    import torch

    from twofold.models.load import load_model
    from twofold.models.torch_model import TorchLanguageModel

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    transformer, tokenizer, info = load_model(os.fspath(path), device=device)
    return LoadedModel(
        TorchLanguageModel(transformer), tokenizer, info.stop_ids, info.chat, info.path.name or str(path)
    )
