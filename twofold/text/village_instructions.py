"""How to do things: a task of a villager's trade, or the recipe of a villager's favourite food."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

from twofold.text import village_crafts_english, village_crafts_spanish
from twofold.text import village_pools as pools
from twofold.text.village_dice import Deck, Dice
from twofold.text.village_forms import Fact, compile_sentence
from twofold.text.village_telling import Teller

CRAFTS: dict[str, ModuleType] = {"en": village_crafts_english, "es": village_crafts_spanish}
KIND_OF_DISH = {english: kind for english, _, kind in pools.FOODS}


def steps_of(crafts: ModuleType, dice: Dice, kind: str | None, trade: str | None, words: dict) -> list[str]:
    """The steps of a dish's recipe (`kind`) or of a trade's task, without capitals and full stops."""
    steps = [dice.pick(ways) for ways in crafts.RECIPES[kind]] if kind else crafts.TASKS[trade][1]
    return [step.format_map({**words, "n": dice.between(2, 12) * 5}) for step in steps]


def in_one_line(crafts: ModuleType, dice: Dice, steps: list[str]) -> str:
    """ "First, do this. Then, do that. Finally, stop." """
    leads = [dice.pick(crafts.FIRST), *(dice.pick(crafts.NEXT) for _ in steps[1:-1]), dice.pick(crafts.LAST)]
    comma = " hay que " if crafts is village_crafts_spanish else ", "
    return " ".join(f"{lead}{comma}{step}." for lead, step in zip(leads, steps, strict=True))


def instructions(teller: Teller) -> Iterator[tuple[str, list[Fact]]]:
    """Instructions without end; villagers take turns, each with the own trade or favourite food."""
    dice, crafts = teller.dice, CRAFTS[teller.language]
    people = Deck(range(len(teller.forms)), dice)
    while True:
        person = people.draw()
        villager, forms = teller.village.villagers[person], teller.forms[person]
        if villager.trade in crafts.TASKS and dice.chance(0.6):
            words = {**forms, "task": crafts.TASKS[villager.trade][0]}
            steps = steps_of(crafts, dice, None, villager.trade, words)
            title, opening = dice.pick(crafts.TASK_TITLES), dice.pick(crafts.TASK_OPENINGS)
        else:
            words = forms
            steps = steps_of(crafts, dice, KIND_OF_DISH[villager.food], None, words)
            title, opening = dice.pick(crafts.RECIPE_TITLES), dice.pick(crafts.RECIPE_OPENINGS)
        facts = [(person, fact) for text in (title, opening) for fact in compile_sentence(text).facts]
        if "{name}" not in title:  # the title names nobody yet, so it tells no fact of anybody
            facts = [(person, fact) for fact in compile_sentence(opening).facts]
        if dice.chance(0.4):
            body = "\n".join(f"{i}. {step[0].upper()}{step[1:]}." for i, step in enumerate(steps, 1))
        else:
            body = in_one_line(crafts, dice, steps)
        tip = f"\n{dice.pick(crafts.TIPS)}" if dice.chance(0.4) else ""
        head = f"{title.format_map(words)}\n\n" if dice.chance(0.7) else ""
        yield f"{head}{opening.format_map(words)}\n{body}{tip}", facts
