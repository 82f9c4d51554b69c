"""Decoders, masks and settings by name, as a command line or a request writes them:
`beam:width=8,length_penalty=0.6`, `regex:[0-9]+`, `top_n_sigma=1`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twofold.decoding import decoders
from twofold.decoding.sampling import Sampling
from twofold.errors import UsageError
from twofold.files import explained
from twofold.models.language_model import LanguageModel

if TYPE_CHECKING:
    from twofold.decoding.masks import Mask

DECODERS: dict[str, type] = {
    "sample": decoders.Sample,
    "best-of": decoders.BestOf,
    "beam": decoders.Beam,
    "diverse-beam": decoders.DiverseBeam,
    "stochastic-beam": decoders.StochasticBeam,
    "required-words": decoders.RequiredWords,
    "contrastive": decoders.Contrastive,
    "bayes-risk": decoders.MinimumBayesRisk,
    "speculative": decoders.Speculative,
}
MASKS = ("choices", "regex", "json", "grammar")


def read_decoder(text: str, load: Callable[[str], LanguageModel] | None = None) -> decoders.Decoder:
    """`name` or `name:setting=value,…`. `load` opens the model that `draft=` names.

    Several words are written with +: `required-words:words=bread+river`. Raises UsageError with what there is.
    """
    name, _, rest = text.partition(":")
    if name not in DECODERS:
        raise UsageError(f"There is no decoder {name!r}. There are: {', '.join(DECODERS)}.")
    known = {f.name: str(f.type) for f in fields(DECODERS[name]) if f.name != "spellings"}
    given: dict[str, Any] = {}
    for pair in rest.split(",") if rest else []:
        key, equals, value = pair.partition("=")
        if key not in known or not equals:
            raise UsageError(
                f"The decoder {name} has no setting {pair!r}. It has: {', '.join(known)}; write name=value."
            )
        given[key] = _value(name, key, known[key], value, load)
    try:
        return DECODERS[name](**given)
    except TypeError:
        missing = [f"{key}=…" for key in known if key not in given]
        raise UsageError(f"The decoder {name} needs more settings: {', '.join(missing)}.") from None


def _value(name: str, key: str, kind: str, text: str, load: Callable[[str], LanguageModel] | None) -> Any:
    if "LanguageModel" in kind:
        if load is None:
            raise UsageError(f"{name}: a draft model cannot be opened here.")
        return load(text)
    if "tuple" in kind:
        return tuple(text.split("+"))
    try:
        if kind == "int":
            return int(text)
        if kind == "float":
            return float(text)
    except ValueError:
        raise UsageError(f"{name}: {key} must be a number, and is {text!r}.") from None
    return {"true": True, "false": False}.get(text.lower(), text)


def read_mask(text: str) -> Mask:
    """`choices:yes|no`, `regex:PATTERN`, `json:SCHEMA` or `grammar:GRAMMAR`; a schema or a grammar may be the
    name of a file; `json` alone is any JSON. Raises UsageError, FileError."""
    from twofold.decoding import masks

    name, colon, rest = text.partition(":")
    if name not in MASKS or (not colon and name != "json"):
        raise UsageError(f"There is no mask {text!r}. There are: {', '.join(f'{m}:…' for m in MASKS)}.")
    if name == "choices":
        return masks.Choices(tuple(rest.split("|")))
    if name == "regex":
        return masks.Regex(rest)
    if name == "json":
        return masks.JsonSchema(_content(rest) if rest else True)
    return masks.Grammar(_content(rest))


def _content(text: str) -> str:
    """The text itself, or that of the file it names."""
    if text.lstrip().startswith("{") or "\n" in text or ":=" in text:
        return text
    try:
        with explained(text, "read"):
            return Path(text).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{text} is not text in UTF-8 (byte {error.start:,}).") from error


def read_settings(pairs: Sequence[str]) -> dict[str, Any]:
    """Fields of `Sampling` from `name=value`; several values are written with +, and numbers by token as
    `bias=word:2+other:-1`. Raises UsageError."""
    kinds = {f.name: str(f.type) for f in fields(Sampling)}
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if name not in kinds or not equals:
            raise UsageError(
                f"There is no setting {pair!r}; write name=value. There are: {', '.join(kinds)}."
            )
        found[name] = _setting(name, kinds[name], value)
    return found


def _setting(name: str, kind: str, text: str) -> Any:
    try:
        if name == "bias":
            return {token: float(number) for token, _, number in (p.rpartition(":") for p in text.split("+"))}
        if "tuple" in kind:
            return [_token(part) for part in text.split("+")]
        if "float" in kind:
            return float(text)
        if "int" in kind or name == "mirostat":
            return int(text)
    except ValueError:
        raise UsageError(f"{name} cannot be {text!r}.") from None
    return text


def _token(text: str) -> int | str:
    return int(text) if text.isdecimal() else text
