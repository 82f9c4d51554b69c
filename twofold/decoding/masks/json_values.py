"""The plain values within a JSON Schema: numbers, counts, names and constants, checked for a mask's limits."""

from __future__ import annotations

from fractions import Fraction
from math import lcm
from typing import Any, NoReturn

from twofold.decoding.masks.pattern import JSON_UNWRITABLE
from twofold.errors import UsageError

_LARGEST = 2**53  # above, a double no longer tells one whole number from the next
_MOST_DIGITS = 9  # after the point
_DEEPEST_CONSTANT = 40
_LARGEST_MULTIPLE = 65_535  # its square still fits llguidance's 32 bits


def refuse(path: str, keyword: str, why: str) -> NoReturn:
    """Raise UsageError for a keyword at a place."""
    where = path if len(path) <= 200 else path[:200] + "…"
    raise UsageError(f"The JSON schema's `{keyword}` at {where} cannot be held: {why}.")


def shown(value: Any) -> str:
    """A value for a message."""
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "…"


def number(value: Any, path: str, keyword: str) -> int | float:
    """A number that a mask compares exactly; a whole one as int."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        refuse(path, keyword, f"{shown(value)} is no number")
    if not -_LARGEST < value < _LARGEST:
        refuse(path, keyword, f"{shown(value)} is beyond 2^53, where numbers are rounded")
    if value == int(value):
        return int(value)
    if (Fraction(repr(value)) * 10**_MOST_DIGITS).denominator != 1:
        refuse(path, keyword, f"{shown(value)} has more than {_MOST_DIGITS} digits after the point")
    return value


def count(value: Any, path: str, keyword: str, most: int) -> int:
    """A count from 0 to `most`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1 or value < 0:
        refuse(path, keyword, f"{shown(value)} is no count")
    if value > most:
        refuse(path, keyword, f"{shown(value)} is more than {most:,}, the most that a mask counts")
    return int(value)


def check_multiples(multiples: list[int | float]) -> None:
    """Refuse steps whose common multiple llguidance would reckon wrongly, or for minutes."""
    fractions = [Fraction(repr(value)) for value in multiples]
    if not fractions:
        return
    scale = lcm(*(value.denominator for value in fractions))
    places = 1
    while places % scale and places <= 10**_MOST_DIGITS:
        places *= 10
    together = lcm(*(int(value * places) for value in fractions))
    if together > _LARGEST_MULTIPLE:
        refuse("#", "multipleOf", f"the values, taken together, need steps above {_LARGEST_MULTIPLE:,}")


def check_name(name: str, path: str) -> str:
    """A property's name, if a mask can write it."""
    return _writable(name, path, "properties")


def check_constant(value: Any, path: str, depth: int = 0) -> Any:
    """A constant, if a mask can write it and tell it from all others; whole numbers as int."""
    if depth > _DEEPEST_CONSTANT:
        refuse(path, "const", f"its lists and objects stand more than {_DEEPEST_CONSTANT} deep")
    if isinstance(value, str):
        return _writable(value, path, "const")
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float):
        return number(value, path, "const")
    if isinstance(value, list):
        return [check_constant(item, path, depth + 1) for item in value]
    return {
        _writable(name, path, "const"): check_constant(item, path, depth + 1) for name, item in value.items()
    }


def _writable(text: str, path: str, keyword: str) -> str:
    for sign in text:
        code = ord(sign)
        if 0xD800 <= code <= 0xDFFF or any(low <= code <= high for low, high in JSON_UNWRITABLE):
            refuse(path, keyword, f"it holds the character U+{code:04X}, which a mask cannot write")
    return text
