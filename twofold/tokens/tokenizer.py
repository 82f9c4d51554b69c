"""Text ⇄ tokens: a byte-level BPE that gives back exactly the bytes it was given.

Key ideas. No normaliser: Qwen's own tokenizer composes accents (NFC) first, which changes the bytes of
text that is written decomposed; here decode(encode(text)) == text for all text, and bits per byte are about
the text that was given. The vocabulary, the cut (`PATTERN`) and the file format are Qwen2's, so
`transformers` and llama.cpp read it. Text never makes a special token: those are put in by their number.

Encoding is tiktoken's, several times faster than tokenizers' (benchmarks/tokenizer_speed.py); the two give
the same ids for every vocabulary that passes `check_vocabulary`.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import os
import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from twofold.errors import UsageError
from twofold.tokens import tokenizer_file
from twofold.tokens.vocabulary import (
    END_OF_TEXT,
    IM_END,
    IM_START,
    PATTERN,
    PRE_TOKENIZER,
    SMALLEST_VOCABULARY,
    AddedToken,
    Vocabulary,
    check_vocabulary,
    standard_added,
    to_bytes,
    to_letters,
)

# tiktoken gives up (it panics) on about a million spaces in a row; tokenizers does not.
_LONG_GAP = 100_000
_FIND_LONG_GAP = re.compile(rf"\s{{{_LONG_GAP}}}")
_CHARACTERS_A_TASK = 1 << 18  # of a batch, given to a thread at once


class Tokenizer:
    """A vocabulary that can encode and decode. Safe to share between threads; never changes."""

    def __init__(self, vocabulary: Vocabulary, *, where: str = "tokenizer") -> None:
        """Raises FileError, beginning with `where`, for a vocabulary that cannot work."""
        import tiktoken

        check_vocabulary(vocabulary, where)
        self.pieces: tuple[str, ...] = vocabulary.pieces
        self.merges: tuple[str, ...] = vocabulary.merges
        self.added: tuple[AddedToken, ...] = vocabulary.added
        self.vocab_size: int = len(vocabulary.pieces)
        names = {token.name: token.id for token in vocabulary.added}
        self.end_of_text: int = names[END_OF_TEXT]
        self.im_start: int = names[IM_START]
        self.im_end: int = names[IM_END]
        self._vocabulary = vocabulary
        learned = [to_bytes(piece) for piece in vocabulary.learned]
        markup = [b"" if token.special else token.name.encode() for token in vocabulary.added]
        self._bytes: list[bytes] = learned + markup
        ranks = {data: token for token, data in enumerate(learned)}
        self._fast = tiktoken.Encoding(
            PRE_TOKENIZER, pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={}
        )
        self._markup = {token.name: token.id for token in vocabulary.added if not token.special}
        self._find_markup = re.compile("(" + "|".join(map(re.escape, self._markup)) + ")")

    @classmethod
    def from_vocabulary(
        cls,
        pieces: Sequence[str],
        merges: Sequence[str],
        added: Iterable[AddedToken],
        *,
        where: str = "tokenizer",
    ) -> Tokenizer:
        """From what a parameter file holds: every token's string by id (byte alphabet), merges as
        "left right", and the added tokens. Raises FileError, beginning with `where`."""
        added = tuple(sorted(added, key=lambda token: token.id))
        return cls(Vocabulary(tuple(pieces), tuple(merges), added), where=where)

    @classmethod
    def load(cls, path: str | os.PathLike) -> Tokenizer:
        """From a `tokenizer.json`, or a folder that holds one. Raises FileError."""
        path = tokenizer_file.find(path)
        return cls(tokenizer_file.read(path), where=str(path))

    def save(self, folder: str | os.PathLike, *, chat: bool = False) -> None:
        """Write `tokenizer.json` and `tokenizer_config.json` into `folder`, for `load` and for
        `transformers.AutoTokenizer`. `chat`: the end token named there is <|im_end|>. Raises FileError."""
        tokenizer_file.write(Path(folder), self._vocabulary, end_token=IM_END if chat else END_OF_TEXT)

    @cached_property
    def fingerprint(self) -> str:
        """Hex SHA-256 of the cut, pieces, merges and added tokens: equal means equal ids for all text."""
        added = [[token.name, token.id, token.special] for token in self.added]
        content = [PATTERN, list(self.pieces), list(self.merges), added]
        return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()

    def encode(self, text: str, *, start: bool = False) -> list[int]:
        """The ids of `text`; with `start`, <|endoftext|> first, as every sequence begins.

        Names of added tokens in the text stay text. A surrogate without its partner, which no file in
        UTF-8 can hold, is encoded as U+FFFD."""
        text = _whole(text)
        if _has_long_gap(text):
            ids = self._slow.encode(text, add_special_tokens=False).ids
        else:
            ids = self._fast.encode_ordinary(text)
        return [self.end_of_text, *ids] if start else ids

    def encode_markup(self, text: str) -> list[int]:
        """As `encode`, but the names of the added tokens that are not special (<think>, <tool_call>, …)
        become those tokens. For what a model itself wrote; special tokens still stay text."""
        ids: list[int] = []
        for part in self._find_markup.split(text) if self._markup else [text]:
            token = self._markup.get(part)
            ids += self.encode(part) if token is None else [token]
        return ids

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
        return [np.array(self.encode(text), dtype=np.int32) for text in texts]

    @cached_property
    def _slow(self):
        """tokenizers' encoder of the same vocabulary: for the few texts that tiktoken cannot do."""
        import tokenizers

        return tokenizers.Tokenizer.from_str(
            json.dumps(tokenizer_file.to_json(self._vocabulary, added=False))
        )

    def decode(self, ids: Iterable[int], *, specials: bool = False) -> str:
        """The text of `ids`. Bytes that are not UTF-8 become U+FFFD. Special tokens are left out, or
        with `specials` shown by name. Raises UsageError for an id outside the vocabulary."""
        ids = [int(token) for token in ids]
        parts = [self.token_bytes(token) for token in ids]
        if specials:
            parts = [part or self.pieces[token].encode() for part, token in zip(parts, ids, strict=True)]
        return b"".join(parts).decode("utf-8", errors="replace")

    def token_bytes(self, token: int) -> bytes:
        """The bytes of text that one token stands for: none for a special token, and perhaps a part
        of a character. Raises UsageError for an id outside the vocabulary."""
        if not 0 <= token < self.vocab_size:
            raise UsageError(
                f"Token {token} does not exist: this tokenizer has {self.vocab_size:,} tokens. "
                "Is it the one that the model was trained with?"
            )
        return self._bytes[token]

    def is_added(self, token: int) -> bool:
        """Whether a token is one of `added`, special or not."""
        return self.vocab_size - len(self.added) <= token < self.vocab_size

    def stream(self) -> StreamDecoder:
        """A decoder for tokens that arrive one by one."""
        return StreamDecoder(self)

    def __len__(self) -> int:
        return self.vocab_size

    def __repr__(self) -> str:
        return f"Tokenizer(vocab_size={self.vocab_size}, fingerprint={self.fingerprint[:12]!r})"

    def __reduce__(self):
        return Tokenizer, (self._vocabulary,)


class StreamDecoder:
    """Text from tokens one at a time. Bytes of an unfinished character are held back until it is whole,
    so all that was fed, then flushed, joins to what `Tokenizer.decode` gives for the whole."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def feed(self, token: int) -> str:
        """The text that has become certain with this token; often one piece, sometimes nothing."""
        return self._decoder.decode(self._tokenizer.token_bytes(token))

    def flush(self) -> str:
        """The end: what was held back can no longer become a character, and shows as U+FFFD."""
        return self._decoder.decode(b"", final=True)


def bytes_only(vocab_size: int = SMALLEST_VOCABULARY) -> Tokenizer:
    """The simplest tokenizer: 256 bytes, no merges, the added tokens, and unused ones up to `vocab_size`."""
    learned = tuple(to_letters(bytes([byte])) for byte in range(256))
    reserved = vocab_size - 256 - len(standard_added(0))
    added = standard_added(256, reserved)
    return Tokenizer(Vocabulary(learned + tuple(token.name for token in added), (), added))


def _whole(text: str) -> str:
    """`text` with surrogate pairs joined and lone surrogates replaced: what UTF-8 can say."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _has_long_gap(text: str) -> bool:
    return len(text) >= _LONG_GAP and _FIND_LONG_GAP.search(text) is not None
