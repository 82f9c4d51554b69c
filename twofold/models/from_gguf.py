"""A GGUF's contents in Hugging Face's names, so that `load_model` can open a `.gguf` like a folder.

The two worlds call the same numbers differently; `HF_TO_GGUF` and `CONFIG_KEYS` are the one place that
says so, and the export uses them the other way round. The dense Qwen3 architecture needs no change to any
tensor: both keep [rows, width], and both turn the two halves of a head against each other.
Source of the names: llama.cpp's `gguf-py/gguf/tensor_mapping.py` and `constants.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from twofold.errors import FileError
from twofold.models.gguf import GGUF, read_gguf
from twofold.models.quantize import TYPE_NAMES, TensorType

if TYPE_CHECKING:
    from pathlib import Path

    from twofold.tokens.tokenizer import Tokenizer

HF_TO_GGUF = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_GGUF_TO_HF = {theirs: ours for ours, theirs in HF_TO_GGUF.items()}

# config.json ⇄ metadata after the architecture's name and a dot.
CONFIG_KEYS = {
    "max_position_embeddings": "context_length",
    "hidden_size": "embedding_length",
    "num_hidden_layers": "block_count",
    "intermediate_size": "feed_forward_length",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "rope_theta": "rope.freq_base",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
}
NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5  # token types, as in tokenizer.ggml.token_type


@dataclass(frozen=True)
class Contents:
    """A model out of a GGUF. `config` is what `TransformerConfig.from_hf` takes; `weights` float32 by Hugging
    Face's names; `stop_ids` end an answer; `chat`: it was taught conversations."""

    config: dict[str, Any]
    weights: dict[str, np.ndarray]
    tokenizer: Tokenizer
    stop_ids: tuple[int, ...]
    chat: bool


def gguf_name(name: str) -> str:
    """Hugging Face's name of a Qwen3 tensor -> llama.cpp's. Raises KeyError for others."""
    layer = re.fullmatch(r"model\.layers\.(\d+)\.(.+)\.weight", name)
    if layer:
        return f"blk.{layer[1]}.{HF_TO_GGUF[layer[2]]}.weight"
    return HF_TO_GGUF[name.removesuffix(".weight")] + ".weight"


def hf_name(name: str) -> str:
    """llama.cpp's name of a Qwen3 tensor -> Hugging Face's. Raises KeyError for others."""
    layer = re.fullmatch(r"blk\.(\d+)\.(.+)\.weight", name)
    if layer:
        return f"model.layers.{layer[1]}.{_GGUF_TO_HF[layer[2]]}.weight"
    return _GGUF_TO_HF[name.removesuffix(".weight")] + ".weight"


def open_gguf(path: str | Path) -> Contents:
    """Read a Qwen3 model out of a `.gguf`. Raises FileError for other models, and for what is amiss."""
    file = read_gguf(path)
    config, tokenizer = read_config(file), read_tokenizer(file)
    stop_ids, chat = read_ends(file, tokenizer)
    return Contents(config, read_weights(file), tokenizer, stop_ids, chat)


def read_ends(file: GGUF, tokenizer: Tokenizer) -> tuple[tuple[int, ...], bool]:
    """The tokens that end an answer, and whether the model was taught conversations."""
    end = _value(file, "tokenizer.ggml.eos_token_id", int)
    return tuple(dict.fromkeys((end, tokenizer.end_of_text))), end == tokenizer.im_end


def read_config(file: GGUF) -> dict[str, Any]:
    """The `config.json` of the model in `file`, as a dict."""
    architecture = _value(file, "general.architecture", str)
    if architecture != "qwen3":
        raise FileError(f"{file.path} holds a model of the family {architecture!r}; qwen3 opens so far.")
    scaling = file.metadata.get("qwen3.rope.scaling.type", "none")
    if not isinstance(scaling, str) or scaling != "none":
        raise FileError(f"{file.path}: scaled rotary positions are not supported yet.")
    config: dict[str, Any] = {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"]}
    for ours, theirs in CONFIG_KEYS.items():
        kind = float if ours in ("rope_theta", "rms_norm_eps") else int
        config[ours] = _value(file, f"qwen3.{theirs}", kind)
    # a float32 in the file: 9.999999974752427e-07 was meant to be 1e-06
    with np.errstate(over="ignore"):
        config["rms_norm_eps"] = float(str(np.float32(config["rms_norm_eps"])))
    value_width = file.metadata.get("qwen3.attention.value_length", config["head_dim"])
    if type(value_width) is not int or value_width != config["head_dim"]:
        raise FileError(f"{file.path}: heads whose values differ in width from their keys are not supported.")
    config["vocab_size"] = len(_value(file, "tokenizer.ggml.tokens", list))
    config["tie_word_embeddings"] = "output.weight" not in file.tensors
    config["eos_token_id"] = _value(file, "tokenizer.ggml.eos_token_id", int)
    return config


def read_weights(file: GGUF) -> dict[str, np.ndarray]:
    """All tensors in float32, by Hugging Face's names. Shapes are for the model that takes them to check."""
    weights = {}
    for name, tensor in file.tensors.items():
        if name == "rope_freqs.weight":  # a table that some files carry; it follows from the configuration
            continue
        try:
            ours = hf_name(name)
        except KeyError:
            raise FileError(f"{file.path}: {name!r} is no tensor of a qwen3 model.") from None
        if tensor.type not in list(TensorType):
            raise FileError(
                f"{file.path}: tensor {name!r} is {TYPE_NAMES[tensor.type]}; "
                f"{', '.join(t.name for t in TensorType)} open so far."
            )
        weights[ours] = tensor.float32()
    return weights


def read_tokenizer(file: GGUF) -> Tokenizer:
    """The tokenizer in `file`: byte-level BPE with the qwen2 pattern."""
    from twofold.tokens.tokenizer import Tokenizer
    from twofold.tokens.vocabulary import PRE_TOKENIZER, AddedToken

    kind = _value(file, "tokenizer.ggml.model", str), _value(file, "tokenizer.ggml.pre", str)
    if kind != ("gpt2", PRE_TOKENIZER):
        raise FileError(
            f"{file.path}: its tokenizer ({kind[0]!r}, {kind[1]!r}) is not supported; byte-level BPE by the "
            f"{PRE_TOKENIZER} pattern is."
        )
    pieces = _value(file, "tokenizer.ggml.tokens", list)
    merges = _value(file, "tokenizer.ggml.merges", list)
    types = _value(file, "tokenizer.ggml.token_type", np.ndarray).tolist()
    if len(types) != len(pieces) or not all(isinstance(text, str) for text in (*pieces, *merges)):
        raise FileError(f"{file.path}: the tokens, their types and the merges do not fit together.")
    while types and types[-1] == UNUSED:  # rows that only round the matrix up
        types.pop()
    added = [
        AddedToken(pieces[token], token, kind == CONTROL)
        for token, kind in enumerate(types)
        if kind in (CONTROL, USER_DEFINED)
    ]
    return Tokenizer.from_vocabulary(pieces[: len(types)], merges, added, where=str(file.path))


def _value(file: GGUF, key: str, kind: type) -> Any:
    value = file.metadata.get(key)
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise FileError(f"{file.path}: the key {key!r} is missing, or is no {kind.__name__}.")
    return value
