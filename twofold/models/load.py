"""Where a command takes MODEL: a run folder, a Hugging Face folder, a `create` folder, or a `.gguf`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from twofold.errors import FileError
from twofold.files import explained
from twofold.models.config import TransformerConfig
from twofold.models.folder import (
    ModelInfo,
    check_finite,
    check_vocabulary,
    empty_transformer,
    load_folder,
    load_info,
)
from twofold.models.transformer import Transformer

if TYPE_CHECKING:
    from twofold.tokens.tokenizer import Tokenizer

_STAGES = ("assistant", "base")  # of a `create` folder, the best to talk with first


def load_model(
    path: str | Path, *, dtype: torch.dtype | None = torch.float32, device: str | torch.device = "cpu"
) -> tuple[Transformer, Tokenizer, ModelInfo]:
    """Open the model at `path`, every size in it checked. `dtype` None keeps the file's own.

    A folder that `twofold create` made opens as its assistant, or as its base while there is no assistant.
    Raises FileError, saying what was looked for and what is amiss.
    """
    path = Path(path)
    with explained(path, "read"):
        is_folder, is_file = path.is_dir(), path.is_file()
    if is_folder:
        folder = find_folder(path)
        model, tokenizer = load_folder(folder, dtype=dtype, device=device)
        return model, tokenizer, load_info(folder, tokenizer)
    if is_file and path.suffix == ".gguf":
        return _load_gguf(path, dtype, device)
    if is_file:
        raise FileError(f"{path} is not a model: give the folder that holds it, or a .gguf file.")
    raise FileError(f"There is no model at {path}.{_hint(path)}")


def find_folder(path: Path) -> Path:
    """The folder with a `config.json`: `path` itself, or the stage to use of a `create` folder."""
    for folder in (path, *(path / stage for stage in _STAGES)):
        if (folder / "config.json").is_file():
            return folder
    if any((path / stage).is_dir() for stage in _STAGES):
        raise FileError(
            f"{path} holds no finished model yet: neither assistant/ nor base/ has a config.json. "
            f"Run the command that makes it again; it goes on where it was."
        )
    below = sorted([*path.glob("*/config.json"), *path.glob("*.gguf")])
    found = [str(p.parent if p.name == "config.json" else p) for p in below[:5]]
    also = f" There is one in {', and in '.join(found)}." if found else ""
    raise FileError(f"{path} holds no model: there is no config.json in it.{also}")


def _load_gguf(
    path: Path, dtype: torch.dtype | None, device: str | torch.device
) -> tuple[Transformer, Tokenizer, ModelInfo]:
    from twofold.models.from_gguf import open_gguf

    contents = open_gguf(path)
    config = TransformerConfig.from_hf(contents.config, str(path))
    check_vocabulary(contents.tokenizer.vocab_size, config.vocab_size, str(path))
    held = sum(weight.size for weight in contents.weights.values())
    if config.count_parameters() > held:  # before anything of the claimed size is made
        raise FileError(
            f"{path} describes {config.count_parameters():,} parameters, and holds {held:,}. It is damaged."
        )
    model = empty_transformer(config, {n: tuple(w.shape) for n, w in contents.weights.items()}, str(path))
    # copies, so that the file may be replaced while the model is in use
    weights = {
        name: torch.from_numpy(weight.copy()).to(device=device, dtype=dtype or torch.float32)
        for name, weight in contents.weights.items()
    }
    check_finite(weights, str(path))
    model.load_state_dict(weights, assign=True)
    return model.eval(), contents.tokenizer, ModelInfo(path, contents.stop_ids, contents.chat)


def _hint(path: Path) -> str:
    if not path.is_absolute() and re.fullmatch(r"[\w.-]+/[\w.-]+", str(path), re.ASCII):
        return (
            f" No such folder is here. If {path} is a model on the Hugging Face hub: models are not fetched "
            f"from there yet. Download its config.json, model.safetensors and tokenizer.json into a folder "
            f"(`hf download {path} --local-dir FOLDER`) and give that folder."
        )
    return (
        " Give a run folder, a Hugging Face folder (config.json, model.safetensors, tokenizer.json) or a "
        ".gguf file."
    )
