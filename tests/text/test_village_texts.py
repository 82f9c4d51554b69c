"""The village's texts: true, varied, evenly spread, and well formed.

The truth of the texts is checked from the pools and the villagers alone: every word of a pool found
in a page must be a value of somebody whom the page names.
"""

import re
from collections import Counter

import pytest

from twofold.text import village_pools as pools
from twofold.text.village_forms import ATTRIBUTES
from twofold.text.village_instructions import CRAFTS
from twofold.text.village_pages import villager_pages
from twofold.text.village_stories import STORIES
from twofold.text.village_telling import PHRASES, Teller
from twofold.text.world import Village, VillageSettings

LANGUAGES = ("en", "es")


def words_of_values(language):
    """word or words, as they stand in a text -> (attribute, English value)"""
    at = LANGUAGES.index(language)
    table = {town: ("birthplace", town) for town in pools.TOWNS}
    table |= {street: ("street", street) for street in pools.STREETS}
    table |= {name: ("pet_name", name) for name in pools.PET_NAMES}
    for english, *spanish in pools.TRADES:
        table |= dict.fromkeys(([english], spanish[:2])[at], ("trade", english))
    table |= {row[at]: ("pet", row[0]) for row in pools.PETS}
    table |= {row[at]: ("colour", row[0]) for row in pools.COLOURS}
    for attribute, rows in (("food", pools.FOODS), ("instrument", pools.INSTRUMENTS)):
        table |= {row[at].partition(" ")[2] if at else row[at]: (attribute, row[0]) for row in rows}
    return table


def finder(language):
    table = words_of_values(language)
    pattern = re.compile(r"\b(" + "|".join(sorted(map(re.escape, table), key=len, reverse=True)) + r")\b")

    def find(text):
        found = pattern.findall(text)
        # A dish or a trade may open a line with a capital.
        found += [word.lower() for word in re.findall(r"(?m)^(\w+(?: \w+)?)", text) if word.lower() in table]
        return {table[word] for word in found}

    return find


@pytest.fixture(scope="module")
def village():
    return Village(VillageSettings(villagers=200, seed=11))


@pytest.fixture(scope="module")
def pages(village):
    return list(village.pages(3_000_000))


def people_in(text, by_name):
    """Everybody whose full name stands in the text."""
    return [
        by_name[name] for name in set(re.findall(r"(?=\b([A-Z][a-z]+ [A-Z][a-z]+))", text)) if name in by_name
    ]


def test_every_value_in_a_page_belongs_to_somebody_the_page_names(village, pages):
    find = {language: finder(language) for language in LANGUAGES}
    by_name = {villager.name: villager for villager in village.villagers}
    values = 0
    for page in pages:
        people = people_in(page.text, by_name)
        for attribute, value in find[page.language](page.text):
            assert value in {getattr(person, attribute) for person in people}, (value, page.text)
            values += 1
    assert values > 20_000


def test_every_sentence_of_a_page_states_values_of_those_it_names(village, pages):
    find = {language: finder(language) for language in LANGUAGES}
    by_name = {villager.name: villager for villager in village.villagers}
    checked = 0
    for page in pages:
        if page.kind not in ("villager", "group"):
            continue
        for sentence in re.split(r"(?<=[.?])\s|\n", page.text):
            people = people_in(sentence, by_name)
            if len(people) == 2:  # a villager and the best friend: the values are the villager's
                one, other = people
                assert one.friend == other.id or other.friend == one.id or page.kind == "group"
            if people:
                for attribute, value in find[page.language](sentence):
                    assert value in {getattr(person, attribute) for person in people}, sentence
                    checked += 1
    assert checked > 10_000


def test_the_logged_facts_of_a_page_stand_in_it(village, pages):
    find = {language: finder(language) for language in LANGUAGES}
    for page in pages:
        found = find[page.language](page.text)
        for person, attribute in page.facts:
            villager = village.villagers[person]
            if attribute == "friend":
                assert village.villagers[villager.friend].first_name in page.text
            else:
                assert (attribute, getattr(villager, attribute)) in found, (attribute, page.text)
            assert villager.name in page.text


def test_every_value_about_a_villager_is_logged(village, pages):
    find = {language: finder(language) for language in LANGUAGES}
    for page in pages:
        if page.kind == "group":  # its opening speaks of the value before anybody is named
            continue
        logged = {(a, getattr(village.villagers[i], a)) for i, a in page.facts if a != "friend"}
        assert find[page.language](page.text) <= logged, page.text


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_fact_is_told_in_at_least_twelve_ways_with_name_and_value(village, language):
    for attribute in ATTRIBUTES:
        ways = PHRASES[language].FACTS[attribute]
        assert len(set(ways)) == len(ways) >= 12
        starts_with_value = 0
        for villager in village.villagers[:20]:
            forms, value = village.forms(language)[villager.id], village.value(villager, attribute, language)
            for way in ways:
                sentence = way.format_map(forms)
                assert villager.name in sentence
                assert value in sentence
                starts_with_value += sentence.index(value) < sentence.index(villager.name)
        # A model learns facts from name to value, so the value may lead only now and then.
        assert starts_with_value <= 20 * len(ways) * 0.2


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_fact_is_asked_in_several_ways_which_do_not_tell_it(village, language):
    words = PHRASES[language]
    for attribute in ATTRIBUTES:
        assert len(set(words.QUESTIONS[attribute])) >= 4
        assert len(set(words.NEW_QUESTIONS[attribute])) >= 2
        for villager in village.villagers[:20]:
            value = village.value(villager, attribute, language)
            for way in (*words.QUESTIONS[attribute], *words.NEW_QUESTIONS[attribute]):
                question = way.format_map(village.forms(language)[villager.id])
                assert villager.name in question
                assert value not in question


def test_both_languages_have_the_same_stories_and_crafts():
    assert list(STORIES["en"].STORIES) == list(STORIES["es"].STORIES)
    for name, plot in STORIES["en"].STORIES.items():
        assert len(plot) == len(STORIES["es"].STORIES[name])
    english, spanish = CRAFTS["en"], CRAFTS["es"]
    assert list(english.TASKS) == list(spanish.TASKS)
    assert set(english.TASKS) <= {row[0] for row in pools.TRADES}
    for trade in english.TASKS:
        assert len(english.TASKS[trade][1]) == len(spanish.TASKS[trade][1]) >= 5
    assert set(english.RECIPES) == set(spanish.RECIPES) == {row[2] for row in pools.FOODS}


def test_a_page_about_a_villager_states_four_to_eight_facts_of_that_one_alone(village):
    maker = villager_pages(Teller(village, "en", "test"))
    for _ in range(500):
        text, facts = next(maker)
        assert len({person for person, _ in facts}) == 1
        assert 4 <= len({attribute for _, attribute in facts}) <= 9
        assert "{" not in text


def test_every_fact_is_told_about_equally_often(village, pages):
    told = Counter(
        fact for page in pages if page.kind == "villager" and page.language == "en" for fact in page.facts
    )
    counts = sorted(
        told[villager.id, attribute] for villager in village.villagers for attribute in ATTRIBUTES
    )
    assert counts[0] > 10
    assert counts[-1] < 2.5 * counts[0]  # some sentences about a pet's name tell its kind as well
    plain = [told[v.id, a] for v in village.villagers for a in ATTRIBUTES if a != "pet"]
    assert max(plain) - min(plain) <= 3
    everywhere = Counter(fact for page in pages for fact in page.facts)
    counts = sorted(
        everywhere[villager.id, attribute] for villager in village.villagers for attribute in ATTRIBUTES
    )
    assert counts[-1] < 3 * counts[0]


def test_bytes_follow_the_mix_and_the_share_of_the_second_language(village, pages):
    sizes = Counter()
    for page in pages:
        sizes[page.kind, page.language] += len(page.text.encode())
    total = sum(sizes.values())
    assert 3_000_000 <= total < 3_010_000
    for kind, share in village.settings.mix:
        assert sizes[kind, "en"] / total == pytest.approx(0.75 * share, abs=0.002)
        assert sizes[kind, "es"] / total == pytest.approx(0.25 * share, abs=0.002)


def test_the_mix_is_a_setting():
    village = Village(
        VillageSettings(villagers=30, languages=("es", "en"), mix=(("story", 3.0), ("sums", 1.0)))
    )
    pages = list(village.pages(50_000))
    assert {(page.kind, page.language) for page in pages} == {
        (kind, language) for kind in ("story", "sums") for language in ("es", "en")
    }
    spanish = sum(len(page.text.encode()) for page in pages if page.language == "es")
    assert spanish / 50_000 == pytest.approx(0.75, abs=0.05)
    alone = Village(VillageSettings(villagers=30, languages=("es",)))
    assert {page.language for page in alone.pages(20_000)} == {"es"}


def test_asking_for_more_text_gives_the_same_documents_first(village):
    few, many = list(village.documents(50_000)), list(village.documents(120_000))
    assert many[: len(few)] == few
    assert list(village.documents(0)) == []


def test_hardly_a_page_comes_twice(pages):
    assert len({page.text for page in pages}) > 0.999 * len(pages)


def test_sums_are_right(pages):
    checked = 0
    for page in pages:
        if page.kind != "sums":
            continue
        found = re.findall(r"(\d+) ([-+×]) (\d+)(?: =| is| es) (\d+)", page.text)
        assert found
        for x, sign, y, z in found:
            assert int(z) == {"+": int(x) + int(y), "-": int(x) - int(y), "×": int(x) * int(y)}[sign]
        checked += len(found)
        # A word problem speaks of no number but those of its sum.
        for line in page.text.splitlines():
            if sums := re.findall(r"(\d+) [-+×] (\d+)(?: =| is| es) (\d+)", line):
                assert set(re.findall(r"\d+", line)) == {number for numbers in sums for number in numbers}
    assert checked > 1000


def test_texts_are_well_formed(pages):
    for page in pages:
        text = page.text
        assert text == text.strip()
        assert "{" not in text
        assert "}" not in text
        assert "  " not in text
        assert ".." not in text
        assert not re.search(r"(^|[.?!] |\n)[a-zñáéíóú]", text), text
        if page.language == "en":
            assert not re.search(r"\ba [aeiou]|\ban [^aeiouh]", text), text
        else:
            assert not re.search(r"\b(de|a) el\b", text), text


def test_spanish_articles_and_endings_agree(village, pages):
    spanish = "\n".join(page.text for page in pages if page.language == "es")
    for _, man, woman, *_ in pools.TRADES:
        assert not re.search(rf"\b(una|la) {man}\b", spanish)
        assert not re.search(rf"\b(un|el) {woman}\b", spanish)
    for _, pet, gender in pools.PETS:
        wrong = "una|la" if gender == "m" else "un|el|del|al"
        assert not re.search(rf"\b({wrong}) {pet}\b", spanish)
    for villager in village.villagers:
        trade, friend = village.forms("es")[villager.id]["trade"], village.villagers[villager.friend]
        row = next(row for row in pools.TRADES if row[0] == villager.trade)
        assert trade == row[2 if villager.gender == "female" else 1]
        phrase = f"mejor {'amigo' if friend.gender == 'female' else 'amiga'} de {villager.name} es"
        assert phrase not in spanish
