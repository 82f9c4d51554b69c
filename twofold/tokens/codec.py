"""What a `Tokenizer` is made of: how text becomes ids and ids text, and which ids have a part to play.

Every kind of tokenizer is one `Codec`: Twofold's own (own.py), a `tokenizer.json` (json_codec.py),
SentencePiece (piece_codec.py). Nobody else has to know which.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from twofold.tokens.vocabulary import AddedToken

# What decoding leaves out at the beginning of a text: nothing, one space, all spaces of the first token, or
# one space of each token until something is shown.
Lead = Literal["", "space", "first", "edge"]


class Codec(Protocol):
    """Never changes, and is safe to share between threads. Texts hold no lone surrogates.

    pieces: every token's string by id, as its file writes it ("" where there is none). bytes: the text that
    each stands for; none for special tokens. added: by rising id. lead: what decoding strips, or None where
    the text of tokens is not their bytes, one after the other: then `decode` must be asked. keeps_space: tokens
    of which nothing is stripped.
    """

    pieces: Sequence[str]
    bytes: Sequence[bytes]
    merges: Sequence[str]
    added: tuple[AddedToken, ...]
    lead: Lead | None
    keeps_space: frozenset[int]

    def encode(self, text: str, *, begins: bool = True) -> list[int]:
        """The ids of a text. The names of special tokens stay text. Without `begins` nothing is put before it,
        for it goes on with another text."""

    def array(self, text: str) -> np.ndarray:
        """The same, int32 [T]."""

    def encode_markup(self, text: str) -> list[int]:
        """As `encode`, for what a model wrote: added tokens that are not special are found by name."""

    def encode_named(self, text: str, *, begins: bool = True) -> list[int]:
        """As `encode`, with all added tokens, special ones too, found by name."""

    def encode_located(self, text: str) -> tuple[list[int], list[int]]:
        """As `encode_named`, and the character of the text at which each token begins."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids that are not special, where `lead` is None."""

    def identity(self) -> Any:
        """JSON that is equal only for codecs that give equal ids."""

    def save(self, folder: Path, roles: Roles, *, chat: bool) -> None:
        """Write the files that open as this tokenizer again."""


@dataclass(frozen=True)
class Roles:
    """Tokens with a part to play. start, finish: what every sequence begins with, and what a template would
    put behind it. end_of_text: ends a document. stop: what ends an answer, if the model's own files do not
    say. template: the Jinja text of conversations; names: what it may call special tokens, as `bos_token`."""

    start: tuple[int, ...] = ()
    finish: tuple[int, ...] = ()
    end_of_text: int | None = None
    padding: int | None = None
    unknown: int | None = None
    stop: tuple[int, ...] = ()
    template: str | None = None
    names: dict[str, str] = field(default_factory=dict)


def going_on(encode: Callable[[str], list[int]], text: str) -> list[int]:
    """The ids of a text that goes on with another, by an encoder that always puts something before a text."""
    before, both = encode("\n"), encode("\n" + text)
    return both[len(before) :] if both[: len(before)] == before else encode(text)


def located(codec: Codec, ids: Sequence[int]) -> list[int]:
    """The character at which each token begins, of a codec whose tokens' bytes are the text's; a token that
    begins within a character counts to the next."""
    special = {token.id: len(token.name) for token in codec.added if token.special}
    places, place = [], 0
    for token in ids:
        places.append(place)
        place += special.get(token) or sum(not 0x80 <= byte < 0xC0 for byte in codec.bytes[token])
    return places


class PlainCodec:
    """What is the same in every `Codec` whose tokens' bytes are the text's, with nothing before them. `bytes`,
    `encode` and `encode_named` are its own."""

    lead: Lead | None = ""
    keeps_space: frozenset[int] = frozenset()

    def array(self, text: str) -> np.ndarray:
        """See `Codec`."""
        return np.array(self.encode(text), dtype=np.int32)

    def encode_located(self, text: str) -> tuple[list[int], list[int]]:
        """See `Codec`."""
        ids = self.encode_named(text)
        return ids, located(self, ids)

    def decode(self, ids: Sequence[int]) -> str:
        """See `Codec`."""
        return b"".join(self.bytes[token] for token in ids).decode("utf-8", errors="replace")


# tiktoken gives up (it panics) on about a million spaces in a row; tokenizers does not.
_LONG_GAP = 100_000
_FIND_LONG_GAP = re.compile(rf"\s{{{_LONG_GAP}}}")


def has_long_gap(text: str) -> bool:
    """Whether tiktoken cannot do this text."""
    return len(text) >= _LONG_GAP and _FIND_LONG_GAP.search(text) is not None


def whole(text: str) -> str:
    """`text` with surrogate pairs joined and lone surrogates replaced: what UTF-8 can say."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
