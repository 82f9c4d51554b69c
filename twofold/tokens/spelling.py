"""The text that a token of a `tokenizer.json` stands for, by the decoder that the file names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from twofold.tokens.codec import Lead
from twofold.tokens.join import SPACE
from twofold.tokens.vocabulary import LETTER_TO_BYTE

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@dataclass(frozen=True)
class Spelling:
    """letters: pieces are in the byte alphabet. bytes: <0xE2> is a byte. space: what stands for a space.
    lead: see `Codec`; None: decoding looks at more than one token at a time, or at each by itself as
    `before`, `inside` and `after` say (the marks of a word's beginning, middle and end)."""

    lead: Lead | None = None
    letters: bool = False
    bytes: bool = False
    space: str = ""
    inside: str = ""
    after: str = ""

    def text_of(self, piece: str) -> bytes:
        """The bytes of one piece."""
        if self.letters:
            if LETTER_TO_BYTE.keys() >= set(piece):
                return bytes(LETTER_TO_BYTE[letter] for letter in piece)
            return piece.encode()
        if self.bytes and (byte := _BYTE.fullmatch(piece)) is not None:
            return bytes([int(byte[1], 16)])
        if self.space:
            return piece.replace(self.space, " ").encode()
        if self.after:
            return piece.replace(self.after, " ").encode()
        if self.lead is None:  # words, with spaces between them
            begins = not (self.inside and piece.startswith(self.inside))
            return (f" {piece}" if begins else piece.removeprefix(self.inside)).encode()
        return piece.encode()


def spelling_of(steps: Sequence[dict[str, Any]]) -> Spelling:
    """What a decoder's steps make of pieces."""
    kinds = [step["type"] for step in steps]
    if kinds == ["ByteLevel"]:
        return Spelling("", letters=True)
    if kinds in (["Metaspace"], ["ByteFallback", "Metaspace"]):
        step = steps[-1]
        always = step.get("prepend_scheme", "always") != "never" and step.get("add_prefix_space", True)
        return Spelling(
            "first" if always else "", space=step.get("replacement", SPACE), bytes=len(kinds) == 2
        )
    if kinds[:1] == ["Replace"] and _is_space(steps[0]):
        bytes_too = "ByteFallback" in kinds
        rest = [kind for kind in kinds[1:] if kind != "ByteFallback"]
        if rest in ([], ["Fuse"]):
            return Spelling("", space=SPACE, bytes=bytes_too)
        if rest == ["Fuse", "Strip"] and _strips_one_space(steps[-1]):
            return Spelling("space", space=SPACE, bytes=bytes_too)
    if kinds == ["WordPiece"]:
        return Spelling(inside=steps[0].get("prefix", "##"))
    if kinds == ["BPEDecoder"]:
        return Spelling(after=steps[0].get("suffix", "</w>"))
    return Spelling()


def _is_space(step: dict[str, Any]) -> bool:
    return step.get("pattern") == {"String": SPACE} and step.get("content") == " "


def _strips_one_space(step: dict[str, Any]) -> bool:
    return step.get("content") == " " and step.get("start") == 1 and not step.get("stop")
