"""Which size of model (`shapes.py`) a machine can train well in the time there is.

A preset is a shape and a length of row. The choice is a rule of thumb until scaling laws are fitted: the
largest model that would still see TOKENS_PER_PARAMETER tokens for each parameter of its matrix products. How fast
tokens go through a shape is measured: what training reaches of a machine's peak differs too much from one to the next.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import torch

from twofold.models.transformer import Transformer
from twofold.training.attention import CpuAttention
from twofold.training.compiling import seconds_of
from twofold.training.machine import keep_pages
from twofold.training.objectives import Batch, next_token
from twofold.training.optimizers import Optimizer
from twofold.training.settings import TrainSettings
from twofold.training.shapes import PRESETS, Preset

TOKENS_PER_PARAMETER = 2  # docs/recipe.md
COMPILED = 1.25  # how much faster than a plain step a run is, for it may compile, with caution
STEPS = 3000  # a run wants at least so many: small batches learn more from the same tokens (docs/log.md)
TOKENS_PER_WIDTH = 32  # in a step, for each channel: with fewer, Muon's own work would weigh too much
_WORK = 4e11  # operations of a step that is measured, at most, where a row does not take more


@dataclass(frozen=True)
class Plan:
    """A preset by name, the speed it was chosen for (FLOP/s), the rows of a step, and the vocabulary."""

    preset: str
    flops: float
    tokens: int  # that the time should be enough for
    batch_rows: int
    vocab_size: int

    @property
    def shape(self) -> Preset:
        """The preset with this vocabulary."""
        return replace(PRESETS[self.preset], vocab_size=self.vocab_size)


def plan(
    minutes: float,
    device: torch.device,
    precision: torch.dtype,
    preset: str | None = None,
    processes: int = 1,
    most_tokens: int | None = None,
) -> Plan:
    """Choose a preset (unless named) and a batch for `minutes` of training on so many such devices. `most_tokens`: how
    large a vocabulary the text has use for."""
    shapes = {
        name: replace(shape, vocab_size=min(shape.vocab_size, most_tokens or shape.vocab_size))
        for name, shape in PRESETS.items()
    }

    def tokens(name: str) -> int:
        return int(60 * minutes * processes * tokens_per_second(shapes[name], device, precision))

    chosen = next(iter(PRESETS)) if preset is None else preset
    expected = tokens(chosen)
    for name in PRESETS if preset is None else ():  # the larger ones are tried while the smaller ones fit
        expected_here = expected if name == chosen else tokens(name)
        if expected_here < TOKENS_PER_PARAMETER * shapes[name].config().matmul_parameters():
            break
        chosen, expected = name, expected_here
    shape = shapes[chosen]
    rows = max(expected // STEPS // shape.row_tokens, _least_rows(shape))
    rows = 1 << rows.bit_length() - 1  # a power of two
    rows = -(-min(rows, 64) // processes) * processes
    flops = expected / (60 * minutes) * shape.config().flops_per_token(shape.row_tokens)
    return Plan(chosen, flops, expected, rows, shape.vocab_size)


@cache
def tokens_per_second(shape: Preset, device: torch.device, precision: torch.dtype) -> float:
    """Of training this shape on this device: a few small steps, a second or two where they can be called so."""
    keep_pages()
    work = shape.config().flops_per_token(shape.row_tokens) * shape.row_tokens  # of a row
    rows = min(max(int(_WORK / work), 1), _least_rows(shape))
    with torch.random.fork_rng(), torch.device(device):
        torch.manual_seed(0)
        model = Transformer(shape.config()).train()
        tokens = torch.randint(shape.vocab_size, (rows, shape.row_tokens + 1))
        batch = Batch(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())
    optimizer = Optimizer(model, TrainSettings(steps=1), precision)
    model.keep_rotary(shape.row_tokens)
    if device.type == "cpu":
        model.attend = CpuAttention(shape.row_tokens, precision)

    def gradient() -> None:
        exact = precision is torch.float32
        with contextlib.nullcontext() if exact else torch.autocast(device.type, dtype=precision):
            loss = next_token(model, batch)
        loss.backward()
        loss.item()  # waits for the device

    def update() -> None:
        optimizer.step(1.0)
        next(model.parameters()).flatten()[0].item()

    whole = _least_rows(shape)  # of which a step has that many, one update
    return COMPILED * whole * shape.row_tokens / (_seconds(gradient) * whole / rows + _seconds(update))


def _least_rows(shape: Preset) -> int:
    return max(TOKENS_PER_WIDTH * shape.width // shape.row_tokens, 8)


def _seconds(step: Callable[[], None]) -> float:
    """Of one call: the first where it takes long, else the best of two more."""
    start = time.perf_counter()
    step()
    first = time.perf_counter() - start
    return first if first > 2 else seconds_of(step, 2)
