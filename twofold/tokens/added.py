"""Where the names of added tokens stand in a text: the leftmost, and of those the longest.

As `tokenizers` finds them: a name may take the spaces to its left and right with it. (It may also ask to be a
word of its own, or to be looked for in normalised text; that is left to the library.) A special token's name
can stay the text that it is; it still hides other names that begin within it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import groupby

from twofold.tokens.vocabulary import AddedToken

# Unicode's White_Space; Python's own idea of it has four control characters more.
_SPACES = frozenset(
    "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
)


class AddedTokens:
    """Finds added tokens, with names as `check_names` lets them be, in text. Safe to share between threads."""

    def __init__(self, tokens: Sequence[AddedToken]) -> None:
        self._by_name = {token.name: token for token in tokens}
        self._find = re.compile(trie_pattern(list(self._by_name))) if tokens else None

    def split(self, text: str, *, special: bool) -> Iterator[str | int]:
        """The text in parts: texts, none of them empty, and the ids of added tokens between them. Without
        `special`, special tokens' names are text."""
        if self._find is None:
            if text:
                yield text
            return
        done = 0
        for match in self._find.finditer(text):
            token = self._by_name[match.group()]
            start, end = match.span()
            if token.special and not special:
                continue
            while token.lstrip and start > done and text[start - 1] in _SPACES:
                start -= 1
            while token.rstrip and end < len(text) and text[end] in _SPACES:
                end += 1
            if start > done:
                yield text[done:start]
            yield token.id
            done = end
        if done < len(text):
            yield text[done:]


def trie_pattern(names: Sequence[str]) -> str:
    """A regular expression for any of `names`, the longest first, that reads each letter once. There must be one."""
    return _pattern_of(sorted(set(names)), 0)


def _pattern_of(names: list[str], start: int) -> str:
    """Of sorted names, what follows their first `start` letters, which are the same in all."""
    first, last = names[0], names[-1]
    stop = next((i for i in range(start, len(first)) if first[i] != last[i : i + 1]), len(first))
    head = re.escape(first[start:stop])
    ends_here = len(first) == stop
    groups = groupby(names[ends_here:], key=lambda name: name[stop])
    parts = [_pattern_of(list(group), stop) for _, group in groups]
    if not parts:
        return head
    return f"{head}(?:{'|'.join(parts)})" + ("?" if ends_here else "")
