"""Tokens with a part to play, as the files beside a tokenizer name them.

`tokenizer_config.json` (and the older `special_tokens_map.json`) says which token begins and ends a text,
and how conversations are written; `chat_template.jinja` may hold the latter by itself. What sequences begin
with is also in the post-processor of `tokenizer.json`, of which the configuration has the last word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from twofold.errors import FileError
from twofold.files import explained, read_foreign_json
from twofold.tokens.codec import Roles

CONFIG, OLD_CONFIG, TEMPLATE = "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"
_LARGEST = 32 << 20  # bytes; a configuration that lists all added tokens has a few hundred thousand
_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
# What ends a text or an answer, where no file says so; the first that is there ends texts.
_ENDS = (
    "<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "<｜end▁of▁sentence｜>", "<|endofprompt|>", "[EOS]", "[SEP]",
)  # fmt: skip
TURN_ENDS = (
    "<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<end_of_turn>", "<turn|>", "<|end|>", "<|end_of_turn|>", "<|return|>",
    "<|call|>", "[EOT]", "<|eot|>",
)  # fmt: skip


@dataclass(frozen=True)
class Config:
    """What the files beside a tokenizer say. names: the content of each special token by its part, as
    `bos_token`. adds_start, adds_finish: None where it is not said."""

    names: dict[str, str] = field(default_factory=dict)
    adds_start: bool | None = None
    adds_finish: bool | None = None
    template: str | None = None
    kind: str = ""  # the class that transformers opens it with

    def given(self, **values: Any) -> Config:
        """The same with other values."""
        return replace(self, **values)


def read_config(folder: Path) -> Config:
    """Of a tokenizer in `folder`; empty where there is none. Raises FileError."""
    values: dict[str, Any] = {}
    for name in (OLD_CONFIG, CONFIG):
        if (folder / name).is_file():
            found = read_foreign_json(folder / name, _LARGEST)
            if not isinstance(found, dict):
                raise FileError(f"{folder / name} is damaged: an object was expected in it.")
            values |= {key: value for key, value in found.items() if value is not None}
    template = _template(values.get("chat_template"), folder / CONFIG)
    if (folder / TEMPLATE).is_file():
        template = _read_text(folder / TEMPLATE)
    names = {name: text for name in _NAMES if (text := _content(values.get(name))) is not None}
    starts, finishes = (_flag(values.get(name)) for name in ("add_bos_token", "add_eos_token"))
    return Config(names, starts, finishes, template, str(values.get("tokenizer_class", "")))


def _read_text(path: Path) -> str:
    with explained(path, "read"), open(path, "rb") as file:
        data = file.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise FileError(f"{path} has more than {_LARGEST:,} bytes: too large for what it should hold.")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise FileError(f"{path} is not UTF-8 text.") from None


def _content(value: Any) -> str | None:
    """A token's name: by itself, or within its description."""
    text = value.get("content") if isinstance(value, dict) else value
    return text if isinstance(text, str) and text else None


def _flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _template(value: Any, path: Path) -> str | None:
    """One text, or a list of named ones, of which "default" is for conversations."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(entry, dict) for entry in value):
        value = {str(entry.get("name")): entry.get("template") for entry in value}
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise FileError(f"{path}: its chat_template is neither a text nor named texts.")
    return value.get("default") or next(iter(value.values()), None)


def roles_of(
    ids: Mapping[str, int],
    config: Config,
    *,
    start: Sequence[int] = (),
    finish: Sequence[int] = (),
    also: Sequence[int] = (),
) -> Roles:
    """The roles of a tokenizer whose special tokens have these `ids`; `start` and `finish` are what its own
    file puts around a text, and `also` what else ends an answer."""

    def token(name: str) -> int | None:
        return ids.get(config.names.get(name, ""))

    bos, eos = token("bos_token"), token("eos_token")
    end = eos if eos is not None else next((ids[name] for name in _ENDS if name in ids), None)
    if config.adds_start is not None:
        start = [bos] if config.adds_start and bos is not None else []
    if config.adds_finish is not None:
        finish = [eos] if config.adds_finish and eos is not None else []
    stops = [end] if end is not None else []
    stops += also
    stops += [ids[name] for name in TURN_ENDS if name in ids]
    return Roles(
        tuple(start), tuple(finish), end, token("pad_token"), token("unk_token"), tuple(dict.fromkeys(stops)),
        config.template, dict(config.names),
    )  # fmt: skip


def config_of(roles: Roles, pieces: Sequence[str]) -> dict[str, Any]:
    """A `tokenizer_config.json` that says the same."""
    values: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", **roles.names}
    if roles.start:
        values["bos_token"] = pieces[roles.start[0]]
    if roles.end_of_text is not None:
        values.setdefault("eos_token", pieces[roles.end_of_text])
    values["add_bos_token"] = bool(roles.start)
    values["add_eos_token"] = bool(roles.finish)
    values["clean_up_tokenization_spaces"] = False
    if roles.template is not None:
        values["chat_template"] = roles.template
    return values
