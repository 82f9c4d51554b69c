"""Files that lie: GGUF, safetensors and SentencePiece models whose counts, sizes, types, offsets and names are not what
they say. Used by `hostile_files.py`."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field, replace
from functools import cache
from random import Random
from typing import Any

from hostile_mutations import FLOATS, NUMBERS, change, damage, dump, number_bytes, other_weights, some_text

_WIDTHS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_TEXT, _ARRAY = 8, 9
_NAMES = (b"blk.99999999.attn_q.weight", b"blk.-1.ffn_up.weight", b"rope_freqs.weight", b"output.weight")


# ---- GGUF -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tensor:
    """A tensor's line; dimensions as they stand there, the fastest first."""

    name: bytes
    dimensions: tuple[int, ...]
    type: int
    offset: int


@dataclass
class Gguf:
    """A GGUF in parts. `entries`: (key, type, value in bytes). `counts`: what the header says, if that is not so."""

    entries: list[tuple[bytes, int, bytes]]
    tensors: list[Tensor]
    data: bytes
    version: int = 3
    counts: dict[str, int] = field(default_factory=dict)


@cache
def parts_of(data: bytes) -> Gguf:
    """The parts of a valid file."""
    at = 24

    def take(count: int) -> bytes:
        nonlocal at
        at += count
        return data[at - count : at]

    def number(width: int) -> int:
        return int.from_bytes(take(width), "little")

    def skip(kind: int) -> None:
        if kind == _TEXT:
            take(number(8))
        elif kind == _ARRAY:
            inner, count = number(4), number(8)
            if inner in _WIDTHS:
                take(count * _WIDTHS[inner])
            else:
                for _ in range(count):
                    skip(inner)
        else:
            take(_WIDTHS[kind])

    tensor_count, key_count = struct.unpack("<QQ", data[8:24])
    entries, tensors = [], []
    for _ in range(key_count):
        key, kind, start = take(number(8)), number(4), at
        skip(kind)
        entries.append((key, kind, data[start:at]))
    for _ in range(tensor_count):
        name = take(number(8))
        dimensions = tuple(number(8) for _ in range(number(4)))
        tensors.append(Tensor(name, dimensions, number(4), number(8)))
    return Gguf(entries, tensors, data[-(-at // 32) * 32 :])


def written(parts: Gguf) -> bytes:
    """The file, as its parts say."""
    out = bytearray(b"GGUF" + parts.version.to_bytes(4, "little"))
    for what, true in (("tensors", len(parts.tensors)), ("entries", len(parts.entries))):
        out += number_bytes(parts.counts.get(what, true), 8)
    for key, kind, value in parts.entries:
        out += _text(key) + number_bytes(kind, 4) + value
    for tensor in parts.tensors:
        out += _text(tensor.name) + number_bytes(parts.counts.get("dimensions", len(tensor.dimensions)), 4)
        out += b"".join(number_bytes(size, 8) for size in tensor.dimensions)
        out += number_bytes(tensor.type, 4) + number_bytes(tensor.offset, 8)
    return bytes(out) + bytes(-len(out) % 32) + parts.data


def _text(data: bytes) -> bytes:
    return number_bytes(len(data), 8) + data


def gguf_file(dice: Random, data: bytes) -> bytes:
    """One to four lies in a GGUF."""
    parts = parts_of(data)
    parts = replace(parts, entries=list(parts.entries), tensors=list(parts.tensors), counts={})
    for _ in range(dice.choice([1, 1, 2, 4])):
        choice = dice.random()
        if choice < 0.06:
            parts.counts[dice.choice(["tensors", "entries", "dimensions"])] = dice.choice(NUMBERS)
        elif choice < 0.08:
            parts.version = dice.choice([0, 1, 2, 4, 3 << 24, (1 << 32) - 1])
        elif choice < 0.65 and parts.entries:
            _lie_in_entry(dice, parts)
        elif choice < 0.95 and parts.tensors:
            _lie_in_tensor(dice, parts)
        elif parts.data:
            parts.data = other_weights(dice, parts.data)
    return written(parts)


def _lie_in_entry(dice: Random, parts: Gguf) -> None:
    at = dice.randrange(len(parts.entries))
    key, kind, value = parts.entries[at]
    match dice.randrange(10):
        case 0:
            del parts.entries[at]
        case 1:
            parts.entries.insert(dice.randrange(len(parts.entries)), (key, kind, value))
        case 2:
            other = dice.choice(parts.entries)[0]
            parts.entries[at] = dice.choice([other, key + b"x", b"", b"\xff", b"a" * 70_000]), kind, value
        case 3:
            parts.entries[at] = key, dice.choice([*range(14), 1 << 31]), value
        case 4:
            parts.entries[at] = key, *_value(dice)
        case 5:
            parts.entries[at] = key, *dice.choice(parts.entries)[1:]
        case _:
            parts.entries[at] = key, kind, _other_value(dice, kind, value)


def _other_value(dice: Random, kind: int, value: bytes) -> bytes:
    """A value of the same type, or one that says so."""
    if kind in _WIDTHS:
        return _number(dice, kind)
    if kind == _TEXT:
        text = some_text(dice)
        return number_bytes(dice.choice(NUMBERS), 8) + text if dice.random() < 0.2 else _text(text)
    if kind != _ARRAY or len(value) < 12:
        return damage(dice, value)
    inner, count = struct.unpack("<IQ", value[:12])
    choice = dice.randrange(5)
    if choice == 0:
        said = dice.choice([*range(14), inner]), dice.choice([*NUMBERS, count + 1, count - 1])
        return number_bytes(said[0], 4) + number_bytes(said[1], 8) + value[12:]
    if inner in _WIDTHS:
        width, items = _WIDTHS[inner], bytearray(value[12:])
        for _ in range(dice.choice([1, 1, 5])):
            spot = dice.randrange(max(1, count)) * width
            items[spot : spot + width] = _number(dice, inner)
        items = items if choice < 4 else items[: len(items) // width // 2 * width] * dice.choice([0, 1, 3])
        return number_bytes(inner, 4) + number_bytes(len(items) // width, 8) + bytes(items)
    if inner == _TEXT:
        texts = _texts(value)
        for _ in range(dice.choice([1, 1, 3])):
            spot = dice.randrange(len(texts) + 1)
            new = dice.choice([some_text(dice), *texts[:1], *texts[-1:]])
            texts[spot : spot + dice.choice([0, 1, 1, 2])] = [new] * dice.choice([0, 1, 1, 1])
        return number_bytes(inner, 4) + number_bytes(len(texts), 8) + b"".join(map(_text, texts))
    return value


def _texts(value: bytes) -> list[bytes]:
    found, at = [], 12
    while at + 8 <= len(value):
        size = int.from_bytes(value[at : at + 8], "little")
        found.append(value[at + 8 : at + 8 + size])
        at += 8 + size
    return found


def _number(dice: Random, kind: int) -> bytes:
    if kind in (6, 12):
        number = dice.choice(FLOATS)
        try:
            return struct.pack("<f" if kind == 6 else "<d", number)
        except OverflowError:
            return struct.pack("<f", float("inf"))
    return number_bytes(dice.choice([1, 1, -1]) * dice.choice(NUMBERS), _WIDTHS[kind])


def _value(dice: Random) -> tuple[int, bytes]:
    """A type and a value of it."""
    kind = dice.choice([*_WIDTHS, _TEXT, _TEXT, _ARRAY, _ARRAY])
    if kind == _ARRAY:
        inner, count = dice.choice([*_WIDTHS, _TEXT, _ARRAY]), dice.choice([0, 1, 2, 24])
        nested = number_bytes(_ARRAY, 4) + number_bytes(1, 8)
        if inner == _ARRAY:
            return kind, nested * dice.choice([1, 3, 5, 2000]) + number_bytes(4, 4) + number_bytes(0, 8)
        items = [_text(some_text(dice)) if inner == _TEXT else _number(dice, inner) for _ in range(count)]
        return kind, number_bytes(inner, 4) + number_bytes(count, 8) + b"".join(items)
    return kind, _number(dice, kind) if kind in _WIDTHS else _text(some_text(dice))


def _lie_in_tensor(dice: Random, parts: Gguf) -> None:
    at = dice.randrange(len(parts.tensors))
    tensor = parts.tensors[at]
    sizes = list(tensor.dimensions)
    match dice.randrange(10):
        case 0:
            del parts.tensors[at]
            return
        case 1:
            parts.tensors.insert(at, tensor)
            return
        case 2:
            other = dice.choice(parts.tensors).name
            name = dice.choice([other, other, tensor.name + b"x", b"", b"\xff", b"a" * 70_000, *_NAMES])
            parts.tensors[at] = replace(tensor, name=name)
        case 3 | 4:
            sizes[dice.randrange(len(sizes))] = dice.choice(NUMBERS)
            parts.tensors[at] = replace(tensor, dimensions=tuple(sizes))
        case 5:
            more = [[*sizes, 1], [*sizes, 1, 1, 1], [1, *sizes], [1 << 62, 4, *sizes], sizes * 2]
            parts.tensors[at] = replace(
                tensor, dimensions=tuple(dice.choice([sizes[::-1], sizes[1:], *more]))
            )
        case 6 | 7:
            parts.tensors[at] = replace(tensor, type=dice.choice([*range(42), 1 << 31]))
        case 8:
            near = [tensor.offset + step for step in (32, -32, 1)]
            parts.tensors[at] = replace(tensor, offset=dice.choice([*NUMBERS, *near]))
        case 9:
            parts.tensors[at] = replace(dice.choice(parts.tensors), name=tensor.name)


# ---- safetensors ------------------------------------------------------------------------------------------


def safetensors_file(dice: Random, data: bytes) -> bytes:
    """A header that lies, in JSON or about its size, or other weights."""
    size = int.from_bytes(data[:8], "little")
    header, weights = json.loads(data[8 : 8 + size]), data[8 + size :]
    choice = dice.random()
    if choice < 0.15:
        weights = other_weights(dice, weights)
    elif choice < 0.3:
        name = dice.choice([name for name in header if name != "__metadata__"])
        entry = header[name]
        lie = dice.choice(["dtype", "shape", "data_offsets", "another"])
        if lie == "dtype":
            entry["dtype"] = dice.choice(
                ["F64", "F16", "BF16", "I8", "I64", "BOOL", "F8_E4M3", "U8", "F4", ""]
            )
        elif lie == "another":
            header[name + dice.choice(["x", ".0", ""])] = dict(entry)
        else:
            entry[lie][dice.randrange(len(entry[lie]))] = dice.choice([*NUMBERS, -1, 1.5, "1"])
    else:
        header = change(dice, header)
    head = dump(dice, header)
    head += b" " * (-len(head) % 8)
    said = dice.choice([*NUMBERS, len(head) + 1, len(head) - 1, -1]) if dice.random() < 0.1 else len(head)
    return number_bytes(said, 8) + head + weights


# ---- SentencePiece ----------------------------------------------------------------------------------------


def _varint(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


@cache
def _fields(data: bytes) -> tuple[tuple[int, int, Any], ...]:
    """(number, shape, value) of each field of a valid protobuf message."""
    found, at = [], 0

    def varint() -> int:
        nonlocal at
        number = shift = 0
        while True:
            byte = data[at]
            at += 1
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return number

    while at < len(data):
        key = varint()
        size = {0: 0, 1: 8, 2: -1, 5: 4}[key & 7]
        value: Any = varint() if size == 0 else None
        if value is None:
            size = varint() if size < 0 else size
            value, at = data[at : at + size], at + size
        found.append((key >> 3, key & 7, value))
    return tuple(found)


def protobuf_file(dice: Random, data: bytes) -> bytes:
    """One to four lies in a SentencePiece model."""
    fields = list(_fields(data))
    for _ in range(dice.choice([1, 1, 2, 4])):
        if not fields:
            break
        at = dice.choice([dice.randrange(len(fields)), len(fields) - 1, max(0, len(fields) - 2)])
        number, shape, value = fields[at]
        match dice.randrange(8):
            case 0:
                del fields[at]
            case 1:
                fields.insert(dice.randrange(len(fields)), fields[at])
            case 2:
                fields[at] = dice.choice([0, 1, 2, 3, 4, 5, 99, 1 << 29]), shape, value
            case 3:
                fields[at] = number, dice.choice([0, 1, 2, 3, 4, 5, 7]), value
            case _ if isinstance(value, bytes) and shape == 2:
                fields[at] = number, shape, _other_message(dice, value)
            case _:
                fields[at] = number, shape, dice.choice([*NUMBERS, b"", b"\xff" * 11])
    return b"".join(_field(dice, *entry) for entry in fields)


def _other_message(dice: Random, value: bytes) -> bytes:
    try:
        inner = list(_fields(value))
    except (IndexError, KeyError):
        return damage(dice, value)
    if not inner:
        return value
    at = dice.randrange(len(inner))
    number, shape, old = inner[at]
    if shape == 0:
        old = dice.choice(NUMBERS)
    elif shape == 5:
        old = struct.pack("<f", dice.choice([0.0, -1.0, 1e30, float("nan"), float("inf"), -1e38]))
    elif shape == 2:
        old = dice.choice([some_text(dice), damage(dice, old)])
    inner[at] = dice.choice([number, number, number, dice.randrange(50)]), shape, old
    return b"".join(_field(dice, *entry) for entry in inner)


def _field(dice: Random, number: int, shape: int, value: Any) -> bytes:
    head = _varint(number << 3 | shape)
    if isinstance(value, int):
        return head + _varint(value)
    if shape == 2:
        said = dice.choice(NUMBERS) if dice.random() < 0.002 else len(value)
        return head + _varint(said) + value
    return head + value
