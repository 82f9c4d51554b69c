"""The village: a small closed world in which every fact is known, so that answers can be checked.

`Village(VillageSettings(villagers=200))` makes people with nine facts each, the same on every machine
for a seed. The village hands out documents to pretrain on (pages, stories, dialogues, sums,
instructions; in English and Spanish, the same facts in both), conversations to fine-tune on about the
"taught" half of the villagers only, and questions with exact answers about either half.

The world is kept apart from its telling: how it is told is in the sibling files `village_*.py`.
The idea of facts in many phrasings, and of asking about people who were never asked about in
fine-tuning, follows Allen-Zhu and Li, "Physics of Language Models: Part 3.1" (2023).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from twofold.errors import UsageError
from twofold.text import village_pools as pools
from twofold.text.documents import Conversation, Document, Question
from twofold.text.village_conversations import conversations, questions
from twofold.text.village_dice import Dice
from twofold.text.village_documents import KINDS, Page, pages
from twofold.text.village_forms import VALUE_FORMS, forms_of
from twofold.text.village_telling import PHRASES

LANGUAGES = ("en", "es")
SPLITS = ("taught", "held_out")
MOST_VILLAGERS = (len(pools.FEMALE) + len(pools.MALE)) * len(pools.SURNAMES)


@dataclass(frozen=True)
class VillageSettings:
    """What the village is like.

    villagers: how many people, from 4 to MOST_VILLAGERS; no two have the same full name.
    seed: another seed is another village.
    languages: "en", "es" or both; the first is the main one.
    second_language_share: the share of document bytes, and of conversations, in the second language.
    mix: the share of document bytes of each kind; kinds left out are not made. They need not add up to 1.
    Raises UsageError for anything impossible.
    """

    villagers: int = 2000
    seed: int = 0
    languages: tuple[str, ...] = LANGUAGES
    second_language_share: float = 0.25
    mix: tuple[tuple[str, float], ...] = (
        ("villager", 0.60), ("group", 0.10), ("story", 0.12), ("dialogue", 0.10), ("sums", 0.03),
        ("instructions", 0.05),
    )  # fmt: skip

    def __post_init__(self) -> None:
        if not 4 <= self.villagers <= MOST_VILLAGERS:
            raise UsageError(
                f"A village of {self.villagers} people cannot be made: choose from 4 to {MOST_VILLAGERS} "
                "villagers (that is how many different full names there are)."
            )
        if (
            not self.languages
            or len(set(self.languages)) != len(self.languages)
            or set(self.languages) - set(LANGUAGES)
        ):
            raise UsageError(f"languages={self.languages!r} must name one or both of {', '.join(LANGUAGES)}.")
        if not 0 <= self.second_language_share <= 1:
            raise UsageError(
                f"second_language_share is a share from 0 to 1, not {self.second_language_share}."
            )
        kinds = [kind for kind, _ in self.mix]
        unknown = [kind for kind in kinds if kind not in KINDS]
        if unknown or len(set(kinds)) != len(kinds):
            raise UsageError(
                f"mix names each kind of document once, out of {', '.join(KINDS)}; it has {kinds}."
            )
        shares = [share for _, share in self.mix]
        if not all(0 <= share < float("inf") for share in shares) or sum(shares) <= 0:
            raise UsageError(
                f"The shares of mix must not be negative, and one must be above zero; they are {shares}."
            )


@dataclass(frozen=True, slots=True)
class Villager:
    """One person and everything there is to know. Values are in English; `friend` is the id of
    another villager of the same half (taught or held out)."""

    id: int
    name: str
    gender: str  # "female" or "male"
    birthplace: str
    trade: str
    pet: str
    pet_name: str
    colour: str
    food: str
    instrument: str
    street: str
    friend: int

    @property
    def first_name(self) -> str:
        return self.name.partition(" ")[0]


class Village:
    """The world of one VillageSettings. Making it is quick; texts are made as they are asked for."""

    def __init__(self, settings: VillageSettings | None = None) -> None:
        self.settings = settings or VillageSettings()
        self.villagers, self._taught = _populate(self.settings)
        self._forms: dict[str, list[dict[str, str]]] = {}

    @cached_property
    def towns(self) -> dict[str, tuple[int, int]]:
        """For each town, its row in TOWN_PLACES (where it lies) and in TOWN_FAME (what it is known for)."""
        dice = Dice(f"village {self.settings.seed} towns")
        return {
            town: (dice.below(len(pools.TOWN_PLACES)), dice.below(len(pools.TOWN_FAME)))
            for town in pools.TOWNS
        }

    def is_taught(self, villager: Villager) -> bool:
        """Whether conversations ask about this villager. Half of all, rounded down, chosen by the seed."""
        return villager.id in self._taught

    def split(self, split: str) -> tuple[Villager, ...]:
        """The villagers of the "taught" or the "held_out" half, by id. Raises UsageError for another word."""
        if split not in SPLITS:
            raise UsageError(f"The village is split into {' and '.join(SPLITS)}; there is no {split!r}.")
        return tuple(v for v in self.villagers if (v.id in self._taught) == (split == "taught"))

    def forms(self, language: str) -> list[dict[str, str]]:
        """The words for each villager, by id, in a language (see `village_forms.forms_of`)."""
        if language not in self.settings.languages:
            raise UsageError(
                f"This village speaks {' and '.join(self.settings.languages)}, not {language!r}."
            )
        if language not in self._forms:
            self._forms[language] = [forms_of(self, villager, language) for villager in self.villagers]
        return self._forms[language]

    def value(self, villager: Villager, attribute: str, language: str = "en") -> str:
        """The bare value of a fact as it is said in a language: "baker", "panadera", "Ada Abbott"."""
        return self.forms(language)[villager.id][VALUE_FORMS[attribute]]

    def choices(self, attribute: str) -> int:
        """How many values an attribute can take in this village; guessing is right once in so many."""
        if attribute == "friend":
            return min(len(self._taught), len(self.villagers) - len(self._taught)) - 1
        return min(len(_POOLS[attribute]), len(self.villagers))

    def pages(self, total_bytes: int) -> Iterator[Page]:
        """The documents, each with its kind, its language and the facts it states."""
        return pages(self, total_bytes)

    def documents(self, total_bytes: int) -> Iterator[Document]:
        """Documents until `total_bytes` of UTF-8 are reached; the last one may go beyond it.

        Asking for more gives the same documents first. The same for the same settings on every machine.
        """
        for page in self.pages(total_bytes):
            yield Document(page.text, f"village/{page.kind}/{page.language}")

    def conversations(self, count: int, split: str = "taught") -> Iterator[Conversation]:
        """`count` conversations; no villager of the other half is ever named in one."""
        return conversations(self, count, self.split(split))

    def questions(
        self, split: str = "taught", language: str = "en", limit: int | None = None, phrasing: str = "seen"
    ) -> list[Question]:
        """Questions about a half of the villagers, spread evenly over the attributes: each fact once,
        or the first `limit`. `phrasing`: "seen" as conversations ask, "new" as they never ask."""
        return questions(self, self.split(split), split, language, limit, phrasing)

    def sample_prompts(self) -> list[str]:
        """Openings of texts for a base model to go on with: about a villager of each half, and others."""
        prompts = []
        for language in self.settings.languages:
            people = (self.split("taught")[0], self.split("held_out")[0])
            for i, opening in enumerate(PHRASES[language].PROMPTS):
                prompts.append(opening.format_map(self.forms(language)[people[i % 2].id]))
            prompts.extend(PHRASES[language].STORY_PROMPTS)
        return list(dict.fromkeys(prompts))


_POOLS: dict[str, tuple[str, ...]] = {
    "birthplace": pools.TOWNS,
    "trade": tuple(row[0] for row in pools.TRADES),
    "pet": tuple(row[0] for row in pools.PETS),
    "pet_name": pools.PET_NAMES,
    "colour": tuple(row[0] for row in pools.COLOURS),
    "food": tuple(row[0] for row in pools.FOODS),
    "instrument": tuple(row[0] for row in pools.INSTRUMENTS),
    "street": pools.STREETS,
}


def _evenly(values: Iterable[str], count: int, dice: Dice) -> list[str]:
    """`count` values in random order, each as often as any other (give or take one): the commonest
    value is no better a guess than the rest."""
    values = dice.shuffled(values)
    return dice.shuffled(values[i % len(values)] for i in range(count))


def _populate(settings: VillageSettings) -> tuple[tuple[Villager, ...], frozenset[int]]:
    """All villagers, and the ids of the taught half."""
    count, seed = settings.villagers, settings.seed
    dice = Dice(f"village {seed} names")
    firsts = [(first, "female") for first in pools.FEMALE] + [(first, "male") for first in pools.MALE]
    names = [(f"{first} {last}", gender) for first, gender in firsts for last in pools.SURNAMES]
    names = dice.shuffled(names)[:count]
    columns = {
        name: _evenly(values, count, Dice(f"village {seed} {name}")) for name, values in _POOLS.items()
    }
    dice = Dice(f"village {seed} split")
    order = dice.shuffled(range(count))
    friends = _friends(order[: count // 2]) | _friends(order[count // 2 :])
    villagers = tuple(
        Villager(
            id=i,
            name=name,
            gender=gender,
            friend=friends[i],
            **{key: column[i] for key, column in columns.items()},
        )
        for i, (name, gender) in enumerate(names)
    )
    return villagers, frozenset(order[: count // 2])


def _friends(order: list[int]) -> dict[int, int]:
    """Best friends in pairs; of an odd number, the last three in a ring. Needs two or more."""
    friends = {}
    for i in range(0, len(order) - 1, 2):
        friends[order[i]], friends[order[i + 1]] = order[i + 1], order[i]
    if len(order) % 2:
        friends[order[-3]], friends[order[-2]], friends[order[-1]] = order[-2], order[-1], order[-3]
    return friends
