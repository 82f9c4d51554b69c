"""The shape of a Transformer, in the field's own names (Hugging Face's `config.json`).

The default family is Qwen3 dense, unchanged: RMSNorm before each part, rotary positions, per-head
norms of queries and keys, grouped key-value heads, a SwiGLU feed-forward, no biases.
Source: Qwen3 technical report (arXiv 2505.09388), section 2.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from twofold.errors import FileError, UsageError

LARGEST = 1 << 60  # of a size; what is larger no file holds, and no tensor either


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """Sizes of one model. Widths are in channels, lengths in tokens."""

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
    rms_norm_eps: float = 1e-6
    model_type: str = "qwen3"

    def __post_init__(self) -> None:
        """Raise UsageError, naming the setting, for sizes that make no model."""
        for name, value in asdict(self).items():
            if isinstance(value, int) and not isinstance(value, bool) and not 1 <= value <= LARGEST:
                raise UsageError(
                    f"The model's {name} must be from 1 to {LARGEST:,}, and is {str(value)[:40]}."
                )
        if self.model_type != "qwen3":
            raise UsageError(f"Models of type {self.model_type!r} are not supported yet; qwen3 is.")
        if self.num_attention_heads % self.num_key_value_heads:
            raise UsageError(
                f"num_attention_heads ({self.num_attention_heads}) must be a multiple of "
                f"num_key_value_heads ({self.num_key_value_heads})."
            )
        if self.head_dim % 2:
            raise UsageError(f"head_dim must be even (rotary positions turn pairs), and is {self.head_dim}.")
        if not (0 < self.rms_norm_eps < 1 and 1 < self.rope_theta < 1e12):
            raise UsageError("rms_norm_eps must lie in (0, 1) and rope_theta in (1, 1e12).")

    def parameters_by_part(self) -> dict[str, int]:
        """Parameter counts: embedding, attention, feed_forward, norms, output (0 when tied)."""
        d, layers = self.hidden_size, self.num_hidden_layers
        heads, kv_heads, width = self.num_attention_heads, self.num_key_value_heads, self.head_dim
        return {
            "embedding": self.vocab_size * d,
            "attention": layers * d * width * (2 * heads + 2 * kv_heads),
            "feed_forward": layers * 3 * d * self.intermediate_size,
            "norms": layers * (2 * d + 2 * width) + d,
            "output": 0 if self.tie_word_embeddings else self.vocab_size * d,
        }

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
        halved because a causal row attends to half of its positions on average).
        """
        attention = 6 * self.num_hidden_layers * self.num_attention_heads * self.head_dim * length
        return 6.0 * self.matmul_parameters() + attention

    @classmethod
    def from_hf(cls, values: dict[str, Any], source: str = "config.json") -> TransformerConfig:
        """Read the fields of a Hugging Face `config.json`. Raises FileError naming what is amiss."""
        if not isinstance(values, dict):
            raise FileError(f"{source} should hold one JSON object.")
        model_type = values.get("model_type")
        if model_type != "qwen3":
            raise FileError(f"{source} describes a model of type {model_type!r}; only qwen3 opens so far.")
        for name, expected in (
            ("hidden_act", "silu"),
            ("attention_bias", False),
            ("use_sliding_window", False),
        ):
            if values.get(name, expected) != expected:
                raise FileError(f"{source}: {name} = {values[name]!r} is not supported (only {expected!r}).")
        rope = values.get("rope_parameters") or values.get("rope_scaling") or {}
        if not isinstance(rope, dict) or rope.get("rope_type", rope.get("type", "default")) != "default":
            raise FileError(f"{source}: scaled rotary positions ({rope!r}) are not supported yet.")
        found = {**values, "rope_theta": values.get("rope_theta", rope.get("rope_theta", 10_000.0))}
        if "head_dim" not in found and found.get("num_attention_heads"):
            found["head_dim"] = 128  # the family's default in transformers
        found.setdefault("num_key_value_heads", found.get("num_attention_heads"))
        found.setdefault("tie_word_embeddings", False)
        arguments = {}
        for name, kind in _KINDS.items():
            if name not in found:
                if name in _REQUIRED:
                    raise FileError(f"{source} has no {name!r}.")
                continue
            value = found[name]
            if kind is float and type(value) is int and abs(value) <= LARGEST:
                value = float(value)
            if type(value) is not kind:
                raise FileError(
                    f"{source}: {name} should be of type {kind.__name__}, and is {str(value)[:40]!r}."
                )
            arguments[name] = value
        try:
            return cls(**arguments)
        except UsageError as error:
            raise FileError(f"{source}: {error}") from error

    def to_hf(self) -> dict[str, Any]:
        """The `config.json` that `transformers` opens as Qwen3ForCausalLM."""
        return {
            "architectures": ["Qwen3ForCausalLM"],
            **asdict(self),
            "hidden_act": "silu",
            "attention_bias": False,
            "attention_dropout": 0.0,
            "use_sliding_window": False,
            "initializer_range": 0.02,
            "use_cache": True,
            "torch_dtype": "float32",
        }


_KINDS = {
    "vocab_size": int, "hidden_size": int, "num_hidden_layers": int, "num_attention_heads": int,
    "num_key_value_heads": int, "head_dim": int, "intermediate_size": int, "max_position_embeddings": int,
    "tie_word_embeddings": bool, "rope_theta": float, "rms_norm_eps": float, "model_type": str,
}  # fmt: skip
_REQUIRED = set(_KINDS) - {"max_position_embeddings", "rope_theta", "rms_norm_eps"}
