"""Where a command takes MODEL: a run folder, a Hugging Face folder, a `create` folder, a `.gguf`, an adapter beside
such a model, or the id of one on the hub."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from twofold.errors import FileError
from twofold.files import explained
from twofold.models.adapter_config import base_of, is_adapter
from twofold.models.adapter_files import read_adapter
from twofold.models.describe import find_folder
from twofold.models.folder import (
    ModelInfo,
    check_finite,
    check_vocabulary,
    empty_transformer,
    load_folder,
    load_info,
)
from twofold.models.hub import local_path
from twofold.models.lora import linears, merge
from twofold.models.transformer import Transformer

if TYPE_CHECKING:
    from twofold.models.config import TransformerConfig
    from twofold.models.gguf_names import Weights
    from twofold.tokens.tokenizer import Tokenizer

_MOST_ADAPTERS = 8  # one upon the other


def load_model(
    path: str | Path, *, dtype: torch.dtype | None = torch.float32, device: str | torch.device = "cpu"
) -> tuple[Transformer, Tokenizer, ModelInfo]:
    """Open the model at `path`, every size in it checked. `dtype` None keeps the file's own.

    What is no file or folder here and has the form `owner/name[@revision][:file.gguf]` is fetched from the hub.

    A folder that `twofold create` made opens as its assistant, or as its base while there is no assistant. An
    adapter opens as the model that it makes of its base. Raises FileError, saying what was looked for and what is
    amiss.
    """
    with explained(path, "read"):
        return _load(path, dtype, device, ())


def load_frozen(
    path: str | Path, *, device: str | torch.device = "cpu"
) -> tuple[Transformer, Tokenizer, ModelInfo]:
    """`load_model` for a base that is not trained itself: the matrices of a `.gguf` stay in its blocks, where torch
    can decode them (`block_linear.py`)."""
    path = local_path(path)
    with explained(path, "read"):
        is_gguf = path.is_file() and path.suffix == ".gguf"
    return _load_gguf(path, None, device, blocks=True) if is_gguf else load_model(path, device=device)


def _load(
    path: str | Path, dtype: torch.dtype | None, device: str | torch.device, adapters: tuple[Path, ...]
) -> tuple[Transformer, Tokenizer, ModelInfo]:
    """`load_model`, for the base of so many `adapters`, one upon the other."""
    path = local_path(path)
    with explained(path, "read"):
        is_folder, is_file = path.is_dir(), path.is_file()
    if is_folder and is_adapter(path):
        return _load_adapted(path, dtype, device, adapters)
    if is_folder:
        folder = find_folder(path)
        model, tokenizer = load_folder(folder, dtype=dtype, device=device)
        return model, tokenizer, load_info(folder, tokenizer)
    if is_file and path.suffix == ".gguf":
        return _load_gguf(path, dtype, device)
    if is_file:
        raise FileError(f"{path} is not a model: give the folder that holds it, or a .gguf file.")
    raise FileError(
        f"There is no model at {path}. Give a run folder, a Hugging Face folder (config.json, model.safetensors, "
        "tokenizer.json), a .gguf file, or the id of a model on the hub (owner/name)."
    )


def _load_adapted(
    folder: Path, dtype: torch.dtype | None, device: str | torch.device, adapters: tuple[Path, ...]
) -> tuple[Transformer, Tokenizer, ModelInfo]:
    """The base of an adapter, changed by it; the tokenizer and the ends of answers as the adapter's folder has them,
    where it does."""
    if len(adapters) == _MOST_ADAPTERS or folder.resolve() in adapters:
        raise FileError(f"{folder}: its base is an adapter, whose base is one, and so on without an end.")
    base = base_of(folder)
    try:
        model, tokenizer, info = _load(base, dtype, device, (*adapters, folder.resolve()))
    except FileError as error:
        raise FileError(
            f"{folder} is an adapter of {base}, which does not open. {error} If the model lies elsewhere now, open it "
            f"there and give the adapter beside it: --adapter {folder}."
        ) from error
    merge(model, read_adapter(folder, model.config))
    return model, *adapter_use(folder, model.config, tokenizer, info)


def adapter_use(
    folder: Path, config: TransformerConfig, tokenizer: Tokenizer, info: ModelInfo
) -> tuple[Tokenizer, ModelInfo]:
    """How the adapter in `folder` is used: as its own files say, where it has some, else as its base, which `tokenizer`
    and `info` are of. Raises FileError."""
    from twofold.tokens.opening import holds_tokenizer
    from twofold.tokens.tokenizer import Tokenizer

    if holds_tokenizer(folder):
        tokenizer = Tokenizer.load(folder)
        check_vocabulary(tokenizer.vocab_size, config.vocab_size, str(folder))
    if (folder / "generation_config.json").is_file():
        info = load_info(folder, tokenizer)
    return tokenizer, replace(info, path=folder)


def _load_gguf(
    path: Path, dtype: torch.dtype | None, device: str | torch.device, blocks: bool = False
) -> tuple[Transformer, Tokenizer, ModelInfo]:
    from twofold.models.from_gguf import open_gguf

    contents = open_gguf(path)
    config = contents.config
    check_vocabulary(contents.tokenizer.vocab_size, config.vocab_size, str(path))
    held = sum(map(math.prod, contents.shapes.values()))
    if config.count_parameters() > held:  # before anything of the claimed size is made
        raise FileError(
            f"{path} describes {config.count_parameters():,} parameters, and holds {held:,}. It is damaged."
        )
    model = empty_transformer(config, contents.shapes, str(path))
    kept = _keep_blocks(model, contents.weights, device, str(path)) if blocks else ()
    weights = {  # decoded one by one
        name: torch.from_numpy(contents.weights[name]).to(device=device, dtype=dtype or torch.float32)
        for name in contents.shapes
        if name not in kept
    }
    check_finite(weights, str(path))
    model.load_state_dict(weights, assign=True)
    return model.eval(), contents.tokenizer, ModelInfo(path, contents.stop_ids, contents.chat)


def _keep_blocks(model: Transformer, weights: Weights, device: str | torch.device, where: str) -> set[str]:
    """Let the layers' matrices stay as the file holds them, where that is in blocks; which did."""
    from twofold.models.block_linear import DECODERS, BlockLinear

    kept = set()
    for name, linear in list(linears(model)):
        encoded, type = weights.encoded(f"{name}.weight")
        if type in DECODERS:
            rows = torch.from_numpy(encoded.copy()).to(device)
            kept.add(f"{name}.weight")
            model.set_submodule(name, blocks := BlockLinear(rows, type, linear.bias))
            check_finite({f"{name}.weight": blocks.weight}, where)
    return kept
