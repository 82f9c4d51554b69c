"""Which tokenizer is at a path, told by what the files hold."""

from __future__ import annotations

import gzip
import os
import zlib
from pathlib import Path

from twofold.errors import FileError
from twofold.files import explained, parse_foreign_json
from twofold.tokens import tokenizer_file
from twofold.tokens.json_checks import MOST_MERGES, Content, check
from twofold.tokens.json_codec import JsonCodec
from twofold.tokens.patterns import GPT2
from twofold.tokens.piece_codec import PieceCodec
from twofold.tokens.rank_codec import RankCodec, cut_for, read_ranks
from twofold.tokens.sentencepiece_file import read_model
from twofold.tokens.special import Config, read_config, roles_of
from twofold.tokens.tokenizer import Tokenizer
from twofold.tokens.vocabulary import PATTERN as QWEN2

LARGEST = 128 << 20  # bytes, unpacked; 260,000 tokens with all their merges take 34 MB
_GZIP = b"\x1f\x8b"
JSON = "tokenizer.json"
PAIRS = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))
MODELS = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "spm.model")
KINDS = f"{JSON}, {', '.join(MODELS)}, *.tiktoken, {' or '.join(f'{v} with {m}' for v, m in PAIRS)}"


def holds_tokenizer(folder: Path) -> bool:
    """Whether there is a tokenizer in a folder."""
    return folder.is_dir() and _within(folder) is not None


def _within(folder: Path) -> Path | None:
    """The file of a folder to open, the one that says most first."""
    for name in (JSON, *MODELS, *(vocab for vocab, merges in PAIRS if _plain_or_packed(folder / merges))):
        if (found := _plain_or_packed(folder / name)) is not None:
            return found
    ranks = sorted(path for path in folder.glob("*") if path.name.endswith((".tiktoken", ".tiktoken.gz")))
    return ranks[0] if ranks else None


def _plain_or_packed(path: Path) -> Path | None:
    return next((p for p in (path, path.with_name(path.name + ".gz")) if p.is_file()), None)


def open_tokenizer(path: str | os.PathLike) -> Tokenizer:
    """See `Tokenizer.load`."""
    with explained(path, "read"):
        return _open(Path(path))


def _open(path: Path) -> Tokenizer:
    if path.is_dir():
        found = _within(path)
        if found is None:
            raise FileError(f"{path} holds no tokenizer: there is none of {KINDS} in it.")
        path = found
    if path.exists() and not path.is_file():
        raise FileError(f"{path} is not a file; a tokenizer ({KINDS}), or a folder with one, was expected.")
    name = path.name.removesuffix(".gz")
    for vocab, merges in PAIRS:
        if name in (vocab, merges):
            both = [_plain_or_packed(path.with_name(part)) for part in (vocab, merges)]
            if None in both:
                raise FileError(
                    f"{path}: it goes with {merges if name == vocab else vocab}, and that is not beside it."
                )
            return _from_pair(*both)
    data = read_bounded(path)
    if name.endswith(".json"):
        return _from_json(data, path)
    if name.endswith(".tiktoken") or _looks_like_ranks(data):
        return _from_ranks(data, path, name.removesuffix(".tiktoken"))
    if name.endswith(".model"):
        return _from_model(data, path)
    raise FileError(f"{path} is of no kind of tokenizer that is known; these open: {KINDS}.")


def read_bounded(path: Path) -> bytes:
    """A file's bytes, unpacked if they are packed, if they are not too many. Raises FileError."""
    with explained(path, "read"), open(path, "rb") as file:
        data = file.read(LARGEST + 1)
        if data.startswith(_GZIP):
            file.seek(0)
            try:
                with gzip.open(file) as packed:
                    data = packed.read(LARGEST + 1)
            except (EOFError, gzip.BadGzipFile, zlib.error):
                raise FileError(f"{path} is packed, and damaged or cut short.") from None
    if len(data) > LARGEST:
        raise FileError(f"{path} is too large for a tokenizer: it has more than {LARGEST:,} bytes.")
    return data


def _from_json(data: bytes, path: Path) -> Tokenizer:
    content = parse_foreign_json(data, path)
    if tokenizer_file.is_own(content):
        return Tokenizer(tokenizer_file.read(content, path), where=str(path))
    return from_content(check(content, str(path)), read_config(path.parent), str(path))


def from_content(content: Content, config: Config, where: str) -> Tokenizer:
    """A tokenizer of what a checked `tokenizer.json` and the files beside it say."""
    start, finish = _around(content)
    roles = roles_of(content.vocab, config, start=start, finish=finish)
    return Tokenizer.of(JsonCodec(content, where), roles)


def _around(content: Content) -> tuple[list[int], list[int]]:
    """The ids that the post-processor puts before and behind a text."""
    start: list[int] = []
    finish: list[int] = []
    for step in content.part("post_processor"):
        if step["type"] in ("BertProcessing", "RobertaProcessing"):
            names = [pair[0] for name in ("cls", "sep") if isinstance(pair := step.get(name), list) and pair]
            start, finish = (
                [content.vocab[name]] if name in content.vocab else [] for name in ([*names, "", ""])[:2]
            )
        elif step["type"] == "TemplateProcessing" and isinstance(step.get("single"), list):
            side = start = []
            finish = []
            for entry in step["single"]:
                special = entry.get("SpecialToken") if isinstance(entry, dict) else None
                if not isinstance(special, dict):
                    side = finish
                elif (token := content.vocab.get(special.get("id"))) is not None:
                    side.append(token)
    return start, finish


def _from_pair(vocab_path: Path, merges_path: Path) -> Tokenizer:
    """GPT-2's two files: the vocabulary as JSON, and the merges, a line each."""
    where = str(vocab_path)
    vocab = parse_foreign_json(read_bounded(vocab_path), vocab_path)
    data = read_bounded(merges_path)
    if data.count(b"\n") > MOST_MERGES:
        raise FileError(f"{merges_path} has more than {MOST_MERGES:,} lines: too many for merges.")
    try:
        lines = data.decode("utf-8").split("\n")
    except UnicodeDecodeError:
        raise FileError(f"{merges_path} is not UTF-8 text.") from None
    merges = [line.rstrip("\r") for line in lines[lines[0].startswith("#version") :] if line.strip("\r")]
    if not isinstance(vocab, dict):
        raise FileError(f"{where} is damaged, or not a vocabulary: an object was expected in it.")
    config = read_config(vocab_path.parent)
    is_qwen = config.kind == "Qwen2Tokenizer"
    split = {
        "type": "Split",
        "pattern": {"Regex": QWEN2 if is_qwen else GPT2},
        "behavior": "Isolated",
        "invert": False,
    }
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    flags = dict(single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
    special = [name for name in ("<|endoftext|>", *config.names.values()) if name in vocab]
    content = {
        "added_tokens": [{"id": vocab[name], "content": name, **flags} for name in dict.fromkeys(special)],
        "normalizer": {"type": "NFC"} if is_qwen else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "decoder": byte_level,
        "model": {"type": "BPE", "vocab": vocab, "merges": merges},
    }
    return from_content(check(content, where), config, where)


def _looks_like_ranks(data: bytes) -> bool:
    first, _, rest = data[:1000].partition(b"\n")
    return bool(rest) and first.isascii() and first.count(b" ") == 1 and first.split()[-1].isdigit()


def _from_ranks(data: bytes, path: Path, name: str) -> Tokenizer:
    ranks = read_ranks(data, str(path))
    codec = RankCodec(ranks, cut_for(ranks, name, str(path)), str(path))
    return Tokenizer.of(codec, roles_of(codec.cut.special, read_config(path.parent)))


def _from_model(data: bytes, path: Path) -> Tokenizer:
    model = read_model(data, str(path))
    config = read_config(path.parent)
    codec = PieceCodec(model, str(path))
    names = {
        name: model.pieces[token].text
        for name, token in (("bos_token", model.bos), ("eos_token", model.eos), ("pad_token", model.padding))
        if token is not None
    }
    if config.adds_start is None:  # as the models do that are published in this form
        config = config.given(adds_start=True)
    config = config.given(names=names | config.names)
    return Tokenizer.of(codec, roles_of({piece: i for i, piece in enumerate(codec.pieces)}, config))
