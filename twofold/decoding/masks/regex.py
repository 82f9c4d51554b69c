"""The whole text matches a regular expression."""

from __future__ import annotations

from dataclasses import dataclass

from twofold.decoding.masks.matcher import MatcherState, compile_grammar
from twofold.decoding.masks.pattern import whole_match
from twofold.decoding.masks.vocabulary import MaskVocabulary
from twofold.errors import UsageError


@dataclass(frozen=True)
class Regex:
    """The whole text matches `pattern`, as Python's `re.fullmatch(pattern, text, re.ASCII)` would say;
    besides, `\\p{L}` and its like stand for Unicode categories. See `pattern.py` for what is refused."""

    pattern: str

    def compile(self, vocabulary: MaskVocabulary) -> MatcherState:
        """The state before the first token. Raises UsageError."""
        if not isinstance(self.pattern, str):
            raise UsageError(f"A Regex needs a pattern as text, not {type(self.pattern).__name__}.")
        what = f"The regular expression {self.pattern!r:.80}"
        pattern = whole_match(self.pattern, what)
        return compile_grammar(f"start: /{pattern}/", vocabulary, what)
