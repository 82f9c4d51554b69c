"""SentencePiece's table of replacements, which it applies before all else (NFKC, for example).

The file holds it compiled: a trie as a "double array" over UTF-8 bytes, and the replacements one after the
other, each ended by a zero byte. At each place of a text the longest key is replaced, as SentencePiece's
`Normalizer::NormalizePrefix` does. A table has hundreds of thousands of keys and a text needs few of them, so
the trie is walked where it lies, every index checked; what was found is remembered.
Source of the layout: SentencePiece, `normalizer.cc`; darts-clone, `darts.h`.
"""

from __future__ import annotations

import re
from array import array
from functools import lru_cache

from twofold.errors import FileError

_LONGEST_REPLACEMENT = 256  # bytes; Unicode's own longest has 33
_LONGEST_KEY = 32  # characters
_SHORT = 400  # characters
_ASCII = "".join(map(chr, range(128)))


class CharacterMap:
    """`table(text)` is the text with everything replaced. Raises FileError, beginning with `where`, for data
    that is damaged, which may also show only in use."""

    def __init__(self, data: bytes, where: str) -> None:
        self._where = where
        size = int.from_bytes(data[:4], "little")
        if len(data) < 8 or size % 4 or not 4 <= size <= len(data) - 4:
            raise self._damaged("its size is wrong")
        self._units = array("I", data[4 : 4 + size])
        if self._units.itemsize != 4:
            raise self._damaged("this machine's numbers have another width")
        self._replacements = data[4 + size :]
        if not self._replacements.endswith(b"\0"):
            raise self._damaged("its last replacement has no end")
        if max(map(len, self._replacements.split(b"\0"))) > _LONGEST_REPLACEMENT:
            raise self._damaged("a replacement is longer than any that Unicode has")
        self._plain: dict[str, bool] = {}  # characters, and whether no key begins with them
        alone = {letter: self._longest(letter.encode())[:2] for letter in _ASCII}
        try:
            self._replacements.decode("utf-8")
            self._ascii = {ord(letter): text.decode() for letter, (length, text) in alone.items() if length}
        except UnicodeDecodeError:
            raise self._damaged("a replacement is not UTF-8 text") from None
        self._one_by_one = not any(ord(c) in self._ascii for made in self._ascii.values() for c in made)
        pairs = any(self._longest((one + two).encode())[0] > 1 for one in _ASCII for two in _ASCII)
        self._singly = not pairs
        self._inert: dict[str, bool] = {}
        # a letter is part of a key only with what stands behind it
        self._run = re.compile(r"(?s)(.+)" if pairs else r"([\0-\x7f]?[^\0-\x7f]+)")
        self._replaced = lru_cache(1 << 14)(self._replace)

    def __call__(self, text: str) -> str:
        """The text with every key replaced, from left to right, the longest first."""
        if all(self._is_inert(letter) for letter in set(text).difference(_ASCII)):
            return self._replace_ascii(text) if self._singly else self._replace(text)
        parts = self._run.split(text)
        parts[::2] = [self._replace_ascii(part) for part in parts[::2]]
        parts[1::2] = [self._replaced(part) for part in parts[1::2]]
        return "".join(parts)

    def _replace_ascii(self, text: str) -> str:
        if len(text) < _SHORT or not self._one_by_one:
            return text.translate(self._ascii)
        for code, replacement in self._ascii.items():  # ten times faster, for most do not occur
            if chr(code) in text:
                text = text.replace(chr(code), replacement)
        return text

    def _replace(self, run: str) -> str:
        parts, place, done = [], 0, 0
        while place < len(run):
            letter = run[place]
            if self._plain.get(letter) or self._is_plain(letter):
                place += 1
                continue
            length, replacement, _ = self._longest(run[place : place + _LONGEST_KEY].encode())
            if not length:
                place += 1
                continue
            parts.append(run[done:place])
            try:
                parts.append(replacement.decode("utf-8"))
                place += len(run[place : place + _LONGEST_KEY].encode()[:length].decode("utf-8"))
            except UnicodeDecodeError:
                raise self._damaged("it breaks characters apart") from None
            done = place
        return "".join([*parts, run[done:]]) if parts else run

    def _is_inert(self, letter: str) -> bool:
        """Whether a character is in no key, where all others that are not ASCII are so too."""
        found = self._inert.get(letter)
        if found is None:
            size = 1 + len(letter.encode())
            found = self._is_plain(letter) and not any(
                self._longest((one + letter).encode())[2] == size for one in _ASCII
            )
            self._inert[letter] = found
        return found

    def _is_plain(self, letter: str) -> bool:
        if letter not in self._plain:
            data = letter.encode()
            self._plain[letter] = self._longest(data)[2] < len(data)
        return self._plain[letter]

    def _longest(self, data: bytes) -> tuple[int, bytes, int]:
        """(length of the longest key that `data` begins with, or 0; its replacement; how far a key goes on)."""
        units, length, replacement, place = self._units, 0, b"", 0
        try:
            node = _below(units[0])
            for byte in data:
                node ^= byte
                unit = units[node]
                if unit & 0x800000FF != byte:
                    break
                place += 1
                node ^= _below(unit)
                if unit >> 8 & 1:
                    at = units[node] & 0x7FFFFFFF
                    length, replacement = place, self._replacements[at : self._replacements.index(b"\0", at)]
        except (IndexError, ValueError):
            raise self._damaged("it points outside of itself") from None
        return length, replacement, place

    def _damaged(self, fault: str) -> FileError:
        return FileError(f"{self._where}: its table of replaced characters is damaged: {fault}.")

    def __getstate__(self):
        raise TypeError("made again from its data")


def _below(unit: int) -> int:
    """By how much a unit's children are away."""
    return (unit >> 10) << ((unit & (1 << 9)) >> 6)
