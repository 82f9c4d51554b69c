"""The text is written by a grammar: Lark, as llguidance reads it, or GBNF, as llama.cpp does.

Lark: rules in lower case, terminals in upper case, `start` first (llguidance's docs/syntax.md). GBNF: rules
with `::=` and a `root`; it is turned into Lark. What would go round a mask's promises is refused: special
tokens by name or number, and JSON schemas within a grammar, which `JsonSchema` checks and this would not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import prod

from twofold.decoding.masks.matcher import MatcherState, compile_grammar
from twofold.decoding.masks.vocabulary import MaskVocabulary
from twofold.errors import UsageError
from twofold.tokens.codec import whole

MOST_CHARACTERS = 100_000
DEEPEST = 60  # brackets within brackets: both readers go one call deeper for each
MOST_REPEATS = 500_000  # counts of one line, multiplied: as if each stood within the last

# Texts, regular expressions and comments of Lark: what stands in them is no sign of the grammar.
_LITERAL = re.compile(r'"(?:\\.|[^"\\\n])*"i?|//[^\n]*|#[^\n]*|/(?:\\.|[^/\\\n])+/[imslux]*', re.DOTALL)
_REPEAT = re.compile(r"[{~]\s*(\d{1,9})?\s*(?:,|\.\.)?\s*(\d{1,9})?")


@dataclass(frozen=True)
class Grammar:
    """The text is one that `text`, a grammar in Lark or GBNF, can write."""

    text: str

    def compile(self, vocabulary: MaskVocabulary) -> MatcherState:
        """The state before the first token. Raises UsageError."""
        if not isinstance(self.text, str):
            raise UsageError(f"A Grammar needs its rules as text, not {type(self.text).__name__}.")
        if whole(self.text) != self.text:
            raise UsageError("The grammar holds half of a surrogate pair, which no text can hold.")
        if len(self.text) > MOST_CHARACTERS:
            raise UsageError(f"A grammar may have {MOST_CHARACTERS:,} characters, no more. Make it smaller.")
        _refuse_depth(self.text)
        lark = _from_gbnf(self.text) if "::=" in self.text else self.text
        _check(lark)
        return compile_grammar(lark, vocabulary, "The grammar")


def _from_gbnf(text: str) -> str:
    from llguidance.gbnf_to_lark import any_to_lark

    try:
        return any_to_lark(text).removeprefix("%llguidance {}")
    except Exception as error:  # it raises its own type, and IndexError and others for broken text
        raise UsageError(f"The grammar is no GBNF that can be read: {error}.") from None


def _check(lark: str) -> None:
    signs = _LITERAL.sub(" ", lark)
    if "<" in signs:
        raise UsageError(
            "The grammar names a special token (<…>). Those are no text and a mask cannot write them; "
            "write the characters in quotes if they are meant as text."
        )
    if re.search(r"%(json|regex|lark|llguidance)\b", signs):
        raise UsageError(
            "The grammar holds options or another format (%json, %regex, %lark, %llguidance). "
            "Use JsonSchema for a schema, and write expressions between slashes."
        )
    for line in lark.splitlines():
        repeats = prod(max(int(low or 1), int(high or 1), 1) for low, high in _REPEAT.findall(line))
        if repeats > MOST_REPEATS:
            raise UsageError(
                f"The grammar's counts in one line, multiplied, come to more than {MOST_REPEATS:,}: "
                f"{line.strip():.60}. Use smaller ones, or + and *, which cost nothing."
            )


def _refuse_depth(text: str) -> None:
    depth = 0
    for sign in text:
        depth += (sign in "([{") - (sign in ")]}")
        if depth > DEEPEST:
            raise UsageError(
                f"The grammar's brackets stand more than {DEEPEST} deep. Give the inner parts names."
            )
