"""A `tokenizer.json` from a stranger, checked before anything is built from it.

The format is that of `tokenizers`: a normaliser, a pre-tokenizer, a model and a decoder, each of a kind that is
named. What is not known here is refused by name, and so is what could cost without bound: patterns that run
for long (patterns.py), replacements that make a text enormous, vocabularies of other sizes than their bytes.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from twofold.errors import FileError
from twofold.tokens.charsmap import CharacterMap
from twofold.tokens.join import Pair
from twofold.tokens.patterns import refusal
from twofold.tokens.vocabulary import LARGEST_VOCABULARY, LONGEST_NAME, LONGEST_PIECE, AddedToken, check_names

MOST_MERGES = 1 << 22
_DEEPEST_JSON = 32  # values within values; what is written again must not nest more than it was read
_LONGEST_WORD = 1000  # characters of a word that WordPiece looks at, in the square of them
_MOST_PARTS, _DEEPEST = 64, 4
_LONGEST_TEXT = 64  # characters of a text that is put in, or taken off
_MOST_GROWTH = 256  # times that a text may become longer
_KINDS = {
    "normalizer": "Sequence NFC NFD NFKC NFKD Lowercase Nmt StripAccents Strip Replace Prepend Precompiled "
    "BertNormalizer ByteLevel",
    "pre_tokenizer": "Sequence ByteLevel Metaspace Split Digits Punctuation Whitespace WhitespaceSplit "
    "BertPreTokenizer CharDelimiterSplit UnicodeScripts",
    "post_processor": "Sequence TemplateProcessing ByteLevel BertProcessing RobertaProcessing",
    "decoder": "Sequence ByteLevel ByteFallback Fuse Strip Replace Metaspace WordPiece BPEDecoder CTC",
}
_SETTINGS = {
    **dict.fromkeys(("continuing_subword_prefix", "end_of_word_suffix", "unk_token"), (str,)),
    **dict.fromkeys(("byte_fallback", "fuse_unk", "ignore_merges"), (bool,)),
}
_LISTS = ("normalizers", "pretokenizers", "processors", "decoders")
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


@dataclass(frozen=True)
class Content:
    """What a checked file holds. `json` is what the library may be given; `vocab` has the added tokens' names
    too; `pieces` are the strings by id, "" where there is none."""

    json: dict[str, Any]
    kind: str
    vocab: dict[str, int]
    merges: list[Pair]
    added: tuple[AddedToken, ...]
    pieces: tuple[str, ...]

    def part(self, name: str) -> list[dict[str, Any]]:
        """The steps of the normaliser, pre-tokenizer, post-processor or decoder, one after the other."""
        return list(_steps(self.json.get(name)))


def check(content: Any, where: str) -> Content:
    """Raises FileError, beginning with `where`, for a file that is damaged or not supported."""

    def refuse(fault: str) -> FileError:
        return FileError(f"{where}: {fault}. It is damaged, or not a tokenizer.json.")

    if not isinstance(content, dict) or not isinstance(content.get("model"), dict):
        raise refuse("there is no model in it")
    model = content["model"]
    kind = model.get("type") or _guess(model)
    if kind not in ("BPE", "Unigram", "WordPiece", "WordLevel"):
        raise refuse(f"a model of the kind {str(kind)[:40]!r} is not known")
    rest = {**content, "model": {**model, "vocab": None, "merges": None}}  # those two are looked at below
    if _nests(rest):
        raise refuse(f"it nests values more than {_DEEPEST_JSON} deep")
    longest = model.get("max_input_chars_per_word", 100)
    if kind == "WordPiece" and (type(longest) is not int or not 0 <= longest <= _LONGEST_WORD):
        raise refuse(
            f"words of at most {str(longest)[:40]} characters are looked at; {_LONGEST_WORD:,} are the most"
        )
    for name, kinds in _SETTINGS.items():
        if not isinstance(model.get(name), (*kinds, type(None))):
            raise refuse(f"the model's {name} is not what it should be")
    vocab = _vocab(model, kind, refuse)
    merges = _merges(model, vocab, refuse) if kind == "BPE" else []
    added = _added(content.get("added_tokens") or [], vocab, refuse)
    for name in _KINDS:
        _check_part(content.get(name), name, refuse)
    _check_growth(content.get("normalizer"), refuse)
    _check_by_library({name: content.get(name) for name in _KINDS}, refuse)
    unknown = model.get("unk_token")
    if unknown is not None and unknown not in vocab:
        raise refuse(f"the unknown token {str(unknown)[:40]!r} is not in the vocabulary")
    if kind in ("WordPiece", "WordLevel") and unknown is None:
        raise refuse("there is no unknown token, so some text could not be written")
    if kind == "Unigram" and (type(model.get("unk_id")) is not int or not 0 <= model["unk_id"] < len(vocab)):
        raise refuse("there is no unknown token, so some text could not be written")
    everything = vocab | {token.name: token.id for token in added}
    pieces = [""] * (max(everything.values()) + 1)
    for piece, token in everything.items():
        pieces[token] = piece
    sound = {**model, "type": kind, "dropout": None} if kind == "BPE" else {**model, "type": kind}
    given = {**content, "model": sound, "truncation": None, "padding": None}
    return Content(given, kind, everything, merges, added, tuple(pieces))


def _nests(value: Any) -> bool:
    """Whether a value holds others too deep."""
    level = [value]
    for _ in range(_DEEPEST_JSON):
        below = [
            each.values() if isinstance(each, dict) else each
            for each in level
            if isinstance(each, dict | list)
        ]
        level = [each for values in below for each in values]
    return bool(level)


def _guess(model: Mapping[str, Any]) -> str | None:
    """The kind of a model that older files do not name."""
    if "merges" in model:
        return "BPE"
    if isinstance(model.get("vocab"), list):
        return "Unigram"
    return "WordPiece" if "max_input_chars_per_word" in model else "WordLevel" if "vocab" in model else None


def _vocab(model: Mapping[str, Any], kind: str, refuse) -> dict[str, int]:
    vocab = model.get("vocab")
    if kind == "Unigram":
        if not isinstance(vocab, list) or not all(
            isinstance(entry, list) and len(entry) == 2 and type(entry[1]) in (int, float) for entry in vocab
        ):
            raise refuse("the vocabulary is not a list of pieces with their scores")
        if not all(abs(score) < 1e30 for _, score in vocab):
            raise refuse("a score is no number")
        names = [piece for piece, _ in vocab]
        vocab = {piece: token for token, piece in enumerate(names) if isinstance(piece, str)}
        if len(vocab) != len(names):
            raise refuse("a piece is there twice, or is no text")
        if max(map(len, vocab), default=0) > LONGEST_PIECE:  # which may be tried at every place of a text
            raise refuse(f"a piece has more than {LONGEST_PIECE:,} characters")
    if not isinstance(vocab, dict) or not vocab or len(vocab) > LARGEST_VOCABULARY:
        raise refuse(f"there is no vocabulary of at most {LARGEST_VOCABULARY:,} tokens in it")
    if not all(type(token) is int and 0 <= token < 2 * LARGEST_VOCABULARY for token in vocab.values()):
        raise refuse("a token's number is not one that a token can have")
    if len(set(vocab.values())) != len(vocab):
        raise refuse("two tokens have the same number")
    _check_text("".join(vocab), refuse)
    return dict(vocab)


def _merges(model: Mapping[str, Any], vocab: Mapping[str, int], refuse) -> list[Pair]:
    merges = model.get("merges")
    if not isinstance(merges, list) or len(merges) > MOST_MERGES:
        raise refuse("the merges are missing, or too many")
    prefix = model.get("continuing_subword_prefix") or ""
    pairs: list[Pair] = []
    for place, merge in enumerate(merges):
        pair = (
            tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) if type(merge) is list else ()
        )
        if len(pair) != 2 or not all(isinstance(part, str) and part in vocab for part in pair):
            raise refuse(f"merge {place} ({str(merge)[:40]!r}) does not join two tokens")
        # the library cuts the mark off the right side without a look, in the middle of a character if need be
        if not pair[1].startswith(prefix) or pair[0] + pair[1][len(prefix) :] not in vocab:
            raise refuse(f"merge {place} ({str(merge)[:40]!r}) makes no token")
        pairs.append(pair)
    return pairs


def _added(entries: Any, vocab: Mapping[str, int], refuse) -> tuple[AddedToken, ...]:
    """Numbered as the library numbers them, whatever the file says; where the two differ it is refused."""
    if not isinstance(entries, list) or len(entries) > LARGEST_VOCABULARY:
        raise refuse("the added tokens are no list")
    found: dict[str, AddedToken] = {}
    last = -1  # the highest number that an added token has so far
    for entry in entries:
        name = entry.get("content") if isinstance(entry, dict) else None
        flags = {flag: entry.get(flag, False) for flag in _FLAGS} if isinstance(name, str) else {}
        if (
            not flags
            or not all(type(value) is bool for value in flags.values())
            or type(entry.get("id")) is not int
        ):
            raise refuse(f"an added token is not described as one: {str(entry)[:80]}")
        if not name or len(name) > LONGEST_NAME or name in found:
            raise refuse(f"the name of an added token is empty, too long, or there twice: {name[:40]!r}")
        _check_text(name, refuse)
        token = vocab.get(name)
        if token is None:
            token = max(last + 1, len(vocab))
        last = max(last, token)
        if token != entry["id"]:
            raise refuse(
                f"the added token {name[:40]!r} has the number {entry['id']}, and its place is {token}"
            )
        found[name] = AddedToken(name, token, **flags)
    check_names(found.values(), refuse)
    return tuple(sorted(found.values(), key=lambda token: token.id))


def _check_text(text: str, refuse) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise refuse("a token's text is not valid Unicode") from None


def _steps(part: Any, depth: int = 0) -> Iterator[dict[str, Any]]:
    """The steps of a part, in order, without the sequences that hold them."""
    if not isinstance(part, dict) or depth > _DEEPEST:
        return
    if part.get("type") != "Sequence":
        yield part
        return
    for name in _LISTS:
        for step in part.get(name) or ():
            yield from _steps(step, depth + 1)


def _check_part(part: Any, name: str, refuse, depth: int = 0) -> int:
    """Count the steps of a part; refuse what is not known."""
    if part is None:
        return 0
    if not isinstance(part, dict) or part.get("type") not in _KINDS[name].split() or depth > _DEEPEST:
        kind = str(part.get("type") if isinstance(part, dict) else part)[:40]
        raise refuse(f"a {name} of the kind {kind!r} is not known, or lies too deep")
    count = 1
    if part["type"] == "Sequence":
        lists = [part[key] for key in _LISTS if key in part]
        if len(lists) != 1 or not isinstance(lists[0], list) or len(lists[0]) > _MOST_PARTS:
            raise refuse(f"the {name} is not a list of at most {_MOST_PARTS} steps")
        for step in lists[0]:
            count += _check_part(step, name, refuse, depth + 1)
    if count > _MOST_PARTS:
        raise refuse(f"the {name} has more than {_MOST_PARTS} steps")
    for key in (
        "prepend",
        "replacement",
        "prefix",
        "suffix",
        "pad_token",
        "word_delimiter_token",
        "delimiter",
    ):
        _check_short(part.get(key), refuse)
    for key in ("start", "stop"):
        if not isinstance(part.get(key, 0), int) or not 0 <= part.get(key, 0) <= _LONGEST_TEXT:
            raise refuse(f"the {name} takes off more than {_LONGEST_TEXT} characters")
    if part["type"] in ("Split", "Replace"):
        _check_pattern(part.get("pattern"), refuse)
        _check_short(part.get("content"), refuse)
    if part["type"] == "TemplateProcessing":
        _check_template(part.get("single"), refuse)
    if part["type"] == "Precompiled":
        _check_characters(part.get("precompiled_charsmap"), refuse)
    return count


def _check_template(single: Any, refuse) -> None:
    """What is put around one text must not ask for a second, or the library panics."""
    for entry in single if isinstance(single, list) else ():
        sequence = entry.get("Sequence") if isinstance(entry, dict) else None
        if isinstance(sequence, dict) and sequence.get("id") != "A":
            raise refuse("what is put around a text asks for a second text")


def _check_by_library(parts: dict[str, Any], refuse) -> None:
    """Whether the library takes the parts, with a model of nothing: every setting is of the right type then."""
    from tokenizers import Tokenizer

    try:
        model = {"type": "BPE", "vocab": {}, "merges": []}
        Tokenizer.from_str(json.dumps({"version": "1.0", "added_tokens": [], "model": model, **parts}))
    except BaseException as error:  # a fault in its Rust is no Exception
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise refuse(f"the tokenizers library does not take its parts ({str(error)[:200]})") from None
        raise


def _check_short(text: Any, refuse) -> None:
    if text is not None and (not isinstance(text, str) or len(text) > _LONGEST_TEXT):
        raise refuse(f"a text that it puts in is longer than {_LONGEST_TEXT} characters, or no text")


def _check_pattern(pattern: Any, refuse) -> None:
    kind, value = (
        next(iter(pattern.items())) if isinstance(pattern, dict) and len(pattern) == 1 else ("", None)
    )
    if kind not in ("String", "Regex") or not isinstance(value, str) or not value:
        raise refuse("a pattern is neither a text nor a regular expression")
    if kind == "Regex" and (reason := refusal(value)) is not None:
        raise refuse(reason)
    if kind == "String":
        _check_short(value, refuse)


def _check_characters(value: Any, refuse) -> None:
    try:
        data = base64.b64decode(value, validate=True)
        if base64.b64encode(data).decode() != value:  # padding where none is due
            raise ValueError
    except (binascii.Error, TypeError, ValueError):  # where the library panics
        raise refuse("its table of replaced characters is not base64") from None
    try:
        CharacterMap(data, "its normaliser")
    except FileError as error:
        raise refuse(str(error).rstrip(".")) from None


def _check_growth(normalizer: Any, refuse) -> None:
    growth = 1
    for step in _steps(normalizer):
        if step["type"] == "Replace":
            growth *= max(1, len(step.get("content") or ""))
    if growth > _MOST_GROWTH:
        raise refuse(f"its normaliser could make a text {growth:,} times as long")
