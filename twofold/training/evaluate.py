"""Held-out text in bits per byte: the one measure that does not depend on the tokenizer."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext

import torch

from twofold.models.transformer import Transformer, causal_attention
from twofold.text.held_out import HeldOutRows
from twofold.training.objectives import Batch, next_token

STEPS = 8192  # tokens a forward pass


@torch.no_grad()
def held_out_bits_per_byte(
    model: Transformer, rows: HeldOutRows, precision: AbstractContextManager | None = None
) -> float:
    """-log2 p of the held-out text under `model`, divided by its UTF-8 bytes. Nothing is estimated."""
    attend, model.attend = model.attend, causal_attention
    device = next(model.parameters()).device
    nats = 0.0
    try:
        for inputs, targets in rows.batches(STEPS):
            batch = Batch(torch.from_numpy(inputs), torch.from_numpy(targets)).to(device)
            with precision or nullcontext():
                nats += float(next_token(model, batch))
    finally:
        model.attend = attend
    return nats / math.log(2) / rows.text_bytes
