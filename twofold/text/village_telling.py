"""What every teller of the village needs: the phrases of a language, compiled, and its villagers' words."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING

from twofold.text import village_english, village_spanish
from twofold.text.village_dice import Dice
from twofold.text.village_forms import ATTRIBUTES, Sentence, compile_sentence, with_pronoun

if TYPE_CHECKING:
    from twofold.text.world import Village

PHRASES: dict[str, ModuleType] = {"en": village_english, "es": village_spanish}


@dataclass(frozen=True)
class Phrases:
    """The sentences of a language by attribute, each with the facts it states."""

    named: dict[str, tuple[Sentence, ...]]  # with the villager's full name
    pronoun: dict[str, tuple[Sentence, ...]]  # with "she" or "he", or in Spanish with no subject
    clauses: dict[str, tuple[Sentence, ...]]
    card: dict[str, tuple[Sentence, ...]]


@cache
def phrases(language: str) -> Phrases:
    """All ways of saying things in a language, each with the facts that it states."""
    words = PHRASES[language]
    pronoun = {a: [with_pronoun(text, language) for text in words.FACTS[a]] for a in ATTRIBUTES}
    tables = (words.FACTS, pronoun, words.CLAUSES, words.CARD)
    return Phrases(
        *({a: tuple(compile_sentence(t) for t in table[a] if t) for a in ATTRIBUTES} for table in tables)
    )


class Teller:
    """One kind of document in one language: the village's words, and dice of its own, so that no
    other kind's being asked for changes what this one tells."""

    def __init__(self, village: Village, language: str, kind: str) -> None:
        self.village = village
        self.language = language
        self.words = PHRASES[language]
        self.phrases = phrases(language)
        self.forms = village.forms(language)
        self.dice = Dice(f"village {village.settings.seed} {kind} {language}")

    def join(self, names: list[str]) -> str:
        """ "A", "A and B", "A, B and C"."""
        if len(names) == 1:
            return names[0]
        return ", ".join(names[:-1]) + self.words.AND + names[-1]
