"""States over llguidance's matcher, which moves, made into states that never change.

Key idea: copying a matcher costs more the longer its text is (1 µs at the start, 20 µs after 600 tokens),
and almost every state is advanced once. So the states of one text share one matcher, their line: advancing
the state at its tip moves the matcher, with no copy. A state that the line has left behind, when it is asked
again, copies the matcher, rolls the copy back to its own place and starts a line of its own.

llguidance (MIT, github.com/guidance-ai/llguidance) reports faults as states; here they become errors.
"""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING

import numpy as np

from twofold.decoding.masks.vocabulary import MaskVocabulary
from twofold.errors import TwofoldError, UsageError

if TYPE_CHECKING:
    import llguidance

# What a format may cost: building its lexer (50,000 fuel a ms), one step (14,000 a ms), states, symbols.
LIMITS = {
    "initial_lexer_fuel": 1_000_000,
    "step_lexer_fuel": 200_000,
    "max_lexer_states": 100_000,
    "max_grammar_size": 200_000,
    "verbose_errors": False,
}


def compile_grammar(lark: str, vocabulary: MaskVocabulary, what: str) -> MatcherState:
    """The first state of a grammar in llguidance's Lark. `what` names the mask in errors. Raises UsageError
    for a grammar that is wrong, too large, or allows no text."""
    from llguidance import LLMatcher, LLParserLimits

    # Without `no_forcing`, only the tokenizer's own way to write forced bytes would be allowed.
    grammar = LLMatcher.grammar_from_lark('%llguidance {"no_forcing": true}\n' + lark)
    matcher = LLMatcher(vocabulary.llguidance, grammar, log_level=0, limits=LLParserLimits(**LIMITS))
    _refuse_faults(matcher, what)
    warnings = matcher.get_grammar_warnings()
    if warnings:
        raise UsageError(f"{what} cannot be held exactly: {'; '.join(warnings)}. Leave that part out.")
    state = MatcherState(vocabulary, _Line(matcher))
    matcher.compute_bitmask()
    nothing = matcher.get_error().startswith("NoExtension")
    if not nothing:
        _refuse_faults(matcher, what)
    if not matcher.is_accepting() and (nothing or not state.writable().any()):
        raise UsageError(f"{what} allows no text at all. Check it for parts that contradict each other.")
    return state


def _refuse_faults(matcher: llguidance.LLMatcher, what: str) -> None:
    if matcher.is_error():
        raise UsageError(f"{what} cannot be used: {explain(matcher.get_error())}")


def explain(message: str) -> str:
    """An error of llguidance as one short sentence."""
    message = message.split("<state>")[0].split("\n   1 | %llguidance")[0].strip()
    # Our own first line stands before the person's.
    message = re.sub(
        r"(?:\bat )?\b(\d+)\((\d+)\)(?=:)", lambda at: f"at line {int(at[1]) - 1}, sign {at[2]}", message
    )
    if re.search(r"fuel|too big|too large|too complex|limit", message, re.IGNORECASE):
        message += "; it is too complex, make it smaller"
    message = re.sub(r"\s*\n\s*", "; ", message)
    return (message if len(message) <= 300 else message[:300] + "…") + "."


class _Line:
    """One matcher and how many tokens it has read. It only ever moves on."""

    __slots__ = ("length", "lock", "matcher")

    def __init__(self, matcher: llguidance.LLMatcher, length: int = 0) -> None:
        self.matcher = matcher
        self.length = length
        self.lock = threading.Lock()


class MatcherState:
    """A place in a text within a grammar (a `MaskState`)."""

    __slots__ = ("_allowed", "_complete", "_ended", "_forced", "_length", "_line", "_vocabulary")

    def __init__(self, vocabulary: MaskVocabulary, line: _Line, *, ended: bool = False) -> None:
        self._vocabulary = vocabulary
        self._line = line
        self._length = line.length
        self._ended = ended  # a stop token was given
        self._allowed: np.ndarray | None = None
        self._complete: bool | None = None
        self._forced: tuple[int, ...] | None = None

    def allowed(self) -> np.ndarray:
        """As `MaskState` says."""
        if self._allowed is None:
            allowed = np.zeros(self._vocabulary.vocab_size, dtype=bool)
            if not self._ended:
                allowed |= self.writable()
            if self.complete:
                allowed[list(self._vocabulary.stop_ids)] = True
            elif not allowed.any():
                raise TwofoldError(
                    "The format has led to a place from which no text goes on. It contradicts itself there, "
                    "or asks for characters that it cannot write; make it simpler."
                )
            allowed.flags.writeable = False
            self._allowed = allowed
        return self._allowed

    def writable(self) -> np.ndarray:
        """bool [V]: the tokens of text that may come next, without the stop tokens."""
        with self._at_tip() as matcher:
            bits = np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8)
            if not matcher.is_accepting():
                _raise_faults(matcher)
        writes = self._vocabulary.writes
        mask = np.zeros(len(writes), dtype=bool)
        known = np.unpackbits(bits, bitorder="little", count=min(len(writes), 8 * len(bits)))
        mask[: len(known)] = known
        mask &= writes
        return mask

    def advance(self, token: int) -> MatcherState:
        """As `MaskState` says."""
        token = int(token)
        if token in self._vocabulary.stop_ids:
            if not self.complete:
                raise ValueError(f"Token {token} ends the text, and the text may not end here.")
            after = MatcherState(self._vocabulary, self._line, ended=True)
            after._length, after._complete, after._forced = self._length, True, ()
            return after
        allowed = self._allowed
        known = 0 <= token < self._vocabulary.vocab_size and self._vocabulary.writes[token]
        if self._ended or not known or (allowed is not None and not allowed[token]):
            raise ValueError(f"Token {token} is not allowed here.")
        with self._at_tip() as matcher:
            if allowed is None and matcher.validate_tokens([token]) != 1:
                raise ValueError(f"Token {token} is not allowed here.")
            if not matcher.consume_token(token):
                _raise_faults(matcher)
            self._line.length += 1
            return MatcherState(self._vocabulary, self._line)

    def forced(self) -> tuple[int, ...]:
        """As `MaskState` says."""
        if self._forced is None:
            with self._at_tip() as matcher:
                data = matcher.compute_ff_bytes()
                last = bool(data) and self._ends_after(matcher, data)
            self._forced = self._vocabulary.canonical(data, last=last) if data else ()
        return self._forced

    def _ends_after(self, matcher: llguidance.LLMatcher, data: bytes) -> bool:
        tokens = self._vocabulary.llguidance.tokenize_bytes(data)
        ahead = matcher.deep_copy()
        return ahead.try_consume_tokens(tokens) == len(tokens) and ahead.is_stopped() and ahead.is_accepting()

    @property
    def complete(self) -> bool:
        """As `MaskState` says."""
        if self._complete is None:
            with self._at_tip() as matcher:
                self._complete = matcher.is_accepting()
        return self._complete

    @property
    def over(self) -> bool:
        """As `MaskState` says."""
        return self.complete and not (self.allowed() & self._vocabulary.writes).any()

    def _at_tip(self) -> _Tip:
        return _Tip(self)


class _Tip:
    """Holds a state's line, with its matcher at the state's place: on a line of its own if need be."""

    __slots__ = ("_line", "_state")

    def __init__(self, state: MatcherState) -> None:
        self._state = state

    def __enter__(self) -> llguidance.LLMatcher:
        line = self._state._line
        line.lock.acquire()
        behind = line.length - self._state._length
        if behind:
            try:
                matcher = line.matcher.deep_copy()
            finally:
                line.lock.release()
            if not matcher.rollback(behind):
                _raise_faults(matcher)
            line = self._state._line = _Line(matcher, self._state._length)
            line.lock.acquire()
        self._line = line
        return line.matcher

    def __exit__(self, *_: object) -> None:
        self._line.lock.release()


def _raise_faults(matcher: llguidance.LLMatcher) -> None:
    if matcher.is_error():
        raise TwofoldError(f"The mask cannot go on: {explain(matcher.get_error())}")
