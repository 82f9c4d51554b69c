"""SentencePiece: characters joined by score, with ▁ for a space, or the likeliest row of pieces.

BPE models are computed here, by tiktoken's core (join.py), several times faster than by SentencePiece. For
unigram models the library itself is asked: it adds scores up in float32 along the whole text, and where two
ways to cut a text are equally likely, only the same additions in the same order choose the same one.
Source: SentencePiece, `normalizer.cc`, `bpe_model.cc`, `sentencepiece_processor.cc`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from twofold.errors import FileError, UsageError
from twofold.files import atomic_write, write_json
from twofold.tokens.added import AddedTokens
from twofold.tokens.charsmap import CharacterMap
from twofold.tokens.codec import Roles, going_on, located
from twofold.tokens.join import SPACE, Joiner, Unknown, all_pairs, character_joiner, too_many_pairs
from twofold.tokens.sentencepiece_file import Kind, Model, PieceModel, write_model
from twofold.tokens.special import config_of
from twofold.tokens.vocabulary import LONGEST_PIECE, AddedToken, check_names

FILE = "tokenizer.model"
_SPACES = re.compile(" +")
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


class PieceCodec:
    """A `Codec` over a SentencePiece model. Raises FileError, beginning with `where`, for one that cannot be
    used, UsageError where the library that it needs is missing."""

    merges = ()

    def __init__(self, model: PieceModel, where: str) -> None:
        self._model, self._where = model, where
        if not model.escaped or model.model in (Model.WORD, Model.CHAR):
            raise FileError(f"{where}: only BPE and unigram models whose spaces are written as {SPACE} open.")
        self.pieces: tuple[str, ...] = tuple(piece.text for piece in model.pieces)
        self._byte_ids = self._find_bytes()
        self.bytes: list[bytes] = [self._bytes_of(i) for i in range(len(self.pieces))]
        self.added: tuple[AddedToken, ...] = tuple(
            AddedToken(piece.text, i, piece.kind is Kind.CONTROL)
            for i, piece in enumerate(model.pieces)
            if piece.kind in (Kind.CONTROL, Kind.UNKNOWN, Kind.UNUSED)
        )
        self._check_lengths()
        self.lead = "edge" if model.squeezed else "space" if model.dummy_prefix and not model.suffix else ""
        self.keeps_space: frozenset[int] = frozenset(
            i for i, piece in enumerate(model.pieces) if piece.kind in (Kind.BYTE, Kind.UNKNOWN)
        )
        self._characters = CharacterMap(model.characters, where) if model.characters else None
        if model.model is Model.UNIGRAM:
            self._library  # noqa: B018 - refuses at once

    def _check_lengths(self) -> None:
        def refuse(fault: str) -> FileError:
            return FileError(f"{self._where}: {fault}.")

        if max(map(len, self.pieces)) > LONGEST_PIECE:
            raise refuse(f"a piece has more than {LONGEST_PIECE:,} characters")
        check_names([*self.added, *self._of_kind(Kind.USER_DEFINED)], refuse)

    def _of_kind(self, kind: Kind) -> list[AddedToken]:
        pieces = enumerate(self._model.pieces)
        return [AddedToken(piece.text, i, False) for i, piece in pieces if piece.kind is kind]

    def _find_bytes(self) -> tuple[int, ...] | None:
        found: dict[int, int] = {}
        for i, piece in enumerate(self._model.pieces):
            if piece.kind is Kind.BYTE:
                match = _BYTE.fullmatch(piece.text)
                if match is None:
                    raise FileError(f"{self._where}: the byte piece {piece.text[:40]!r} is no byte.")
                found[int(match[1], 16)] = i
        if found and len(found) != 256:
            raise FileError(f"{self._where}: it has {len(found)} of the 256 byte pieces.")
        return tuple(found[byte] for byte in range(256)) if found and self._model.byte_fallback else None

    def _bytes_of(self, token: int) -> bytes:
        piece = self._model.pieces[token]
        match piece.kind:
            case Kind.CONTROL:
                return b""
            case Kind.UNKNOWN:
                return self._model.unknown_shown.encode()
            case Kind.BYTE:
                return bytes([int(piece.text[3:5], 16)])
        return piece.text.replace(SPACE, " ").encode()

    def encode(self, text: str, *, begins: bool = True) -> list[int]:
        """See `Codec`."""
        if self._joiner is not None:
            return self._join(text, begins).tolist()
        return self._library.encode(text) if begins else going_on(self._library.encode, text)

    def array(self, text: str) -> np.ndarray:
        """See `Codec`."""
        if self._joiner is None:
            return np.array(self._library.encode(text), dtype=np.int32)
        return self._join(text)

    def encode_markup(self, text: str) -> list[int]:
        """See `Codec`; there are no tokens but those that `encode` finds."""
        return self.encode(text)

    def encode_named(self, text: str, *, begins: bool = True) -> list[int]:
        """See `Codec`. A text begins anew behind each special token."""
        return self.encode_located(text, begins=begins)[0]

    def encode_located(self, text: str, *, begins: bool = True) -> tuple[list[int], list[int]]:
        """See `Codec`; places are those of the text as it is joined, without the space put before it."""
        ids: list[int] = []
        places: list[int] = []
        done = 0
        for part in self._control.split(text, special=True):
            found = [part] if isinstance(part, int) else self.encode(part, begins=begins or bool(done))
            lead = 0 if isinstance(part, int) or self.lead != "space" else 1
            ids += found
            places += [done + max(0, place - lead) for place in located(self, found)]
            done += len(self.pieces[part]) if isinstance(part, int) else len(part)
        return ids, places

    def decode(self, ids: Sequence[int]) -> str:
        """See `Codec`."""
        return b"".join(self.bytes[token] for token in ids).decode("utf-8", errors="replace")

    def _join(self, text: str, begins: bool = True) -> np.ndarray:
        text = self._normalized(text, begins)
        if self._user_defined is None:
            return self._joiner.array(text)
        parts = [
            np.array([part], np.int32) if isinstance(part, int) else self._joiner.array(part)
            for part in self._user_defined[1].split(text, special=False)
        ]
        return np.concatenate(parts) if parts else np.array([], np.int32)

    def _normalized(self, text: str, begins: bool) -> str:
        model, given = self._model, text
        if self._characters is not None:
            text = "".join(self._replaced(text))
        if model.squeezed:
            text = _SPACES.sub(" ", text).removeprefix(" ")
        if not text and not (given and self._leaves_out(given)):
            return ""
        if model.dummy_prefix and not model.suffix and begins:
            text = " " + text
        text = text.replace(SPACE, " ")  # the two are the same from here on
        if model.squeezed:
            text = text.rstrip(" ")
        return text + " " if model.dummy_prefix and model.suffix else text

    def _leaves_out(self, text: str) -> bool:
        """Whether the table makes nothing of a character: a text of those alone is begun all the same."""
        return self._characters is not None and not all(map(self._characters, text))

    def _replaced(self, text: str) -> Iterator[str]:
        """The text with characters replaced, except within pieces that the user defined."""
        if self._user_defined is None:
            yield self._characters(text)
            return
        for part in self._user_defined[0].split(text, special=False):
            yield self.pieces[part] if isinstance(part, int) else self._characters(part)

    @cached_property
    def _user_defined(self) -> tuple[AddedTokens, AddedTokens] | None:
        """What finds the pieces that a user defined, in text as it comes and as it is joined."""
        found = self._of_kind(Kind.USER_DEFINED)
        as_joined = [replace(token, name=token.name.replace(SPACE, " ")) for token in found]
        return (AddedTokens(found), AddedTokens(as_joined)) if found else None

    @cached_property
    def _control(self) -> AddedTokens:
        return AddedTokens([token for token in self.added if token.special])

    @cached_property
    def _joiner(self) -> Joiner | None:
        """None for a unigram model, and where it is not known what is joined first: where two pieces have one
        score, or where some that are not in use are joined, to be taken apart again; and for enormous pieces."""
        if self._model.model is Model.UNIGRAM:
            return None
        pieces = self._model.pieces
        joined = [i for i, piece in enumerate(pieces) if piece.kind in (Kind.NORMAL, Kind.UNUSED)]
        vocab = {pieces[i].text: i for i in joined}
        # of one score, the leftmost pair comes first: in runs of one letter that is the one that makes the longest
        long = sorted(
            (i for i in joined if len(pieces[i].text) > 1),
            key=lambda i: (-pieces[i].score, -len(pieces[i].text)),
        )
        if too_many_pairs(pieces[i].text for i in long):
            return None
        pairs = all_pairs([pieces[i].text for i in long], vocab)
        alike: dict[float, list[str]] = {}
        for text in dict.fromkeys(left + right for left, right in pairs):
            piece = pieces[vocab[text]]
            if piece.kind is Kind.UNUSED:
                return None
            alike.setdefault(piece.score, []).append(text)
        if any(len(texts) > 1 and len(set("".join(texts))) > 1 for texts in alike.values()):
            return None
        return character_joiner(vocab, pairs, Unknown(self._byte_ids, self._model.unknown))

    @cached_property
    def _library(self) -> Any:
        try:
            import sentencepiece
        except ImportError:
            raise UsageError(
                f"{self._where} is a unigram model, or one of equal scores, and those need SentencePiece "
                "itself: pip install 'twofold[sentencepiece]'"
            ) from None
        try:
            return sentencepiece.SentencePieceProcessor(model_proto=write_model(self._model))
        except (RuntimeError, ValueError, OSError) as error:
            raise FileError(f"{self._where}: SentencePiece does not take it ({str(error)[:200]}).") from None

    def identity(self) -> Any:
        """See `Codec`."""
        return ["sentencepiece", write_model(self._model).hex()]

    @property
    def model(self) -> PieceModel:
        """The content of its file."""
        return self._model

    def save(self, folder: Path, roles: Roles, *, chat: bool) -> None:
        """See `Codec`: the `.model`, and what else has to be said in `tokenizer_config.json`."""
        write_json(folder / "tokenizer_config.json", config_of(roles, self.pieces))
        with atomic_write(folder / FILE, "wb") as file:
            file.write(write_model(self._model))

    def __getstate__(self):
        return {"model": self._model, "where": self._where}

    def __setstate__(self, state) -> None:
        self.__init__(state["model"], state["where"])
