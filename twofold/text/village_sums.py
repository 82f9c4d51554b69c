"""Sums of the village school: bare, spoken, and as word problems; every result is right."""

from __future__ import annotations

from collections.abc import Iterator

from twofold.text.village_dialogues import TALK
from twofold.text.village_dice import Dice
from twofold.text.village_forms import Fact
from twofold.text.village_telling import Teller


def throw_sum(dice: Dice) -> tuple[str, int, int, int]:
    """A sign ("+", "-", "×"), two numbers and the result; no number is below 2 or above 198."""
    sign = dice.pick("++--×")
    if sign == "×":
        x, y = dice.between(2, 12), dice.between(2, 12)
        return sign, x, y, x * y
    most = 20 if dice.chance(0.5) else 99
    x, y = dice.between(2, most), dice.between(2, most)
    if sign == "+":
        return sign, x, y, x + y
    return sign, x + y, x, y


def sums(teller: Teller) -> Iterator[tuple[str, list[Fact]]]:
    """Pages of sums without end; they state no facts."""
    dice, talk = teller.dice, TALK[teller.language]
    problems = {"+": talk.PLUS, "-": talk.MINUS, "×": talk.TIMES}
    while True:
        lines = [dice.pick(talk.SUM_TITLES)] if dice.chance(0.4) else []
        in_words = dice.chance(0.5)
        for _ in range(dice.between(2, 4) if in_words else dice.between(5, 12)):
            sign, x, y, z = throw_sum(dice)
            if in_words:
                name = dice.pick(teller.forms)["name"]
                template = dice.pick(problems[sign])
                lines.append(template.format(name=name, x=x, y=y, z=z, items=dice.pick(talk.ITEMS)))
            else:
                template = talk.SAY_SUM[0] if dice.chance(0.5) else dice.pick(talk.SAY_SUM)
                lines.append(template.format(sum=f"{x} {sign} {y}", z=z))
        yield "\n".join(lines), []
