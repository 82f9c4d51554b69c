"""What llama.cpp calls a Transformer's tensors, and how its files hold them.

Names differ in all families. Some files join what is multiplied with the same input; Gemma's hold 1 + weight of
its norms; and in those of Llama and its kin, the two channels of a head that turn together by position lie side by
side, so that the rows of queries and keys stand in another order than ours.
Source: llama.cpp (`gguf-py/gguf/tensor_mapping.py` and `constants.py`; `convert_hf_to_gguf.py` for the rest).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from twofold.errors import FileError
from twofold.models.config import TransformerConfig
from twofold.models.gguf import GGUF, Tensor
from twofold.models.quantize import TYPE_NAMES, TensorType, dequantize

_ROOTS = {
    "model.embed_tokens": "token_embd",
    "model.embed_positions": "position_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}
_LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_NORMS = {  # by where the family puts its norms
    "before": {"post_attention_layernorm": "ffn_norm"},
    "after": {
        "post_attention_layernorm": "post_attention_norm",
        "post_feedforward_layernorm": "post_ffw_norm",
    },
    "both": {
        "post_attention_layernorm": "post_attention_norm",
        "pre_feedforward_layernorm": "ffn_norm",
        "post_feedforward_layernorm": "post_ffw_norm",
    },
}
_QKV = {"self_attn.q_proj": "attn_qkv", "self_attn.k_proj": "attn_qkv", "self_attn.v_proj": "attn_qkv"}
_JOINED = {"gpt2": _QKV, "phi3": {**_QKV, "mlp.gate_proj": "ffn_up", "mlp.up_proj": "ffn_up"}}
_SIDE_BY_SIDE = ("llama", "mistral", "smollm3")
# Tables that follow from the configuration, which reads what it needs of them.
TABLES = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")


@dataclass(frozen=True)
class Held:
    """One tensor of a file. `parts`: those of ours in it, one below the other, of so many `rows` where there are
    more than one. `heads`: of how many the rows are put side by side (0: none). `plus_one`: it is 1 + ours."""

    name: str
    parts: tuple[str, ...]
    rows: tuple[int, ...]
    heads: int
    plus_one: bool

    def shape(self, ours: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
        """Its shape, from those of ours."""
        return (sum(ours[part][0] for part in self.parts), *ours[self.parts[0]][1:])

    def join(self, ours: Mapping[str, np.ndarray]) -> np.ndarray:
        """Ours as the file holds them, float32."""
        whole = ours[self.parts[0]]
        if len(self.parts) > 1:
            whole = np.concatenate([ours[part] for part in self.parts])
        if self.heads:
            whole = whole.reshape(self.heads, 2, -1, *whole.shape[1:]).swapaxes(1, 2).reshape(whole.shape)
        return whole + np.float32(1) if self.plus_one else whole

    def part(self, tensor: Tensor, which: str) -> np.ndarray:
        """One of ours out of the file's, fresh float32."""
        if len(tensor.shape) == 1:
            weights = self._apart(tensor.float32()[self._of(tensor, which)])
        else:
            weights = dequantize(self.encoded(tensor, which), tensor.type)
        with np.errstate(all="ignore"):  # what is no number is refused by who asks for it
            return weights - np.float32(1) if self.plus_one else weights

    def encoded(self, tensor: Tensor, which: str) -> np.ndarray:
        """One of our matrices out of the file's, uint8 [rows, bytes of a row]."""
        # rows in another order are the same bytes in another order
        return self._apart(tensor.raw[self._of(tensor, which)])

    def _of(self, tensor: Tensor, which: str) -> slice:
        """Which rows are that part's."""
        start = sum(self.rows[: self.parts.index(which)])
        return slice(start, start + self.rows[self.parts.index(which)] if self.rows else tensor.shape[0])

    def _apart(self, rows: np.ndarray) -> np.ndarray:
        """Rows as we order them."""
        if not self.heads:
            return rows
        return rows.reshape(self.heads, -1, 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def to_file(config: TransformerConfig, names: Iterable[str]) -> Iterator[Held]:
    """How a file holds our tensors of these names."""
    seen = set()
    for ours in names:
        stem, _, kind = ours.rpartition(".")
        layer = re.fullmatch(r"model\.layers\.(\d+)\.(.+)", stem)
        found = f"blk.{layer[1]}.{_in_layer(config)[layer[2]]}" if layer else _ROOTS[stem]
        if found not in seen or kind == "bias":
            name = f"{found}.{kind}"
            if name not in seen:
                yield from_file(config, name)
            seen.add(name)


def from_file(config: TransformerConfig, name: str) -> Held:
    """What a file's tensor of this name holds. Raises KeyError for a name that the family's files do not have."""
    match = re.fullmatch(r"(?:blk\.(0|[1-9]\d{0,6})\.)?([a-z_]+)\.(weight|bias)", name)
    if match is None:
        raise KeyError(name)
    number, stem, kind = match.groups()
    table, before = (_ROOTS, "") if number is None else (_in_layer(config), f"model.layers.{number}.")
    parts = [part for part, theirs in table.items() if theirs == stem]
    if not parts:
        raise KeyError(name)
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}.get(stem, 0)
    return Held(
        name,
        tuple(f"{before}{part}.{kind}" for part in parts),
        tuple(_rows(config, part) for part in parts) if len(parts) > 1 else (),
        heads if config.model_type in _SIDE_BY_SIDE else 0,
        config.family.norm == "rms_plus_one" and stem.endswith("norm"),
    )


def _in_layer(config: TransformerConfig) -> dict[str, str]:
    return {**_LAYER, **_NORMS[config.family.norm_placement], **_JOINED.get(config.model_type, {})}


def _rows(config: TransformerConfig, part: str) -> int:
    """Outputs of a part that is joined with others."""
    if part.startswith("mlp"):
        return config.intermediate_size
    heads = config.num_attention_heads if part.endswith("q_proj") else config.num_key_value_heads
    return heads * config.head_dim


class Weights(Mapping[str, np.ndarray]):
    """A file's tensors by our names, float32, each decoded when it is asked for."""

    def __init__(self, file: GGUF, config: TransformerConfig) -> None:
        """Raises FileError for tensors that are none of such a model."""
        self._found: dict[str, tuple[Held, Tensor]] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        for name, tensor in file.tensors.items():
            if name in TABLES:
                continue
            try:
                held = from_file(config, name)
            except KeyError:
                raise FileError(
                    f"{file.path}: {name!r} is no tensor of a {config.model_type} model."
                ) from None
            if tensor.type not in list(TensorType):
                raise FileError(
                    f"{file.path}: tensor {name!r} is {TYPE_NAMES[tensor.type]}; "
                    f"{', '.join(kind.name for kind in TensorType)} open."
                )
            rows = held.rows or tensor.shape[:1]
            pairs = 2 * held.heads if held.heads else 1
            if sum(rows) != tensor.shape[0] or rows[0] % pairs or (held.heads and len(tensor.shape) > 2):
                raise FileError(
                    f"{file.path}: {name!r} has the shape {list(tensor.shape)}, which does not fit its heads."
                )
            for part, count in zip(held.parts, rows, strict=True):
                self._found[part] = held, tensor
                self.shapes[part] = (count, *tensor.shape[1:])

    def __getitem__(self, name: str) -> np.ndarray:
        held, tensor = self._found[name]
        return held.part(tensor, name)

    def encoded(self, name: str) -> tuple[np.ndarray, TensorType]:
        """A matrix as the file holds it: uint8 [rows, bytes of a row], and of which type."""
        held, tensor = self._found[name]
        return held.encoded(tensor, name), TensorType(tensor.type)

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)
