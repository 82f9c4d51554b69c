"""The stream of documents: kinds and languages interleaved so that each gets its share of the bytes.

The stream with the fewest bytes for its share goes next (stride scheduling), so shares hold for any
amount of text, and asking for more text gives the same documents first.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from twofold.errors import UsageError
from twofold.text.village_dialogues import dialogues
from twofold.text.village_forms import Fact, contract
from twofold.text.village_instructions import instructions
from twofold.text.village_pages import group_pages, villager_pages
from twofold.text.village_stories import stories
from twofold.text.village_sums import sums
from twofold.text.village_telling import Teller

if TYPE_CHECKING:
    from twofold.text.world import Village

KINDS = {
    "villager": villager_pages,
    "group": group_pages,
    "story": stories,
    "dialogue": dialogues,
    "sums": sums,
    "instructions": instructions,
}


class Page(NamedTuple):
    """One document with what is known about it: `facts` are (villager id, attribute) pairs, one for
    each time the text states that fact."""

    text: str
    kind: str
    language: str
    facts: tuple[Fact, ...]


def pages(village: Village, total_bytes: int) -> Iterator[Page]:
    """Pages until `total_bytes` of UTF-8 are reached. Raises UsageError for a negative number."""
    if total_bytes < 0:
        raise UsageError(f"The village cannot write {total_bytes} bytes; ask for 0 or more.")
    settings = village.settings
    shares = [1 - settings.second_language_share, settings.second_language_share]
    languages = zip(settings.languages, [1.0] if len(settings.languages) == 1 else shares, strict=True)
    streams = [
        (kind, language, share * part, KINDS[kind](Teller(village, language, kind)))
        for language, part in languages
        for kind, share in settings.mix
        if share * part > 0
    ]
    # (bytes so far divided by share, place in streams): the least goes next, ties by place.
    turns = [(0.0, i) for i in range(len(streams))]
    written = 0
    while written < total_bytes:
        spent, i = turns[0]
        kind, language, share, maker = streams[i]
        text, facts = next(maker)
        text = contract(text, language)
        size = len(text) if text.isascii() else len(text.encode())
        written += size
        heapq.heapreplace(turns, (spent + size / share, i))
        yield Page(text, kind, language, tuple(facts))
