"""Byte-pair encoding by tiktoken's core, for vocabularies that were not made for it.

tiktoken joins any two neighbours whose bytes together are a token, lowest rank first; a `tokenizer.json`
lists pairs in their order, and SentencePiece joins characters by score. Key idea: of every token that is
ever made, one last pair makes it, whatever stands around it, because what happens within its span does not
depend on the outside. So the three agree on all text as soon as every token, encoded alone, gives itself,
and tokens are ranked in the order of those pairs. Tokens that no text makes are left out.

For characters, ranks below all others put the bytes of a character together first; what is left of one that
is not in the vocabulary becomes its byte tokens, or the unknown token. And as soon as no token holds a space
behind a letter, text may be cut at each word, for words that are tokens are then looked up at once.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from twofold.tokens.codec import has_long_gap
from twofold.tokens.vocabulary import LETTER_TO_BYTE, to_bytes

Pair = tuple[str, str]
SPACE = "▁"
_MOST_MIXED = 10_000  # pieces whose last pair is looked for one by one, in the square of their letters
_MOST_SQUARES = 1 << 22  # of those, together
MOST_PAIRS = 1 << 27  # letters of all the pairs that pieces can be cut into; models have a tenth of that
_SPACE_INSIDE = re.compile(f"[^{SPACE}]{SPACE}")
_WORDS = " *[^ ]+| +"
_ALL = r"(?s:.+)"


class Joiner:
    """ranks: bytes -> rank, every single byte among them; what tiktoken gives. `ids`: what becomes of a rank,
    where that is not the id itself. `avoided`: characters that the vocabulary cannot write. Safe to share
    between threads."""

    def __init__(
        self,
        ranks: Mapping[bytes, int],
        pattern: str,
        ids: Ids | None = None,
        avoided: re.Pattern | None = None,
    ) -> None:
        self._ranks = dict(ranks)
        self._pattern = pattern
        self._ids = ids
        self._avoided = avoided

    def can(self, text: str) -> bool:
        """Whether this core gives a text's ids."""
        return not has_long_gap(text) and (self._avoided is None or self._avoided.search(text) is None)

    @cached_property
    def _core(self):
        import tiktoken

        return tiktoken.Encoding(
            "twofold", pat_str=self._pattern, mergeable_ranks=self._ranks, special_tokens={}
        )

    def array(self, text: str) -> np.ndarray:
        """The ids of a text, int32 [T]."""
        found = np.array(
            self._core.encode_ordinary(text), np.int32
        )  # its encode_to_numpy takes twice as long
        return found if self._ids is None else self._ids.of(found)

    def encode(self, text: str) -> list[int]:
        """The ids of a text."""
        if self._ids is None:
            return self._core.encode_ordinary(text)
        return self.array(text).tolist()

    def makes_all(self, pieces: Iterable[str]) -> bool:
        """Whether some text gives each of these."""
        return all(_data(piece) in self._ranks for piece in pieces)

    def __getstate__(self):
        return {name: value for name, value in self.__dict__.items() if name != "_core"}


@dataclass
class Ids:
    """rank -> ids. `one`: int32 [ranks], -1 for a rank that is none or several; those are in `others`.
    `fused`: of this id, neighbours become one."""

    one: np.ndarray
    others: dict[int, tuple[int, ...]] = field(default_factory=dict)
    fused: int | None = None

    def of(self, ranks: np.ndarray) -> np.ndarray:
        """int32 [ids] of int32 [ranks]."""
        ids = self.one[ranks]
        if len(ids) and self.others and ids.min() < 0:
            sizes, starts, flat = self._spelled
            count = sizes[ranks]
            ends = np.cumsum(count)
            within = np.arange(ends[-1]) - np.repeat(ends - count, count)
            ids = flat[np.repeat(starts[ranks], count) + within]
        if self.fused is not None and len(ids) > 1:
            again = np.r_[False, (ids[1:] == self.fused) & (ids[:-1] == self.fused)]
            if again.any():
                ids = ids[~again]
        return ids

    @cached_property
    def _spelled(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        sizes = np.ones(len(self.one), np.int64)
        for rank, ids in self.others.items():
            sizes[rank] = len(ids)
        starts = np.cumsum(sizes) - sizes
        flat = np.repeat(self.one, sizes)
        for rank, ids in self.others.items():
            flat[starts[rank] : starts[rank] + len(ids)] = ids
        return sizes, starts, flat


def byte_joiner(
    vocab: Mapping[str, int], merges: Sequence[Pair], pattern: str, *, whole_first: bool
) -> Joiner | None:
    """For a byte-level BPE; `vocab` and `merges` in the byte alphabet, special tokens left out. `whole_first`:
    a piece that is a token is taken as it is. None where tiktoken's way is not proven to give the same."""
    vocab = {piece: token for piece, token in vocab.items() if LETTER_TO_BYTE.keys() >= set(piece)}
    missing = {byte for letter, byte in LETTER_TO_BYTE.items() if letter not in vocab}
    if not missing <= _RARE.keys() | _NEVER:
        return None
    found = _in_order(vocab, merges)
    if found is None:
        return None
    made, stuck = found
    in_order = [vocab[piece] for piece in made]
    if whole_first:  # those that no merge makes are still found whole, unless two halves of them would join
        if any(parts < 3 for parts in stuck.values()):
            return None
        made = [*made, *stuck]
    order = [*(letter for letter in LETTER_TO_BYTE if letter in vocab), *made]
    ids = [vocab[piece] for piece in order]
    as_trained = in_order == sorted(in_order)
    ranks = dict(zip(map(to_bytes, order), ids if as_trained else range(len(ids)), strict=True))
    top = max(ranks.values()) + 1
    ranks |= {bytes([byte]): top + place for place, byte in enumerate(sorted(missing))}
    avoided = "".join(_RARE[byte] for byte in missing & _RARE.keys())
    return Joiner(
        ranks,
        pattern,
        None if as_trained else Ids(np.array(ids, np.int32)),
        re.compile(f"[{avoided}]") if avoided else None,
    )


_NEVER = {0xC0, 0xC1, *range(0xF5, 0x100)}  # no bytes of UTF-8
_RARE = {  # characters that begin with the others that vocabularies lack, most of them not in use
    0xF1: "\\U00040000-\\U0007ffff",
    0xF2: "\\U00080000-\\U000bffff",
    0xF3: "\\U000c0000-\\U000fffff",
    0xF4: "\\U00100000-\\U0010ffff",
}


@dataclass(frozen=True)
class Unknown:
    """What becomes of a character that is not in the vocabulary: `bytes`, the ids of its bytes by value, or
    else the id `unknown` (None: nothing); `fused`: neighbours become one."""

    bytes: tuple[int, ...] | None = None
    unknown: int | None = None
    fused: bool = True


def character_joiner(
    vocab: Mapping[str, int],
    merges: Sequence[Pair],
    unknown: Unknown,
    *,
    words: bool = False,
) -> Joiner | None:
    """For a BPE over characters, with ▁ for a space; special and byte tokens left out of `vocab`. The texts it is
    given have spaces, and no ▁. `words`: text is cut before every space. None as above."""
    found = None if any(" " in piece for piece in vocab) else _in_order(vocab, merges)
    if found is None or (words and SPACE not in vocab):
        return None
    made, _ = found
    characters = [piece for piece in vocab if len(piece) == 1]
    wide = [data for character in characters if len(data := _data(character)) > 1]
    beginnings = sorted(
        {data[:end] for data in wide for end in range(2, len(data))}, key=lambda d: (len(d), d)
    )
    order = [*(bytes([byte]) for byte in range(256)), *beginnings, *wide, *map(_data, made)]
    ranks = {data: rank for rank, data in enumerate(order)}
    one = np.full(len(order), -1, np.int32)
    for piece in (*characters, *made):
        one[ranks[_data(piece)]] = vocab[piece]
    others = {rank: _foreign(order[rank], unknown) for rank in np.flatnonzero(one < 0).tolist()}
    fused = unknown.unknown if unknown.bytes is None and unknown.fused else None
    pattern = " [^ ]*|[^ ]+" if words else _ALL
    if not words and not any(_SPACE_INSIDE.search(piece) for piece in made):
        pattern = _WORDS
    return Joiner(ranks, pattern, Ids(one, others, fused))


def _data(piece: str) -> bytes:
    """The bytes of a piece as tiktoken sees them: one for a space, instead of the three of ▁."""
    return piece.replace(SPACE, " ").encode()


def _foreign(data: bytes, unknown: Unknown) -> tuple[int, ...]:
    """The ids of bytes that are (a part of) a character which is not in the vocabulary."""
    if unknown.bytes is not None:
        return tuple(unknown.bytes[byte] for byte in data)
    begins = not 0x80 <= data[0] < 0xC0  # only the first byte of a character counts
    return (unknown.unknown,) if begins and unknown.unknown is not None else ()


def _in_order(vocab: Mapping[str, int], merges: Sequence[Pair]) -> tuple[list[str], dict[str, int]] | None:
    """(the pieces longer than one letter that merges make, in their order; how many parts the others end in).
    None where the merges of two pieces are mixed, so that there is no one order."""
    from tokenizers import models

    places = makers(vocab, merges)
    if places is None:
        return None
    model = models.BPE(dict(vocab), list(merges), cache_capacity=0)
    made, stuck = [], {}
    for piece, token in vocab.items():
        if len(piece) > 1:
            parts = model.tokenize(piece)
            if len(parts) == 1 and parts[0].id == token:
                made.append(piece)
            else:
                stuck[piece] = len(parts)
    return sorted(made, key=places.__getitem__), stuck


def makers(vocab: Mapping[str, int], merges: Sequence[Pair]) -> dict[str, int] | None:
    """Every piece that a merge makes -> a place in the order of merges that stands for all of its own; None
    where there is none. A pair given twice counts where it stands last."""
    place_of = {pair: place for place, pair in enumerate(merges)}
    spans: dict[str, tuple[int, int]] = {}
    for (left, right), place in place_of.items():
        made = left + right
        if made not in vocab or left not in vocab or right not in vocab:
            return None
        low, high = spans.get(made, (place, place))
        spans[made] = min(low, place), max(high, place)
    for _ in range(2):
        mixed, end, before = set(), -1, ""
        for made, (low, high) in sorted(spans.items(), key=lambda item: item[1]):
            if low <= end:
                mixed |= {made, before}
            if high > end:
                end, before = high, made
        if not mixed:
            return {made: low for made, (low, _) in spans.items()}
        if len(mixed) > _MOST_MIXED or sum(len(piece) ** 2 for piece in mixed) > _MOST_SQUARES:
            return None
        for made in mixed:
            pair = _last_pair(made, place_of)
            del spans[made]  # unless it is made after all
            if pair is not None:
                spans[made] = place_of[pair], place_of[pair]
    return None


def _last_pair(piece: str, place_of: Mapping[Pair, int]) -> Pair | None:
    """The pair that makes a piece in the end, by the definition of byte-pair encoding."""
    parts, pair = list(piece), None
    while len(parts) > 1:
        pairs = [(place_of.get(pair, len(place_of)), i) for i, pair in enumerate(itertools.pairwise(parts))]
        place, at = min(pairs)
        if place == len(place_of):
            return None
        pair = parts[at], parts[at + 1]
        parts[at : at + 2] = ["".join(pair)]
    return pair


def too_many_pairs(pieces: Iterable[str]) -> bool:
    """Whether `all_pairs` of these would take too long, and too much memory."""
    return sum(len(piece) ** 2 for piece in pieces) > MOST_PAIRS


def all_pairs(order: Sequence[str], vocab: Mapping[str, int]) -> list[Pair]:
    """Every two pieces that together are a third, in the order of the third: the merges of a vocabulary
    whose pieces are joined by rank alone."""
    return [
        (piece[:end], piece[end:])
        for piece in order
        for end in range(1, len(piece))
        if piece[:end] in vocab and piece[end:] in vocab
    ]
