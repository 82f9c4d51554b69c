"""Two villagers talk, as plain text: about themselves, and about somebody they know.

The name of the one a fact is about always comes before the fact, so that a model can learn to tell
the fact from the name.
"""

from __future__ import annotations

from collections.abc import Iterator

from twofold.text import village_talk_english, village_talk_spanish
from twofold.text.village_dice import Deck
from twofold.text.village_forms import ATTRIBUTES, Fact, compile_sentence
from twofold.text.village_stories import cast_of, roles_and_facts
from twofold.text.village_telling import Teller

TALK = {"en": village_talk_english, "es": village_talk_spanish}


def dialogues(teller: Teller) -> Iterator[tuple[str, list[Fact]]]:
    """Dialogues without end. The main person and the facts about them come up equally often."""
    dice, talk = teller.dice, TALK[teller.language]
    say = {attribute: [compile_sentence(text) for text in talk.SAY[attribute]] for attribute in ATTRIBUTES}
    people = Deck(range(len(teller.forms)), dice)
    facts_of = [Deck(ATTRIBUTES, dice) for _ in teller.forms]
    while True:
        cast = cast_of(teller, people.draw())
        main, other, third = (
            (cast["a"], cast["b"], cast["c"]) if dice.chance(0.4) else (cast["a"], cast["c"], cast["b"])
        )
        names = {main: teller.forms[main], other: teller.forms[other]}
        turns: list[
            tuple[int, int, str, bool]
        ] = []  # speaker, listener, words without the last dot, is a question
        facts: list[Fact] = []

        def tell(speaker: int, attribute: str, facts: list[Fact] = facts, names: dict = names) -> str:
            sentence = dice.pick(say[attribute])
            facts.extend((speaker, fact) for fact in sentence.facts)
            return sentence.text.format_map(names[speaker])

        if dice.chance(0.6):
            turns.append((other, main, dice.pick(talk.GREETINGS).format(other=names[main]["first"]), False))
            if dice.chance(0.6):
                turns.append(
                    (main, other, dice.pick(talk.GREETINGS_BACK).format(other=names[other]["first"]), False)
                )
        for attribute in facts_of[main].hand(dice.between(2, 4)):
            turns.append((other, main, dice.pick(talk.ASK[attribute]), True))
            answer = tell(main, attribute)
            if dice.chance(0.25):
                turns.append(
                    (
                        main,
                        other,
                        f"{answer}. {dice.pick(talk.AND_YOU).format(other=names[other]['first'])}",
                        False,
                    )
                )
                turns.append((other, main, tell(other, attribute), False))
            else:
                turns.append((main, other, answer, False))
        if dice.chance(0.5):
            known = teller.forms[third]
            turns.append((other, main, dice.pick(talk.ABOUT).format(t=known), True))
            told = [dice.pick(teller.phrases.named[a]) for a in facts_of[third].hand(dice.between(1, 3))]
            facts += [(third, fact) for sentence in told for fact in sentence.facts]
            story = " ".join(sentence.text.format_map(known) for sentence in told)
            turns.append((main, other, dice.pick(talk.ABOUT_ANSWERS).format(facts=story), False))
            if dice.chance(0.4):
                turns.append((other, main, dice.pick(talk.REACTIONS), False))
        if dice.chance(0.5):
            turns.append((main, other, dice.pick(talk.GOODBYES).format(other=names[other]["first"]), False))
        lines = []
        if dice.chance(0.5):
            scene = dice.pick(talk.SCENES)
            lines.append(scene.format(a=names[main], o=names[other]))
            facts += [(main if role == "a" else other, fact) for role, fact in roles_and_facts(scene)]
        yield "\n".join(lines + _lines(teller, turns)), facts


def _lines(teller: Teller, turns: list[tuple[int, int, str, bool]]) -> list[str]:
    """The turns as a script ("Name: words") or with quotation marks, one line each."""
    talk, forms = TALK[teller.language], teller.forms
    if teller.dice.chance(0.5):
        return [f"{forms[speaker]['name']}: {_ended(words)}" for speaker, _, words, _ in turns]
    lines = []
    for i, (speaker, listener, words, is_question) in enumerate(turns):
        if is_question and words.endswith("?"):
            tag = talk.ASKED
        else:
            tag = talk.ANSWERED if i and turns[i - 1][3] else talk.SAID
        words = _ended(words)
        if teller.language == "es":  # a Spanish full stop stands after the closing mark
            words = words.removesuffix(".")
        line = tag.format(x=forms[speaker]["name"], y=forms[listener]["name"], words=words)
        lines.append(line + "." if teller.language == "es" else line)
    return lines


def _ended(words: str) -> str:
    return words if words[-1] in ".?!" else words + "."
