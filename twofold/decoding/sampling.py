"""The settings of a choice. Apart from what uses them, so that a command's help needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

from twofold.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How one request chooses its tokens. None is "not set"."""

    temperature: float = 0.8
    """Divides the scores: below 1 safer, above 1 wilder; 0 always takes the best token."""
    top_k: int | None = None
    """Only the k best tokens."""
    top_p: float | None = None
    """Only the best tokens that together have this probability (at least one)."""
    min_p: float | None = None
    """Only tokens with at least this fraction of the best one's probability."""
    seed: int | None = None
    """The same seed gives the same text; None draws a fresh one."""

    def __post_init__(self) -> None:
        """Raise UsageError, naming the setting."""
        for name, value, good, range_ in (
            ("temperature", self.temperature, lambda x: 0 <= x < float("inf"), "0 or more"),
            ("top_k", self.top_k, lambda x: x >= 1, "1 or more"),
            ("top_p", self.top_p, lambda x: 0 < x <= 1, "above 0 and at most 1"),
            ("min_p", self.min_p, lambda x: 0 <= x <= 1, "between 0 and 1"),
            ("seed", self.seed, lambda x: x >= 0, "0 or more"),
        ):
            if value is not None and not good(value):
                raise UsageError(f"{name} must be {range_}, and is {value}.")
