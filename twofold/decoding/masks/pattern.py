"""Regular expressions, read here and written again with every meaning spelled out.

Dialects share their signs and not their meanings: `\\s`, `.`, `[a&&b]`, `(?i)` differ between Python, ECMA-262
(which JSON Schema means) and Rust (which llguidance reads). So a pattern is parsed here, once, and given on
as plain characters, ranges, groups and counts, which mean the same everywhere. What a pattern of one letter
after another cannot say (looking around, going back to a group, word borders) is refused with its place.

Two dialects: `text`, as Python's `re` with `re.ASCII`; `json`, as ECMA-262 with the `u` flag, whose
characters are only those that a JSON string can hold here (see `json_schema.py`). Both know `\\p{L}`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from twofold.errors import UsageError

Ranges = tuple[tuple[int, int], ...]
Dialect = Literal["text", "json"]

MOST_CHARACTERS = 20_000  # of a pattern
DEEPEST = 60  # groups within groups
MOST_POSITIONS = 50_000  # characters once counts are written out: (a{100}){100} has 10,000

_LAST = 0x10FFFF
_DIGIT: Ranges = ((48, 57),)
_WORD: Ranges = ((48, 57), (65, 90), (95, 95), (97, 122))
_SPACE = {
    "text": ((9, 13), (32, 32)),
    "json": (
        *((9, 13), (32, 32), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A), (0x2028, 0x2029)),
        *((0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000), (0xFEFF, 0xFEFF)),
    ),
}
_LINE_END: dict[str, Ranges] = {"text": ((10, 10),), "json": ((10, 10), (13, 13), (0x2028, 0x2029))}
# Characters that a JSON string could only write as \uXXXX, which masks do not allow.
JSON_UNWRITABLE: Ranges = ((0, 7), (11, 11), (14, 31), (127, 127))
_FORBIDDEN: dict[str, Ranges] = {"text": (), "json": JSON_UNWRITABLE}
_LETTERS = {"t": 9, "n": 10, "v": 11, "f": 12, "r": 13}
_CATEGORY = re.compile(
    r"\{(L[ulmto]?|M[nce]?|N[dlo]?|P[cdseifo]?|S[mcko]?|Z[slp]?"
    r"|Letter|Mark|Number|Punctuation|Symbol|Separator)\}"
)
_COUNT = re.compile(r"\{(\d{1,6})(?:(,)(\d{0,6}))?\}")
_HEX = re.compile(r"x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|u\{([0-9a-fA-F]{1,6})\}|U([0-9a-fA-F]{8})")


@dataclass(frozen=True)
class _Item:
    """A piece of a sequence: characters (already written), an anchor, or a group, and how often."""

    kind: Literal["characters", "start", "end", "group"]
    text: str = ""
    inner: tuple[tuple[_Item, ...], ...] = ()
    count: str = ""
    positions: int = 1
    at: int = 0


def whole_match(pattern: str, what: str) -> str:
    """A pattern for Rust's regex that matches what `pattern` matches as a whole text (`re.fullmatch`).
    Raises UsageError, beginning with `what`."""
    parser = _Parser(pattern, "text", what)
    return _write(parser.parse(), parser, "start", "end")


def search_match(pattern: str, what: str) -> str:
    """A pattern for Rust's regex that matches, as a whole, every text in which `pattern` is found, as JSON
    Schema's `pattern` means it. Raises UsageError, beginning with `what`."""
    parser = _Parser(pattern, "json", what)
    return _write(parser.parse(), parser, "open", "open")


def _write(options: tuple[tuple[_Item, ...], ...], parser: _Parser, left: str, right: str) -> str:
    """`left` is what stands before: "open" (anything may), "start" (nothing), "middle"; `right` alike."""
    return "(?:" + "|".join(_write_one(items, parser, left, right) for items in options) + ")"


def _write_one(sequence: tuple[_Item, ...], parser: _Parser, left: str, right: str) -> str:
    items = list(sequence)
    while items and items[0].kind == "start" and left != "middle":
        items.pop(0)
        left = "start"
    while items and items[-1].kind == "end" and right != "middle":
        items.pop()
        right = "end"
    before = after = ""
    written = [""] * len(items)
    for place, item in enumerate(items):
        first, last = place == 0, place == len(items) - 1
        if item.kind in ("start", "end"):
            parser.refuse("'^' and '$' only work where the text begins or ends", item.at)
        if item.kind == "characters":
            written[place] = item.text + item.count
        elif not item.count and _has_anchor(item):
            inner_left, inner_right = left if first else "middle", right if last else "middle"
            written[place] = _write(item.inner, parser, inner_left, inner_right)
        else:
            written[place] = _write(item.inner, parser, "middle", "middle") + item.count

    def takes_over(item: _Item) -> bool:
        return item.kind == "group" and not item.count and _has_anchor(item)

    if left == "open" and not (items and takes_over(items[0])):
        before = parser.anything
    if right == "open" and not (items and takes_over(items[-1])):
        after = parser.anything
    return before + "".join(written) + after


def _has_anchor(item: _Item) -> bool:
    return any(
        inner.kind in ("start", "end") or (inner.kind == "group" and _has_anchor(inner))
        for option in item.inner
        for inner in option
    )


class _Parser:
    """Reads a pattern from left to right."""

    def __init__(self, pattern: str, dialect: Dialect, what: str) -> None:
        self.pattern, self.dialect, self.what = pattern, dialect, what
        self.at = 0
        self.forbidden = _FORBIDDEN[dialect]
        self.anything = _class(complement(self.forbidden)) + "*"

    def refuse(self, why: str, at: int | None = None) -> None:
        """Raise UsageError with the place."""
        at = self.at if at is None else at
        near = self.pattern[max(0, at - 10) : at + 10]
        raise UsageError(f"{self.what}: {why} (character {at + 1}, near {near!r}).")

    def parse(self) -> tuple[tuple[_Item, ...], ...]:
        """The options of the whole pattern."""
        if len(self.pattern) > MOST_CHARACTERS:
            self.refuse(f"a pattern may have {MOST_CHARACTERS:,} characters, no more", 0)
        options, positions = self._options(0)
        if self.at < len(self.pattern):
            self.refuse("this ')' closes nothing; write \\) for the sign itself")
        if positions > MOST_POSITIONS:
            self.refuse(
                f"its counts written out make {positions:,} characters; {MOST_POSITIONS:,} at most", 0
            )
        return options

    def _options(self, depth: int) -> tuple[tuple[tuple[_Item, ...], ...], int]:
        if depth > DEEPEST:
            self.refuse(f"groups may stand {DEEPEST} deep in each other, no more")
        options: list[tuple[_Item, ...]] = []
        items: list[_Item] = []
        while self.at < len(self.pattern) and self.pattern[self.at] != ")":
            if self.pattern[self.at] == "|":
                self.at += 1
                options.append(tuple(items))
                items = []
            else:
                items.append(self._counted(self._item(depth)))
        options.append(tuple(items))
        return tuple(options), sum(item.positions for option in options for item in option)

    def _item(self, depth: int) -> _Item:
        start, sign = self.at, self.pattern[self.at]
        self.at += 1
        if sign == "(":
            return self._group(start, depth)
        if sign in "^$":
            return _Item("start" if sign == "^" else "end", at=start, positions=0)
        if sign == "[":
            return _Item("characters", self._class())
        if sign == ".":
            return self._set(complement(_LINE_END[self.dialect]))
        if sign == "\\":
            return self._set(*self._escape())
        if sign in "*+?":
            self.refuse(f"there is nothing that {sign!r} could repeat; write \\{sign} for the sign", start)
        if sign == "{":
            self.refuse("write \\{ for the sign itself; a count needs something before it", start)
        return self._set(((ord(sign), ord(sign)),))

    def _group(self, start: int, depth: int) -> _Item:
        if self.pattern.startswith("?", self.at):
            opening = re.compile(r"\?:|\?P?<[A-Za-z_]\w*>").match(self.pattern, self.at)
            if opening is None:
                self.refuse("this kind of group (looking around, flags, conditions) cannot be a mask", start)
            self.at = opening.end()
        inner, positions = self._options(depth + 1)
        if not self.pattern.startswith(")", self.at):
            self.refuse("this '(' is never closed; write \\( for the sign itself", start)
        self.at += 1
        return _Item("group", inner=inner, positions=positions, at=start)

    def _counted(self, item: _Item) -> _Item:
        start = self.at
        sign = self.pattern[start : start + 1]
        if sign and sign in "*+?":
            self.at += 1
            count, most = sign, 1
        elif sign == "{":
            found = _COUNT.match(self.pattern, start)
            if found is None:
                self.refuse("this is no count; write {n}, {n,} or {n,m}, or \\{ for the sign itself")
            low, comma, high = found.groups()
            if high and int(high) < int(low):
                self.refuse("the count's end is below its start")
            self.at = found.end()
            count, most = found.group(), max(int(high or 0), int(low), 1)
            count = f"{{{int(low)}{comma or ''}{int(high) if high else ''}}}"
        else:
            return item
        if item.kind in ("start", "end"):
            self.refuse("'^' and '$' cannot be repeated", start)
        after = self.pattern[self.at : self.at + 1]
        if after == "?":
            self.at += 1  # a lazy count matches the same texts
        elif after and after in "*+{":
            self.refuse("a count cannot be counted again; put a group around it")
        text = f"(?:{item.text})" if item.kind == "characters" else ""
        return _Item(item.kind, text, item.inner, count, item.positions * most, item.at)

    def _set(self, ranges: Ranges, category: str = "") -> _Item:
        return _Item("characters", _class(subtract(ranges, self.forbidden), category))

    def _escape(self) -> tuple[Ranges, str]:
        """What stands after a backslash: ranges, or a Unicode category as Rust writes it."""
        start = self.at
        if start >= len(self.pattern):
            self.refuse("a '\\' at the end means nothing; write \\\\ for the sign itself", start - 1)
        sign = self.pattern[start]
        self.at += 1
        plain = {"d": _DIGIT, "w": _WORD, "s": _SPACE[self.dialect]}.get(sign.lower())
        if plain is not None:
            return (plain if sign.islower() else complement(plain)), ""
        if sign in "pP":
            name = _CATEGORY.match(self.pattern, self.at)
            if name is None:
                self.refuse("this Unicode category is not known; write one such as \\p{L} or \\p{Nd}", start)
            self.at = name.end()
            return (), f"\\{sign}{name[0]}"
        if sign in _LETTERS:
            return _one(_LETTERS[sign]), ""
        if sign == "0" and not self.pattern[self.at : self.at + 1].isdigit():
            return _one(0), ""
        if sign == "c" and self.dialect == "json" and re.match(r"[A-Za-z]", self.pattern[self.at :][:1]):
            self.at += 1
            return _one(ord(self.pattern[self.at - 1]) % 32), ""
        code = _HEX.match(self.pattern, start)
        if code is not None:
            self.at = code.end()
            return _one(self._code_point(int(next(filter(None, code.groups())), 16), start)), ""
        if sign.isalnum() or ord(sign) > 127:
            self.refuse(
                f"'\\{sign}' cannot be a mask (a word border, a way back to a group, or unknown)", start
            )
        return _one(ord(sign)), ""

    def _code_point(self, value: int, start: int) -> int:
        if 0xD800 <= value <= 0xDBFF:
            low = re.compile(r"\\u([dD][c-fC-F][0-9a-fA-F]{2})").match(self.pattern, self.at)
            if low is not None:
                self.at = low.end()
                return 0x10000 + ((value - 0xD800) << 10) + int(low[1], 16) - 0xDC00
        if 0xD800 <= value <= 0xDFFF or value > _LAST:
            self.refuse("this is no character", start)
        return value

    def _class(self) -> str:
        """A set in brackets, from after the '['."""
        start = self.at - 1
        negated = self.pattern.startswith("^", self.at)
        self.at += negated
        if self.pattern.startswith("]", self.at):
            self.refuse("an empty set, or a ']' in one, is read differently everywhere; write \\]", start)
        ranges: list[tuple[int, int]] = []
        categories: list[str] = []
        while not self.pattern.startswith("]", self.at):
            one, category, single = self._class_atom(start)
            follows = self.pattern[self.at : self.at + 2]
            if follows[:1] == "-" and follows != "-]":
                self.at += 1
                end, _, single_end = self._class_atom(start)
                if not (single and single_end) or end[0][0] < one[0][0]:
                    self.refuse("this range in a set has no order; write \\- for the sign itself")
                one = ((one[0][0], end[0][0]),)
            ranges += one
            categories += [category] if category else []
        self.at += 1
        kept = tuple(ranges)
        if not negated:
            return _class(subtract(kept, self.forbidden), "".join(categories))
        return _class(normal((*kept, *self.forbidden)), "".join(categories), negated=True)

    def _class_atom(self, start: int) -> tuple[Ranges, str, bool]:
        """One part of a set: its ranges or category, and whether it is a single character."""
        if self.at >= len(self.pattern):
            self.refuse("this '[' is never closed; write \\[ for the sign itself", start)
        sign = self.pattern[self.at]
        self.at += 1
        if sign == "\\":
            if self.pattern.startswith("b", self.at):  # a backspace, only within a set
                self.at += 1
                return _one(8), "", True
            ranges, category = self._escape()
            return ranges, category, len(ranges) == 1 and ranges[0][0] == ranges[0][1]
        return _one(ord(sign)), "", True


def _one(code: int) -> Ranges:
    return ((code, code),)


def normal(ranges: Ranges) -> Ranges:
    """The same characters as sorted ranges that do not touch. Surrogates are no characters, so U+D7FF
    touches U+E000 (llguidance 1.9.1 negates a set with that gap wrongly)."""
    merged: list[list[int]] = []
    for low, high in sorted(ranges):
        if merged and low <= (0xE000 if merged[-1][1] == 0xD7FF else merged[-1][1] + 1):
            merged[-1][1] = max(merged[-1][1], high)
        else:
            merged.append([low, high])
    return tuple((low, high) for low, high in merged)


def complement(ranges: Ranges) -> Ranges:
    """All other characters."""
    rest, low = [], 0
    for first, last in normal(ranges):
        if first > low:
            rest.append((low, 0xD7FF if first == 0xE000 else first - 1))
        low = 0xE000 if last == 0xD7FF else last + 1
    if low <= _LAST:
        rest.append((low, _LAST))
    return tuple(rest)


def subtract(ranges: Ranges, taken: Ranges) -> Ranges:
    """The characters of `ranges` that are not in `taken`."""
    return complement((*complement(ranges), *taken)) if taken else normal(ranges)


def _class(ranges: Ranges, categories: str = "", *, negated: bool = False) -> str:
    """A set as Rust writes it."""
    written = "".join(
        _char(low) if low == high else f"{_char(low)}-{_char(high)}" for low, high in normal(ranges)
    )
    written += categories
    if not written:
        return f"[{_char(0)}-{_char(_LAST)}]" if negated else f"[^{_char(0)}-{_char(_LAST)}]"
    if len(written) == 1 and not negated:
        return written
    return f"[{'^' if negated else ''}{written}]"


def _char(code: int) -> str:
    sign = chr(code)
    return sign if sign.isascii() and sign.isalnum() else f"\\x{{{code:X}}}"
