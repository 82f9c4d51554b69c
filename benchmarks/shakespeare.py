"""Characters of Shakespeare: the loss on the last tenth after some minutes of training on the first nine.

    python benchmarks/shakespeare.py tinyshakespeare.txt [--minutes 3] [--seeds 0 1 2]

The text (also as .gz) is the one of nanoGPT's data/shakespeare_char, cut where its prepare.py cuts. Every byte is a
token. The loss is in nats a character, over the whole tail, in rows that follow each other. nanoGPT's README
publishes 1.88 after about 3 minutes on a CPU (4 layers, 128 wide), from samples of the same tail.
"""

from __future__ import annotations

import argparse
import gzip
import math
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

import twofold  # noqa: F401 - sets how threads wait, before torch makes any
from twofold.models.transformer import Transformer
from twofold.text.held_out import HeldOutRows
from twofold.text.packing import PackedRows
from twofold.text.shards import write_shards
from twofold.tokens.tokenizer import bytes_only
from twofold.training.batches import RowBatches
from twofold.training.loop import Data, train
from twofold.training.machine import environment
from twofold.training.progress import progress_for
from twofold.training.settings import TrainSettings
from twofold.training.shapes import Preset


def one(text: str, minutes: float, seed: int, shape: Preset, **choices: Any) -> dict[str, Any]:
    """Train once; the result of the run."""
    tokenizer = bytes_only()
    cut = int(len(text) * 0.9)
    settings = TrainSettings(
        minutes=minutes,
        seed=seed,
        row_tokens=shape.row_tokens,
        evaluations=0,
        checkpoint_seconds=1e6,
        **choices,
    )
    with tempfile.TemporaryDirectory() as folder:
        shards = {}
        for side, part in (("train", text[:cut]), ("held_out", text[cut:])):
            tokens = np.concatenate(([tokenizer.end_of_text], tokenizer.encode(part)))
            shards[side] = write_shards(
                [tokens], Path(folder) / side, vocab_size=tokenizer.vocab_size,
                tokenizer_fingerprint=tokenizer.fingerprint, text_bytes=[len(part.encode())],
            )  # fmt: skip
        rows = PackedRows(shards["train"], shape.row_tokens, seed=seed)
        data = Data(RowBatches(rows, settings.batch_rows), HeldOutRows(shards["held_out"], shape.row_tokens))
        torch.manual_seed(seed)
        model = Transformer(shape.config(tokenizer.vocab_size))
        progress = progress_for(f"Seed {seed}")
        record = train(Path(folder) / "run", model, tokenizer, data, settings, progress=progress)
    return record["result"] | {"parameters": sum(p.numel() for p in model.parameters())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("text", type=Path, help="tinyshakespeare, as text or .gz")
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--row-tokens", type=int, default=256)
    parser.add_argument("--batch-rows", type=int, default=16)
    arguments = parser.parse_args()
    data = arguments.text.read_bytes()
    text = (gzip.decompress(data) if arguments.text.suffix == ".gz" else data).decode()
    width = arguments.width
    shape = Preset(width, arguments.layers, width // 64, width // 64, 3 * width, 320, arguments.row_tokens)
    losses = []
    machine = environment(torch.device("cpu"), torch.bfloat16)
    print(f"{machine['processor']}, {machine['cores']} cores, torch {machine['torch']}.\n", flush=True)
    print(
        "| seed | parameters | characters | epochs | seconds | nats a character |\n|---|---|---|---|---|---|"
    )
    for seed in arguments.seeds:
        found = one(text, arguments.minutes, seed, shape, batch_rows=arguments.batch_rows)
        losses.append(found["held_out_bits_per_byte"] * math.log(2))
        print(
            f"| {seed} | {found['parameters'] / 1e6:.2f} M | {found['tokens'] / 1e6:.2f} M | {found['epochs']:.1f} | "
            f"{found['seconds']:.0f} | {losses[-1]:.3f} |",
            flush=True,
        )
    if len(losses) > 1:
        error = statistics.stdev(losses) / len(losses) ** 0.5
        print(f"\nMean {statistics.fmean(losses):.3f} ± {error:.3f}", file=sys.stdout)


if __name__ == "__main__":
    main()
