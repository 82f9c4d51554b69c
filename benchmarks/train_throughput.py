"""How fast training is: the product's own loop beside a plain one and beside other programs, on one shape.

    python benchmarks/train_throughput.py --quick                     # the smallest size alone
    python benchmarks/train_throughput.py --nanogpt FOLDER --nanochat FOLDER --output throughput.md

Every engine trains the same number of layers of the same width on rows of random tokens, in a process of its
own, for the same time; engines take turns, round after round, and the median counts. A step is everything
that a step is: data, forward, backward, clipping, optimizer. FLOPs are those of Twofold's model for every
engine (6 for each parameter of a matrix product and token, and causal attention); a peer whose model has more
parameters at the same width is shown with its own count. The peak is that of square products in the precision
that Twofold chooses here: bfloat16 where the processor has units for it, else float32.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import twofold  # noqa: F401 - sets how threads wait, before torch makes any
from twofold.files import atomic_write
from twofold.models.config import TransformerConfig
from twofold.models.transformer import Transformer
from twofold.text.packing import PackedRows
from twofold.tokens.tokenizer import bytes_only
from twofold.training.batches import RowBatches
from twofold.training.loop import Data, train
from twofold.training.machine import choose_precision, environment, matmul_peak
from twofold.training.run_folder import read_rows
from twofold.training.settings import TrainSettings

VOCAB, ROWS, LENGTH = 4096, 16, 256  # ROWS: unless --rows says otherwise
SIZES = {  # millions of parameters: width, layers, heads, key-value heads, feed-forward
    "1": (128, 4, 2, 1, 384),
    "5": (256, 5, 4, 2, 768),
    "15": (384, 8, 6, 3, 1152),
    "30": (512, 8, 8, 4, 1536),
}
WARM, STEPS = 3, 1000  # steps before the clock starts; most steps


def config(size: str) -> TransformerConfig:
    """Twofold's model of this size."""
    width, layers, heads, kv_heads, inner = SIZES[size]
    return TransformerConfig(
        vocab_size=VOCAB, hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=kv_heads, head_dim=64, intermediate_size=inner, max_position_embeddings=LENGTH,
    )  # fmt: skip


def precision() -> torch.dtype:
    """What Twofold computes in on this processor."""
    return choose_precision("auto", torch.device("cpu"))


class Random:
    """Documents of random tokens, each a row long."""

    def __init__(self) -> None:
        self.documents = np.random.default_rng(0).integers(0, VOCAB, (4096, LENGTH + 1), dtype=np.uint16)
        self.lengths = np.full(len(self.documents), LENGTH + 1)

    def __getitem__(self, document: int) -> np.ndarray:
        return self.documents[document]


def batches() -> Callable[[], tuple[torch.Tensor, torch.Tensor]]:
    """A function that gives the next inputs and targets, int64 [ROWS, LENGTH]."""
    rows, made = Random(), iter(range(10**9))

    def next_batch() -> tuple[torch.Tensor, torch.Tensor]:
        first = next(made) * ROWS % (len(rows.documents) - ROWS)
        block = torch.from_numpy(rows.documents[first : first + ROWS].astype(np.int64))
        return block[:, :-1].contiguous(), block[:, 1:].contiguous()

    return next_batch


def timed(step: Callable[[], Any], seconds: float) -> tuple[float, float]:
    """(median seconds of a step, seconds until the first ones were done)."""
    began = time.perf_counter()
    for _ in range(WARM):
        step()
    warm = time.perf_counter() - began
    taken: list[float] = []
    while sum(taken) < seconds and len(taken) < STEPS:
        start = time.perf_counter()
        step()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken), warm


def ours(size: str, seconds: float, **choices: Any) -> dict[str, float]:
    """The product's loop, as `twofold train` runs it; its own rows of metrics tell the speed."""
    model = Transformer(config(size))
    data = Data(RowBatches(PackedRows(Random(), LENGTH), ROWS))
    flops = config(size).flops_per_token(LENGTH) * ROWS * LENGTH
    steps = max(int(seconds * 0.4 * matmul_peak(precision()) / flops), 20)
    settings = TrainSettings(
        steps=steps, batch_rows=ROWS, row_tokens=LENGTH, log_steps=5, checkpoint_seconds=1e6, **choices
    )
    with tempfile.TemporaryDirectory() as folder:
        train(folder, model, bytes_only(VOCAB), data, settings)
        rows = [row for row in read_rows(Path(folder) / "metrics.jsonl") if "tokens_per_second" in row]
    speed = statistics.median(row["tokens_per_second"] for row in rows[1:])
    return {"tokens_per_second": speed, "first_seconds": rows[0]["seconds"]}


def plain(size: str, seconds: float) -> dict[str, float]:
    """What one would write first: float32, torch's attention and AdamW, all scores at once."""
    model = Transformer(config(size))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    next_batch = batches()

    def step() -> None:
        inputs, targets = next_batch()
        loss = torch.nn.functional.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    took, warm = timed(step, seconds)
    return {"tokens_per_second": ROWS * LENGTH / took, "first_seconds": warm}


def nanogpt(size: str, seconds: float, folder: str, dtype: str, compiled: bool) -> dict[str, float]:
    """nanoGPT's model and optimizer, stepped as its train.py does."""
    sys.path.insert(0, folder)
    from model import GPT, GPTConfig

    width, layers, heads, _, _ = SIZES[size]
    model = GPT(
        GPTConfig(
            block_size=LENGTH,
            vocab_size=VOCAB,
            n_layer=layers,
            n_head=heads,
            n_embd=width,
            dropout=0.0,
            bias=False,
        )
    )
    optimizer = model.configure_optimizers(0.1, 1e-3, (0.9, 0.99), "cpu")
    count, run = sum(p.numel() for p in model.parameters()), torch.compile(model) if compiled else model
    next_batch = batches()

    def step() -> None:
        inputs, targets = next_batch()
        with torch.autocast("cpu", getattr(torch, dtype), enabled=dtype != "float32"):
            _, loss = run(inputs, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    took, warm = timed(step, seconds)
    return {"tokens_per_second": ROWS * LENGTH / took, "first_seconds": warm, "parameters": count}


def nanochat(size: str, seconds: float, folder: str) -> dict[str, float]:
    """nanochat's model and optimizer with what it chooses on a CPU."""
    sys.path.insert(0, folder)
    from nanochat.gpt import GPT, GPTConfig

    width, layers, heads, kv_heads, _ = SIZES[size]
    with torch.device("meta"):
        model = GPT(
            GPTConfig(
                sequence_len=LENGTH, vocab_size=VOCAB, n_layer=layers, n_head=heads, n_kv_head=kv_heads, n_embd=width,
                window_pattern="L",
            )
        )  # fmt: skip
    model.to_empty(device="cpu")
    model.init_weights()
    optimizer = model.setup_optimizer()
    run = torch.compile(model, dynamic=False)
    next_batch = batches()

    def step() -> None:
        inputs, targets = next_batch()
        run(inputs, targets).backward()
        optimizer.step()
        model.zero_grad(set_to_none=True)

    took, warm = timed(step, seconds)
    count = sum(p.numel() for p in model.parameters())
    return {"tokens_per_second": ROWS * LENGTH / took, "first_seconds": warm, "parameters": count}


def engines(arguments: argparse.Namespace) -> dict[str, Callable[[str, float], dict[str, float]]]:
    """By name, what to run for a size and a time."""
    found: dict[str, Callable[[str, float], dict[str, float]]] = {
        "plain float32": plain,
        "Twofold, not compiled": lambda size, seconds: ours(size, seconds, compile="no"),
        "Twofold": lambda size, seconds: ours(size, seconds, compile="yes"),
    }
    if folder := arguments.nanogpt:
        for dtype in dict.fromkeys(("float32", str(precision()).removeprefix("torch."))):
            found[f"nanoGPT {dtype}"] = lambda *a, dtype=dtype: nanogpt(*a, folder, dtype, False)
        found[f"nanoGPT {dtype} compiled"] = lambda *a, dtype=dtype: nanogpt(*a, folder, dtype, True)
    if arguments.nanochat:
        found["nanochat"] = lambda *a: nanochat(*a, arguments.nanochat)
    return found


def child(arguments: argparse.Namespace) -> None:
    """One engine, one size; a JSON line."""
    engine, size = arguments.child
    found = engines(arguments)[engine](size, arguments.seconds)
    found["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(found))


def measure(arguments: argparse.Namespace, size: str, names: list[str]) -> dict[str, dict[str, float]]:
    """The median of the rounds for each engine."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for _ in range(arguments.rounds):
        for name in names:
            command = [sys.executable, __file__, *sys.argv[1:], "--child", name, size]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"{name} at {size} M failed:\n{done.stderr[-3000:]}")
            found[name].append(json.loads(done.stdout.splitlines()[-1]))
            print(
                f"  {size} M · {name}: {found[name][-1]['tokens_per_second']:,.0f} tokens/s", file=sys.stderr
            )
    return {
        name: {key: statistics.median(one[key] for one in many) for key in many[0]}
        for name, many in found.items()
    }


def table(size: str, found: dict[str, dict[str, float]], peak: float) -> list[str]:
    """Rows of Markdown."""
    shape, base = config(size), found["plain float32"]["tokens_per_second"]
    lines = []
    for name, one in found.items():
        speed = one["tokens_per_second"]
        own = one.get("parameters", shape.count_parameters()) / 1e6
        lines.append(
            f"| {name} | {own:.1f} M | {speed:,.0f} | {speed * shape.flops_per_token(LENGTH) / peak:.0%} | "
            f"{speed / base:.2f} | {one['first_seconds']:.0f} s | {one['peak_mb']:,.0f} MB |"
        )
    return lines


def main() -> None:
    global ROWS
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="the smallest size alone, one round")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--rows", type=int, default=ROWS, help="of a step")
    parser.add_argument("--seconds", type=float, default=12.0, help="for each engine and size")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--nanogpt", help="a clone of nanoGPT")
    parser.add_argument("--nanochat", help="a clone of nanochat")
    parser.add_argument("--output", type=Path, help="write the table here, as Markdown")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    ROWS = arguments.rows
    if arguments.child:
        return child(arguments)
    if arguments.quick:
        arguments.sizes, arguments.rounds = ["1"], 1
    machine, found, peak = environment(torch.device("cpu"), precision()), {}, matmul_peak(precision())
    for size in arguments.sizes:
        found[size] = measure(arguments, size, list(engines(arguments)))
        matmul_peak.cache_clear()  # another program may have been at work
        peak = max(peak, matmul_peak(precision()))
    lines = [
        f"{machine['processor']}, {machine['cores']} cores, torch {machine['torch']}; rows of {LENGTH} tokens, "
        f"{ROWS} a step, vocabulary {VOCAB}; {machine['precision']} peak {peak / 1e9:.0f} GFLOP/s.",
        "",
        "| engine | parameters | tokens/s | of the peak | against plain | until warm | memory |",
        "|---|---|---|---|---|---|---|",
    ]
    for size in arguments.sizes:
        lines += table(size, found[size], peak)
    print("\n".join(lines))
    if arguments.output:
        with atomic_write(arguments.output) as file:
            file.write("\n".join(lines) + "\n")
    return None


if __name__ == "__main__":
    main()
