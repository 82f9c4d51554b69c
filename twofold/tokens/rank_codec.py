"""tiktoken's files: a line for each token, its bytes in base64 and its rank.

The file says neither how text is cut nor which special tokens there are; both are known by the file's name,
or by how many ranks it has (patterns.py). Source: tiktoken, `load.py` and `openai_public.py`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from twofold.errors import FileError, UsageError
from twofold.tokens.added import AddedTokens
from twofold.tokens.codec import PlainCodec, Roles, has_long_gap
from twofold.tokens.join import Joiner, all_pairs, too_many_pairs
from twofold.tokens.json_checks import check
from twofold.tokens.json_codec import JsonCodec
from twofold.tokens.patterns import RANK_COUNTS, RANK_FILES, RankFile, for_tokenizers
from twofold.tokens.vocabulary import LARGEST_VOCABULARY, AddedToken, to_letters


def read_ranks(data: bytes, where: str) -> dict[bytes, int]:
    """bytes -> rank. Raises FileError, beginning with `where`, for what is no such file."""
    ranks: dict[bytes, int] = {}
    if data.count(b"\n") + data.count(b"\r") > 2 * LARGEST_VOCABULARY:
        raise FileError(f"{where}: it has more lines than any vocabulary has tokens.")
    for number, line in enumerate(data.splitlines(), 1):
        if not line:
            continue
        try:
            text, rank = line.split()
            token = base64.b64decode(text, validate=True)
            ranks[token] = int(rank)
        except (ValueError, binascii.Error):
            raise FileError(f"{where}: line {number:,} is not a token in base64 and its rank.") from None
        if len(ranks) != number or not token or not 0 <= ranks[token] < 2 * LARGEST_VOCABULARY:
            raise FileError(
                f"{where}: the token of line {number:,} is empty, there twice, or of an impossible rank."
            )
    if len(set(ranks.values())) != len(ranks) or len(ranks) > LARGEST_VOCABULARY:
        raise FileError(f"{where}: two tokens have one rank, or there are too many.")
    if not all(bytes([byte]) in ranks for byte in range(256)):
        raise FileError(f"{where}: not all 256 bytes are in it, so some text could not be written.")
    return ranks


def cut_for(ranks: Mapping[bytes, int], name: str, where: str = "") -> RankFile:
    """What a file of `ranks` called `name` does not say. Raises UsageError, beginning with `where` (or the name), where
    it is not known."""
    known = RANK_FILES.get(name) or RANK_FILES.get(RANK_COUNTS.get(len(ranks), ""))
    if known is None:
        raise UsageError(
            f"{where or name}: a file of ranks does not say how text is cut, and one with {len(ranks):,} ranks is not "
            f"known. Name it after one of {', '.join(RANK_FILES)}, or give its tokenizer.json."
        )
    return known


class RankCodec(PlainCodec):
    """A `Codec` over ranks; raises FileError, beginning with `where`, if special tokens do not fit them."""

    def __init__(self, ranks: Mapping[bytes, int], cut: RankFile, where: str) -> None:
        taken = set(ranks.values())
        if len(set(cut.special.values())) != len(cut.special) or taken & set(cut.special.values()):
            raise FileError(f"{where}: its ranks take the numbers of special tokens.")
        self.ranks, self.cut, self._where = dict(ranks), cut, where
        size = max(*taken, *cut.special.values()) + 1
        self.bytes: list[bytes] = [b""] * size
        for token, rank in ranks.items():
            self.bytes[rank] = token
        names = {token: name for name, token in cut.special.items()}
        self.pieces: tuple[str, ...] = tuple(
            names.get(i) or to_letters(data) for i, data in enumerate(self.bytes)
        )
        self.added = tuple(AddedToken(names[token], token, True) for token in sorted(names))
        self._joiner = Joiner(ranks, cut.pattern)
        self._names = AddedTokens(self.added)

    @property
    def merges(self) -> list[str]:
        """See `Codec`."""
        return self.as_json.merges

    def encode(self, text: str, *, begins: bool = True) -> list[int]:
        """See `Codec`."""
        return self.as_json.encode(text) if has_long_gap(text) else self._joiner.encode(text)

    def encode_markup(self, text: str) -> list[int]:
        """See `Codec`; there is no markup."""
        return self.encode(text)

    def encode_named(self, text: str, *, begins: bool = True) -> list[int]:
        """See `Codec`."""
        ids: list[int] = []
        for part in self._names.split(text, special=True):
            ids += [part] if isinstance(part, int) else self.encode(part)
        return ids

    @cached_property
    def as_json(self) -> JsonCodec:
        """The same as a `tokenizer.json`; ids between the tokens are named as unused."""
        vocab = {to_letters(token): rank for token, rank in self.ranks.items()}
        order = sorted(vocab, key=vocab.__getitem__)
        if too_many_pairs(order):
            raise FileError(f"{self._where}: its tokens are too long to be written as merges.")
        merges = all_pairs(order, vocab)
        unused = {f"<|unused_{i}|>": i for i, piece in enumerate(self.pieces) if not piece}
        flags = dict(single_word=False, lstrip=False, rstrip=False, normalized=False)
        byte_level = {
            "type": "ByteLevel",
            "add_prefix_space": False,
            "trim_offsets": False,
            "use_regex": False,
        }
        pattern = {"Regex": for_tokenizers(self.cut.pattern)}
        split = {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}
        model = dict(unk_token=None, continuing_subword_prefix=None, end_of_word_suffix=None, fuse_unk=False)
        content = {
            "version": "1.0",
            "added_tokens": [
                {"id": token, "content": name, **flags, "special": True}
                for name, token in sorted((self.cut.special | unused).items(), key=lambda item: item[1])
            ],
            "normalizer": None,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
            "post_processor": None,
            "decoder": byte_level,
            "model": {"type": "BPE", **model, "byte_fallback": False, "ignore_merges": True,
                      "vocab": vocab | self.cut.special | unused, "merges": [list(pair) for pair in merges]},
        }  # fmt: skip
        return JsonCodec(check(content, self._where), self._where)

    def identity(self) -> Any:
        """See `Codec`."""
        return ["ranks", self.cut.pattern, self.cut.special, [data.hex() for data in self.bytes]]

    def save(self, folder: Path, roles: Roles, *, chat: bool) -> None:
        """See `Codec`: as a `tokenizer.json`."""
        self.as_json.save(folder, roles, chat=chat)
