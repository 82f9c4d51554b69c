"""Training on a GPU: the product's own loop on 120 M parameters, and what share of the arithmetic it uses.

    python benchmarks/gpu_train.py                              # the `large` preset, rows of 1,024 tokens, 64 a step
    python benchmarks/gpu_train.py --preset nano --steps 20     # on any machine, to see that it runs

Rows of random tokens, whole or made of documents that do not see each other, with the step as it is and compiled.
Model-FLOPs utilisation counts 6 FLOPs for each parameter of a matrix product and token, and causal attention (PaLM,
arXiv 2204.02311, appendix B), over the device's dense bfloat16 peak by its data sheet; beside it stands the share of
what square products reach here. The first rows of metrics, in which kernels are compiled, do not count.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

import twofold  # noqa: F401 - sets how threads wait, before torch makes any
from twofold.files import atomic_write
from twofold.models.transformer import Transformer
from twofold.text.packing import PackedRows
from twofold.tokens.tokenizer import bytes_only
from twofold.training.batches import RowBatches
from twofold.training.devices import DEVICES
from twofold.training.loop import Data, train
from twofold.training.machine import best_device, environment, matmul_peak
from twofold.training.progress import progress_for
from twofold.training.run_folder import read_rows
from twofold.training.settings import TrainSettings
from twofold.training.shapes import PRESETS


class Random:
    """Documents of random tokens: each a row long, or (`short`) of about 300 tokens."""

    def __init__(self, vocab_size: int, length: int, short: bool) -> None:
        draw = np.random.default_rng(0)
        count = 8192
        self.lengths = draw.geometric(1 / 300, count) + 8 if short else np.full(count, length)
        self.starts = np.cumsum(self.lengths) - self.lengths
        self.tokens = draw.integers(0, vocab_size, int(self.lengths.sum()), dtype=np.uint16)

    def __getitem__(self, document: int) -> np.ndarray:
        return self.tokens[self.starts[document] :][: self.lengths[document]]


def measure(arguments: argparse.Namespace, short: bool, compiled: bool) -> dict[str, float]:
    """Tokens a second and the greatest memory of one way."""
    shape = PRESETS[arguments.preset]
    config, length = shape.config(), shape.row_tokens
    settings = TrainSettings(
        steps=arguments.steps, batch_rows=arguments.rows, micro_rows=arguments.micro_rows, row_tokens=length,
        log_steps=5, checkpoint_seconds=1e6, compile="yes" if compiled else "no",
    )  # fmt: skip
    rows = PackedRows(Random(config.vocab_size, length, short), length)
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    torch._dynamo.reset()
    with tempfile.TemporaryDirectory() as folder:
        data = Data(RowBatches(rows, arguments.rows))
        train(
            folder,
            Transformer(config),
            bytes_only(config.vocab_size),
            data,
            settings,
            progress=progress_for("A way"),
        )
        found = [row for row in read_rows(Path(folder) / "metrics.jsonl") if "tokens_per_second" in row]
    speed = statistics.median(row["tokens_per_second"] for row in found[2:])
    return {
        "tokens_per_second": speed,
        "flops": speed * config.flops_per_token(length),
        "memory": torch.cuda.max_memory_allocated() / 1e9 if cuda else float("nan"),
    }


def promised() -> float | None:
    """The dense bfloat16 peak that this GPU's data sheet promises, in FLOP/s; None if not known."""
    name = torch.cuda.get_device_name().lower() if torch.cuda.is_available() else ""
    return next((device.peak for key, device in DEVICES.items() if key in name), None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--preset", choices=PRESETS, default="large")
    parser.add_argument("--rows", type=int, default=64, help="rows a step")
    parser.add_argument("--micro-rows", type=int, help="rows a forward pass, for less memory")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--output", type=Path, help="write the table here, as Markdown")
    arguments = parser.parse_args()
    device = best_device()
    machine: dict[str, Any] = environment(device, torch.bfloat16)
    peak, sheet = matmul_peak(torch.bfloat16, device.type), promised()
    count = PRESETS[arguments.preset].config().count_parameters()
    name = machine["device"] if device.type == "cuda" else machine["processor"]
    lines = [
        f"{name}, torch {machine['torch']}; {count / 1e6:.0f} M parameters, {arguments.rows} rows of "
        f"{PRESETS[arguments.preset].row_tokens} tokens a step; square bfloat16 products {peak / 1e12:.1f} TFLOP/s.",
        "",
        "| rows | step | tokens/s | utilisation | of square products | memory |",
        "|---|---|---|---|---|---|",
    ]
    for short in (False, True):
        for compiled in (False, True):
            one = measure(arguments, short, compiled)
            share = f"{one['flops'] / sheet:.1%}" if sheet else "no data sheet"
            memory = f"{one['memory']:.1f} GB" if device.type == "cuda" else "not measured"
            lines.append(
                f"| {'short documents' if short else 'whole'} | {'compiled' if compiled else 'plain'} | "
                f"{one['tokens_per_second']:,.0f} | {share} | {one['flops'] / peak:.1%} | {memory} |"
            )
            print(lines[-1], file=sys.stderr)
    print("\n".join(lines))
    if arguments.output:
        with atomic_write(arguments.output) as file:
            file.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
