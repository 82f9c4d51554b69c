"""A tokenizer as masks see it: what bytes each token writes, and which tokens end the text.

Added tokens (<|im_start|>, <think>, …) write no bytes here, so no mask can allow one within a text; the
characters of their names can still be spelled with ordinary tokens, and then stay text. llguidance's view
of a tokenizer takes up to a third of a second to build, so it is built once for each tokenizer and kept as
long as the tokenizer is.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from twofold.errors import UsageError

if TYPE_CHECKING:
    import llguidance

    from twofold.tokens.tokenizer import Tokenizer


class MaskVocabulary:
    """The tokens that masks choose from: `vocab_size` of them (the model's), the tail perhaps unused."""

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, stop_ids: Iterable[int]) -> None:
        """Raises UsageError for a vocabulary smaller than the tokenizer's, and for bad stop tokens."""
        if tokenizer.codec.lead is None:
            raise UsageError(
                "The text of this tokenizer's tokens depends on their neighbours, so no mask can hold it."
            )
        stop_ids = tuple(dict.fromkeys(int(token) for token in stop_ids))
        if vocab_size < tokenizer.vocab_size:
            raise UsageError(
                f"The model knows {vocab_size:,} tokens and the tokenizer writes {tokenizer.vocab_size:,}. "
                "Use the tokenizer that the model was trained with."
            )
        if not stop_ids:
            raise UsageError(
                "A mask needs at least one stop token, or no text could ever end. Give stop_ids."
            )
        for token in stop_ids:
            if not 0 <= token < vocab_size:
                raise UsageError(
                    f"Stop token {token} does not exist: the model has {vocab_size:,} tokens. "
                    f"Give ids from 0 to {vocab_size - 1}."
                )
        self.tokenizer = tokenizer
        self.vocab_size = vocab_size
        self.stop_ids = stop_ids

    @cached_property
    def writes(self) -> np.ndarray:
        """bool [V]: the tokens that write text and do not end it."""
        writes = np.zeros(self.vocab_size, dtype=bool)
        writes[: self._known.count] = self._known.writes
        writes[list(self.stop_ids)] = False
        return writes

    @cached_property
    def _known(self) -> _Known:
        known = _KNOWN.get(self.tokenizer)
        if known is None:
            known = _KNOWN[self.tokenizer] = _Known(self.tokenizer)
        return known

    @property
    def llguidance(self) -> llguidance.LLTokenizer:
        """The same tokens for llguidance. Its end token is one of its own, after all of ours."""
        return self._known.llguidance

    def token_bytes(self, token: int) -> bytes:
        """What a token writes within a text: nothing for an added, unused or stop token."""
        return self.tokenizer.token_bytes(token) if self.writes[token] else b""

    def tokens_of(self, data: bytes) -> list[int]:
        """The tokens that write exactly these bytes."""
        return [token for token in self._known.by_bytes.get(data, ()) if self.writes[token]]

    @property
    def longest(self) -> int:
        """The most bytes that one token writes."""
        return self._known.longest

    def canonical(self, data: bytes, *, last: bool) -> tuple[int, ...]:
        """The tokens that the tokenizer writes `data` with, whatever follows; `last`: nothing does."""
        text = data.decode("utf-8", errors="ignore")
        whole = text.encode()
        if whole != data[: len(whole)] or (last and whole != data):
            return ()
        encode = self.tokenizer.encode
        tokens = encode(text, goes_on=True) if last else self.llguidance.tokenize_partial(whole)[0]
        if (
            last and b"".join(map(self.tokenizer.token_bytes, tokens)) != whole
        ):  # it writes text in another form
            return ()
        return tuple(self._until_stop(tokens))

    def _until_stop(self, tokens: Iterable[int]) -> Iterator[int]:
        for token in tokens:
            if not self.writes[token]:
                return
            yield token


class _Known:
    """What is worked out once for a tokenizer. Holds no reference to it, so that both can be freed."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.count = tokenizer.vocab_size
        self.pieces = [
            b"" if tokenizer.is_added(token) else tokenizer.token_bytes(token) for token in range(self.count)
        ]
        self.writes = np.array([bool(piece) for piece in self.pieces])
        self.longest = max(map(len, self.pieces))
        self._tokenizer = weakref.ref(tokenizer)

    def spelled(self, data: bytes) -> list[int]:
        """Tokens that write these bytes, the longest first; what none writes is left out."""
        tokens, place = [], 0
        while place < len(data):
            for length in range(min(self.longest, len(data) - place), 0, -1):
                if found := self.by_bytes.get(data[place : place + length]):
                    tokens.append(found[0])
                    break
            place += length
        return tokens

    @cached_property
    def by_bytes(self) -> dict[bytes, list[int]]:
        found: dict[bytes, list[int]] = {}
        for token, piece in enumerate(self.pieces):
            if piece:
                found.setdefault(piece, []).append(token)
        return found

    @cached_property
    def llguidance(self) -> llguidance.LLTokenizer:
        from llguidance import LLTokenizer, TokenizerWrapper

        return LLTokenizer(TokenizerWrapper(_ForLLGuidance(self, self._tokenizer)))


class _ForLLGuidance:
    """The attributes that llguidance reads."""

    bos_token_id = None

    def __init__(self, known: _Known, tokenizer: weakref.ref[Tokenizer]) -> None:
        self.eos_token_id = known.count
        self.tokens = [*known.pieces, b"<end>"]
        self.special_token_ids = [self.eos_token_id]
        self._known = known
        self._tokenizer = tokenizer

    def __call__(self, text: bytes) -> list[int]:
        tokens = self._tokenizer().encode(text.decode("utf-8"), goes_on=True)
        if b"".join(self.tokens[token] for token in tokens) == text:
            return tokens
        return self._known.spelled(text)  # a normaliser would write it in another form


_KNOWN: weakref.WeakKeyDictionary[Tokenizer, _Known] = weakref.WeakKeyDictionary()
