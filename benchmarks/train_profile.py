"""Where a step of training goes on this processor: the parts of a step, and the operations in them, before and after.

    python benchmarks/train_profile.py --sizes 1 5 --output profile.md

The shapes are those of train_throughput.py. Before: a step as one would write it first, in float32, with torch's own
attention, loss and AdamW. After: the product's, compiled. Parts are timed apart (median of STEPS). Then torch's
profiler divides forward and backward by kind of operation, in proportion.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import train_throughput as shapes
from torch.profiler import ProfilerActivity, profile

import twofold  # noqa: F401 - sets how threads wait, before torch makes any
from twofold.files import atomic_write
from twofold.models.transformer import Transformer
from twofold.training.attention import CpuAttention
from twofold.training.machine import keep_pages, matmul_peak
from twofold.training.objectives import Batch, next_token
from twofold.training.optimizers import Optimizer
from twofold.training.settings import TrainSettings

WARM, STEPS, PROFILED = 4, 12, 3
ELSE = "all else"
KINDS = {  # of operations, by how their names begin
    "matrix products": ("aten::mm", "aten::addmm", "mkldnn::", "aten::linear", "aten::_addmm"),
    "attention's products": ("aten::bmm", "aten::baddbmm", "aten::_scaled_dot_product"),
}


@dataclass
class Way:
    """How a step is made: its loss, and its optimizers by name."""

    forward: Callable[[], torch.Tensor]
    model: Transformer
    optimizers: dict[str, Callable[[], None]]


def before(size: str) -> Way:
    """As one would write it first."""
    model, next_batch = Transformer(shapes.config(size)), shapes.batches()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

    def forward() -> torch.Tensor:
        inputs, targets = next_batch()
        return torch.nn.functional.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())

    return Way(forward, model, {"AdamW": optimizer.step})


def after(size: str) -> Way:
    """The product's, compiled."""
    model, next_batch = Transformer(shapes.config(size)), shapes.batches()
    precision = shapes.precision()
    model.attend = CpuAttention(shapes.LENGTH, precision)
    model.keep_rotary(shapes.LENGTH)
    optimizer = Optimizer(model, TrainSettings(steps=10), precision)
    for group in optimizer.adamw.param_groups:
        group["lr"] = group["full_lr"]
    loss_of = torch.compile(next_token, dynamic=False)

    def forward() -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision is torch.bfloat16):
            return loss_of(model, Batch(*next_batch())) / (shapes.ROWS * shapes.LENGTH)

    return Way(
        forward, model, {"Muon": lambda: optimizer.muon.step(0.01, 0.0), "AdamW": optimizer.adamw.step}
    )


def parts_of_a_step(way: Way) -> dict[str, float]:
    """The seconds of each."""

    def step() -> list[float]:
        marks = [time.perf_counter()]
        loss = way.forward()
        marks.append(time.perf_counter())
        loss.backward()
        marks.append(time.perf_counter())
        torch.nn.utils.clip_grad_norm_(way.model.parameters(), 1.0)
        marks.append(time.perf_counter())
        for optimize in way.optimizers.values():
            optimize()
            marks.append(time.perf_counter())
        way.model.zero_grad(set_to_none=True)
        return [b - a for a, b in itertools.pairwise(marks)]

    times = [step() for _ in range(WARM + STEPS)][WARM:]
    medians = [statistics.median(column) for column in zip(*times, strict=True)]
    return dict(zip(("forward", "backward", "clipping", *way.optimizers), medians, strict=True))


def kinds_of_operations(way: Way) -> dict[str, float]:
    """The share of forward and backward that each kind of operation takes."""
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        for _ in range(PROFILED):
            way.forward().backward()
    found = dict.fromkeys([*KINDS, ELSE], 0.0)
    for event in profiled.key_averages():
        kind = next((k for k, begins in KINDS.items() if event.key.startswith(begins)), ELSE)
        found[kind] += event.self_cpu_time_total
    total = sum(found.values())
    return {kind: time / total for kind, time in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--sizes", nargs="+", choices=shapes.SIZES, default=["1", "5"])
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    keep_pages()
    columns: dict[str, dict[str, str]] = {}
    for size, make in itertools.product(arguments.sizes, (before, after)):
        way = make(size)
        parts = parts_of_a_step(way)
        total, passes = sum(parts.values()), parts["forward"] + parts["backward"]
        shares = kinds_of_operations(way)
        flops = shapes.config(size).flops_per_token(shapes.LENGTH) * shapes.ROWS * shapes.LENGTH
        column = {name: f"{1e3 * seconds:.1f}" for name, seconds in parts.items()}
        column |= {f"– {kind}": f"{1e3 * share * passes:.1f}" for kind, share in shares.items()}
        column["**a step**"] = f"**{1e3 * total:.1f}**"
        column["of the peak"] = f"{100 * flops / total / matmul_peak(shapes.precision()):.0f}%"
        columns[f"{shapes.config(size).count_parameters() / 1e6:.1f} M {make.__name__}"] = column
        print(f"{size} {make.__name__}: {column}", file=sys.stderr)
    order = ["forward", "backward", *(f"– {kind}" for kind in [*KINDS, ELSE])]
    order += ["clipping", "Muon", "AdamW", "**a step**", "of the peak"]
    lines = ["| milliseconds | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    lines += [
        f"| {name} | " + " | ".join(c.get(name, "–") for c in columns.values()) + " |" for name in order
    ]
    text = "\n".join(lines)
    print(text)
    if arguments.output:
        with atomic_write(arguments.output) as file:
            file.write(text + "\n")


if __name__ == "__main__":
    main()
