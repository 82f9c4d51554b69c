"""`tokenizer.json` and `tokenizer_config.json` of our own kind: written for everyone, read with suspicion.

The format is Hugging Face's (https://github.com/huggingface/tokenizers). A file that says it is of our kind,
by what its sequences begin with, must be so to the letter: another model or another cut would silently give
other ids. All other files are for json_codec.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twofold.errors import FileError
from twofold.files import write_json
from twofold.tokens.chat import CHAT_TEMPLATE
from twofold.tokens.vocabulary import END_OF_TEXT, PATTERN, AddedToken, Vocabulary, check_names

FILE = "tokenizer.json"
CONFIG = "tokenizer_config.json"


def write(folder: Path, vocabulary: Vocabulary, *, end_token: str) -> None:
    """Write both files into `folder`. Raises FileError."""
    config = {
        # The class that takes tokenizer.json as it is; Qwen2Tokenizer would add its own normaliser.
        "tokenizer_class": "PreTrainedTokenizerFast",
        "added_tokens_decoder": {str(token.id): _added(token) for token in vocabulary.added},
        "bos_token": END_OF_TEXT,
        "eos_token": end_token,
        "pad_token": END_OF_TEXT,
        "unk_token": None,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 1 << 20,
        "chat_template": CHAT_TEMPLATE,
    }
    write_json(folder / CONFIG, config)
    write_json(folder / FILE, to_json(vocabulary))


def _added(token: AddedToken) -> dict[str, Any]:
    flags = dict(single_word=False, lstrip=False, rstrip=False, normalized=False)
    return {"content": token.name, **flags, "special": token.special}


def to_json(vocabulary: Vocabulary, *, added: bool = True) -> dict[str, Any]:
    """The content of `tokenizer.json`; without `added`, one that knows no added token."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": PATTERN}, "behavior": "Isolated", "invert": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": token.id, **_added(token)} for token in vocabulary.added] if added else [],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": _starts_with_end_of_text(vocabulary) if added else None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {piece: token for token, piece in enumerate(vocabulary.learned)},
            "merges": [merge.split(" ") for merge in vocabulary.merges],
        },
    }


def _starts_with_end_of_text(vocabulary: Vocabulary) -> dict[str, Any]:
    token = next(token.id for token in vocabulary.added if token.name == END_OF_TEXT)
    start = {"SpecialToken": {"id": END_OF_TEXT, "type_id": 0}}
    first, second = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    return {
        "type": "TemplateProcessing",
        "single": [start, first],
        "pair": [start, first, start, second],
        "special_tokens": {END_OF_TEXT: {"id": END_OF_TEXT, "ids": [token], "tokens": [END_OF_TEXT]}},
    }


def is_own(content: Any) -> bool:
    """Whether a `tokenizer.json` is of our own kind: no normaliser, our cut, and <|endoftext|> first."""
    if not isinstance(content, dict) or content.get("normalizer") is not None:
        return False
    after = content.get("post_processor")
    first = after.get("single") if isinstance(after, dict) else None
    start = {"SpecialToken": {"id": END_OF_TEXT, "type_id": 0}}
    return isinstance(first, list) and first[:1] == [start] and _cut_of(content) == _our_cut()


def read(content: dict[str, Any], path: Path) -> Vocabulary:
    """The vocabulary in a `tokenizer.json` of our own kind, its shape checked; what it says is for
    `check_vocabulary`. Raises FileError."""

    def refuse(fault: str) -> FileError:
        return FileError(f"{path}: {fault}. It is damaged, or not a tokenizer.json.")

    model = content.get("model")
    if not isinstance(model, dict):
        raise refuse("there is no model in it")
    vocab, merges, added = model.get("vocab"), model.get("merges"), content.get("added_tokens")
    if not (isinstance(vocab, dict) and isinstance(merges, list) and isinstance(added, list)):
        raise refuse("the vocabulary, the merges or the added tokens are missing")
    _check_kind(model, path)
    merges = tuple(" ".join(pair) if _is_pair(pair) else pair for pair in merges)
    if not all(isinstance(merge, str) for merge in merges):
        raise refuse("a merge is not a pair of strings")
    tokens = tuple(_read_added(entry, refuse) for entry in added)
    check_names(tokens, refuse)
    number = {**vocab, **{token.name: token.id for token in tokens}}
    if any(type(token) is not int for token in number.values()):
        raise refuse("a token's number is not a whole number")
    pieces = sorted(number, key=number.__getitem__)
    if [number[piece] for piece in pieces] != list(range(len(pieces))):
        raise refuse(f"the {len(pieces):,} tokens are not numbered 0 to {len(pieces) - 1:,}, each once")
    return Vocabulary(tuple(pieces), merges, tuple(sorted(tokens, key=lambda token: token.id)))


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(part, str) for part in value)


def _read_added(entry: Any, refuse) -> AddedToken:
    if (
        not isinstance(entry, dict)
        or type(entry.get("id")) is not int
        or not isinstance(entry.get("content"), str)
        or type(entry.get("special")) is not bool
        or any(entry.get(flag) is not False for flag in ("single_word", "lstrip", "rstrip", "normalized"))
    ):
        raise refuse(f"an added token is not one that Twofold writes: {str(entry)[:80]}")
    return AddedToken(entry["content"], entry["id"], entry["special"])


def _check_kind(model: dict, path: Path) -> None:
    """Refuse, by name, everything that would make other ids than a plain byte-level BPE does."""

    def unsupported(what: str) -> FileError:
        return FileError(
            f"{path}: {what}. It begins its texts as Twofold's own tokenizers do, and those are plain "
            "byte-level BPE."
        )

    if model.get("type") != "BPE":
        raise unsupported(f"the model is {str(model.get('type'))[:40]!r}")
    for name in ("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(name):
            raise unsupported(f"the model has {name} = {str(model[name])[:40]!r}")
    for name in ("fuse_unk", "byte_fallback", "ignore_merges"):
        if model.get(name):
            raise unsupported(f"the model has {name} set")


def _our_cut() -> Any:
    return to_json(Vocabulary((), (), (AddedToken(END_OF_TEXT, 0, True),)))["pre_tokenizer"]


def _cut_of(content: dict) -> Any:
    found = content.get("pre_tokenizer")
    steps = found.get("pretokenizers") if isinstance(found, dict) else None
    if isinstance(steps, list) and len(steps) == 2 and isinstance(steps[1], dict):  # offsets only
        return {**found, "pretokenizers": [steps[0], {**steps[1], "trim_offsets": False}]}
    return found
