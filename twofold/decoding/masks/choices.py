"""One of a few given texts, written with any tokens.

A place in the text is what was written so far, and with it the stretch of the sorted choices that begin so.
A token is allowed where its bytes leave some of that stretch, so every way to cut a choice into tokens is
allowed, not only the tokenizer's own; and where one choice begins another ("a", "ab"), the text may end
after the first.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from twofold.decoding.masks.vocabulary import MaskVocabulary
from twofold.errors import UsageError

MOST_BYTES = 4_000_000  # of all choices together


@dataclass(frozen=True)
class Choices:
    """The text is exactly one of `choices`. An empty one means that nothing need be said."""

    choices: Sequence[str]

    def compile(self, vocabulary: MaskVocabulary) -> ChoicesState:
        """The state before the first token. Raises UsageError for no choices, or too many."""
        if isinstance(self.choices, str):
            raise UsageError("Choices need a list of texts, not one text. Write Choices([…]).")
        choices = list(self.choices)
        if not choices:
            raise UsageError("Choices is empty, so no text is allowed. Give at least one choice.")
        for choice in choices:
            if not isinstance(choice, str):
                raise UsageError(f"A choice must be text, not {type(choice).__name__}: {choice!r:.80}.")
        try:
            written = sorted({choice.encode("utf-8") for choice in choices})
        except UnicodeEncodeError:
            raise UsageError("A choice holds half of a surrogate pair, which no text can hold.") from None
        if sum(map(len, written)) > MOST_BYTES:
            raise UsageError(
                f"Choices may be {MOST_BYTES:,} bytes in all, no more. Give fewer or shorter ones."
            )
        return ChoicesState(vocabulary, written, _Place(0, len(written), 0))


@dataclass(frozen=True, slots=True)
class _Place:
    """The choices from `low` to `high`, which all begin with the same `length` bytes: those written."""

    low: int
    high: int
    length: int

    def after(self, choices: list[bytes], byte: int) -> _Place | None:
        """The place one byte on, or None if no choice goes on so."""

        def next_byte(choice: bytes) -> int:
            return choice[self.length] if len(choice) > self.length else -1

        low = bisect_left(choices, byte, self.low, self.high, key=next_byte)
        high = bisect_right(choices, byte, low, self.high, key=next_byte)
        return _Place(low, high, self.length + 1) if low < high else None

    def ends(self, choices: list[bytes]) -> bool:
        """Whether one of the choices is written whole. It sorts before all that go on."""
        return len(choices[self.low]) == self.length

    def bytes_on(self, choices: list[bytes]) -> Iterator[int]:
        """The bytes that may come next."""
        place = self.low + self.ends(choices)
        while place < self.high:
            byte = choices[place][self.length]
            yield byte
            place = self.after(choices, byte).high


class ChoicesState:
    """A place in a text that becomes one of the choices (a `MaskState`)."""

    def __init__(
        self, vocabulary: MaskVocabulary, choices: list[bytes], place: _Place, *, ended: bool = False
    ) -> None:
        self._vocabulary = vocabulary
        self._choices = choices
        self._place = place
        self._ended = ended
        self._allowed: np.ndarray | None = None
        self._forced: tuple[int, ...] | None = None

    def allowed(self) -> np.ndarray:
        """As `MaskState` says."""
        if self._allowed is None:
            allowed = np.zeros(self._vocabulary.vocab_size, dtype=bool)
            if not self._ended:
                allowed[list(self._tokens())] = True
            if self.complete:
                allowed[list(self._vocabulary.stop_ids)] = True
            allowed.flags.writeable = False
            self._allowed = allowed
        return self._allowed

    def _tokens(self) -> Iterator[int]:
        """Every token whose bytes some choice goes on with."""
        places = [self._place]
        while places:
            place = places.pop()
            for byte in place.bytes_on(self._choices):
                after = place.after(self._choices, byte)
                yield from self._vocabulary.tokens_of(
                    self._choices[after.low][self._place.length : after.length]
                )
                if after.length - self._place.length < self._vocabulary.longest:
                    places.append(after)

    def advance(self, token: int) -> ChoicesState:
        """As `MaskState` says."""
        token = int(token)
        if token in self._vocabulary.stop_ids and self.complete:
            return ChoicesState(self._vocabulary, self._choices, self._place, ended=True)
        known = 0 <= token < self._vocabulary.vocab_size and not self._ended
        data = self._vocabulary.token_bytes(token) if known else b""
        place: _Place | None = self._place if data else None
        for byte in data:
            place = place.after(self._choices, byte) if place else None
        if place is None:
            raise ValueError(f"Token {token} is not allowed here.")
        return ChoicesState(self._vocabulary, self._choices, place)

    def forced(self) -> tuple[int, ...]:
        """As `MaskState` says."""
        if self._forced is None:
            first, last = self._choices[self._place.low], self._choices[self._place.high - 1]
            # Sorted, so what the first and the last have in common, all have; and the first is the shortest
            # of those that are written within that.
            shared = next(
                (i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first)
            )
            data = first[self._place.length : shared]
            alone = self._place.high - self._place.low == 1
            self._forced = self._vocabulary.canonical(data, last=alone) if data and not self._ended else ()
        return self._forced

    @property
    def complete(self) -> bool:
        """As `MaskState` says."""
        return self._place.ends(self._choices)

    @property
    def over(self) -> bool:
        """As `MaskState` says."""
        return self._ended or (self.complete and not (self.allowed() & self._vocabulary.writes).any())
