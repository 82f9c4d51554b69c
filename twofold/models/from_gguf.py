"""A GGUF's contents under our names, so that `load_model` can open a `.gguf` like a folder.

Its settings are read in `gguf_config.py`; what its tensors are called and how they hold ours stands in
`gguf_names.py`. Weights stay in the mapped file until each is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from twofold.errors import FileError
from twofold.models.config import TransformerConfig
from twofold.models.gguf import GGUF, read_gguf
from twofold.models.gguf_config import read_config
from twofold.models.gguf_names import Weights

if TYPE_CHECKING:
    from pathlib import Path

    from twofold.tokens.tokenizer import Tokenizer


@dataclass(frozen=True)
class Contents:
    """All of a model that a file of it holds. `weights`: float32 by our names; `stop_ids` end an answer; `chat`:
    it was taught conversations; `about`: what the file says of its origin (`general.…`)."""

    config: TransformerConfig
    weights: Mapping[str, np.ndarray]
    tokenizer: Tokenizer
    stop_ids: tuple[int, ...]
    chat: bool
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of all weights; none is decoded for it."""
        if isinstance(self.weights, Weights):
            return self.weights.shapes
        return {name: weight.shape for name, weight in self.weights.items()}


def open_gguf(path: str | Path) -> Contents:
    """Open a model in a `.gguf`. Raises FileError for what is amiss, and for families that are not supported."""
    file = read_gguf(path)
    config, tokenizer = read_config(file), read_tokenizer(file)
    stop_ids, chat = read_ends(file, tokenizer)
    about = {key: value for key, value in file.metadata.items() if key.startswith("general.")}
    return Contents(config, Weights(file, config), tokenizer, stop_ids, chat, about)


def read_tokenizer(file: GGUF) -> Tokenizer:
    """The tokenizer in `file`. Raises FileError."""
    from twofold.tokens.gguf import from_metadata

    return from_metadata(file.metadata, str(file.path))


def read_ends(file: GGUF, tokenizer: Tokenizer) -> tuple[tuple[int, ...], bool]:
    """The tokens that end an answer, and whether the model was taught conversations. Raises FileError."""
    end = file.metadata.get("tokenizer.ggml.eos_token_id")
    if end is not None and (type(end) is not int or not 0 <= end < 1 << 31):
        raise FileError(
            f"{file.path}: tokenizer.ggml.eos_token_id = {str(end)[:40]!r} is not a token number."
        )
    ends = tuple(dict.fromkeys([*([] if end is None else [end]), *tokenizer.stop_ids]))
    return ends, tokenizer.taught_chat(ends)
