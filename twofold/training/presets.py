"""Which size of model (`shapes.py`) a machine can train well in the time there is.

A preset is a shape and a length of row. The choice is a rule of thumb until scaling laws are fitted: the
largest model that would still see TOKENS_PER_PARAMETER tokens for each parameter of its matrix products.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from twofold.training.machine import matmul_peak
from twofold.training.shapes import PRESETS

TOKENS_PER_PARAMETER = 5
EFFICIENCY = 0.5  # share of the matmul peak that training reaches at these sizes
STEPS = 3000  # a run wants at least so many: small batches learn more from the same tokens (docs/log.md)
TOKENS_PER_WIDTH = 32  # in a step, for each channel: with fewer, Muon's own work would weigh too much


@dataclass(frozen=True)
class Plan:
    """A preset by name, the speed it was chosen for (FLOP/s), and the rows of a step."""

    preset: str
    flops: float
    tokens: int  # that the time should be enough for
    batch_rows: int


def plan(
    minutes: float,
    device: torch.device,
    precision: torch.dtype,
    preset: str | None = None,
    processes: int = 1,
) -> Plan:
    """Choose a preset (unless named) and a batch for `minutes` of training on so many such devices."""
    flops = EFFICIENCY * matmul_peak(precision, device.type) * processes

    def tokens(name: str) -> int:
        shape = PRESETS[name]
        return int(60 * minutes * flops / shape.config().flops_per_token(shape.row_tokens))

    if preset is None:
        fitting = [
            name
            for name in PRESETS
            if tokens(name) >= TOKENS_PER_PARAMETER * PRESETS[name].config().matmul_parameters()
        ]
        preset = fitting[-1] if fitting else next(iter(PRESETS))
    shape = PRESETS[preset]
    rows = max(tokens(preset) // STEPS, TOKENS_PER_WIDTH * shape.width) // shape.row_tokens
    rows = 1 << max(rows, 1).bit_length() - 1  # a power of two
    rows = -(-min(max(rows, 8), 64) // processes) * processes
    return Plan(preset, flops, tokens(preset), rows)
