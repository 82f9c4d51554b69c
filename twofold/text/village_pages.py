"""Encyclopedia-like pages: about one villager, and about the villagers who share a town, trade or street.

Each maker yields, without end, a text and the facts it states. Villagers, and the facts of each, are
dealt from decks, so that every fact comes up equally often whatever amount of text is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator

from twofold.text.village_dice import Deck
from twofold.text.village_forms import ATTRIBUTES, VALUE_FORMS, Fact, compile_sentence
from twofold.text.village_telling import Teller


def villager_pages(teller: Teller) -> Iterator[tuple[str, list[Fact]]]:
    """Pages about one villager with four to eight of the nine facts each."""
    dice = teller.dice
    people = Deck(range(len(teller.forms)), dice)
    facts_of = [Deck(ATTRIBUTES, dice) for _ in teller.forms]
    counts = [Deck(range(4, 9), dice) for _ in teller.forms]  # as many facts in all for everybody
    while True:
        person = people.draw()
        attributes = facts_of[person].hand(counts[person].draw())
        yield _card(teller, person, attributes) if dice.chance(0.1) else _portrait(teller, person, attributes)


def _card(teller: Teller, person: int, attributes: list[str]) -> tuple[str, list[Fact]]:
    forms, pick = teller.forms[person], teller.dice.pick
    lines = [pick(teller.words.CARD_TITLES)]
    lines += [pick(teller.phrases.card[attribute]).text for attribute in attributes]
    return "\n".join(lines).format_map(forms), [(person, attribute) for attribute in attributes]


def _portrait(teller: Teller, person: int, attributes: list[str]) -> tuple[str, list[Fact]]:
    words, phrases, dice = teller.words, teller.phrases, teller.dice
    pick, roll = dice.pick, dice.roll
    sentences: list[str] = [pick(words.PAGE_OPENINGS)] if roll() < 0.35 else []
    facts: list[Fact] = []
    pronoun_is_clear = False  # whether the last sentence names this villager and nobody else
    while attributes:
        how = roll()
        if how < 0.2 and len(attributes) > 1:
            first, second = pick(phrases.clauses[attributes.pop()]), pick(phrases.clauses[attributes.pop()])
            text, stated = first.text, first.facts + second.facts
            if attributes and roll() < 0.4:
                text = f"{text}, {second.text}"
                second = pick(phrases.clauses[attributes.pop()])
                stated += second.facts
            sentences.append(f"{{name}} {text}{words.AND}{second.text}.")
        else:
            attribute = attributes.pop()
            use_pronoun = how > 0.8 and pronoun_is_clear and phrases.pronoun[attribute]
            text, stated = pick((phrases.pronoun if use_pronoun else phrases.named)[attribute])
            if how < 0.28 and facts and text.startswith("{name} "):
                text = pick(words.JOINERS) + text
            sentences.append(text)
        for fact in stated:
            facts.append((person, fact))
        pronoun_is_clear = "friend" not in stated
    if roll() < 0.1:
        sentences.append(pick(words.PAGE_CLOSINGS))
    middle = len(sentences) // 2
    if middle >= 3 and roll() < 0.3:
        sentences[middle - 1 : middle + 1] = ["\n\n".join(sentences[middle - 1 : middle + 1])]
    page = " ".join(sentences)
    if roll() < 0.3:
        page = pick(words.PAGE_TITLES) + "\n\n" + page
    return page.format_map(teller.forms[person]), facts


def group_pages(teller: Teller) -> Iterator[tuple[str, list[Fact]]]:
    """Pages about a value (a town, a trade, a pet, ...) and some villagers who have it, and about some
    people's friends or pets."""
    sharings = {attribute: _sharings(teller, attribute) for attribute in teller.words.GROUP_OPENINGS}
    attributes = Deck(sharings, teller.dice)
    while True:
        attribute = attributes.draw()
        yield _group(teller, attribute, next(sharings[attribute]))


def _sharings(teller: Teller, attribute: str) -> Iterator[list[int]]:
    """Some ids who share a value of `attribute`, or for one that is not shared any ids; each villager
    once before anybody again."""
    groups: dict[str, list[int]] = {}
    for villager in teller.village.villagers:
        value = getattr(villager, attribute) if attribute in teller.words.GROUP_LISTS else ""
        groups.setdefault(value, []).append(villager.id)
    values = sorted(groups)
    while True:
        batches = []
        for value in values:
            people = teller.dice.shuffled(groups[value])
            while people:
                size = teller.dice.between(3, 6)
                batches.append(people[:size])
                people = people[size:]
        yield from teller.dice.shuffled(batches)


def _group(teller: Teller, attribute: str, people: list[int]) -> tuple[str, list[Fact]]:
    words, phrases, dice = teller.words, teller.phrases, teller.dice
    first = teller.forms[people[0]]
    lines = [dice.pick(words.GROUP_OPENINGS[attribute]).format_map(first)]
    facts: list[Fact] = []
    for person in people:
        if dice.chance(0.4):
            other = dice.pick(ATTRIBUTES)
            chosen = [dice.pick(phrases.clauses[attribute])]
            if other != attribute:
                chosen.append(dice.pick(phrases.clauses[other]))
            lines.append(
                ("{name} " + teller.join([c.text for c in chosen]) + ".").format_map(teller.forms[person])
            )
        else:
            chosen = [dice.pick(phrases.named[attribute])]
            lines.append(chosen[0].text.format_map(teller.forms[person]))
        facts += [(person, fact) for sentence in chosen for fact in sentence.facts]
    if attribute in words.GROUP_LISTS and len(people) > 1 and dice.chance(0.7):
        template = compile_sentence(dice.pick(words.GROUP_LISTS[attribute]))
        names = teller.join([teller.forms[person]["name"] for person in people])
        value = {**first, "names": names}
        lines.insert(1 if dice.chance(0.5) else len(lines), template.text.format_map(value))
        facts += [(person, fact) for person in people for fact in template.facts]
    title = (
        f"{first[VALUE_FORMS[attribute]].capitalize()}\n\n"
        if attribute == "trade" and dice.chance(0.2)
        else ""
    )
    return title + ("\n" if dice.chance(0.2) else " ").join(lines), facts
