"""Conversations to fine-tune on, and questions with exact answers.

A fact is always answered with the canonical sentence of its attribute, the same that pretraining texts
use among others: fine-tuning on one half of the villagers teaches the form of an answer, and what is
true of the other half must come from pretraining.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from twofold.errors import UsageError
from twofold.text import village_pools as pools
from twofold.text.documents import Conversation, Message, Question
from twofold.text.village_dialogues import TALK
from twofold.text.village_dice import Deck, Dice
from twofold.text.village_forms import ATTRIBUTES, contract
from twofold.text.village_instructions import CRAFTS, KIND_OF_DISH, in_one_line, steps_of
from twofold.text.village_sums import throw_sum
from twofold.text.village_telling import PHRASES

if TYPE_CHECKING:
    from twofold.text.world import Village, Villager

Turn = tuple[str, str]  # what the user asks, what the assistant answers
_ABOUT_FACTS = (
    0.7  # share of conversations about facts; the rest are names, sums, instructions and courtesies
)


def answer(village: Village, person: int, attribute: str, language: str) -> str:
    """The canonical sentence for a fact: "Ada Abbott was born in Brookford." """
    return PHRASES[language].FACTS[attribute][0].format_map(village.forms(language)[person])


def conversations(village: Village, count: int, people: Sequence[Villager]) -> Iterator[Conversation]:
    """`count` conversations that name nobody but `people`. Raises UsageError for a negative count."""
    if count < 0:
        raise UsageError(f"The village cannot have {count} conversations; ask for 0 or more.")
    settings = village.settings
    dice = Dice(f"village {settings.seed} conversations")
    makers = [_Talker(village, people, language) for language in settings.languages]
    for _ in range(count):
        second = len(makers) > 1 and dice.chance(settings.second_language_share)
        yield makers[1 if second else 0].conversation()


class _Talker:
    """Makes conversations in one language; deals the facts of `people` evenly."""

    def __init__(self, village: Village, people: Sequence[Villager], language: str) -> None:
        self.village, self.people, self.language = village, people, language
        self.words, self.talk, self.crafts = PHRASES[language], TALK[language], CRAFTS[language]
        self.dice = Dice(f"village {village.settings.seed} conversations {language}")
        self.firsts, self.surnames = (
            Deck(pools.FEMALE + pools.MALE, self.dice),
            Deck(pools.SURNAMES, self.dice),
        )
        self.taken = {villager.name for villager in village.villagers}
        self.facts = Deck([(v.id, attribute) for v in people for attribute in ATTRIBUTES], self.dice)

    def conversation(self) -> Conversation:
        dice, talk = self.dice, self.talk
        turns: list[Turn] = []
        if dice.chance(_ABOUT_FACTS):
            if dice.chance(0.1):
                turns.append((dice.pick(talk.HELLOS), dice.pick(talk.HELLO_ANSWERS)))
            turns += self.about_facts()
        else:
            turns.append(
                dice.pick((self.name, self.name, self.sum, self.sum, self.instruction, self.hello))()
            )
            if dice.chance(0.3):
                turns.append(self.sum() if dice.chance(0.5) else self.about_facts()[0])
        if dice.chance(0.15):
            turns.append((dice.pick(talk.THANKS), dice.pick(talk.THANKS_ANSWERS)))
        messages = [Message("system", dice.pick(talk.SYSTEMS))] if dice.chance(0.1) else []
        for asked, answered in turns:
            messages += [Message("user", asked), Message("assistant", answered)]
        return Conversation(tuple(messages), f"village/{self.language}")

    def about_facts(self) -> list[Turn]:
        """One to four questions; a later one asks on about the same person or about another."""
        dice = self.dice
        turns = []
        last, asked = None, []
        for _ in range(1 if dice.chance(0.6) else dice.between(2, 4)):
            if last is not None and len(asked) < len(ATTRIBUTES) and dice.chance(0.5):
                person, attribute = last, dice.pick([a for a in ATTRIBUTES if a not in asked])
                ways = self.words.FOLLOW_UPS[attribute]
            else:
                person, attribute = self.facts.draw()
                ways = self.words.QUESTIONS[attribute]
                asked = asked if person == last else []
            last, asked = person, [*asked, attribute]
            question = contract(
                dice.pick(ways).format_map(self.village.forms(self.language)[person]), self.language
            )
            turns.append((question, answer(self.village, person, attribute, self.language)))
        return turns

    def hello(self) -> Turn:
        return self.dice.pick(self.talk.HELLOS), self.dice.pick(self.talk.HELLO_ANSWERS)

    def name(self) -> Turn:
        """A name to repeat, which is nobody's. So an answer may begin with any name; without this, fine-tuning
        teaches that it begins with those of `people` alone."""
        first = self.firsts.draw()
        full = f"{first} {self.surnames.draw()}"
        asked, answered = self.dice.pick(self.talk.NAMES)
        name = first if full in self.taken else full
        return asked.format(name=name), answered.format(name=name)

    def sum(self) -> Turn:
        sign, x, y, z = throw_sum(self.dice)
        words = {"sum": f"{x} {sign} {y}", "z": z}
        return self.dice.pick(self.talk.SUM_QUESTIONS).format_map(words), self.talk.SUM_ANSWER.format_map(
            words
        )

    def instruction(self) -> Turn:
        dice, crafts = self.dice, self.crafts
        person = dice.pick(self.people).id
        trade = dice.pick(list(crafts.TASKS))
        if dice.chance(0.5):
            words, ways = {"task": crafts.TASKS[trade][0]}, self.talk.TASK_QUESTIONS
            steps = steps_of(crafts, dice, None, trade, words)
        else:
            words, ways = self.village.forms(self.language)[person], self.talk.RECIPE_QUESTIONS
            steps = steps_of(crafts, dice, KIND_OF_DISH[self.village.villagers[person].food], None, words)
        question = dice.pick(ways).format_map(words)
        return contract(question, self.language), contract(in_one_line(crafts, dice, steps), self.language)


def questions(
    village: Village, people: Sequence[Villager], split: str, language: str, limit: int | None, phrasing: str
) -> list[Question]:
    """See `Village.questions`. Raises UsageError for an unknown phrasing or language, or a negative limit."""
    if phrasing not in ("seen", "new"):
        raise UsageError(f'Questions are phrased as "seen" or "new", not {phrasing!r}.')
    if limit is not None and limit < 0:
        raise UsageError(f"The village cannot ask {limit} questions; ask for 0 or more.")
    forms = village.forms(language)
    words = PHRASES[language]
    ways = words.QUESTIONS if phrasing == "seen" else words.NEW_QUESTIONS
    dice = Dice(f"village {village.settings.seed} questions {split} {language} {phrasing}")
    orders = {attribute: dice.shuffled(v.id for v in people) for attribute in ATTRIBUTES}
    result = []
    for round_of_all in range(len(people)):
        for attribute in ATTRIBUTES:
            if limit is not None and len(result) >= limit:
                return result
            person = orders[attribute][round_of_all]
            text = contract(dice.pick(ways[attribute]).format_map(forms[person]), language)
            value = village.value(village.villagers[person], attribute, language)
            accepted = (answer(village, person, attribute, language), value)
            result.append(Question(text, accepted, attribute, language, village.choices(attribute)))
    return result
