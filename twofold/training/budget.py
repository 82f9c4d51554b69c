"""A training run on paper: arithmetic, memory, time and money, computed from the model's shape alone.

Key idea: what a step keeps is counted tensor by tensor from how `models/transformer.py`, the objective and
`optimizers.py` are written, then divided by whatever shares it. Nothing here is measured, and traffic between
devices stands only in `utilisation`.
Memory is in bytes (GB = 10⁹), time in seconds. Letters as in `transformer.py`: D, H, K, C, T, V, L; F is inner.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from itertools import product

from twofold.errors import UsageError
from twofold.models.config import TransformerConfig
from twofold.training.devices import Device

BYTES_PER_TOKEN = 4.2  # an assumption: mostly English text and a vocabulary of 150,000
TOKENS_PER_PARAMETER = 20  # compute-optimal, about (Hoffmann et al. 2022, arXiv 2203.15556, table 3)
UTILISATION = 0.4  # share of the peak; Llama 3 405B reports 0.38 to 0.43 (arXiv 2407.21783, table 4)
USABLE = 0.9  # share of a device's memory; the rest is for buffers of communication and for fragmentation
RECOMPUTING = 4 / 3  # a second forward pass beside one forward and a backward of two
MOST_TENSOR_PARALLEL = 8  # devices of one node: its traffic is too much for slower links
MOST_DEVICES = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Sharding:
    """How a step is spread: `replicas` × `shards` × `tensor_parallel` devices."""

    replicas: int = 1  # whole copies, each with rows of its own
    shards: int = 1  # FSDP: weights, gradients and optimizer state cut up, rows of their own
    tensor_parallel: int = 1  # each matrix cut up, the same rows; activations cut along the row between them
    recompute: bool = False  # activation checkpointing: keep each layer's input, run the layer again
    micro_rows: int = 1  # rows of a forward pass
    logit_positions: int | None = (
        None  # whose logits are held at once; None: all of the pass, as `next_token`
    )

    @property
    def devices(self) -> int:
        """In all."""
        return self.replicas * self.shards * self.tensor_parallel


@dataclass(frozen=True)
class Memory:
    """Bytes on one device at the fullest moment, by part. `update` is needed when the pass's parts are gone."""

    weights: float  # float32
    gradients: float  # float32
    optimizer: float  # Muon's one buffer for matrices, AdamW's two for embeddings and norms, float32
    working_copy: float  # bfloat16 weights in use, and a unit's gradients before they are shared out
    activations: float
    logits: float
    update: float  # Muon's whole matrices

    @property
    def total(self) -> float:
        """The fullest moment: the lasting parts, and the larger of a pass and an update."""
        lasting = self.weights + self.gradients + self.optimizer
        return lasting + max(self.working_copy + self.activations + self.logits, self.update)


@dataclass(frozen=True)
class Budget:
    """A whole run. `flops` are the model's, `hardware_flops` with what is computed twice; `cost` in dollars."""

    parameters: int
    tokens: float
    flops: float
    hardware_flops: float
    memory: Memory
    seconds: float
    device_hours: float
    cost: float
    pass_tokens: int  # over all devices; a step is one pass or several


def tokens_in(text_bytes: float, bytes_per_token: float = BYTES_PER_TOKEN) -> float:
    """About how many tokens a text makes."""
    return text_bytes / bytes_per_token


def compute_optimal_tokens(parameters: float) -> float:
    """Tokens that make the best of the arithmetic; a model that many will use is trained on more."""
    return TOKENS_PER_PARAMETER * parameters


def activation_bytes(config: TransformerConfig) -> int:
    """Kept by one layer for each token until the backward pass, not compiled (compiled keeps less).

    Counted as in Korthikanti et al. 2022 (arXiv 2205.05198, section 4.1): the stream and what RMSNorm keeps in
    float32, operands of matrix products in bfloat16; no dropout, and no [T, T] scores (a fused kernel)."""
    D, F, C = config.hidden_size, config.intermediate_size, config.head_dim
    H, K = config.num_attention_heads, config.num_key_value_heads
    queries, keys = H * C, K * C
    norms = 2 * (8 * D + 4)  # two: input, its normed form, 1/rms
    casts = 5 * 2 * D  # the bfloat16 input of q, k, v, gate and up, each cast by itself
    head_norms = 8 * (queries + keys) + 4 * (H + K)
    attention = 2 * (2 * queries + 2 * keys) + 4 * H  # q, k, v, out; the softmax's normalisers
    feed_forward = 4 * 2 * F  # gate, its silu, up, their product
    return norms + casts + head_norms + attention + feed_forward


def memory(config: TransformerConfig, row_tokens: int, sharding: Sharding) -> Memory:
    """What one device holds, by part, with rows of `row_tokens`."""
    parts = config.parameters_by_part()
    matrices, everything = parts["attention"] + parts["feed_forward"], sum(parts.values())
    tensor, owners = sharding.tensor_parallel, sharding.shards * sharding.tensor_parallel
    positions = sharding.micro_rows * row_tokens
    layers, vocabulary = config.num_hidden_layers, config.vocab_size * config.hidden_size
    if sharding.shards > 1:  # units are layers; this one and the next in bfloat16, one's gradient in float32
        working_copy = (2 * 2 + 4) * max(matrices // layers, vocabulary)
    else:  # autocast keeps every matrix's copy until the backward pass
        working_copy = 2 * config.matmul_parameters()
    kept, stream = positions * activation_bytes(config), positions * 4 * config.hidden_size
    weights = 4 * everything / owners
    return Memory(
        weights=weights,
        gradients=weights,
        optimizer=(4 * matrices + 8 * (everything - matrices)) / owners,
        working_copy=working_copy / tensor,
        activations=(layers * stream + kept if sharding.recompute else layers * kept) / tensor,
        # bfloat16 logits, float32 ones, their log-softmax: 2 + 4 + 4 bytes, and as much going back
        logits=10 * min(positions, sharding.logit_positions or positions) * config.vocab_size / tensor,
        update=_update_bytes(config, owners),
    )


def _update_bytes(config: TransformerConfig, owners: int) -> int:
    """Muon needs whole matrices: those of one shape, dealt out among their owners, go in one batch. 12 bytes an
    entry: the float32 update, bfloat16 iterates and their products."""
    D, F = config.hidden_size, config.intermediate_size
    queries, keys = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
    shapes = Counter([(queries, D), (keys, D), (keys, D), (D, queries), (F, D), (F, D), (D, F)])
    layers = config.num_hidden_layers
    return max(12 * r * c * math.ceil(count * layers / owners) for (r, c), count in shapes.items())


def budget(
    config: TransformerConfig, tokens: float, row_tokens: int, device: Device, sharding: Sharding,
    utilisation: float = UTILISATION, price: float | None = None,
) -> Budget:  # fmt: skip
    """The whole run; `utilisation` is the share of the peak at which the hardware computes, `price` the dollars
    for a device and hour. Raises UsageError for numbers that make no run."""
    price = device.price if price is None else price
    if not (0 < tokens < math.inf and row_tokens >= 1 and 0 < utilisation <= 1 and 0 <= price < math.inf):
        raise UsageError(
            "A plan needs tokens above 0, rows of at least 1 token, a utilisation above 0 and at most 1, and a "
            f"price of 0 or more; it got {tokens:g}, {row_tokens}, {utilisation:g} and {price:g}."
        )
    flops = tokens * config.flops_per_token(row_tokens)
    hardware_flops = flops * (RECOMPUTING if sharding.recompute else 1)
    seconds = hardware_flops / (sharding.devices * device.peak * utilisation)
    hours = sharding.devices * seconds / 3600
    held, readers = memory(config, row_tokens, sharding), sharding.replicas * sharding.shards
    return Budget(
        config.count_parameters(), tokens, flops, hardware_flops, held, seconds, hours, hours * price,
        readers * sharding.micro_rows * row_tokens,
    )  # fmt: skip


def smallest_sharding(
    config: TransformerConfig, row_tokens: int, device: Device, devices: int,
    micro_rows: int = 1, recompute: bool | None = None,
) -> Sharding:  # fmt: skip
    """The first that fits: tensor parallelism before recomputing, which costs a third more arithmetic, and
    FSDP over more devices before tensor parallelism. Raises UsageError when none does."""
    if not 1 <= devices <= MOST_DEVICES or min(micro_rows, row_tokens) < 1:
        raise UsageError(
            f"A plan needs 1 to {MOST_DEVICES:,} devices, and at least 1 row of at least 1 token."
        )
    cut = math.gcd(config.num_key_value_heads, config.intermediate_size)
    tensor = [n for n in (1, 2, 4, MOST_TENSOR_PARALLEL) if devices % n == 0 and cut % n == 0]
    least = math.inf
    for again, width in product((False, True) if recompute is None else (recompute,), tensor):
        room = devices // width
        for shards in (n for n in range(1, room + 1) if room % n == 0):
            cuts = {"replicas": room // shards, "shards": shards, "tensor_parallel": width}
            found = Sharding(**cuts, recompute=again, micro_rows=micro_rows)
            least = min(least, needed := memory(config, row_tokens, found).total)
            if needed <= USABLE * device.memory:
                return found
    raise UsageError(
        f"It does not fit: spread over {devices:,} × {device.name}, each needs at least {least / 1e9:.1f} GB of "
        f"the {USABLE * device.memory / 1e9:.1f} GB that are free for it. Take more devices or larger ones, "
        "fewer rows a pass, or shorter rows."
    )
