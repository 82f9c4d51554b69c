"""What the files of a model tell whose family does not open here: sizes under the names that such files use, and
parameters counted from the tensors' names and shapes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from twofold.models.cost import VECTORS, Layer, Shape
from twofold.models.weight_files import Entry

MOST_LAYERS = 1 << 16

# What a size is called in config.json, by family; the first that is there counts.
_SIZES = {
    "layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    "width": ("hidden_size", "n_embd", "d_model", "dim"),
    "heads": ("num_attention_heads", "n_head", "n_heads", "num_heads"),
    "kv_heads": ("num_key_value_heads", "n_kv_heads", "num_kv_heads", "n_head_kv"),
    "head_width": ("head_dim", "d_kv", "kv_channels"),
    "inner": ("intermediate_size", "n_inner", "ffn_dim", "d_ff", "ffn_hidden_size", "moe_intermediate_size"),
    "context": (
        "max_position_embeddings",
        "n_positions",
        "n_ctx",
        "max_seq_len",
        "seq_length",
        "max_sequence_length",
    ),
    "vocab_size": ("vocab_size", "padded_vocab_size"),
    "experts": ("num_experts", "num_local_experts", "n_routed_experts"),
    "active_experts": ("num_experts_per_tok", "num_experts_per_token", "moe_topk"),
    "window": ("sliding_window",),
}
_GGUF_SIZES = {
    "layers": "block_count", "width": "embedding_length", "heads": "attention.head_count",
    "kv_heads": "attention.head_count_kv", "head_width": "attention.key_length", "inner": "feed_forward_length",
    "context": "context_length", "experts": "expert_count", "active_experts": "expert_used_count",
}  # fmt: skip
_BY_LAYER = ("heads", "kv_heads", "head_width", "inner")  # sizes that may differ from layer to layer
_TEXT_PARTS = (
    "text_config",
    "llm_config",
    "language_config",
    "language_model",
)  # of models that also see or hear
_NO_PARAMETERS = re.compile(
    r"rotary_emb\.inv_freq$|(^|\.)masked_bias$|rope_(freqs|factors_\w+)\.weight$|\.position_ids$"
)
_PARTS = (  # the first that fits
    ("norms", re.compile(r"norm|(^|[._])ln_|\bln\d?\b")),
    ("biases", re.compile(r"[._]bias$")),
    ("experts", re.compile(r"\.experts\.|_exps\b")),
    ("attention", re.compile(r"attn|attention")),
    ("feed_forward", re.compile(r"mlp|ffn|feed_forward|moe|router|\.fc\d|\.dense_|ff_")),
    ("embedding", re.compile(r"embed_(tokens|positions|in)|word_embeddings|token_embd|position_embd|(^|\.)w[tp]e\b")),
    ("output", re.compile(r"lm_head|^output\.|embed_out")),
)  # fmt: skip


def count_parts(entries: Mapping[str, Entry], tied: bool) -> tuple[dict[str, int], dict[str, int]]:
    """(parameters by part, bytes by type) of tensors by their names; masks and tables are no parameters, and the
    output matrix counts only if it is not `tied` to the embedding."""
    parts: dict[str, int] = {}
    stored: dict[str, int] = {}
    for name, (shape, dtype) in entries.items():
        count = math.prod(shape)
        bits = re.search(r"\d+", dtype)
        stored[dtype] = stored.get(dtype, 0) + count * (int(bits[0]) if bits else 8) // 8
        if _NO_PARAMETERS.search(name) or (name.endswith("attn.bias") and len(shape) == 4):
            continue
        part = next((part for part, pattern in _PARTS if pattern.search(name)), "other")
        if not (tied and part == "output"):
            parts[part] = parts.get(part, 0) + count
    return parts, stored


def config_sizes(values: Mapping[str, Any]) -> dict[str, Any]:
    """The sizes that a config.json of an unknown family tells, by our names."""
    for name in _TEXT_PARTS:
        if isinstance(values.get(name), dict):
            values = {**values, **values[name]}
    found: dict[str, Any] = {}
    for ours, theirs in _SIZES.items():
        value = next((each for name in theirs if (each := _size(values.get(name))) is not None), None)
        if value is not None:
            found[ours] = value
    if values.get("multi_query") is True:
        found["kv_heads"] = 1
    types = values.get("layer_types")
    if "window" in found and isinstance(types, list) and len(types) == found.get("layers"):
        found["sliding"] = types.count("sliding_attention")
    else:
        found.pop("window", None)  # which layers it is for is not known
    return found | {"tied": values.get("tie_word_embeddings") is True}


def gguf_sizes(metadata: Mapping[str, Any], family: str, output: bool) -> dict[str, Any]:
    """The sizes that a GGUF of an unknown family tells, by our names; `output`: it has an output matrix."""
    values = {ours: metadata.get(f"{family}.{theirs}") for ours, theirs in _GGUF_SIZES.items()}
    sizes: dict[str, Any] = {
        name: each
        for name, value in values.items()
        if (each := _size(value)) is not None and (type(each) is int or name in _BY_LAYER)
    }
    if isinstance(tokens := metadata.get("tokenizer.ggml.tokens"), list):
        sizes["vocab_size"] = len(tokens)
    return sizes | {"tied": not output}


def _size(value: Any) -> int | list[int] | None:
    """A size, or one for each layer, if it can be one."""
    if (
        isinstance(value, np.ndarray)
        and value.ndim == 1
        and value.dtype.kind in "iu"
        and 0 < len(value) <= MOST_LAYERS
    ):
        if (value != value[0]).any():
            return value.tolist()
        value = int(value[0])
    return value if type(value) is int and 0 < value < 1 << 60 else None


def shape_of(sizes: Mapping[str, Any], parameters: Mapping[str, int]) -> Shape | None:
    """The shape of a family that is not known; None where its files say too little."""
    try:
        count, width, heads = sizes["layers"], sizes["width"], sizes["heads"]
        if count > MOST_LAYERS or not parameters:
            return None
        kv_heads = sizes.get("kv_heads", heads)
        head_width = sizes.get("head_width") or width // (max(heads) if isinstance(heads, list) else heads)
        sliding = sizes.get("sliding", 0)
        layers = tuple(
            Layer(
                _at(heads, n), _at(kv_heads, n), _at(head_width, n), sizes["window"] if n < sliding else None
            )
            for n in range(count)
        )
        matrices = sum(count for part, count in parameters.items() if part not in VECTORS)
        matrices -= parameters.get("embedding", 0) if parameters.get("output") else 0
        inner = sizes.get("inner", 4 * width)
        return Shape(
            layers, width, max(inner) if isinstance(inner, list) else inner, sizes["vocab_size"], sizes["context"],
            matrices, parameters.get("experts", 0), min(1.0, sizes.get("active_experts", 1) / sizes.get("experts", 1)),
        )  # fmt: skip
    except (KeyError, IndexError, TypeError, ZeroDivisionError):
        return None


def _at(value: int | list[int], layer: int) -> int:
    return value[layer] if isinstance(value, list) else value
