"""A tokenizer that `tokenizer.json` describes, of whatever kind, with the ids of the library that defines it.

Key idea: most that models are published with are byte-pair encodings whose steps are known here (one of the
cuts in patterns.py; or ▁ for spaces, as SentencePiece has it). For those tiktoken's core gives the same ids
several times faster (join.py says why they are the same). All others go through `tokenizers` itself.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from twofold.errors import FileError
from twofold.files import write_json
from twofold.tokens.added import AddedTokens
from twofold.tokens.codec import Roles, going_on
from twofold.tokens.join import SPACE, Joiner, Unknown, byte_joiner, character_joiner
from twofold.tokens.json_checks import Content
from twofold.tokens.patterns import GPT2, joined
from twofold.tokens.special import CONFIG, config_of
from twofold.tokens.spelling import spelling_of
from twofold.tokens.vocabulary import AddedToken

FILE = "tokenizer.json"
_MAY_COMPOSE = re.compile("[\u0300-\U0010ffff]")  # nothing before these is changed by NFC
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")


class JsonCodec:
    """A `Codec` over a checked `tokenizer.json`; `where` is for messages."""

    keeps_space: frozenset[int] = frozenset()

    def __init__(self, content: Content, where: str) -> None:
        self.content, self._where = content, where
        self.pieces: tuple[str, ...] = content.pieces
        self.added: tuple[AddedToken, ...] = content.added
        spelling = spelling_of(content.part("decoder"))
        self.lead = spelling.lead
        special = {token.id for token in self.added if token.special}
        self.bytes: list[bytes] = [
            spelling.text_of(piece) if piece and token not in special else b""
            for token, piece in enumerate(self.pieces)
        ]
        unknown = content.json["model"].get("unk_token")
        self._control = special - {content.vocab.get(unknown)}

    @cached_property
    def merges(self) -> list[str]:
        """See `Codec`."""
        return [" ".join(pair) for pair in self.content.merges]

    def encode(self, text: str, *, begins: bool = True) -> list[int]:
        """See `Codec`."""
        return self._encode(text, special=False, begins=begins)

    def array(self, text: str) -> np.ndarray:
        """See `Codec`."""
        if self._way is not None and self._way.joiner.can(text):
            return self._way.array(text)
        return np.array(self.encode(text), dtype=np.int32)

    def encode_markup(self, text: str) -> list[int]:
        """See `Codec`; `encode` finds them already."""
        return self.encode(text)

    def encode_named(self, text: str, *, begins: bool = True) -> list[int]:
        """See `Codec`."""
        return self._encode(text, special=True, begins=begins)

    def encode_located(self, text: str) -> tuple[list[int], list[int]]:
        """See `Codec`."""
        found = self._guarded(lambda: self._naming_library.encode(text, add_special_tokens=False))
        return found.ids, [start for start, _ in found.offsets]

    def _encode(self, text: str, special: bool, begins: bool = True) -> list[int]:
        if self._way is not None and self._way.joiner.can(text):
            return [token for part in self._way.parts(text, special, begins=begins) for token in part]
        if not begins and self.lead:
            return going_on(lambda text: self._encode(text, special), text)
        ids = self._by_library(text, special)
        if not special and not self._control.isdisjoint(ids):  # a model that has the names among its pieces
            parts = self._apart(text)
            ids = [token for part in parts for token in self._by_library(part, False)]
        return ids

    def _apart(self, text: str) -> list[str]:
        """The text, broken within every special token's name, so that no part holds one."""
        names = [token.name for token in self.added if token.id in self._control]
        find = re.compile("|".join(sorted(map(re.escape, names), key=len, reverse=True)))
        breaks = [0, *(match.start() + 1 for match in find.finditer(text)), len(text)]
        return [text[start:end] for start, end in itertools.pairwise(breaks) if end > start]

    def decode(self, ids: Sequence[int]) -> str:
        """See `Codec`."""
        return self._guarded(lambda: self._library.decode(list(ids), skip_special_tokens=False))

    def _by_library(self, text: str, special: bool) -> list[int]:
        library = self._naming_library if special else self._library
        return self._guarded(lambda: library.encode(text, add_special_tokens=False).ids)

    def _guarded(self, work) -> Any:
        """What `work` gives; whatever the library says against it as a FileError."""
        try:
            return work()
        except FileError:
            raise
        except BaseException as error:  # a fault in its Rust is no Exception
            if isinstance(error, Exception) or type(error).__name__ == "PanicException":
                raise FileError(
                    f"{self._where}: the tokenizers library cannot use it ({str(error)[:200]})."
                ) from None
            raise

    @cached_property
    def _library(self):
        library = self._open_library()
        library.encode_special_tokens = True
        return library

    @cached_property
    def _naming_library(self):
        return self._open_library()

    def _open_library(self):
        import tokenizers

        return self._guarded(lambda: tokenizers.Tokenizer.from_str(json.dumps(self.content.json)))

    @cached_property
    def _way(self) -> Way | None:
        """The fast way; None where there is none."""
        content = self.content
        if content.kind != "BPE" or any(token.single_word for token in self.added):
            return None
        model = content.json["model"]
        if model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
            return None
        normalizer = content.part("normalizer")
        return _byte_way(content, model, normalizer) or _character_way(content, model, normalizer)

    def identity(self) -> Any:
        """See `Codec`."""
        names = ("added_tokens", "normalizer", "pre_tokenizer", "decoder", "model")
        return [self.content.json.get(name) for name in names]

    def save(self, folder: Path, roles: Roles, *, chat: bool) -> None:
        """See `Codec`: the same `tokenizer.json`, and what goes with it."""
        write_json(folder / CONFIG, config_of(roles, self.pieces))
        write_json(folder / FILE, self.content.json)

    def __getstate__(self):
        return {"content": self.content, "where": self._where}

    def __setstate__(self, state) -> None:
        self.__init__(state["content"], state["where"])


@dataclass
class Way:
    """How text goes through a `Joiner`. raw, cooked: added tokens looked for before and after the text is
    normalised. composed: NFC. spaces: ▁ for spaces; lead: what is put before a text ("each" stretch between
    added tokens, or the "first" alone), `once` only where none is there."""

    joiner: Joiner
    raw: AddedTokens | None
    cooked: AddedTokens | None
    composed: bool = False
    spaces: bool = False
    lead: str = ""
    once: bool = False

    def array(self, text: str) -> np.ndarray:
        """The ids of a text without the special tokens that it names, int32 [T]."""
        parts = [np.asarray(part, np.int32) for part in self.parts(text, False, self.joiner.array)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts) if parts else np.array([], np.int32)

    def parts(self, text: str, special: bool, join: Any = None, *, begins: bool = True) -> Iterator[Any]:
        """The ids of each stretch of a text, as `join` gives them (default: lists)."""
        join = join or self.joiner.encode
        first = begins
        for part in self.raw.split(text, special=special) if self.raw else [text] if text else []:
            if isinstance(part, int):
                yield [part]
            elif self.cooked is None:
                yield join(self.prepared(part, first, begins))
            else:  # these are used only where nothing is normalised
                for piece in self.cooked.split(part, special=special):
                    yield [piece] if isinstance(piece, int) else join(piece)
            first, begins = False, True

    def prepared(self, text: str, first: bool, begins: bool) -> str:
        """A stretch of text as pairs are joined in it."""
        if self.composed and not text.isascii() and _MAY_COMPOSE.search(text):
            from tokenizers.normalizers import NFC

            text = NFC().normalize_str(text)
        if not self.spaces:
            return text
        lead = text and begins and (self.lead == "each" or (self.lead == "first" and first))
        text = text.replace(SPACE, " ")  # the two are the same
        return " " + text if lead and not (self.once and text.startswith(" ")) else text


def _finders(content: Content, *, normalises: bool) -> tuple[AddedTokens | None, AddedTokens | None] | None:
    """(before, after normalisation) of added tokens; None where the latter would have to be normalised."""
    raw = [token for token in content.added if not token.normalized]
    cooked = [token for token in content.added if token.normalized]
    if cooked and normalises:
        return None
    return AddedTokens(raw) if raw else None, AddedTokens(cooked) if cooked else None


def _plain_vocab(content: Content) -> dict[str, int]:
    """Without the added tokens that no merge makes, or that text must not make."""
    made = {left + right for left, right in content.merges}
    added = {token.name for token in content.added if token.special or token.name not in made}
    return {piece: token for piece, token in content.vocab.items() if piece not in added}


def _byte_way(content: Content, model: dict[str, Any], normalizer: list[dict[str, Any]]) -> Way | None:
    steps = cut_steps(content.part("pre_tokenizer"))
    pattern = None if steps is None else joined(steps)
    kinds = [step["type"] for step in normalizer]
    finders = _finders(content, normalises=bool(kinds))
    if pattern is None or kinds not in ([], ["NFC"]) or finders is None or model.get("byte_fallback"):
        return None
    whole_first = bool(model.get("ignore_merges"))
    vocab = _plain_vocab(content)
    merges = [pair for pair in content.merges if pair[0] + pair[1] in vocab]
    if len(merges) < len(content.merges):
        return None
    joiner = byte_joiner(vocab, merges, pattern, whole_first=whole_first)
    return None if joiner is None else Way(joiner, *finders, composed=bool(kinds))


def cut_steps(pre_tokenizer: Sequence[dict[str, Any]]) -> tuple[str, ...] | None:
    """The patterns by which a byte-level pre-tokenizer cuts, one after the other; None for another kind."""
    steps: list[str] = []
    for place, step in enumerate(pre_tokenizer):
        if step["type"] == "Split":
            pattern = step.get("pattern", {})
            is_cut = step.get("behavior") == "Isolated" and not step.get("invert", False)
            text = pattern.get("Regex") if "Regex" in pattern else re.escape(pattern.get("String", ""))
            if not is_cut or not text:
                return None
            steps.append(text)
        elif step["type"] == "Digits":
            steps.append(r"\p{N}" if step.get("individual_digits") else r"\p{N}+")
        elif (
            step["type"] == "ByteLevel"
            and place == len(pre_tokenizer) - 1
            and not step.get("add_prefix_space")
        ):
            return (*steps, GPT2) if step.get("use_regex", True) else tuple(steps)
        else:
            return None
    return None


def _character_way(content: Content, model: dict[str, Any], normalizer: list[dict[str, Any]]) -> Way | None:
    spaces = _spaces(normalizer, content.part("pre_tokenizer"))
    finders = _finders(content, normalises=True)
    if spaces is None or finders is None:
        return None
    lead, once, words = spaces
    vocab = _plain_vocab(content)
    unknown = _unknown(model, content)
    of_bytes = {piece for piece in vocab if _BYTE.fullmatch(piece)} if model.get("byte_fallback") else set()
    merges = [pair for pair in content.merges if pair[0] + pair[1] in vocab]
    if unknown is None or len(merges) < len(content.merges) or any(of_bytes & {*pair} for pair in merges):
        return None
    vocab = {piece: token for piece, token in vocab.items() if piece not in of_bytes}
    joiner = character_joiner(vocab, merges, unknown, words=words)
    if joiner is None or (model.get("ignore_merges") and not joiner.makes_all(vocab)):
        return None
    return Way(joiner, finders[0], None, spaces=True, lead=lead, once=once)


def _spaces(
    normalizer: list[dict[str, Any]], pre_tokenizer: list[dict[str, Any]]
) -> tuple[str, bool, bool] | None:
    """(where a space is put before a text, whether only if none is there, whether words are cut apart), of
    steps that only write spaces as ▁; None for others."""
    lead, once, replaced = "", False, False
    for step in normalizer:
        if step == {"type": "Prepend", "prepend": SPACE} and not lead:
            lead = "each"
        elif (
            step.get("type") == "Replace"
            and step.get("pattern") == {"String": " "}
            and step.get("content") == SPACE
        ):
            replaced = True
        else:
            return None
    for step in pre_tokenizer:
        if step["type"] == "Metaspace" and len(pre_tokenizer) == 1 and step.get("replacement") == SPACE:
            scheme = step.get("prepend_scheme", "always") if step.get("add_prefix_space", True) else "never"
            if not lead:
                lead, once = {"always": "each", "first": "first", "never": ""}[scheme], True
            return lead, once, bool(step.get("split", True))
        if step["type"] == "Split" and step.get("pattern") == {"String": " "} and replaced:
            continue  # no space is left
        return None
    return (lead, once, False) if replaced else None


def _unknown(model: dict[str, Any], content: Content) -> Unknown | None:
    """What becomes of characters that are not in the vocabulary."""
    unknown = content.vocab.get(model.get("unk_token"))
    if not model.get("byte_fallback"):
        return Unknown(None, unknown, bool(model.get("fuse_unk")))
    names = [f"<0x{byte:02X}>" for byte in range(256)]
    if not all(name in content.vocab for name in names):
        return None
    return Unknown(tuple(content.vocab[name] for name in names))
