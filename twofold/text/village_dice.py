"""Chance that is the same on every machine and in every version of Python.

Only `random.Random.random()` after seeding with a string is used: the language promises that this
sequence never changes, which it does not promise for `choice` or `shuffle`. No order of a set or of
hashes ever plays a part. `Deck` is how the village visits everybody equally often.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Dice:
    """A seeded source of choices; two dice with the same name throw the same."""

    def __init__(self, name: str) -> None:
        self.roll = random.Random(name).random  # a float in [0, 1) made of 53 bits

    def below(self, n: int) -> int:
        """A whole number from 0 to n - 1 (n far below 2**53, so the rounding bias is nothing)."""
        return int(self.roll() * n)

    def between(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`, both included."""
        return low + int(self.roll() * (high - low + 1))

    def chance(self, share: float) -> bool:
        return self.roll() < share

    def pick(self, items: Sequence[Item]) -> Item:
        return items[int(self.roll() * len(items))]

    def shuffled(self, items: Iterable[Item]) -> list[Item]:
        """A new list in random order (Fisher and Yates)."""
        result = list(items)
        for i in range(len(result) - 1, 0, -1):
            j = int(self.roll() * (i + 1))
            result[i], result[j] = result[j], result[i]
        return result


class Deck(Generic[Item]):
    """Deals its cards in random order and starts over when all are dealt: after any number of
    draws, no card has been dealt more than once more than another. Cards must all differ."""

    def __init__(self, cards: Iterable[Item], dice: Dice) -> None:
        self._cards = tuple(cards)
        self._shuffled = dice.shuffled
        self._rest: list[Item] = []  # shuffled; dealt from the end

    def draw(self) -> Item:
        if not self._rest:
            self._rest = self._shuffled(self._cards)
        return self._rest.pop()

    def hand(self, count: int) -> list[Item]:
        """`count` cards that all differ (at most as many as there are), still dealt evenly."""
        count = min(count, len(self._cards))
        rest = self._rest
        if count > len(rest):
            # What is left of this round is dealt first, and is not dealt again to this hand: those
            # cards go to the bottom of the next round.
            fresh = self._shuffled(self._cards)
            rest = (
                [card for card in fresh if card in rest] + [card for card in fresh if card not in rest] + rest
            )
        hand, self._rest = rest[-count:] if count else [], rest[: len(rest) - count]
        return hand
