"""The shape of a Transformer, in the field's own names (Hugging Face's `config.json`).

`model_type` names the family, which chooses the parts (`families.py`); the rest are its sizes and numbers. The
default family is Qwen3 dense, unchanged: RMSNorm before each part, rotary positions, per-head norms of queries
and keys, grouped key-value heads, a SwiGLU feed-forward, no biases.
Source: Qwen3 technical report (arXiv 2505.09388), section 2.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from twofold.errors import FileError, UsageError
from twofold.models import hf_config
from twofold.models.families import ACTIVATIONS, FAMILIES, OPTIONAL, Family
from twofold.models.hf_config import FULL, LARGEST, MOST_LAYERS, SLIDING
from twofold.models.rope import RopeScaling

_BY_FAMILY = ("hidden_act", "attention_bias", "mlp_bias", "rope_local_base_freq")  # where they are None


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """Sizes and numbers of one model. Widths are in channels, lengths in tokens.

    What a family lacks has its neutral value, and the four of which None is said to mean the family's own
    have that once the object is made.
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    intermediate_size: int
    max_position_embeddings: int = 1024
    tie_word_embeddings: bool = True
    rope_theta: float = 10_000.0
    rms_norm_eps: float = 1e-6  # of LayerNorm too, where the family has that
    model_type: str = "qwen3"
    hidden_act: str | None = None  # one of ACTIVATIONS; None: the family's own
    attention_bias: bool | None = None  # of queries, keys, values, and the output in most; None: the family's
    mlp_bias: bool | None = None  # None: the family's
    rope_scaling: RopeScaling | None = None
    partial_rotary_factor: float = 1.0  # of a head's channels, the first ones, that turn by position
    rope_local_base_freq: float | None = None  # rope_theta of layers with a window, without scaling
    no_rope_layers: tuple[int, ...] | None = (
        None  # of each layer: 1 turns by position, 0 does not; None: all do
    )
    sliding_window: int | None = None  # how many positions, its own and those before, a position attends to
    layer_types: tuple[str, ...] | None = None  # SLIDING or FULL; None: all slide where there is a window
    query_pre_attn_scalar: int | None = None  # scores are q·k / √this; None: head_dim
    attn_logit_softcapping: float | None = None  # scores s become c·tanh(s/c)
    final_logit_softcapping: float | None = None  # and so the model's own

    def __post_init__(self) -> None:
        """Raise UsageError, naming the setting, for what makes no model."""
        if self.model_type not in FAMILIES:
            raise UsageError(
                f"Models of type {self.model_type!r} are not supported; {', '.join(sorted(FAMILIES))} are."
            )
        for name in _BY_FAMILY:
            if getattr(self, name) is None:
                own = self.family.defaults.get(name, OPTIONAL.get(name, "silu"))
                object.__setattr__(self, name, own)
        if self.query_pre_attn_scalar is None and "query_pre_attn_scalar" in self.family.settings:
            object.__setattr__(self, "query_pre_attn_scalar", self.head_dim)
        for field in fields(self):
            value = getattr(self, field.name)
            if type(value) is int and not 1 <= value <= LARGEST:
                raise UsageError(
                    f"The model's {field.name} must be from 1 to {LARGEST:,}, and is {str(value)[:40]}."
                )
        for name, neutral in OPTIONAL.items():
            if name not in self.family.settings:
                own = self.family.defaults.get(name, neutral)
                if getattr(self, name) != own:
                    raise UsageError(f"{name} is {own} in models of type {self.model_type}.")
        if self.num_attention_heads % self.num_key_value_heads:
            raise UsageError(
                f"num_attention_heads ({self.num_attention_heads}) must be a multiple of "
                f"num_key_value_heads ({self.num_key_value_heads})."
            )
        if self.hidden_act not in ACTIVATIONS:
            raise UsageError(
                f"The activation {str(self.hidden_act)[:40]!r} is not supported; {', '.join(ACTIVATIONS)} are."
            )
        if not (0 < self.rms_norm_eps < 1 and 1 < self.rope_theta < 1e12):
            raise UsageError("rms_norm_eps must lie in (0, 1) and rope_theta in (1, 1e12).")
        for name in ("attn_logit_softcapping", "final_logit_softcapping"):
            if getattr(self, name) is not None and not 0 < getattr(self, name) < 1e12:
                raise UsageError(f"{name} must lie in (0, 1e12).")
        self._check_layers()
        self._check_positions()

    def _check_layers(self) -> None:
        for name, entries in (("layer_types", (SLIDING, FULL)), ("no_rope_layers", (0, 1))):
            value = getattr(self, name)
            if value is None:
                continue
            if self.num_hidden_layers > MOST_LAYERS or len(value) != self.num_hidden_layers:
                raise UsageError(
                    f"{name} is for {len(value):,} layers, and the model has {self.num_hidden_layers:,}."
                )
            for entry in set(value):
                if entry not in entries or type(entry) is bool:
                    shown = " or ".join(map(repr, entries))
                    raise UsageError(f"{name} holds {str(entry)[:40]!r}; each is {shown}.")
        if self.layer_types is not None and SLIDING in self.layer_types and self.sliding_window is None:
            raise UsageError(f"layer_types has layers of {SLIDING}, and there is no sliding_window.")

    def _check_positions(self) -> None:
        if self.family.learned_positions:
            if self.num_attention_heads * self.head_dim != self.hidden_size:
                raise UsageError("The heads together must be as wide as hidden_size.")
            if self.num_key_value_heads != self.num_attention_heads or self.rope_scaling is not None:
                raise UsageError(
                    f"Models of type {self.model_type} have no grouped heads and no rotary positions."
                )
            return
        if self.head_dim % 2:
            raise UsageError(f"head_dim must be even (rotary positions turn pairs), and is {self.head_dim}.")
        if not 0 < self.partial_rotary_factor <= 1 or self.rotary_dim % 2 or not self.rotary_dim:
            raise UsageError(
                f"partial_rotary_factor ({self.partial_rotary_factor}) must leave an even part of head_dim "
                f"({self.head_dim}) to turn."
            )
        if self.rope_local_base_freq is not None and not 1 < self.rope_local_base_freq < 1e12:
            raise UsageError("rope_local_base_freq must lie in (1, 1e12).")
        scaling = self.rope_scaling
        if scaling is None:
            return
        if self.family.rope_types is not None and scaling.rope_type not in self.family.rope_types:
            raise UsageError(
                f"Models of type {self.model_type} have no {scaling.rope_type} rotary positions."
            )
        for name in ("short_factor", "long_factor"):
            value = getattr(scaling, name)
            if value is not None and len(value) != self.rotary_dim // 2:
                raise UsageError(
                    f"{name} of the rotary positions has {len(value)} numbers, and needs {self.rotary_dim // 2}."
                )

    @property
    def family(self) -> Family:
        """Of which parts the model is made."""
        return FAMILIES[self.model_type]

    @property
    def rotary_dim(self) -> int:
        """How many channels of each head turn by position."""
        return int(self.head_dim * self.partial_rotary_factor)

    @property
    def attention_scale(self) -> float | None:
        """By what scores are multiplied; None: 1/√head_dim."""
        scalar = self.query_pre_attn_scalar
        return None if scalar in (None, self.head_dim) else scalar**-0.5

    def slides(self, layer: int) -> bool:
        """Whether a layer attends within the window."""
        if self.layer_types is None:
            return self.sliding_window is not None
        return self.layer_types[layer] == SLIDING

    def window(self, layer: int) -> int | None:
        """How many positions, its own and those before, a position of this layer attends to; None: all."""
        return self.sliding_window if self.slides(layer) else None

    def turns(self, layer: int) -> bool:
        """Whether a layer turns its queries and keys by position."""
        if self.family.learned_positions:
            return False
        return self.no_rope_layers is None or self.no_rope_layers[layer] == 1

    def first_layer(self) -> TransformerConfig:
        """The same model with its first layer alone."""
        types, turns = (each and each[:1] for each in (self.layer_types, self.no_rope_layers))
        return replace(self, num_hidden_layers=1, layer_types=types, no_rope_layers=turns)

    def parameters_by_part(self) -> dict[str, int]:
        """Parameter counts: embedding (learned positions too), attention, feed_forward, norms, output (0 when
        tied), and biases where there are any."""
        d, layers, family = self.hidden_size, self.num_hidden_layers, self.family
        queries, keys = self.num_attention_heads * self.head_dim, self.num_key_value_heads * self.head_dim
        inner, matrices = self.intermediate_size, 3 if family.gated else 2
        head_norms = {None: 0, "head": 2 * self.head_dim, "whole": queries + keys}[family.qk_norm]
        per_norm = 2 if family.norm == "layer" else 1
        norms = 4 if family.norm_placement == "both" else 2
        biases = (queries + 2 * keys + family.output_bias * d) * self.attention_bias
        biases += ((matrices - 1) * inner + d) * self.mlp_bias
        positions = self.max_position_embeddings * d * family.learned_positions
        parts = {
            "embedding": self.vocab_size * d + positions,
            "attention": layers * d * 2 * (queries + keys),
            "feed_forward": layers * matrices * d * inner,
            "norms": layers * (norms * per_norm * d + head_norms) + per_norm * d,
            "output": 0 if self.tie_word_embeddings else self.vocab_size * d,
        }
        return {**parts, "biases": layers * biases} if biases else parts

    def count_parameters(self) -> int:
        """All parameters, each counted once (tied matrices are one)."""
        return sum(self.parameters_by_part().values())

    def matmul_parameters(self) -> int:
        """Parameters that take part in a matrix product for every token (the output matrix once)."""
        parts = self.parameters_by_part()
        return parts["attention"] + parts["feed_forward"] + self.vocab_size * self.hidden_size

    def flops_per_token(self, length: int) -> float:
        """Training FLOPs for one token, forward and backward, at rows of `length` tokens.

        6 per matmul parameter, and 12·L·H·C·T/2 for causal attention (PaLM, arXiv 2204.02311, appendix B,
        halved because a causal row attends to half of its positions on average; W·(1 - W/2T) of them in layers
        with a window W).
        """
        window = min(length, self.sliding_window or length)
        if self.layer_types is None:
            sliding = self.num_hidden_layers if self.sliding_window is not None else 0
        else:
            sliding = self.layer_types.count(SLIDING)
        keys = (self.num_hidden_layers - sliding) * length
        keys += sliding * window * (2 - window / length) if sliding else 0
        return 6.0 * self.matmul_parameters() + 6 * self.num_attention_heads * self.head_dim * keys

    @classmethod
    def from_hf(cls, values: dict[str, Any], source: str = "config.json") -> TransformerConfig:
        """Read the fields of a Hugging Face `config.json`. Raises FileError naming what is amiss."""
        arguments = hf_config.read(values, source)
        try:
            return cls(**arguments)
        except UsageError as error:
            raise FileError(f"{source}: {error}") from error

    def to_hf(self) -> dict[str, Any]:
        """The `config.json` that `transformers` opens as the family's class."""
        return hf_config.write(self)
