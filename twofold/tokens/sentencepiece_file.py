"""A SentencePiece `.model`: a protobuf message, read here field by field and never trusted.

Only what tokenization needs is read: pieces with score and kind, the kind of model, how text is normalised.
Every length is held against the bytes that are there. Protobuf's wire format is four shapes of value behind
a number (https://protobuf.dev/programming-guides/encoding); the fields are those of SentencePiece's
`sentencepiece_model.proto`.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

from twofold.errors import FileError

MOST_PIECES = 1 << 20
_MOST_FIELDS = MOST_PIECES + (1 << 16)  # of one message
_VARINT, _WIDE, _BYTES, _NARROW = 0, 1, 2, 5  # the shapes of values


class Kind(IntEnum):
    """What a piece is for."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


class Model(IntEnum):
    """How text is cut into pieces."""

    UNIGRAM = 1
    BPE = 2
    WORD = 3
    CHAR = 4


@dataclass(frozen=True, slots=True)
class Piece:
    """One entry of the vocabulary."""

    text: str
    score: float
    kind: Kind = Kind.NORMAL


@dataclass(frozen=True)
class PieceModel:
    """A model's content. dummy_prefix: a space is put before a text (behind it, with `suffix`); squeezed: runs
    of spaces become one and outer ones go; characters: the compiled table of replacements."""

    pieces: tuple[Piece, ...]
    model: Model = Model.BPE
    byte_fallback: bool = False
    dummy_prefix: bool = True
    squeezed: bool = True
    suffix: bool = False
    characters: bytes = b""
    escaped: bool = True
    bos: int | None = 1
    eos: int | None = 2
    padding: int | None = None
    unknown_shown: str = " \u2047 "

    @property
    def unknown(self) -> int | None:
        """The id of the unknown token."""
        return next((i for i, piece in enumerate(self.pieces) if piece.kind is Kind.UNKNOWN), None)


# number of a field -> (what holds it, name, how its value is read)
_TRAINER = {3: ("model", Model), 24: ("suffix", bool), 35: ("byte_fallback", bool), 41: ("bos", int),
            42: ("eos", int), 43: ("padding", int), 44: ("unknown_shown", str)}  # fmt: skip
_NORMALIZER = {
    2: ("characters", bytes),
    3: ("dummy_prefix", bool),
    4: ("squeezed", bool),
    5: ("escaped", bool),
}


_KINDS = {b"": Kind.NORMAL} | {bytes([0x18, kind]): kind for kind in Kind}  # as a piece's last field


def read_model(data: bytes, where: str) -> PieceModel:
    """The content of a `.model`. Raises FileError, beginning with `where`."""
    message = _Message(memoryview(data), where)
    pieces: list[Piece] = []
    settings: dict[str, Any] = {}
    for field, value in message.fields():
        if field == 1:
            if len(pieces) == MOST_PIECES:
                raise message.refuse(f"it has more than {MOST_PIECES:,} pieces")
            pieces.append(_piece(_Message(value, where), len(pieces)))
        elif field in (2, 3):
            inner = _Message(value, where)
            known = _TRAINER if field == 2 else _NORMALIZER
            for number, found in inner.fields():
                if number in known:
                    name, kind = known[number]
                    settings[name] = inner.value(found, kind)
    if not pieces:
        raise message.refuse("there are no pieces in it")
    if len({piece.text for piece in pieces}) != len(pieces):
        raise message.refuse("a piece is in it twice")
    model = PieceModel(tuple(pieces), **{"model": Model.UNIGRAM, **settings})
    ids = {name: getattr(model, name) for name in ("bos", "eos", "padding")}
    return replace(
        model, **{name: i if i is not None and 0 <= i < len(pieces) else None for name, i in ids.items()}
    )


def _piece(message: _Message, place: int) -> Piece:
    if usual := message.usual_piece():
        return usual
    text, score, kind = "", 0.0, Kind.NORMAL
    for field, value in message.fields():
        if field == 1:
            text = message.value(value, str)
        elif field == 2:
            score = message.value(value, float)
        elif field == 3:
            kind = message.value(value, Kind)
    if not text or not math.isfinite(score):
        raise message.refuse(f"piece {place} is empty, or its score is no number")
    return Piece(text, score, kind)


class _Message:
    def __init__(self, data: memoryview, where: str) -> None:
        if not isinstance(data, memoryview):
            raise FileError(f"{where} is not a SentencePiece model: a message was expected in it.")
        self._data, self._where, self._place = data, where, 0

    def refuse(self, fault: str) -> FileError:
        return FileError(f"{self._where} is damaged, or not a SentencePiece model: {fault}.")

    def fields(self) -> Iterator[tuple[int, Any]]:
        """(number, value) of each field: an int, a memoryview of bytes, or four or eight bytes."""
        count = 0
        while self._place < len(self._data):
            count += 1
            if count > _MOST_FIELDS:
                raise self.refuse(f"it has more than {_MOST_FIELDS:,} fields")
            key = self._varint()
            number, shape = key >> 3, key & 7
            if not number or shape not in (_VARINT, _WIDE, _BYTES, _NARROW):
                raise self.refuse("it is not protobuf")
            if shape == _VARINT:
                yield number, self._varint()
            else:
                size = {_WIDE: 8, _NARROW: 4}.get(shape)
                value = self._take(self._varint() if size is None else size)
                yield number, value if size is None else bytes(value)

    def usual_piece(self) -> Piece | None:
        """A piece as most are written, with a short text, a score and perhaps a kind, much faster than by its fields;
        None for another."""
        data = bytes(self._data)
        size = data[1] if len(data) > 1 and data[:1] == b"\x0a" and data[1] < 0x80 else 0
        tail = data[2 + size :]
        kind = _KINDS.get(tail[5:])
        if not size or kind is None or len(tail) < 5 or tail[:1] != b"\x15":
            return None
        (score,) = struct.unpack("<f", tail[1:5])
        try:
            return Piece(data[2 : 2 + size].decode(), score, kind) if math.isfinite(score) else None
        except UnicodeDecodeError:
            return None

    def value(self, found: Any, kind: type) -> Any:
        """A field's value as `kind`. Raises FileError where it is of another shape."""
        try:
            if kind is str and isinstance(found, memoryview):
                return str(found, "utf-8")
            if kind is bytes and isinstance(found, memoryview):
                return bytes(found)
            if kind is float and isinstance(found, bytes) and len(found) == 4:
                return struct.unpack("<f", found)[0]
            if kind is bool and isinstance(found, int):
                return found != 0
            if kind is int and isinstance(found, int):  # negative ones are written in 64 bits
                return found - (1 << 64) if found >= 1 << 63 else found
            if issubclass(kind, IntEnum) and isinstance(found, int):
                return kind(found)
        except ValueError as error:
            raise self.refuse(f"a value is not what it should be ({error})") from None
        raise self.refuse("a field is of the wrong type")

    def _varint(self) -> int:
        number, place = 0, self._place
        if place < len(self._data) and self._data[place] < 0x80:  # as most are
            self._place += 1
            return self._data[place]
        for shift in range(0, 70, 7):
            byte = self._take(1)[0]
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number & ((1 << 64) - 1)
        raise self.refuse("a number has no end")

    def _take(self, count: int) -> memoryview:
        if count > len(self._data) - self._place:
            raise self.refuse("it was cut short")
        self._place += count
        return self._data[self._place - count : self._place]


def write_model(model: PieceModel) -> bytes:
    """The `.model` that `read_model`, and SentencePiece itself, open as `model`."""
    pieces = b"".join(
        _field(1, _field(1, piece.text) + _field(2, piece.score) + _field(3, int(piece.kind)))
        for piece in model.pieces
    )
    trainer = b"".join(_field(number, _plain(getattr(model, name))) for number, (name, _) in _TRAINER.items())
    unknown = model.unknown
    trainer += _field(4, len(model.pieces)) + (b"" if unknown is None else _field(40, unknown))
    normalizer = b"".join(
        _field(number, _plain(getattr(model, name))) for number, (name, _) in _NORMALIZER.items()
    )
    return pieces + _field(2, trainer) + _field(3, normalizer)


def _plain(value: Any) -> Any:
    return -1 if value is None else int(value) if isinstance(value, bool | IntEnum) else value


def _field(number: int, value: float | str | bytes) -> bytes:
    if isinstance(value, float):
        return _number(number << 3 | _NARROW) + struct.pack("<f", value)
    if isinstance(value, int):
        return _number(number << 3 | _VARINT) + _number(value % (1 << 64))
    data = value.encode() if isinstance(value, str) else value
    return _number(number << 3 | _BYTES) + _number(len(data)) + data


def _number(value: int) -> bytes:
    data = bytearray()
    while value >= 0x80:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*data, value])
