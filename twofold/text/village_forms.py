"""From a villager to words, and from sentences to the facts that they state.

A sentence is a template with forms in braces. `forms_of` gives every form of one villager in one
language; `compile_sentence` reads from a template which facts it gives away, so that each text the
village makes comes with the list of its facts, and nothing about a villager can be said unlogged.
"""

from __future__ import annotations

import string
from typing import TYPE_CHECKING, NamedTuple

from twofold.text import village_pools as pools

if TYPE_CHECKING:
    from twofold.text.world import Village, Villager

# The form that is the bare value of an attribute, in every language.
VALUE_FORMS = {
    "birthplace": "town", "trade": "trade", "pet": "pet", "pet_name": "pet_name", "colour": "colour",
    "food": "food", "instrument": "instrument", "street": "street", "friend": "friend",
}  # fmt: skip
ATTRIBUTES = tuple(VALUE_FORMS)
Fact = tuple[int, str]  # villager id, attribute

# The fact that each form gives away; a form that is not here gives away none.
FORM_FACTS = {
    "town": "birthplace",
    "trade": "trade", "a_trade": "trade", "the_trade": "trade", "work": "trade",
    "pet": "pet", "a_pet": "pet", "the_pet": "pet", "The_pet": "pet",
    "pet_name": "pet_name",
    "colour": "colour", "a_colour": "colour", "the_colour": "colour",
    "food": "food", "the_food": "food", "The_food": "food",
    "instrument": "instrument", "the_instrument": "instrument", "The_instrument": "instrument",
    "street": "street",
    "friend": "friend", "friend_first": "friend",
}  # fmt: skip


class Sentence(NamedTuple):
    """A template and the facts it states about its villager."""

    text: str
    facts: tuple[str, ...]


def fields_of(template: str) -> list[str]:
    """The names in braces, in order."""
    return [field for _, field, _, _ in string.Formatter().parse(template) if field]


def compile_sentence(template: str) -> Sentence:
    """The template with the facts that its words state, each once."""
    facts = (FORM_FACTS.get(field) for field in fields_of(template))
    return Sentence(template, tuple(dict.fromkeys(fact for fact in facts if fact)))


def contract(text: str, language: str) -> str:
    """Spanish joins "de el" to "del" and "a el" to "al", and says "e Isabel" for "y Isabel"; no word of
    the village but a name begins with such an "i". Other languages stay as they are."""
    if language != "es":
        return text
    return text.replace(" de el ", " del ").replace(" a el ", " al ").replace(" y I", " e I")


def with_pronoun(template: str, language: str) -> str | None:
    """The template told of "she" or "he" where it starts with the name; None where it does not.

    Spanish leaves the subject out.
    """
    rest = template.partition("}")[2]
    if language == "en":
        if template.startswith("{name}'s "):
            return "{His} " + rest[3:]
        return "{He}" + rest if template.startswith("{name} ") else None
    if template.startswith("{name} ") and rest[1].isalpha():
        return rest[1].upper() + rest[2:]
    return "L" + rest[2:] if template.startswith("A {name} l") else None


def forms_of(village: Village, villager: Villager, language: str) -> dict[str, str]:
    """Every form of `villager` in `language` ("en" or "es")."""
    return _FORMS[language](village, villager)


def _shared(village: Village, villager: Villager) -> dict[str, str]:
    friend = village.villagers[villager.friend]
    return {
        "name": villager.name,
        "first": villager.first_name,
        "town": villager.birthplace,
        "pet_name": villager.pet_name,
        "street": villager.street,
        "friend": friend.name,
        "friend_first": friend.first_name,
    }


def _a(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _english(village: Village, villager: Villager) -> dict[str, str]:
    she = villager.gender == "female"
    place, fame = village.towns[villager.birthplace]
    forms = _shared(village, villager)
    forms |= {
        "he": "she" if she else "he", "He": "She" if she else "He",
        "his": "her" if she else "his", "His": "Her" if she else "His",
        "him": "her" if she else "him", "person": "woman" if she else "man",
        "trade": villager.trade, "a_trade": _a(villager.trade), "work": _TRADES[villager.trade][3],
        "pet": villager.pet, "a_pet": _a(villager.pet),
        "colour": villager.colour, "a_colour": _a(villager.colour),
        "food": villager.food, "The_food": _capital(villager.food),
        "instrument": villager.instrument,
        "place": pools.TOWN_PLACES[place][0], "fame": pools.TOWN_FAME[fame][0],
    }  # fmt: skip
    return forms


def _spanish(village: Village, villager: Villager) -> dict[str, str]:
    she = villager.gender == "female"
    friend_she = village.villagers[villager.friend].gender == "female"
    trade = _TRADES[villager.trade]
    _, pet, pet_gender = _PETS[villager.pet]
    pet_she = pet_gender == "f"
    the_food, the_instrument = _FOODS[villager.food][1], _INSTRUMENTS[villager.instrument][1]
    colour = _COLOURS[villager.colour][1]
    place, fame = village.towns[villager.birthplace]
    best_friend = "mejor amiga" if friend_she else "mejor amigo"
    the = "la " if friend_she else "el "
    forms = _shared(village, villager)
    forms |= {
        "he": "ella" if she else "él", "He": "Ella" if she else "Él", "him": "la" if she else "lo",
        "o": "a" if she else "o", "child": "niña" if she else "niño",
        "a_person": "una mujer" if she else "un hombre", "the_owner": "la dueña" if she else "el dueño",
        "trade": trade[2] if she else trade[1],
        "a_trade": f"una {trade[2]}" if she else f"un {trade[1]}",
        "the_trade": f"la {trade[2]}" if she else f"el {trade[1]}",
        "work": trade[4],
        "pet": pet, "a_pet": f"una {pet}" if pet_she else f"un {pet}",
        "the_pet": f"la {pet}" if pet_she else f"el {pet}",
        "The_pet": f"La {pet}" if pet_she else f"El {pet}", "pet_o": "a" if pet_she else "o",
        "colour": colour, "the_colour": f"el {colour}",
        "food": the_food.partition(" ")[2], "the_food": the_food, "The_food": _capital(the_food),
        "instrument": the_instrument.partition(" ")[2], "the_instrument": the_instrument,
        "The_instrument": _capital(the_instrument),
        "best_friend": best_friend, "Best_friend": _capital(best_friend),
        "the_friend": the + best_friend, "The_friend": _capital(the) + best_friend,
        "friend_o": "a" if friend_she else "o",
        "place": pools.TOWN_PLACES[place][1], "fame": pools.TOWN_FAME[fame][1],
    }  # fmt: skip
    return forms


_TRADES = {row[0]: row for row in pools.TRADES}
_PETS = {row[0]: row for row in pools.PETS}
_COLOURS = {row[0]: row for row in pools.COLOURS}
_FOODS = {row[0]: row for row in pools.FOODS}
_INSTRUMENTS = {row[0]: row for row in pools.INSTRUMENTS}
_FORMS = {"en": _english, "es": _spanish}
