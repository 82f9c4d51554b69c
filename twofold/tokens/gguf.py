"""The tokenizer within a GGUF's metadata, read and written.

| `tokenizer.ggml.model` | is | becomes |
|---|---|---|
| gpt2 | byte-level BPE, its cut named by `.pre` | our own kind, or a `tokenizer.json` |
| llama | SentencePiece BPE: pieces with scores | a SentencePiece model |
| t5 | SentencePiece unigram | a SentencePiece model |
| gemma4 | BPE over characters with merges | a `tokenizer.json` |

Ids are those of llama.cpp, which has no normaliser for byte-level BPE. Source of names and defaults: llama.cpp,
`llama-vocab.cpp`, `gguf-py/gguf/constants.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twofold.errors import FileError, UsageError
from twofold.tokens.chat import CHAT_TEMPLATE
from twofold.tokens.codec import Roles
from twofold.tokens.join import SPACE
from twofold.tokens.json_checks import check
from twofold.tokens.json_codec import JsonCodec, cut_steps
from twofold.tokens.own import OwnCodec
from twofold.tokens.patterns import CUTS, GPT2, WHOLE_FIRST
from twofold.tokens.piece_codec import PieceCodec
from twofold.tokens.rank_codec import RankCodec
from twofold.tokens.sentencepiece_file import Kind, Model, Piece, PieceModel
from twofold.tokens.special import TURN_ENDS, Config, roles_of
from twofold.tokens.tokenizer import Tokenizer
from twofold.tokens.vocabulary import (
    END_OF_TEXT,
    LARGEST_VOCABULARY,
    PRE_TOKENIZER,
    AddedToken,
    check_names,
    standard_added,
)

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)  # tokenizer.ggml.token_type
_GGML = "tokenizer.ggml."
_STARTS = WHOLE_FIRST - {"tekken"}  # cuts whose texts begin with the bos token unless it is said


def from_metadata(metadata: Mapping[str, Any], where: str) -> Tokenizer:
    """The tokenizer that a GGUF's metadata describes (numbers, texts, lists of texts, NumPy arrays). Raises
    FileError, beginning with `where`, for what is amiss or not supported."""
    vocab = _Vocab(metadata, where)
    match vocab.get("model", str, None):
        case "gpt2" if vocab.is_own:
            return vocab.own()
        case "gpt2":
            return vocab.byte_level()
        case "gemma4":
            return vocab.characters()
        case "llama":
            return vocab.pieces(Model.BPE)
        case "t5":
            return vocab.pieces(Model.UNIGRAM)
        case kind:
            raise FileError(
                f"{where}: a tokenizer of the kind {str(kind)[:40]!r} does not open; gpt2, llama, gemma4 and t5 do."
            )


class _Vocab:
    def __init__(self, metadata: Mapping[str, Any], where: str) -> None:
        self.metadata, self.where = metadata, where
        self.tokens: list[str] = self.get("tokens", list)
        if not 0 < len(self.tokens) <= LARGEST_VOCABULARY or not all(isinstance(t, str) for t in self.tokens):
            raise self.refuse(f"the tokens are no list of at most {LARGEST_VOCABULARY:,} texts")
        self.types = self.numbers("token_type", [NORMAL] * len(self.tokens))
        while self.types and self.types[-1] == UNUSED:  # rows that only round the matrix up
            self.types.pop()
        self.tokens = [text or f"[EMPTY_{i}]" for i, text in enumerate(self.tokens[: len(self.types)])]
        if len(set(self.tokens)) != len(self.tokens):
            raise self.refuse("two tokens have the same text")

    def refuse(self, fault: str) -> FileError:
        return FileError(f"{self.where}: its tokenizer is damaged: {fault}.")

    def get(self, name: str, kind: type, *default: Any) -> Any:
        value = self.metadata.get(_GGML + name)
        if value is None and default:
            return default[0]
        if type(value) is not kind:
            raise self.refuse(f"the key {_GGML + name!r} is missing, or is no {kind.__name__}")
        return value

    def numbers(self, name: str, default: list) -> list:
        """A number for each token."""
        values = self.metadata.get(_GGML + name)
        values = default if values is None else values.tolist() if hasattr(values, "tolist") else values
        if not isinstance(values, list) or len(values) < len(self.tokens):
            raise self.refuse(f"there are fewer numbers in {_GGML + name!r} than tokens")
        if not all(isinstance(value, int | float) and abs(value) < 1e30 for value in values):
            raise self.refuse(f"{_GGML + name!r} holds something that is no number")
        return values[: len(self.tokens)]

    def token(self, name: str, default: int | None = None) -> int | None:
        """A token's id by its part; None where there is none."""
        value = self.get(f"{name}_token_id", int, default)
        return value if value is not None and 0 <= value < len(self.tokens) else None

    def kind(self, token: int) -> int:
        """A token's kind; what ends texts is always special."""
        ends = self.tokens[token] in TURN_ENDS and self.types[token] == USER_DEFINED
        return CONTROL if ends else self.types[token]

    @property
    def is_own(self) -> bool:
        """Whether it is of the kind that Twofold trains: by its cut, its beginning, and its last tokens."""
        bos, names = self.token("bos"), [token.name for token in standard_added(0)]
        return (
            self.get("pre", str, "") == PRE_TOKENIZER
            and self.get("add_bos_token", bool, False)
            and bos is not None
            and self.tokens[bos] == END_OF_TEXT
            and self.tokens[-len(names) :] == names
        )

    def own(self) -> Tokenizer:
        merges = self.get("merges", list)
        added = [
            AddedToken(self.tokens[token], token, kind == CONTROL)
            for token, kind in enumerate(self.types)
            if kind in (CONTROL, USER_DEFINED)
        ]
        check_names(added, self.refuse)
        return Tokenizer.from_vocabulary(self.tokens, merges, added, where=self.where)

    def byte_level(self) -> Tokenizer:
        name = self.get("pre", str, "default")
        if name not in CUTS:
            raise FileError(
                f"{self.where}: its tokenizer cuts text as {name[:40]!r} does, which is not known here."
            )
        byte_level = {
            "type": "ByteLevel",
            "add_prefix_space": False,
            "trim_offsets": False,
            "use_regex": False,
        }
        splits = [
            {"type": "Split", "pattern": {"Regex": step}, "behavior": "Isolated", "invert": False}
            for step in CUTS[name]
        ]
        content = {
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*splits, byte_level]},
            "decoder": byte_level,
            "model": {"type": "BPE", "ignore_merges": name in WHOLE_FIRST, "merges": self.merges()},
        }
        return self.by_json(content, starts=name in _STARTS)

    def characters(self) -> Tokenizer:
        replace = [{"type": "Replace", "pattern": {"String": SPACE}, "content": " "}]
        content = {
            "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
            "decoder": {
                "type": "Sequence",
                "decoders": [*replace, {"type": "ByteFallback"}, {"type": "Fuse"}],
            },
            "model": {"type": "BPE", "byte_fallback": True, "fuse_unk": True, "merges": self.merges()},
        }
        return self.by_json(content, starts=True)

    def merges(self) -> list[list[str]]:
        merges = self.get("merges", list)
        pairs = []
        for merge in merges:
            middle = merge.find(" ", 1) if isinstance(merge, str) else -1
            if middle < 0:
                raise self.refuse(f"a merge ({str(merge)[:40]!r}) is not two pieces")
            pairs.append([merge[:middle], merge[middle + 1 :]])
        return pairs

    def by_json(self, content: dict[str, Any], *, starts: bool) -> Tokenizer:
        flags = dict(single_word=False, lstrip=False, rstrip=False, normalized=False)
        added = [
            {"id": token, "content": text, **flags, "special": self.kind(token) != USER_DEFINED}
            for token, text in enumerate(self.tokens)
            if self.kind(token) in (CONTROL, USER_DEFINED, UNKNOWN, UNUSED)
        ]
        vocab = {text: token for token, text in enumerate(self.tokens)}
        content = {**content, "added_tokens": added, "model": {**content["model"], "vocab": vocab}}
        codec = JsonCodec(check(content, self.where), self.where)
        return Tokenizer.of(codec, self.roles(starts=starts, bos=None, eos=None))

    def pieces(self, model: Model) -> Tokenizer:
        default = [0.0] * len(self.tokens)
        unknown = self.token("unknown", 0 if model is Model.BPE else 2)
        kinds = [CONTROL if kind == UNKNOWN else kind for kind in map(self.kind, range(len(self.tokens)))]
        if unknown is not None:
            kinds[unknown] = UNKNOWN
        if not set(kinds) <= set(Kind):
            raise self.refuse("a token is of an unknown kind")
        scores = self.numbers("scores", default)
        made = PieceModel(
            tuple(
                Piece(text, float(score), Kind(kind))
                for text, score, kind in zip(self.tokens, scores, kinds, strict=True)
            ),
            model,
            byte_fallback=BYTE in kinds,
            dummy_prefix=self.get("add_space_prefix", bool, True),
            squeezed=self.get("remove_extra_whitespaces", bool, model is Model.UNIGRAM),
            characters=self.characters_map(),
        )
        is_bpe = model is Model.BPE
        roles = self.roles(starts=is_bpe, bos=1 if is_bpe else None, eos=2 if is_bpe else 1)
        return Tokenizer.of(PieceCodec(made, self.where), roles)

    def characters_map(self) -> bytes:
        value = self.metadata.get(_GGML + "precompiled_charsmap")
        if value is None:
            return b""
        if getattr(value, "itemsize", 0) != 1:
            raise self.refuse("the table of replaced characters is no row of bytes")
        return value.tobytes()

    def roles(self, *, starts: bool, bos: int | None, eos: int | None) -> Roles:
        parts = {
            "bos_token": self.token("bos", bos),
            "eos_token": self.token("eos", eos),
            "unk_token": self.token("unknown"),
            "pad_token": self.token("padding"),
        }
        names = {name: self.tokens[token] for name, token in parts.items() if token is not None}
        template = self.metadata.get("tokenizer.chat_template")
        if template is not None and not isinstance(template, str):
            raise self.refuse("the chat template is no text")
        adds = self.get("add_bos_token", bool, starts), self.get("add_eos_token", bool, False)
        ids = {text: token for token, text in enumerate(self.tokens) if self.kind(token) != NORMAL}
        ids |= {self.tokens[token]: token for token in parts.values() if token is not None}
        ends = [self.token(name) for name in ("eot", "eom")]
        return roles_of(ids, Config(names, *adds, template), also=[end for end in ends if end is not None])


def to_metadata(tokenizer: Tokenizer, rows: int | None = None, *, chat: bool = False) -> dict[str, Any]:
    """A GGUF's keys for a tokenizer. `rows` of the model beyond its tokens are named as unused; `chat`: the
    token that ends a turn is the one that ends a text. Raises UsageError for what GGUF has no words for."""
    codec = tokenizer.codec
    if isinstance(codec, RankCodec):
        codec = codec.as_json
    match codec:
        case OwnCodec():
            kind = {"model": "gpt2", "pre": PRE_TOKENIZER, "merges": list(codec.merges)}
        case PieceCodec():
            kind = _of_pieces(codec)
        case JsonCodec():
            kind = _of_json(codec)
    tokens = [text or f"[PAD{i}]" for i, text in enumerate(codec.pieces)]
    types = list(kind.pop("types", None) or _types(codec))
    more = range(len(tokens), rows or 0)
    if "scores" in kind:
        kind["scores"] += [-1e4] * len(more)
    kind["tokens"] = [*tokens, *(f"[PAD{i}]" for i in more)]
    kind["token_type"] = [*types, *([UNUSED] * len(more))]
    roles = tokenizer.roles
    eos = tokenizer.im_end if chat and tokenizer.im_end is not None else roles.end_of_text
    bos = roles.start[0] if roles.start else roles.end_of_text
    ids = {"bos": bos, "eos": eos, "padding": roles.padding, "unknown": roles.unknown}
    kind |= {f"{name}_token_id": token for name, token in ids.items() if token is not None}
    kind["add_bos_token"] = bool(roles.start)
    template = CHAT_TEMPLATE if tokenizer.is_own else roles.template
    found = {_GGML + name: value for name, value in kind.items()}
    return found if template is None else found | {"tokenizer.chat_template": template}


def _types(codec: Any) -> list[int]:
    types = [NORMAL if piece else UNUSED for piece in codec.pieces]
    for token in codec.added:
        types[token.id] = CONTROL if token.special else USER_DEFINED
    return types


def _of_pieces(codec: PieceCodec) -> dict[str, Any]:
    model = codec.model
    if model.suffix or (model.characters and model.model is Model.BPE):
        raise UsageError(
            "A GGUF cannot say how this SentencePiece model replaces characters, so it is not written."
        )
    kind: dict[str, Any] = {
        "model": "llama" if model.model is Model.BPE else "t5",
        "pre": "default",
        "scores": [piece.score for piece in model.pieces],
        "types": [int(piece.kind) for piece in model.pieces],
        "add_space_prefix": model.dummy_prefix,
        "remove_extra_whitespaces": model.squeezed,
    }
    if model.characters:
        import numpy as np

        kind["precompiled_charsmap"] = np.frombuffer(model.characters, np.uint8)
    return kind


def _of_json(codec: JsonCodec) -> dict[str, Any]:
    content = codec.content
    steps = cut_steps(content.part("pre_tokenizer"))
    normalised = [step["type"] for step in content.part("normalizer")]
    whole_first = bool(content.json["model"].get("ignore_merges"))
    plain = content.kind == "BPE" and not content.json["model"].get("byte_fallback")
    names = [name for name, cut in CUTS.items() if cut == steps and (name in WHOLE_FIRST) == whole_first]
    if not plain or not names or normalised not in ([], ["NFC"]):
        raise UsageError(
            "A GGUF has no name for the way in which this tokenizer cuts text, so it is not written. "
            "Byte-level BPE with one of the usual cuts is, and SentencePiece models are."
        )
    return {"model": "gpt2", "pre": "gpt-2" if steps == (GPT2,) else names[0], "merges": codec.merges}
