"""Twofold's own kind of tokenizer: a byte-level BPE that gives back exactly the bytes it was given.

Key ideas. No normaliser: Qwen's own tokenizer composes accents (NFC) first, which changes the bytes of
text that is written decomposed; here decode(encode(text)) == text for all text, and bits per byte are about
the text that was given. The vocabulary, the cut (`PATTERN`) and the file format are Qwen2's, so
`transformers` and llama.cpp read it. Text never makes an added token: those are put in by their number.

Encoding is tiktoken's, several times faster than tokenizers' (benchmarks/tokenizer_speed.py); the two give
the same ids for every vocabulary that passes `check_vocabulary`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

from twofold.tokens import tokenizer_file
from twofold.tokens.chat import CHAT_TEMPLATE
from twofold.tokens.codec import PlainCodec, Roles, has_long_gap
from twofold.tokens.join import Joiner
from twofold.tokens.vocabulary import (
    END_OF_TEXT,
    IM_END,
    PATTERN,
    AddedToken,
    Vocabulary,
    check_vocabulary,
    to_bytes,
)


class OwnCodec(PlainCodec):
    """A `Codec` over a `Vocabulary`. Raises FileError, beginning with `where`, for one that cannot work."""

    def __init__(self, vocabulary: Vocabulary, where: str) -> None:
        check_vocabulary(vocabulary, where)
        self.vocabulary = vocabulary
        self.pieces: tuple[str, ...] = vocabulary.pieces
        self.merges: tuple[str, ...] = vocabulary.merges
        self.added: tuple[AddedToken, ...] = vocabulary.added
        learned = [to_bytes(piece) for piece in vocabulary.learned]
        markup = [b"" if token.special else token.name.encode() for token in vocabulary.added]
        self.bytes: list[bytes] = learned + markup
        self._joiner = Joiner({data: token for token, data in enumerate(learned)}, PATTERN)
        self._markup = {token.name: token.id for token in vocabulary.added if not token.special}
        self._named = {token.name: token.id for token in vocabulary.added}

    def encode(self, text: str, *, begins: bool = True) -> list[int]:
        """See `Codec`; the names of all added tokens stay text."""
        if has_long_gap(text):
            return self._slow.encode(text, add_special_tokens=False).ids
        return self._joiner.encode(text)

    def encode_markup(self, text: str) -> list[int]:
        """See `Codec`."""
        return self._with_names(text, self._find_markup, self._markup) if self._markup else self.encode(text)

    def encode_named(self, text: str, *, begins: bool = True) -> list[int]:
        """See `Codec`."""
        return self._with_names(text, self._find_named, self._named)

    def _with_names(self, text: str, find: re.Pattern, named: dict[str, int]) -> list[int]:
        ids: list[int] = []
        for part in find.split(text):
            token = named.get(part)
            ids += self.encode(part) if token is None else [token]
        return ids

    @cached_property
    def _find_markup(self) -> re.Pattern:
        return _any_of(self._markup)

    @cached_property
    def _find_named(self) -> re.Pattern:
        return _any_of(self._named)

    @cached_property
    def _slow(self):
        """tokenizers' encoder of the same vocabulary: for the few texts that tiktoken cannot do."""
        import tokenizers

        return tokenizers.Tokenizer.from_str(json.dumps(tokenizer_file.to_json(self.vocabulary, added=False)))

    def identity(self) -> Any:
        """See `Codec`."""
        added = [[token.name, token.id, token.special] for token in self.added]
        return [PATTERN, list(self.pieces), list(self.merges), added]

    def save(self, folder: Path, roles: Roles, *, chat: bool) -> None:
        """See `Codec`."""
        tokenizer_file.write(folder, self.vocabulary, end_token=IM_END if chat else END_OF_TEXT)

    def roles(self) -> Roles:
        """Every sequence begins with <|endoftext|>, which also ends it."""
        end = next(token.id for token in self.added if token.name == END_OF_TEXT)
        names = {"bos_token": END_OF_TEXT, "eos_token": IM_END, "pad_token": END_OF_TEXT}
        return Roles((end,), (), end, end, None, (end,), CHAT_TEMPLATE, names)


def _any_of(names: Iterable[str]) -> re.Pattern:
    return re.compile("(" + "|".join(map(re.escape, names)) + ")")
