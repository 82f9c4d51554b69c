"""How `hostile_files.py` damages a file: by what its format says, byte by byte, and by what stands in its place.

Every function takes a `random.Random` and valid contents, and returns others; the same dice give the same file.
"""

from __future__ import annotations

import gzip
import json
import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

NUMBERS = (
    0, 1, 2, 3, 7, 8, 15, 16, 31, 32, 33, 63, 64, 127, 128, 255, 256, 65535, 65536, 10**6, (1 << 20) - 1, 1 << 20,
    (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 53, 1 << 60, (1 << 63) - 1, 1 << 63, (1 << 64) - 1,
)  # fmt: skip
FLOATS = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-45, 1e-30, 1e30, 3.4e38, 1e300, math.inf, -math.inf, math.nan)
TEXTS = (
    "", " ", "a", "the", "▁", "▁the", "<s>", "</s>", "<unk>", "<0x41>", "<0xZZ>", "\0", "\n", "\ud800", "é" * 40,
    "../../x", "\x1b[31m", "a\r\nb\u202e", "/etc/passwd", "qwen2", "llama", "none", "yarn", "longrope", "linear",
    "(a+)+$", "[", "%s%n", "Ġ", "{{ x }}", "0", "true", "null", "F32", "I64", "BPE", "Unigram", "Replace", "Sequence",
    "String", "Regex",
)  # fmt: skip
LONG = 300_000  # characters of a text that is far too long

# What JSON cannot hold as a value stands there as a text first.
_RAW = {
    '"@deep"': "[" * 20_000 + "]" * 20_000,
    '"@deeper"': '{"a":' * 20_000 + "1" + "}" * 20_000,
    **{f'"@deep{depth}"': "[" * depth + "]" * depth for depth in (100, 500, 900, 980)},
    '"@wide"': "[" + ",".join("0" * 50_000) + "]",
    '"@digits"': "9" * 6_000,
    '"@tiny"': "1e-999",
    '"@large"': "-1e999",
}


# ---- what stands in a file's place -----------------------------------------------------------------------


@dataclass(frozen=True)
class Link:
    """A symbolic link."""

    target: str


@dataclass(frozen=True)
class Folder:
    """A folder of that name."""


@dataclass(frozen=True)
class Pipe:
    """A pipe that nobody writes to."""


@dataclass(frozen=True)
class Hole:
    """A file that is `size` bytes long and holds nothing behind `head`."""

    head: bytes
    size: int


def place(path: Path, content: Any) -> None:
    """Put a content at `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    match content:
        case bytes():
            path.write_bytes(content)
        case Link(target):
            path.symlink_to(target)
        case Folder():
            path.mkdir()
        case Pipe():
            os.mkfifo(path)
        case Hole(head, size):
            path.write_bytes(head)
            os.truncate(path, size)


@cache
def pickle_bombs(canary: str) -> tuple[bytes, ...]:
    """Pickles that make a file where they are opened, in several protocols, plain and as torch packs them."""
    import pickle

    from hostile_samples import packed_torch

    class Bomb:
        def __reduce__(self):
            return os.mknod, (canary,)

    plain = [pickle.dumps({"a": Bomb()}, protocol) for protocol in range(6)]
    return (*plain, *(packed_torch(data) for data in plain[2:4]))


@cache
def _packed(kind: str) -> bytes:
    """Packed files that are small, and enormous unpacked."""
    match kind:
        case "zeros":
            return gzip.compress(bytes(160 << 20), 9)
        case "objects":
            return gzip.compress(b"[" + b"{}," * (40 << 20), 9)
        case "fewer objects":
            return gzip.compress(b"[" + b"{}," * (1 << 20) + b"{}]", 9)
        case "keys":
            return gzip.compress(b"{" + b",".join(b'"%d":0' % key for key in range(1 << 20)) + b"}", 1)
        case "deep":
            return gzip.compress(b"[" * (64 << 20), 9)
        case "lines":
            return gzip.compress(b"\n" * (120 << 20), 9)
    return gzip.compress(b'"' + b"a" * (100 << 20) + b'"', 9)


_TARGETS = (
    "/dev/zero",
    "/dev/null",
    "/etc/passwd",
    "/proc/self/mem",
    ".",
    "..",
    "nowhere",
    "@self",
    "a" * 300,
)


def stand_in(dice: Random, data: bytes, canary: str) -> Any:
    """Something else in a file's place."""
    choice = dice.randrange(16)
    if choice < 4:
        return dice.choice(pickle_bombs(canary))
    if choice < 8:
        return Link(dice.choice(_TARGETS))
    if choice < 10:
        return dice.choice([Folder(), Pipe()])
    if choice < 12:
        return hole(dice, data[: dice.choice([0, len(data) // 2, len(data)])])
    little = [b"", b"\0", b"{}", b"[]", b"null", b"\x1f\x8b", b"PK\3\4", b"\xff\xfe"]
    return dice.choice([*little, gzip.compress(data), data * 2])


def hole(dice: Random, head: bytes) -> Hole:
    """A file of holes behind `head`: enormous, and it costs nothing."""
    return Hole(head, dice.choice([1 << 20, 1 << 28, 2 << 30, 1 << 40]))


def bomb(dice: Random) -> bytes:
    """A packed file of at most a few hundred kB that is enormous unpacked; costly to refuse, so seldom used."""
    return _packed(dice.choice(["zeros", "objects", "fewer objects", "keys", "deep", "lines", "text"]))


# ---- byte by byte ----------------------------------------------------------------------------------------


def damage(dice: Random, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """One to three changes of bytes, wherever they fall."""
    found = bytearray(data)
    for _ in range(dice.choice([1, 1, 2, 3])):
        size = len(found)
        at = dice.randrange(size) if size else 0
        run = min(size - at, dice.choice([1, 2, 4, 8, 16, 64, 256]))
        match dice.randrange(9):
            case 0:
                del found[at:]
            case 1 if size:
                found[at] ^= 1 << dice.randrange(8)
            case 2 if size:
                found[at] = dice.choice([0, 1, 0x7F, 0x80, 0xFF, 0x22, 0x5B, 0x7B, dice.randrange(256)])
            case 3:
                del found[at : at + run]
            case 4:
                found[at:at] = dice.randbytes(run or 4)
            case 5:
                found[at:at] = found[at : at + run] * dice.choice([1, 2, 50])
            case 6:
                width = dice.choice([4, 8])
                found[at : at + width] = number_bytes(dice.choice(NUMBERS), width)
            case 7 if others:
                other = dice.choice(others)
                start = dice.randrange(len(other) or 1)
                found[at : at + run] = other[start : start + dice.choice([run, 1000])]
            case 8:
                found[at : at + run] = bytes(run)
    return bytes(found)


def other_weights(dice: Random, data: bytes) -> bytes:
    """Weights cut short, that are no numbers, or noise."""
    match dice.randrange(4):
        case 0:
            return data[: dice.randrange(len(data))]
        case 1:
            at = dice.randrange(len(data)) // 4 * 4
            numbers = "0000c07f 0000807f ffff7f7f 007c007c ffffffff"  # NaN, infinities, very large
            return data[:at] + bytes.fromhex(dice.choice(numbers.split())) + data[at + 4 :]
        case 2:
            return dice.randbytes(64) * (len(data) // 64 + 1)
    return damage(dice, data)


def some_text(dice: Random) -> bytes:
    """A text that may not fit; now and then it is far too long."""
    text = "x" * LONG if dice.random() < 0.02 else dice.choice(TEXTS)
    return text.encode("utf-8", "surrogatepass")


def number_bytes(number: int, width: int) -> bytes:
    """A whole number of so many bytes, what does not fit cut off."""
    return (number % (1 << 8 * width)).to_bytes(width, "little")


# ---- JSON ------------------------------------------------------------------------------------------------


def strange(dice: Random, old: Any = None) -> Any:
    """A value that should not stand there."""
    match dice.randrange(10):
        case 0:
            return dice.choice([None, True, False, [], {}, [[]], [None], {"": {}}, [{}]])
        case 1 | 2:
            return dice.choice([1, -1]) * dice.choice(NUMBERS)
        case 3:
            return dice.choice(FLOATS)
        case 4 | 5:
            return dice.choice(TEXTS)
        case 6:
            return dice.choice([10**30, -(10**400), [1] * 1000, ["a", 1, None], {"a": 1, "b": [2]}, 0.1])
        case 7 if isinstance(old, int | float) and abs(old) < 1e300:
            return dice.choice([old + 1, old - 1, -old, old * 2, old // 2, float(old), str(old), [old]])
        case 8 if isinstance(old, str):
            return dice.choice([old + "x", old[:-1], old * 2, old.upper(), [old], {old: old}, old + "\ud800"])
        case 9 if dice.random() < 0.1:
            return dice.choice([*(name.strip('"') for name in _RAW), "a" * LONG])
    return dice.choice([old, [old], {"type": old}, None])


def change(dice: Random, value: Any) -> Any:
    """Change a JSON value in place, in one to four places; returns what stands there then."""
    for _ in range(dice.choice([1, 1, 2, 4])):
        value = _change_once(dice, value)
    return value


def _change_once(dice: Random, value: Any) -> Any:
    here, parent, key = value, None, None
    while isinstance(here, dict | list) and here and (parent is None or dice.random() < 0.75):
        parent = here
        key = dice.choice(list(here)) if isinstance(here, dict) else dice.randrange(len(here))
        here = parent[key]
    if parent is None:
        return strange(dice, value)
    match dice.randrange(8):
        case 0:
            del parent[key]
        case 1 if isinstance(parent, dict):
            parent[strange_key(dice)] = parent.pop(key)
        case 2 if isinstance(parent, dict):
            parent[strange_key(dice)] = dice.choice([here, strange(dice, here)])
        case 3 if isinstance(parent, list):
            parent.insert(dice.randrange(len(parent) + 1), dice.choice([here, strange(dice, here)]))
        case 4 if isinstance(parent, list):
            parent[key] = parent[dice.randrange(len(parent))]
        case 4:
            parent[key] = parent[dice.choice(list(parent))]
        case _:
            parent[key] = strange(dice, here)
    return value


def strange_key(dice: Random) -> str:
    """A name in an object."""
    return dice.choice([*TEXTS, "type", "a" * 70_000 if dice.random() < 0.02 else "x"])


def dump(dice: Random, value: Any) -> bytes:
    """JSON, now and then with a key that stands there twice, or another encoding."""
    text = json.dumps(value)
    for name, raw in _RAW.items():
        if name in text:
            text = text.replace(name, raw)
    if dice.random() < 0.05 and (keys := list(re.finditer(r'"\w+": ', text[:20_000]))):
        key = dice.choice(keys)
        text = f"{text[: key.start()]}{key[0]}{json.dumps(strange(dice))}, {text[key.start() :]}"
    if dice.random() < 0.02:
        return text.encode(dice.choice(["utf-16", "utf-8-sig", "utf-32"]))
    return text.encode()


def json_file(dice: Random, data: bytes) -> bytes:
    """Another JSON file of nearly the same structure."""
    return dump(dice, change(dice, json.loads(data)))


# ---- lines of text, chat templates ----------------------------------------------------------------------


def lines_file(dice: Random, data: bytes) -> bytes:
    """Lines changed, moved, left out, there twice."""
    lines = data.split(b"\n")
    for _ in range(dice.choice([1, 1, 2, 5])):
        at = dice.randrange(len(lines) or 1)
        line = lines[at] if lines else b""
        other = some_text(dice)
        number = str(dice.choice([1, -1]) * dice.choice([*NUMBERS, 10**30])).encode()
        match dice.randrange(8):
            case 0:
                del lines[at : at + 1]
            case 1:
                lines.insert(at, line)
            case 2:
                lines[at : at + 1] = [other]
            case 3:
                lines[at : at + 1] = [line.rpartition(b" ")[0] + b" " + dice.choice([number, other])]
            case 4:
                lines[at : at + 1] = [other + b" " + line.rpartition(b" ")[2]]
            case 5:
                ends = [b" ", b"\r", b"\0", b" 1", b"\xff", b"\t", b"\x0c", b"\x85"]
                lines[at : at + 1] = [line + dice.choice(ends)]
            case 6 if len(lines) > 1:
                with_ = dice.randrange(len(lines))
                lines[at], lines[with_] = lines[with_], lines[at]
            case 7:
                lines[at : at + 1] = [damage(dice, line)]
    return b"\n".join(lines)


_TAGS = (
    "{{ ''.__class__.__mro__ }}", "{% for i in range(10**9) %}x{% endfor %}", "{{ 'a' * 10**9 }}", "{% if %}", "{{",
    "{{ cycler.__init__.__globals__.os.system('touch CANARY') }}", "{{ messages|map(attribute='content')|list }}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "{% set ns = namespace(x=1) %}{{ ns.x ** 99999999 }}",
    "{{ self.__init__.__globals__ }}", "{% include '/etc/passwd' %}", "{% import 'os' as os %}", "{{ 1 / 0 }}",
    "{{ messages[99] }}", "{{ '%999999999s' % 'a' }}", "{{ '{:999999999}'.format('a') }}", "{{ (" * 300, "{{ [[" * 99,
    "{% for a in messages %}{% for b in range(9999) %}{% for c in range(9999) %}x{% endfor %}{% endfor %}{% endfor %}",
    "{{ messages|tojson(indent=9999999) }}", "{{ lipsum(9999999) }}", "{{ raise_exception(messages) }}", "{# ",
    "{% raw %}", "{{ 'a'.join(range(9999999)) }}", "{{ messages|sort|unique|first }}", "{{ [].append(1) }}",
    "{{ '%c' % 99999999 }}",
    "{{ 'a'|replace('', 'b' * 9999) }}", "{{ 1e308 * 10 }}", "{{ (1,) * 99999999 }}", "{{ strftime_now('%Y' * 300) }}",
)  # fmt: skip


def template(dice: Random, data: bytes) -> bytes:
    """A chat template that asks for too much, or is none; CANARY in it is a path."""
    text = data.decode()
    for _ in range(dice.choice([1, 1, 2])):
        at = dice.randrange(len(text) + 1)
        tag, stop = dice.choice(_TAGS), at + dice.choice([0, 0, 1, 5, 30])
        new = dice.choice([tag, tag, "", "%}", "{%", "}}", "'", "messages", "[0]", " | ", "e"])
        text = text[:at] + new + text[stop:]
    return text.encode()


Mutator = Callable[[Random, bytes], bytes]
