"""A model as a GGUF: its metadata and its tensors, under the names that llama.cpp's own converter gives them.

Tensors are encoded one by one as they are written, so that memory holds one at a time.
Source of the names: llama.cpp, `convert_hf_to_gguf.py` and `gguf-py/gguf/constants.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from twofold.errors import FileError
from twofold.models.from_gguf import Contents
from twofold.models.gguf_config import write_config
from twofold.models.gguf_names import Held, to_file
from twofold.models.quantize import TensorType, quantize
from twofold.models.recipes import FILE_TYPES, fitting_type, wanted_type
from twofold.tokens.gguf import to_metadata

_QUANTIZATION_VERSION = 2  # of ggml's block formats
_EMBEDDING, _OUTPUT = "model.embed_tokens.weight", "lm_head.weight"


@dataclass(frozen=True)
class Planned:
    """One tensor to write. `wanted`: the type that the recipe would take if the rows were wide enough for it."""

    name: str
    type: TensorType
    wanted: TensorType
    shape: tuple[int, ...]
    encode: Callable[[], np.ndarray]  # to uint8


@dataclass(frozen=True)
class Plan:
    """A GGUF to write. `notes`: what llama.cpp will compute otherwise than we do, in sentences."""

    metadata: dict[str, Any]
    tensors: list[Planned]
    notes: list[str]

    def entries(self) -> list[tuple[str, TensorType, Callable[[], np.ndarray], tuple[int, ...]]]:
        """The tensors as `write_gguf` takes them."""
        return [(tensor.name, tensor.type, tensor.encode, tensor.shape) for tensor in self.tensors]


def plan(
    contents: Contents, recipe: str, *, name: str, importance: Mapping[str, np.ndarray] | None = None
) -> Plan:
    """All of `contents` as a GGUF with weights by `recipe`; `name` is what other programs show.

    importance: of the columns of tensors by llama.cpp's names, [width] each. Raises UsageError for settings that a
    GGUF cannot say, FileError for a tokenizer that does not fit the model.
    """
    config, tokenizer, shapes = contents.config, contents.tokenizer, dict(contents.shapes)
    if config.tie_word_embeddings:
        shapes.pop(_OUTPUT, None)
    rows = shapes[_EMBEDDING][0]
    if not tokenizer.vocab_size <= rows:
        raise FileError(f"The tokenizer has {tokenizer.vocab_size:,} tokens and the model {rows:,}.")
    settings, tables, notes = write_config(config)
    parameters = sum(map(math.prod, shapes.values()))
    general = {
        "general.architecture": settings["general.architecture"],
        "general.type": "model",
        "general.name": name,
        "general.size_label": f"{parameters / 1e6:.0f}M" if parameters < 1e9 else f"{parameters / 1e9:.1f}B",
        "general.file_type": FILE_TYPES[recipe],
        "general.quantization_version": _QUANTIZATION_VERSION,
    }
    about = {key: value for key, value in contents.about.items() if key != "general.alignment"}
    metadata = about | general | settings | to_metadata(tokenizer, rows, chat=contents.chat)
    tensors = [
        Planned(
            table, TensorType.F32, TensorType.F32, values.shape, lambda v=values: quantize(v, TensorType.F32)
        )
        for table, values in tables.items()
    ]
    importance = importance or {}
    for held in to_file(config, shapes):
        shape = held.shape(shapes)
        wanted = wanted_type(
            recipe,
            held.name,
            shape,
            layers=config.num_hidden_layers,
            tied=config.tie_word_embeddings,
            weighed=held.name in importance,
        )
        kind = fitting_type(wanted, shape[-1])
        encode = _encoder(contents.weights, held, kind, importance.get(held.name))
        tensors.append(Planned(held.name, kind, wanted, shape, encode))
    return Plan(metadata, tensors, notes)


def _encoder(
    weights: Mapping[str, np.ndarray], held: Held, kind: TensorType, importance: np.ndarray | None
) -> Callable[[], np.ndarray]:
    return lambda: quantize(held.join(weights), kind, importance)
