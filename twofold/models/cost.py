"""What using a Transformer costs, from its sizes alone: bytes, memory for a context, operations for a token, and the
time these take at given speeds.

Key idea: reading a prompt is bound by arithmetic (every weight is used for many tokens), writing an answer by memory
(every weight is read for one token of each text), so two measured speeds foretell both: a roofline (Williams, Waterman
and Patterson 2009), with a constant time for each layer beside it, which small models mostly spend.
Memory is in bytes, time in seconds. Letters: B texts at once, T tokens, D width, H heads, K key-value heads, C head
width, F inner width, V vocabulary, L layers, W window.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from twofold.models.config import TransformerConfig

# Bits that a weight of a matrix takes, by the recipes of `recipes.py`: blocks and their scales counted in. Those that
# mix types take about this much, over all.
BITS = {
    "f32": 32, "f16": 16, "bf16": 16, "q8_0": 8.5, "q6_k": 6.5625, "q5_k_m": 5.67, "q5_1": 6, "q5_0": 5.5,
    "q4_k_m": 4.85, "q4_1": 5, "q4_0": 4.5,
}  # fmt: skip
PRECISIONS = {
    "F32": "f32",
    "F16 or BF16": "f16",
    "Q8_0": "q8_0",
    "Q4_K_M": "q4_k_m",
    "Q4_0": "q4_0",
}  # to look at
VECTORS = ("norms", "biases")  # parts that quantized files keep in float32
READ_AT_ONCE = 1024  # tokens that go through the layers together; longer prompts go in pieces


@dataclass(frozen=True)
class Layer:
    """One layer's attention. `window`: how many positions a position attends to; None: all before it."""

    heads: int
    kv_heads: int
    head_width: int
    window: int | None = None

    def seen(self, context: int) -> int:
        """How many positions the last of `context` attends to."""
        return context if self.window is None else min(context, self.window)


@dataclass(frozen=True)
class Shape:
    """What costs depend on. `matrices`: parameters in a matrix product for every token, the output matrix too;
    `experts`: how many of them are in experts, and `active` the share of those that a token goes through."""

    layers: tuple[Layer, ...]
    width: int
    inner: int
    vocab_size: int
    context: int  # the longest
    matrices: int
    experts: int = 0
    active: float = 1.0

    @classmethod
    def of(cls, config: TransformerConfig) -> Shape:
        """The shape of a model that opens here."""
        heads = config.num_attention_heads, config.num_key_value_heads, config.head_dim
        layers = tuple(Layer(*heads, config.window(layer)) for layer in range(config.num_hidden_layers))
        return cls(
            layers, config.hidden_size, config.intermediate_size, config.vocab_size,
            config.max_position_embeddings, config.matmul_parameters(),
        )  # fmt: skip

    @property
    def output(self) -> int:
        """Parameters of the output matrix."""
        return self.vocab_size * self.width

    @property
    def used(self) -> float:
        """`matrices` that a token goes through."""
        return self.matrices - self.experts * (1 - self.active)


def weight_bytes(parts: Mapping[str, int], recipe: str) -> int:
    """Bytes of parameters by part in one of BITS."""
    bits = BITS[recipe]
    vectors = sum(parts.get(name, 0) for name in VECTORS)
    matrices = sum(parts.values()) - vectors
    return int(matrices * bits / 8) + vectors * (bits // 8 if bits >= 16 else 4)


def key_value_bytes(shape: Shape, context: int, batch: int, number: int) -> int:
    """Keys and values of `batch` texts of `context` tokens, `number` bytes for each number of theirs: 2·K·C for each
    token and layer, within its window."""
    return batch * sum(2 * at.kv_heads * at.head_width * number * at.seen(context) for at in shape.layers)


def working_bytes(shape: Shape, context: int, batch: int, number: int) -> int:
    """About what a pass needs beside weights, keys and values at its fullest: activations of the tokens that go
    through together (the stream, its normed form, and the larger of attention's and the feed-forward's), and the
    scores of one token of each text, also in float32."""
    tokens = min(READ_AT_ONCE, batch * context)
    attention = max((2 * at.heads + 2 * at.kv_heads) * at.head_width for at in shape.layers)
    activations = tokens * (2 * shape.width + max(attention, 3 * shape.inner)) * number
    return activations + batch * shape.vocab_size * (4 if number == 4 else 4 + number)


def prefill_flops(shape: Shape, tokens: int) -> float:
    """To read a prompt and score its last token: 2 for each weight in a product and token, and 4·H·C for each pair of
    a position and one that it attends to. Of the last layer only keys and values are needed of every token, and the
    output matrix is needed once."""
    last = shape.layers[-1]
    each = (shape.used - shape.output) / len(shape.layers)
    all_tokens = each * (len(shape.layers) - 1) + 2 * shape.width * last.kv_heads * last.head_width
    flops = 2.0 * (tokens * all_tokens + shape.used - all_tokens)
    for at in shape.layers[:-1]:
        seen = at.seen(tokens)
        flops += 4 * at.heads * at.head_width * (seen * (seen + 1) / 2 + (tokens - seen) * seen)
    return flops + 4 * last.heads * last.head_width * last.seen(tokens)


def decode_flops(shape: Shape, context: int) -> float:
    """For one more token after `context`."""
    return 2.0 * shape.used + sum(4 * at.heads * at.head_width * at.seen(context) for at in shape.layers)


@dataclass(frozen=True)
class Rates:
    """What was measured of an engine at one precision. `reads`: bytes of weights a second where few tokens use
    them, by how many (from 1 up); `multiplies`: operations a second where many do; beside that, in seconds, `layer`
    for each layer of a pass, and `token` for each token and layer of a prompt."""

    reads: Mapping[int, float]
    multiplies: float
    layer: float = 0.0
    token: float = 0.0

    def reading(self, batch: int) -> float:
        """`reads` at the measured batch that is nearest from below."""
        return self.reads[max((size for size in self.reads if size <= batch), default=min(self.reads))]


@dataclass(frozen=True)
class Speed:
    """Tokens a second: of a prompt, of one text, and of `batch` texts together. None: not known."""

    prefill: float | None
    decode: float | None
    together: float | None = None


def predict(shape: Shape, rates: Rates, context: int, batch: int, weight: float, number: int) -> Speed:
    """At `weight` bytes for a weight of a matrix and `number` for a number of keys and values; a prompt of `context`
    tokens, and one token after that many of each text."""
    passes, layers = -(-context // READ_AT_ONCE), len(shape.layers)
    through = (shape.used - shape.output) * weight * passes + shape.output * weight
    # a pass of many tokens multiplies, one of few reads: whichever takes longer
    busy = max(prefill_flops(shape, context) / rates.multiplies, through / rates.reading(1))
    beside = layers * (passes * rates.layer + context * rates.token)

    def step(texts: int) -> float:
        # experts are shared by few texts: each text reads its own until all are read
        weights = min(shape.matrices, shape.used + (texts - 1) * shape.experts * shape.active) * weight
        held = key_value_bytes(shape, context, texts, number)
        reading = (weights + held) / rates.reading(texts)
        return max(reading, texts * decode_flops(shape, context) / rates.multiplies) + layers * rates.layer

    return Speed(context / (busy + beside), 1 / step(1), batch / step(batch) if batch > 1 else None)
