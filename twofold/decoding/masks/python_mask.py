"""A mask written in plain Python: for rules that no grammar says, and for tests."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from twofold.decoding.masks.vocabulary import MaskVocabulary
from twofold.errors import TwofoldError, UsageError

_MOST_FORCED = 64  # tokens looked ahead at once; a rule may force the next token for ever


@dataclass(frozen=True)
class PythonMask:
    """Functions of a state that is yours. They must give a new state, and leave the old one as it was.

    `advance(state, token)` gives the next state; `allowed(state)` gives token ids or a bool array over the
    vocabulary; `complete(state)` says whether the text may end (the stop tokens are then allowed). Added
    tokens, which are not text, stay forbidden whatever `allowed` says.
    """

    start: Any
    advance: Callable[[Any, int], Any]
    allowed: Callable[[Any], Iterable[int] | np.ndarray]
    complete: Callable[[Any], bool]

    def compile(self, vocabulary: MaskVocabulary) -> PythonMaskState:
        """The state before the first token. Raises UsageError if nothing is allowed there."""
        state = PythonMaskState(vocabulary, self, self.start)
        try:
            state.allowed()
        except UsageError:
            raise
        except TwofoldError as error:
            raise UsageError(f"This mask allows no text at all. {error}") from None
        return state


class PythonMaskState:
    """A place in a text under a `PythonMask` (a `MaskState`)."""

    def __init__(
        self, vocabulary: MaskVocabulary, mask: PythonMask, state: Any, *, ended: bool = False
    ) -> None:
        self._vocabulary = vocabulary
        self._mask = mask
        self._state = state
        self._ended = ended
        self._allowed: np.ndarray | None = None
        self._complete: bool | None = None

    def allowed(self) -> np.ndarray:
        """As `MaskState` says."""
        if self._allowed is None:
            allowed = np.zeros(self._vocabulary.vocab_size, dtype=bool)
            if not self._ended:
                allowed |= self._given() & self._vocabulary.writes
            if self.complete:
                allowed[list(self._vocabulary.stop_ids)] = True
            elif not allowed.any():
                raise TwofoldError(
                    f"The mask's `allowed` gives no token and its `complete` does not let the text end, "
                    f"in state {self._state!r:.200}. Give one of the two."
                )
            allowed.flags.writeable = False
            self._allowed = allowed
        return self._allowed

    def _given(self) -> np.ndarray:
        size = self._vocabulary.vocab_size
        given = self._mask.allowed(self._state)
        if not isinstance(given, np.ndarray):
            given = np.array(list(given), dtype=np.int64)
        if given.dtype == bool:
            if given.shape != (size,):
                raise UsageError(
                    f"The mask's `allowed` gave a bool array of shape {given.shape}; it must be ({size},), "
                    "one value for each token of the model."
                )
            return given
        if given.size and (given.min() < 0 or given.max() >= size):
            raise UsageError(f"The mask's `allowed` gave a token outside 0…{size - 1}.")
        mask = np.zeros(size, dtype=bool)
        mask[given] = True
        return mask

    def advance(self, token: int) -> PythonMaskState:
        """As `MaskState` says."""
        token = int(token)
        if not 0 <= token < self._vocabulary.vocab_size or not self.allowed()[token]:
            raise ValueError(f"Token {token} is not allowed here.")
        if token in self._vocabulary.stop_ids:
            return PythonMaskState(self._vocabulary, self._mask, self._state, ended=True)
        return PythonMaskState(self._vocabulary, self._mask, self._mask.advance(self._state, token))

    def forced(self) -> tuple[int, ...]:
        """As `MaskState` says: while exactly one token is allowed, that one."""
        tokens: list[int] = []
        state = self
        while not state.complete and len(tokens) < _MOST_FORCED:
            only = np.flatnonzero(state.allowed())
            if len(only) != 1:
                break
            tokens.append(int(only[0]))
            state = state.advance(tokens[-1])
        return tuple(tokens)

    @property
    def complete(self) -> bool:
        """As `MaskState` says."""
        if self._complete is None:
            self._complete = self._ended or bool(self._mask.complete(self._state))
        return self._complete

    @property
    def over(self) -> bool:
        """As `MaskState` says."""
        return self.complete and not (self.allowed() & self._vocabulary.writes).any()
