"""Where a step of training goes on this processor: the parts of a step, and the operations in them.

    python benchmarks/train_profile.py --sizes 1 5 --output profile.md

The shapes are those of train_throughput.py; the step is the product's, compiled. Its parts are timed apart (median of
STEPS), then torch's profiler divides forward and backward by kind of operation, in proportion.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import time
from collections.abc import Callable
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
KINDS = {  # of operations, by how their names begin
    "matrix products": ("aten::mm", "aten::addmm", "mkldnn::", "aten::linear", "aten::_addmm"),
    "attention's products": ("aten::bmm", "aten::baddbmm"),
}


def parts_of_a_step(size: str) -> tuple[dict[str, float], Callable[[], None]]:
    """(seconds of each part of a compiled step, a function that makes a forward and a backward pass)."""
    model = Transformer(shapes.config(size))
    model.attend = CpuAttention(shapes.LENGTH, torch.bfloat16)
    model.keep_rotary(shapes.LENGTH)
    optimizer = Optimizer(model, TrainSettings(steps=10), torch.bfloat16)
    loss_of = torch.compile(next_token, dynamic=False)
    next_batch = shapes.batches()

    def forward() -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return loss_of(model, Batch(*next_batch()))

    def step() -> list[float]:
        marks = [time.perf_counter()]
        loss = forward()
        marks.append(time.perf_counter())
        (loss / (shapes.ROWS * shapes.LENGTH)).backward()
        marks.append(time.perf_counter())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        marks.append(time.perf_counter())
        optimizer.muon.step(0.01, 0.0)
        marks.append(time.perf_counter())
        optimizer.adamw.step()
        model.zero_grad(set_to_none=True)
        marks.append(time.perf_counter())
        return [b - a for a, b in itertools.pairwise(marks)]

    times = [step() for _ in range(WARM + STEPS)][WARM:]
    names = ("forward", "backward", "clipping", "Muon", "AdamW")
    medians = [statistics.median(column) for column in zip(*times, strict=True)]

    def both() -> None:
        forward().backward()

    return dict(zip(names, medians, strict=True)), both


def kinds_of_operations(both: Callable[[], None]) -> dict[str, float]:
    """The share of forward and backward that each kind of operation takes."""
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        for _ in range(PROFILED):
            both()
    found = dict.fromkeys([*KINDS, "all else (fused kernels)"], 0.0)
    for event in profiled.key_averages():
        kind = next(
            (k for k, begins in KINDS.items() if event.key.startswith(begins)), "all else (fused kernels)"
        )
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
    for size in arguments.sizes:
        parts, both = parts_of_a_step(size)
        total = sum(parts.values())
        shares = kinds_of_operations(both)
        passes = parts["forward"] + parts["backward"]
        peak = matmul_peak(torch.bfloat16)
        flops = shapes.config(size).flops_per_token(shapes.LENGTH) * shapes.ROWS * shapes.LENGTH
        column = {name: f"{1e3 * seconds:.1f}" for name, seconds in parts.items()}
        column |= {f"– {kind}": f"{1e3 * share * passes:.1f}" for kind, share in shares.items()}
        column["**a step**"] = f"**{1e3 * total:.1f}**"
        column["of the bfloat16 peak"] = f"{100 * flops / total / peak:.0f}%"
        columns[size] = column
        print(f"{size}: {column}", file=sys.stderr)
    order = ["forward", "backward", *(f"– {kind}" for kind in [*KINDS, "all else (fused kernels)"])]
    order += ["clipping", "Muon", "AdamW", "**a step**", "of the bfloat16 peak"]
    heads = [f"{shapes.config(size).count_parameters() / 1e6:.1f} M" for size in arguments.sizes]
    lines = ["| milliseconds | " + " | ".join(heads) + " |", "|---|" + "---|" * len(heads)]
    lines += [f"| {name} | " + " | ".join(columns[s][name] for s in arguments.sizes) + " |" for name in order]
    text = "\n".join(lines)
    print(text)
    if arguments.output:
        with atomic_write(arguments.output) as file:
            file.write(text + "\n")


if __name__ == "__main__":
    main()
