"""Text ⇄ tokens, whatever kind of tokenizer it is: Twofold's own, or one from elsewhere.

    tokenizer = Tokenizer.load("demo")             # a folder, a tokenizer.json, a .model, a .tiktoken, …
    ids = tokenizer.encode("Who is Ada?", start=True)
    tokenizer.decode(ids)

One type for the whole house; what differs is in its `Codec` (codec.py) and `Roles`. Our own kind gives back
exactly the bytes that it was given. One from elsewhere gives the ids that its own library gives. With either,
text never makes a special token: those are put in by their number.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import os
from collections.abc import Collection, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from twofold.errors import UsageError
from twofold.tokens.codec import Codec, Roles, whole
from twofold.tokens.own import OwnCodec
from twofold.tokens.vocabulary import (
    IM_END,
    IM_START,
    SMALLEST_VOCABULARY,
    AddedToken,
    Vocabulary,
    standard_added,
    to_letters,
)

if TYPE_CHECKING:
    from twofold.tokens.chat import ChatForm

_CHARACTERS_A_TASK = 1 << 18  # of a batch, given to a thread at once


class Tokenizer:
    """A vocabulary that can encode and decode. Safe to share between threads; never changes.

    vocab_size counts all ids, used or not. start_ids: what every sequence begins with (perhaps nothing).
    end_of_text ends a document and stop_ids an answer, where that is known. im_start, im_end: of ChatML.
    """

    def __init__(self, vocabulary: Vocabulary, *, where: str = "tokenizer") -> None:
        """Our own kind. Raises FileError, beginning with `where`, for a vocabulary that cannot work."""
        codec = OwnCodec(vocabulary, where)
        self._set(codec, codec.roles())

    @classmethod
    def of(cls, codec: Codec, roles: Roles) -> Tokenizer:
        """Of any kind."""
        tokenizer = cls.__new__(cls)
        tokenizer._set(codec, roles)
        return tokenizer

    def _set(self, codec: Codec, roles: Roles) -> None:
        self.codec = codec
        self.roles = roles
        self.pieces: Sequence[str] = codec.pieces
        self.added: tuple[AddedToken, ...] = codec.added
        self.vocab_size: int = len(codec.pieces)
        self.start_ids: tuple[int, ...] = roles.start
        self.stop_ids: tuple[int, ...] = roles.stop
        self.end_of_text: int | None = roles.end_of_text
        self._id_of = {token.name: token.id for token in codec.added}
        self.im_start: int | None = self._id_of.get(IM_START)
        self.im_end: int | None = self._id_of.get(IM_END)
        self._added_ids = frozenset(self._id_of.values())
        self._special = frozenset(token.id for token in codec.added if token.special)

    @classmethod
    def from_vocabulary(
        cls,
        pieces: Sequence[str],
        merges: Sequence[str],
        added: Iterable[AddedToken],
        *,
        where: str = "tokenizer",
    ) -> Tokenizer:
        """Our own kind, from what a parameter file holds: every token's string by id (byte alphabet), merges
        as "left right", and the added tokens. Raises FileError, beginning with `where`."""
        added = tuple(sorted(added, key=lambda token: token.id))
        return cls(Vocabulary(tuple(pieces), tuple(merges), added), where=where)

    @classmethod
    def load(cls, path: str | os.PathLike) -> Tokenizer:
        """From a file or a folder: `tokenizer.json`, vocabulary and merges as GPT-2 has them, ranks as tiktoken
        has them, a SentencePiece `.model`; with the `tokenizer_config.json` and `chat_template.jinja` beside
        it. Raises FileError."""
        from twofold.tokens.opening import open_tokenizer

        return open_tokenizer(path)

    def save(self, folder: str | os.PathLike, *, chat: bool = False) -> None:
        """Write the files that `load` opens again, with equal ids, into `folder`; of our own kind, for
        `transformers.AutoTokenizer` too. `chat`: the end token named there is <|im_end|>. Raises FileError."""
        self.codec.save(Path(folder), self.roles, chat=chat)

    @property
    def merges(self) -> Sequence[str]:
        """As "left right", in order; some codecs have to look for them first."""
        return self.codec.merges

    @property
    def is_own(self) -> bool:
        """Whether it is of the kind that Twofold trains."""
        return isinstance(self.codec, OwnCodec)

    @cached_property
    def chat(self) -> ChatForm | None:
        """How conversations become tokens; None for a tokenizer that does not say."""
        if self.is_own:
            from twofold.tokens.chat import ChatML

            return ChatML(self)
        if self.roles.template is None:
            return None
        from twofold.tokens.chat_template import TemplateChat

        return TemplateChat(self, self.roles.template)

    def taught_chat(self, stop_ids: Collection[int]) -> bool:
        """Whether a model with this tokenizer, whose answers these tokens end, was taught conversations."""
        return self.im_end in stop_ids if self.is_own else self.roles.template is not None

    def ends(self, *, chat: bool) -> tuple[int, ...]:
        """What ends an answer of a model that was taught conversations, or else a text; the usual one first."""
        end = () if self.end_of_text is None else (self.end_of_text,)
        if not chat:
            return end
        return (self.im_end, *end) if self.is_own else tuple(dict.fromkeys((*self.stop_ids[1:], *end)))

    @cached_property
    def fingerprint(self) -> str:
        """Hex SHA-256 of all that ids depend on: equal means equal ids for all text."""
        content = self.codec.identity()
        if not self.is_own:
            content = [content, list(self.start_ids)]
        return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()

    def encode(self, text: str, *, start: bool = False, goes_on: bool = False) -> list[int]:
        """The ids of `text`; with `start`, `start_ids` first, as every sequence begins. `goes_on`: it continues
        another text, so that no space is put before it, as some tokenizers do.

        Names of special tokens in the text stay text (of our own kind, those of all added tokens). A surrogate
        without its partner, which no file in UTF-8 can hold, is encoded as U+FFFD."""
        ids = self.codec.encode(whole(text), begins=not goes_on)
        return [*self.start_ids, *ids] if start else ids

    def encode_markup(self, text: str) -> list[int]:
        """As `encode`, but the names of the added tokens that are not special (<think>, <tool_call>, …)
        become those tokens. For what a model itself wrote; special tokens still stay text."""
        return self.codec.encode_markup(whole(text))

    def encode_named(self, text: str) -> list[int]:
        """As `encode`, but the names of all added tokens become those tokens, special ones too. Only for text
        that nobody outside had a hand in."""
        return self.codec.encode_named(whole(text))

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The ids of each text, int32 [T], on all cores. The same ids as `encode`."""
        from concurrent.futures import ThreadPoolExecutor

        tasks: list[list[str]] = []
        size = _CHARACTERS_A_TASK
        for text in texts:
            if size >= _CHARACTERS_A_TASK:
                tasks.append([])
                size = 0
            tasks[-1].append(text)
            size += len(text)
        workers = min(len(tasks), len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 4)
        if workers < 2:
            return [array for task in tasks for array in self._encode_task(task)]
        with ThreadPoolExecutor(workers) as pool:
            return [array for arrays in pool.map(self._encode_task, tasks) for array in arrays]

    def _encode_task(self, texts: list[str]) -> list[np.ndarray]:
        return [self.codec.array(whole(text)) for text in texts]

    def decode(self, ids: Iterable[int], *, specials: bool = False) -> str:
        """The text of `ids`. Bytes that are not UTF-8 become U+FFFD. Special tokens are left out, or
        with `specials` shown by name. Raises UsageError for an id outside the vocabulary."""
        ids = [int(token) for token in ids]
        parts = [self.token_bytes(token) for token in ids]
        if self.codec.lead is None:
            return self._decode_whole(ids, specials)
        stripped = self._without_lead(ids, parts, specials)
        if specials:
            stripped = [
                self.pieces[token].encode() if token in self._special else part
                for part, token in zip(stripped, ids, strict=True)
            ]
        return b"".join(stripped).decode("utf-8", errors="replace")

    def _decode_whole(self, ids: list[int], specials: bool) -> str:
        if not specials:
            return self.codec.decode([token for token in ids if token not in self._special])
        parts, run = [], []
        for token in ids:
            if token in self._special:
                parts += [self.codec.decode(run), self.pieces[token]]
                run = []
            else:
                run.append(token)
        return "".join([*parts, self.codec.decode(run)])

    def _without_lead(self, ids: list[int], parts: list[bytes], specials: bool) -> list[bytes]:
        """`parts` without the spaces that decoding strips: those before the first text."""
        parts = list(parts)
        for place, token in enumerate(ids):
            if specials and token in self._special:
                break
            parts[place], begun = self.strip_lead(token)
            if begun:
                break
        return parts

    def strip_lead(self, token: int) -> tuple[bytes, bool]:
        """The bytes of a token while no text has been shown yet, as they are shown there; and whether the
        text has begun with them."""
        data = self.token_bytes(token)
        if self.codec.lead and token not in self.codec.keeps_space:
            rest = data.replace(b" ", b"") if self.codec.lead == "first" else data.removeprefix(b" ")
            return rest, bool(rest if self.codec.lead == "edge" else data)
        return data, bool(data)

    def token_bytes(self, token: int) -> bytes:
        """The bytes of text that one token stands for: none for a special token, and perhaps a part
        of a character. Raises UsageError for an id outside the vocabulary."""
        if not 0 <= token < self.vocab_size:
            raise UsageError(
                f"Token {token} does not exist: this tokenizer has {self.vocab_size:,} tokens. "
                "Is it the one that the model was trained with?"
            )
        return self.codec.bytes[token]

    def is_added(self, token: int) -> bool:
        """Whether a token is one of `added`, special or not."""
        return token in self._added_ids

    def stream(self, *, goes_on: bool = False) -> StreamDecoder:
        """A decoder for tokens that arrive one by one; `goes_on`: they continue a text."""
        return StreamDecoder(self, goes_on=goes_on)

    def is_text(self, token: int) -> bool:
        """Whether a token stands for text: not for a special one."""
        return token not in self._special

    def __len__(self) -> int:
        return self.vocab_size

    def __repr__(self) -> str:
        return f"Tokenizer(vocab_size={self.vocab_size}, fingerprint={self.fingerprint[:12]!r})"

    def __reduce__(self):
        if isinstance(self.codec, OwnCodec):
            return Tokenizer, (self.codec.vocabulary,)
        return Tokenizer.of, (self.codec, self.roles)


class StreamDecoder:
    """Text from tokens one at a time. Bytes of an unfinished character are held back until it is whole,
    so all that was fed, then flushed, joins to what `Tokenizer.decode` gives for the whole."""

    _HELD = 16  # characters that a decoder which looks at its neighbours may still change

    def __init__(self, tokenizer: Tokenizer, *, goes_on: bool = False) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._begun = goes_on
        self._ids: list[int] = []  # only where the whole must be decoded
        self._shown = 0

    def feed(self, token: int) -> str:
        """The text that has become certain with this token; often one piece, sometimes nothing."""
        data = self._tokenizer.token_bytes(token)
        if self._tokenizer.codec.lead is None:
            self._ids.append(token)
            return self._show(self._tokenizer.decode(self._ids)[: -self._HELD])
        if not self._begun:
            data, self._begun = self._tokenizer.strip_lead(token)
        return self._decoder.decode(data)

    def flush(self) -> str:
        """The end: what was held back can no longer become a character, and shows as U+FFFD."""
        if self._ids:
            return self._show(self._tokenizer.decode(self._ids))
        return self._decoder.decode(b"", final=True)

    def _show(self, text: str) -> str:
        new = text[self._shown :]
        self._shown = max(self._shown, len(text))
        return new


def bytes_only(vocab_size: int = SMALLEST_VOCABULARY) -> Tokenizer:
    """The simplest tokenizer: 256 bytes, no merges, the added tokens, and unused ones up to `vocab_size`."""
    learned = tuple(to_letters(bytes([byte])) for byte in range(256))
    reserved = vocab_size - 256 - len(standard_added(0))
    added = standard_added(256, reserved)
    return Tokenizer(Vocabulary(learned + tuple(token.name for token in added), (), added))
