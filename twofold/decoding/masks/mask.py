"""What every mask and every state of one can do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np

    from twofold.decoding.masks.vocabulary import MaskVocabulary


class MaskState(Protocol):
    """Where a text stands within a format. Never changes; two branches may go on from the same state."""

    def allowed(self) -> np.ndarray:
        """bool [V], read-only: the tokens that may come next. The stop tokens are True exactly where the
        text may end. Raises TwofoldError where nothing is allowed: no way leads on from here."""

    def advance(self, token: int) -> MaskState:
        """The state after one more token. Raises ValueError for a token that is not allowed."""

    def forced(self) -> tuple[int, ...]:
        """Tokens that must follow, since their bytes must: as the tokenizer itself would write them. May
        be empty; holds no stop token, and leaves out a last piece that what follows might join."""

    @property
    def complete(self) -> bool:
        """Whether the text may end here."""

    @property
    def over(self) -> bool:
        """Whether nothing can follow but the end."""


class Mask(Protocol):
    """A format that a text must have."""

    def compile(self, vocabulary: MaskVocabulary) -> MaskState:
        """The state before the first token. Raises UsageError for a format that cannot be held."""
