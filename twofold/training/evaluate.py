"""Held-out text in bits per byte: the one measure that does not depend on the tokenizer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Any

import torch

from twofold.models.transformer import Transformer, causal_attention
from twofold.text.held_out import HeldOutRows
from twofold.training.objectives import IGNORE, Batch, Objective, next_token
from twofold.training.parallel import Ranks

STEPS = 8192  # tokens a forward pass


@torch.no_grad()
def held_out_bits_per_byte(
    model: Transformer,
    rows: HeldOutRows,
    precision: AbstractContextManager | None = None,
    loss_of: Objective = next_token,
    ranks: Ranks | None = None,
) -> float:
    """-log2 p of the held-out text under `model`, divided by its UTF-8 bytes. Nothing is estimated.

    `loss_of` is `next_token`, or what computes it among `ranks`, which share the batches.
    """
    attend, model.attend = model.attend, causal_attention
    ranks = ranks or Ranks(device=next(model.parameters()).device)
    nats = 0.0
    try:
        for turn in batched(rows.batches(STEPS), ranks.shares):
            inputs, targets = map(torch.from_numpy, turn[ranks.share if ranks.share < len(turn) else 0])
            if ranks.share >= len(turn):  # everyone takes every turn, at the end for nothing
                targets = torch.full_like(targets, IGNORE)
            with precision or nullcontext():
                nats += float(loss_of(model, Batch(inputs, targets).to(ranks.device)))
    finally:
        model.attend = attend
    return ranks.sum(nats)[0] / math.log(2) / rows.text_bytes


def batched(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Lists of `size` items, the last perhaps shorter."""
    source = iter(items)
    while turn := list(islice(source, size)):
        yield turn
