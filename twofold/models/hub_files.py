"""Which files of a hub repository a model is made of.

Only what a model is read from is chosen: its description, its tokenizer, and its weights as safetensors or as one
GGUF file; or an adapter, whose base is another model. Pickles, which can run any program when they are opened, and
code never are. The names come from the hub and are believed only as far as they stay within the repository.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from twofold.errors import FileError
from twofold.models.weight_files import ADAPTER, ADAPTER_CONFIG, INDEX, WEIGHTS, pickles

_ID = re.compile(
    r"(?P<hub>hf:/{1,2})?(?P<repository>[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})"
    r"(?:@(?P<revision>[\w.+-]+(?:/[\w.+-]+)*))?(?::(?P<file>[\w.+-]+(?:/[\w.+-]+)*))?",
    re.ASCII,
)
_DESCRIPTION = re.compile(  # at the root of a repository
    r"config\.json|adapter_config\.json|generation_config\.json|tokenizer\.json|tokenizer_config\.json|tokenizer\.model|vocab\.json|"
    r"merges\.txt|[\w-][\w.-]*\.tiktoken|chat_template\.jinja|special_tokens_map\.json|added_tokens\.json",
    re.ASCII,
)
_TOKENIZER = re.compile(r"tokenizer\.json|tokenizer\.model|vocab\.json|.*\.tiktoken")
_GGUF = re.compile(r"(?:[\w+][\w.+-]*/){0,3}[\w+][\w.+-]*\.gguf", re.ASCII | re.IGNORECASE)
_PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf", re.IGNORECASE)  # of a GGUF cut into several files


@dataclass(frozen=True)
class HubModel:
    """`owner/name[@revision][:file]` in parts. `file`: a .gguf of the repository, or the name of a quantization
    such as Q4_K_M; "" for the safetensors."""

    repository: str
    revision: str | None = None
    file: str = ""

    def __str__(self) -> str:
        revision, file = self.revision and f"@{self.revision}", self.file and f":{self.file}"
        return f"{self.repository}{revision or ''}{file}"


@dataclass(frozen=True)
class Files:
    """The files of a model within a repository: what describes it, and its weights. `weights` may be an index,
    which names the rest."""

    description: tuple[str, ...]
    weights: str


def parse_model(text: str | os.PathLike) -> HubModel | None:
    """The hub model that `text` names, unless it is, or lies in, a file or folder that is here: local paths win.

    `hf://` before it always means the hub."""
    text = os.fspath(text)
    match = _ID.fullmatch(text)
    if match is None or ".." in text:
        return None
    if not match["hub"] and (os.path.lexists(text) or os.path.lexists(text.split("/")[0])):
        return None
    return HubModel(match["repository"], match["revision"], match["file"] or "")


def choose_files(names: Iterable[str], model: HubModel) -> Files:
    """The files of `names` that the model is made of: safetensors before GGUF unless a GGUF is asked for.

    Raises FileError for a repository without weights that can be read, saying what it has instead."""
    if model.file:
        return Files((), _choose_gguf(names, model))
    names = set(names)
    weights = next((name for name in (WEIGHTS, INDEX) if name in names), None)
    is_adapter = weights is None and {ADAPTER, ADAPTER_CONFIG} <= names
    if is_adapter:
        weights = ADAPTER
    if weights is None:
        return _without_safetensors(names, model)
    if "config.json" not in names and not is_adapter:
        raise FileError(f"{model} has weights and no config.json, which says what to do with them.")
    return Files(tuple(sorted(filter(_DESCRIPTION.fullmatch, names))), weights)


def _without_safetensors(names: Iterable[str], model: HubModel) -> Files:
    ggufs = gguf_files(names)
    if len(ggufs) == 1:
        return Files((), _choose_gguf(names, HubModel(model.repository, model.revision, ggufs[0])))
    if ggufs:
        raise FileError(
            f"{model} holds {len(ggufs)} GGUF files; name one of them, such as {model}:{ggufs[0]}, or its kind, such "
            f"as {model}:Q4_K_M. It has: {_some(ggufs)}."
        )
    if pickled := pickles(sorted(names)):
        raise FileError(
            f"{model} has only pickled weights ({pickled[0]}), and a pickle can run any program when it is opened. "
            "Only .safetensors and .gguf are read. Look for a copy in that form, or for a pull request with one "
            f"({model.repository}@refs/pr/1)."
        )
    others = sorted(name for name in names if name.endswith(".safetensors"))
    also = f" It has {_some(others)}, which is no whole model by itself." if others else ""
    raise FileError(f"{model} holds neither {WEIGHTS} nor a .gguf file.{also}")


def _choose_gguf(names: Iterable[str], model: HubModel) -> str:
    """The one .gguf whose path, name or quantization is `model.file`."""
    ggufs = gguf_files(names)
    wanted = model.file.lower()
    if wanted.endswith(".gguf"):
        found = [name for name in ggufs if wanted in (name.lower(), PurePosixPath(name).name.lower())]
    else:  # whole words of the name: Q4_K is not Q4_K_M
        word = re.compile(rf"(?<![a-z0-9]){re.escape(wanted)}(?![a-z0-9_])")
        found = [name for name in ggufs if word.search(PurePosixPath(name).name.lower())]
    if found and all(_PART.search(name) for name in found):
        raise FileError(
            f"{found[0]} of {model.repository} is one of several parts of a GGUF, which are not read. Join them "
            "(`llama-gguf-split --merge`) and give the whole file, or choose a smaller quantization."
        )
    if len(found) != 1:
        which = f"{len(found)} GGUF files" if found else "no GGUF file"
        raise FileError(
            f"{model.repository} has {which} by the name {model.file!r}. It has: {_some(found or ggufs)}."
        )
    return found[0]


def has_tokenizer(names: Iterable[str]) -> bool:
    """Whether one of the names is a tokenizer's."""
    return any(map(_TOKENIZER.fullmatch, names))


def gguf_files(names: Iterable[str]) -> list[str]:
    """The GGUF files with a language model, by name; projectors of images are none."""
    found = (name for name in names if _GGUF.fullmatch(name))
    return sorted(name for name in found if not PurePosixPath(name).name.lower().startswith("mmproj"))


def _some(names: list[str]) -> str:
    return ", ".join(names[:12] or ["none"]) + (", …" if len(names) > 12 else "")
