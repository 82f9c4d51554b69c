"""Short stories with causes and consequences, in which villagers act as their facts have it.

A story is a row of beats, each beat told in one of several ways. `a` is the main person, `b` is a's
best friend and `c` is somebody else; `{a[pet]}` is the word for a's pet. Because facts reach a story
through such forms alone, whatever it says about a villager is true, and is logged.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from twofold.text import village_stories_english, village_stories_spanish
from twofold.text.village_dice import Deck
from twofold.text.village_forms import FORM_FACTS, Fact, fields_of
from twofold.text.village_telling import Teller

STORIES = {"en": village_stories_english, "es": village_stories_spanish}
Beat = tuple[
    tuple[str, tuple[tuple[str, str], ...]], ...
]  # ways to tell it: template, (role, attribute) pairs


@cache
def _compiled(language: str) -> tuple[tuple[Beat, ...], ...]:
    return tuple(tuple(_beat(ways) for ways in story) for story in STORIES[language].STORIES.values())


def _beat(ways: tuple[str, ...]) -> Beat:
    return tuple((template, roles_and_facts(template)) for template in ways)


def roles_and_facts(template: str) -> tuple[tuple[str, str], ...]:
    """The facts a template with roles states: "{a[town]}" gives ("a", "birthplace")."""
    fields = (field.rstrip("]").partition("[") for field in fields_of(template))
    pairs = ((role, FORM_FACTS.get(form)) for role, _, form in fields)
    return tuple(dict.fromkeys((role, fact) for role, fact in pairs if fact))


def cast_of(teller: Teller, main: int) -> dict[str, int]:
    """Ids for the roles: a main person, the best friend, and somebody else, whose first name is another
    where the village is large enough for that."""
    villagers, dice = teller.village.villagers, teller.dice
    friend = villagers[main].friend
    taken = {villagers[main].first_name, villagers[friend].first_name}
    for _ in range(20):
        other = dice.below(len(villagers))
        if villagers[other].first_name not in taken:
            break
    else:
        other = next(i for i in range(len(villagers)) if i not in (main, friend))
    return {"a": main, "b": friend, "c": other}


def pair_ending(teller: Teller, one: int, other: int) -> str:
    """ "as" for two women, else "os": "juntas", "juntos"."""
    villagers = teller.village.villagers
    return "as" if villagers[one].gender == villagers[other].gender == "female" else "os"


def stories(teller: Teller) -> Iterator[tuple[str, list[Fact]]]:
    """Stories without end: every villager and every plot is the main one equally often."""
    dice, forms, words = teller.dice, teller.forms, STORIES[teller.language]
    people = Deck(range(len(forms)), dice)
    plots = Deck(_compiled(teller.language), dice)
    while True:
        plot = plots.draw()
        roles = cast_of(teller, people.draw())
        scene = {role: forms[person] for role, person in roles.items()}
        scene["time"] = dice.pick(words.TIMES)
        scene["weather"] = dice.pick(words.WEATHERS)
        scene["place"] = dice.pick(words.PLACES)
        scene["thing"] = dice.pick(words.THINGS)
        for pair in ("ab", "ac"):  # a Spanish ending for two people
            scene[f"{pair}_os"] = pair_ending(teller, *(roles[role] for role in pair))
        sentences, facts = [], []
        for beat in plot:
            template, stated = dice.pick(beat)
            sentences.append(template.format_map(scene))
            facts += [(roles[role], fact) for role, fact in stated]
        middle = dice.between(2, len(sentences) - 2)
        if dice.chance(0.4):
            yield " ".join(sentences[:middle]) + "\n\n" + " ".join(sentences[middle:]), facts
        else:
            yield " ".join(sentences), facts
