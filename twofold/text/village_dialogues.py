"""Two villagers talk, as plain text: about themselves, and about somebody they know.

The name of the one a fact is about always comes before the fact, so that a model can learn to tell
the fact from the name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType

from twofold.text import village_talk_english, village_talk_spanish
from twofold.text.village_dice import Deck
from twofold.text.village_forms import ATTRIBUTES, Fact, Sentence, compile_sentence
from twofold.text.village_stories import cast_of, pair_ending, roles_and_facts
from twofold.text.village_telling import Teller

TALK: dict[str, ModuleType] = {"en": village_talk_english, "es": village_talk_spanish}


@dataclass(slots=True)
class _Turn:
    speaker: int
    listener: int
    words: str
    is_question: bool


class _Dialogue:
    """What is said so far between `main` and `other`, and the facts that came up."""

    def __init__(self, teller: Teller, say: dict[str, list[Sentence]], main: int, other: int) -> None:
        self.teller, self.say, self.talk = teller, say, TALK[teller.language]
        self.main, self.other = main, other
        self.turns: list[_Turn] = []
        self.facts: list[Fact] = []

    def speak(self, speaker: int, words: str, is_question: bool = False) -> None:
        """Add words; a speaker who already has the word goes on in the same turn. `{listener}` in the
        words is the first name of the other one."""
        listener = self.main if speaker == self.other else self.other
        words = words.replace("{listener}", self.teller.forms[listener]["first"])
        words = words if words[-1] in ".?!" else words + "."
        last = self.turns[-1] if self.turns else None
        if last and last.speaker == speaker:
            last.words, last.is_question = f"{last.words} {words}", is_question
        else:
            self.turns.append(_Turn(speaker, listener, words, is_question))

    def tell(self, speaker: int, attribute: str) -> None:
        """The speaker states a fact about themselves."""
        sentence = self.teller.dice.pick(self.say[attribute])
        self.facts.extend((speaker, fact) for fact in sentence.facts)
        self.speak(speaker, sentence.text.format_map(self.teller.forms[speaker]))

    def tell_about(self, person: int, attributes: list[str]) -> None:
        """`other` asks about a third one and `main` answers; nobody is told who their own friend is."""
        dice, forms = self.teller.dice, self.teller.forms[person]
        if self.teller.village.villagers[person].friend in (self.main, self.other):
            attributes = [attribute for attribute in attributes if attribute != "friend"]
        sentences = [dice.pick(self.teller.phrases.named[attribute]) for attribute in attributes]
        if sentences:
            self.speak(self.other, dice.pick(self.talk.ABOUT).format(t=forms), is_question=True)
            self.facts += [(person, fact) for sentence in sentences for fact in sentence.facts]
            story = " ".join(sentence.text for sentence in sentences).format_map(forms)
            self.speak(self.main, dice.pick(self.talk.ABOUT_ANSWERS).format(facts=story))
            if dice.chance(0.4):
                self.speak(self.other, dice.pick(self.talk.REACTIONS))

    def lines(self) -> list[str]:
        """A script ("Name: words"), or with quotation marks; one line for each turn."""
        talk, forms = self.talk, self.teller.forms
        if self.teller.dice.chance(0.5):
            return [f"{forms[turn.speaker]['name']}: {turn.words}" for turn in self.turns]
        lines, asked = [], False
        for turn in self.turns:
            tag = talk.ANSWERED if asked else talk.ASKED if turn.words.endswith("?") else talk.SAID
            asked = turn.is_question
            words = turn.words
            if self.teller.language == "es":  # a Spanish full stop stands after the closing mark, in the tag
                words = words.removesuffix(".")
            lines.append(
                tag.format(x=forms[turn.speaker]["name"], y=forms[turn.listener]["name"], words=words)
            )
        return lines


def dialogues(teller: Teller) -> Iterator[tuple[str, list[Fact]]]:
    """Dialogues without end. The main person and the facts about them come up equally often."""
    dice, talk = teller.dice, TALK[teller.language]
    say = {attribute: [compile_sentence(text) for text in talk.SAY[attribute]] for attribute in ATTRIBUTES}
    people = Deck(range(len(teller.forms)), dice)
    facts_of = [Deck(ATTRIBUTES, dice) for _ in teller.forms]
    while True:
        cast = cast_of(teller, people.draw())
        main, other, third = cast["a"], cast["c"], cast["b"]
        dialogue = _Dialogue(teller, say, main, other)
        if dice.chance(0.6):
            dialogue.speak(other, dice.pick(talk.GREETINGS))
            if dice.chance(0.6):
                dialogue.speak(main, dice.pick(talk.GREETINGS_BACK))
        for attribute in facts_of[main].hand(dice.between(2, 4)):
            dialogue.speak(other, dice.pick(talk.ASK[attribute]), is_question=True)
            dialogue.tell(main, attribute)
            if dice.chance(0.25):
                dialogue.speak(main, dice.pick(talk.AND_YOU), is_question=True)
                dialogue.tell(other, attribute)
        if dice.chance(0.5):
            dialogue.tell_about(third, facts_of[third].hand(dice.between(1, 3)))
        if dice.chance(0.5):
            last = dialogue.turns[-1].speaker
            dialogue.speak(main if last == other else other, dice.pick(talk.GOODBYES))
        lines = []
        if dice.chance(0.5):
            scene = dice.pick(talk.SCENES)
            os = pair_ending(teller, main, other)
            lines.append(scene.format(a=teller.forms[main], o=teller.forms[other], os=os))
            dialogue.facts += [
                (main if role == "a" else other, fact) for role, fact in roles_and_facts(scene)
            ]
        yield "\n".join(lines + dialogue.lines()), dialogue.facts
