"""What a choice of the recipe is worth: many short runs, each variant with the same seeds, beside the default.

    python benchmarks/recipe.py CORPUS FOLDER --preset nano --steps 1000 --vary matrix_lr=0.01 batch_rows=8,steps=2000

CORPUS is what `twofold text` leaves. A variant is a comma-separated list of names and values: those of TrainSettings,
those of a preset (width, layers, heads, kv_heads, inner, vocab_size, row_tokens), `muon_iterations`, or `average`: the
share of the steps, the last ones, whose weights are averaged before the held-out text is scored. A run that
FOLDER already holds is not made again, so that a search can be broken off, and grow. Differences are paired by seed;
after ± stands their standard error. With --minutes the clock ends each run, one at a time; with --steps they share
the cores, and the time a step takes must be measured elsewhere.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

import twofold  # noqa: F401 - sets how threads wait, before torch makes any
from twofold.create.prepare import prepare_tokens, pretraining_data
from twofold.files import read_json, write_json
from twofold.models.transformer import Transformer
from twofold.text.corpus import Corpus
from twofold.tokens.tokenizer import Tokenizer
from twofold.training import loop, optimizers
from twofold.training.loop import train
from twofold.training.progress import progress_for
from twofold.training.settings import TrainSettings
from twofold.training.shapes import PRESETS, Preset

SHAPE = {field.name for field in fields(Preset)}


def read_variant(text: str) -> dict[str, Any]:
    """`a=1,b=2` as a dictionary; "" is the default."""
    pairs = [part.split("=", 1) for part in text.split(",") if part]
    return {name: ast.literal_eval(value) for name, value in pairs}


def one(arguments: argparse.Namespace) -> None:
    """Train one variant with one seed; leave its result in the folder."""
    variant, seed = read_variant(arguments.one[0]), int(arguments.one[1])
    if iterations := variant.pop("muon_iterations", None):
        optimizers.orthogonalize = partial(optimizers.orthogonalize, iterations=iterations)
    if share := variant.pop("average", 0):
        average(share)
    torch.set_num_threads(arguments.threads)
    shape = replace(
        PRESETS[arguments.preset], **{k: v for k, v in variant.items() if k in SHAPE and k != "row_tokens"}
    )
    length = {"steps": arguments.steps} if arguments.steps else {"minutes": arguments.minutes}
    settings = TrainSettings(
        **length | {"row_tokens": shape.row_tokens, "seed": seed, "evaluations": 0, "checkpoint_seconds": 1e6}
        | {k: v for k, v in variant.items() if k not in SHAPE or k == "row_tokens"}
    )  # fmt: skip
    tokens = tokens_of(arguments, shape.vocab_size)
    tokenizer = Tokenizer.load(tokens)
    config = shape.config(tokenizer.vocab_size)
    config = replace(config, max_position_embeddings=max(config.max_position_embeddings, settings.row_tokens))
    torch.manual_seed(seed)
    data = pretraining_data(tokens, tokenizer, settings, Corpus.open(arguments.corpus).card)
    run = arguments.folder / name_of(arguments, *arguments.one)
    record = train(
        run, Transformer(config), tokenizer, data, settings, resume=True, progress=progress_for("A run")
    )
    (run / "model.safetensors").unlink(missing_ok=True)
    write_json(run / "result.json", {"variant": arguments.one[0], "seed": seed, **record["result"]})


def average(share: float) -> None:
    """Have the loop score the mean of the weights after each of the last `share` of its steps."""
    step, bits_per_byte = loop._Loop.step, loop._Loop.bits_per_byte
    means: list[torch.Tensor] = []
    count = 0

    def step_and_add(self):
        nonlocal count
        row = step(self)
        if self.state.step > (1 - share) * self.state.steps:
            count += 1
            with torch.no_grad():
                if not means:
                    means.extend(p.detach().clone() for p in self.model.parameters())
                for mean, p in zip(means, self.model.parameters(), strict=True):
                    mean.lerp_(p, 1 / count)
        return row

    def score_mean(self, rows):
        with torch.no_grad():
            for mean, p in zip(means, self.model.parameters(), strict=True):
                p.copy_(mean)
        return bits_per_byte(self, rows)

    loop._Loop.step, loop._Loop.bits_per_byte = step_and_add, score_mean


def tokens_of(arguments: argparse.Namespace, vocab_size: int) -> Path:
    """The corpus in tokens of that vocabulary."""
    folder = arguments.folder / f"tokens-{vocab_size}"
    if not folder.is_dir():
        prepare_tokens(Corpus.open(arguments.corpus), folder, vocab_size)
    return folder


def name_of(arguments: argparse.Namespace, variant: str, seed: int | str) -> str:
    """A run's folder: what it is, short enough for any file system."""
    what = json.dumps([arguments.preset, arguments.steps, arguments.minutes, variant])
    return f"{hashlib.sha256(what.encode()).hexdigest()[:12]}-{seed}"


def run(arguments: argparse.Namespace, variant: str, seed: int) -> dict[str, Any]:
    """The result of a run, made in a process of its own unless it is there."""
    found = arguments.folder / name_of(arguments, variant, seed) / "result.json"
    if not found.is_file():
        command = [sys.executable, __file__, *sys.argv[1:], "--one", variant, str(seed)]
        env = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads)}
        done = subprocess.run(command, env=env, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{variant or 'default'}, seed {seed}, failed:\n{done.stderr[-3000:]}")
        bits = read_json(found)["held_out_bits_per_byte"]
        print(f"  {variant or 'default'} · seed {seed}: {bits:.4f} bits/byte", file=sys.stderr)
    return read_json(found)


def mean(values: list[float]) -> str:
    """Mean ± its standard error."""
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return f"{statistics.fmean(values):+.4f} ± {error:.4f}".replace("+", "", statistics.fmean(values) > 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("corpus", type=Path, help="a corpus folder, from `twofold text`")
    parser.add_argument("folder", type=Path, help="where the runs' results lie")
    parser.add_argument("--preset", choices=PRESETS, default="nano")
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--steps", type=int)
    length.add_argument("--minutes", type=float)
    parser.add_argument("--vary", nargs="+", default=[], metavar="NAME=VALUE[,…]")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    cores = os.cpu_count() or 1
    arguments.threads = 1 if arguments.steps else cores
    if arguments.one:
        return one(arguments)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    variants = ["", *arguments.vary]
    for variant in variants:
        tokens_of(arguments, read_variant(variant).get("vocab_size", PRESETS[arguments.preset].vocab_size))
    jobs = [(variant, seed) for seed in arguments.seeds for variant in variants]  # a pair at about one time
    with ThreadPoolExecutor(cores // arguments.threads) as pool:
        results = dict(zip(jobs, pool.map(lambda job: run(arguments, *job), jobs), strict=True))
    print("| variant | bits a byte | against the default | steps | tokens |\n|---|---|---|---|---|")
    for variant in variants:
        bits = [results[variant, seed]["held_out_bits_per_byte"] for seed in arguments.seeds]
        base = [results["", seed]["held_out_bits_per_byte"] for seed in arguments.seeds]
        gap = mean([a - b for a, b in zip(bits, base, strict=True)]) if variant else ""
        last = results[variant, arguments.seeds[-1]]
        print(
            f"| {variant or 'default'} | {mean(bits)} | {gap} | {last['steps']:,} | {last['tokens'] / 1e6:.2f} M |"
        )
    return None


if __name__ == "__main__":
    main()
