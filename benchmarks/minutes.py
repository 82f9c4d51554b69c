"""Bits per byte on held-out text after some minutes of training: Twofold, nanoGPT and nanochat, each as it comes.

    python benchmarks/minutes.py CORPUS FOLDER --nanogpt FOLDER --nanochat FOLDER --minutes 3 10 30

CORPUS is what `twofold text` leaves; all train on its training side, and all are measured on the whole of its
held-out side. Twofold runs `twofold train CORPUS --minutes N`. nanoGPT runs its own train.py with the settings its
README gives for a computer without a GPU, on characters. nanochat runs its own scripts with the settings of its
runs/runcpu.sh and its own tokenizer. Its loader cuts a document at the end of a row and drops the rest, so books are
given to it in pieces of PIECE characters. A peer is told how many steps to make by a short run before; evaluations and
samples on its way are left out, so that all of its time is training. Tokenizing is outside everyone's time, compiling
and starting inside. nanochat needs `pip install tiktoken rustbpe pyarrow filelock requests psutil`. What FOLDER already
holds is not made again.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import pickle
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from twofold.files import atomic_write, read_json, write_json
from twofold.text.corpus import Corpus
from twofold.training.machine import environment

PIECE = 2_000  # characters of a book that nanochat takes for a document
NANOGPT = [
    "--device=cpu",
    "--compile=False",
    "--eval_iters=20",
    "--log_interval=1",
    "--block_size=64",
    "--batch_size=12",
    "--n_layer=4",
    "--n_head=4",
    "--n_embd=128",
    "--dropout=0.0",
    "--dataset=twofold",
    "--eval_interval=250",
]
NANOCHAT = [
    "--depth=6",
    "--head-dim=64",
    "--window-pattern=L",
    "--max-seq-len=512",
    "--device-batch-size=32",
    "--total-batch-size=16384",
    "--core-metric-every=-1",
    "--eval-every=-1",
    "--sample-every=-1",
]


def start(command: list[str], log: Path, **options: Any) -> float:
    """Run a command, its output in a log; the seconds it took."""
    began = time.monotonic()
    with open(log, "w") as file:
        done = subprocess.run(
            [sys.executable, *command], stdout=file, stderr=subprocess.STDOUT, check=False, **options
        )
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:4])} … failed:\n{log.read_text()[-3000:]}")
    return time.monotonic() - began


def pieces(text: str) -> Iterator[str]:
    """A text in pieces of PIECE characters."""
    return (text[at : at + PIECE] for at in range(0, len(text), PIECE))


class Twofold:
    """`twofold train` with nothing but the minutes."""

    def __init__(self, arguments: argparse.Namespace):
        self.corpus = arguments.corpus

    def train(self, folder: Path, minutes: float) -> dict[str, Any]:
        """Train for so long; what came of it."""
        command = ["-m", "twofold", "train", str(self.corpus), "-o", str(folder / "run")]
        start([*command, "--minutes", f"{minutes:g}"], folder / "log.txt")
        record = read_json(folder / "run/run.json")
        result = record["result"]
        return {
            "bits_per_byte": result["held_out_bits_per_byte"], "seconds": result["seconds"],
            "steps": result["steps"], "tokens": result["tokens"],
            "parameters": sum(record["parameters"].values()),
        }  # fmt: skip


class NanoGPT:
    """nanoGPT's train.py on characters, as its README has it for a computer without a GPU."""

    def __init__(self, arguments: argparse.Namespace):
        self.folder, self.corpus = arguments.nanogpt, arguments.corpus
        self.data = arguments.folder / "nanogpt-data"

    def prepare(self) -> None:
        """The text in its format: characters as uint16, and their table."""
        if (self.data / "meta.pkl").is_file():
            return
        corpus = Corpus.open(self.corpus)
        sides = {side: "\n".join(corpus.documents(side)) for side in ("train", "held_out")}
        characters = sorted(set().union(*sides.values()))
        number = {character: n for n, character in enumerate(characters)}
        self.data.mkdir(parents=True, exist_ok=True)
        for side, name in (("train", "train.bin"), ("held_out", "val.bin")):
            np.array([number[c] for c in sides[side]], dtype=np.uint16).tofile(self.data / name)
        with open(self.data / "meta.pkl", "wb") as file:  # its own format
            pickle.dump(
                {"vocab_size": len(characters), "itos": dict(enumerate(characters)), "stoi": number}, file
            )

    def run(self, folder: Path, steps: int) -> tuple[float, list[float]]:
        """Make so many steps; (seconds in all, seconds of each step)."""
        source = self.folder / "data/twofold"
        source.unlink(missing_ok=True)
        source.symlink_to(self.data.resolve())
        line = [
            "train.py",
            "config/train_shakespeare_char.py",
            *NANOGPT,
            f"--out_dir={(folder / 'out').resolve()}",
        ]
        line += [f"--max_iters={steps}", f"--lr_decay_iters={steps}"]
        try:
            taken = start(line, folder / "log.txt", cwd=self.folder)
        finally:
            source.unlink()
        times = re.findall(r"^iter \d+: .* time ([\d.]+)ms", (folder / "log.txt").read_text(), re.MULTILINE)
        return taken, [float(ms) / 1000 for ms in times]

    def train(self, folder: Path, minutes: float) -> dict[str, Any]:
        """Train for so long; what came of it."""
        self.prepare()
        first, times = self.run(folder, 500)
        usual = statistics.fmean(
            times[20:]
        )  # evaluations on its way, which it cannot do without, are in the mean
        steps = int((60 * minutes - (first - sum(times[1:]))) / usual) // 250 * 250
        seconds, _ = self.run(folder, steps)
        with torch.no_grad():
            bits, parameters = self.evaluate(folder / "out/ckpt.pt")
        return {
            "bits_per_byte": bits, "seconds": seconds, "steps": steps, "tokens": steps * 12 * 64,
            "parameters": parameters,
        }  # fmt: skip

    def evaluate(self, checkpoint: Path) -> tuple[float, int]:
        """(bits a byte of the held-out text in windows that follow each other, parameters)."""
        sys.path.insert(0, str(self.folder))
        from model import GPT, GPTConfig

        # Its checkpoint, made here a moment ago, holds plain tensors and numbers: no pickled code is run.
        saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
        model = GPT(GPTConfig(**saved["model_args"])).eval()
        model.load_state_dict(saved["model"])
        tokens = torch.from_numpy(np.fromfile(self.data / "val.bin", dtype=np.uint16).astype(np.int64))
        size = saved["model_args"]["block_size"]
        count = (len(tokens) - 1) // size
        inputs, targets = (
            tokens[: count * size].view(count, size),
            tokens[1 : count * size + 1].view(count, size),
        )
        nats = 0.0
        for x, y in zip(inputs.split(256), targets.split(256), strict=True):
            nats += float(model(x, y)[1]) * y.numel()
        itos = pickle.loads((self.data / "meta.pkl").read_bytes())["itos"]  # written above
        size_of = torch.tensor([len(itos[n].encode()) for n in range(len(itos))])
        return nats / math.log(2) / int(size_of[targets].sum()), sum(p.numel() for p in model.parameters())


class Nanochat:
    """nanochat's scripts as its runs/runcpu.sh calls them."""

    def __init__(self, arguments: argparse.Namespace):
        self.folder, self.corpus = arguments.nanochat, arguments.corpus
        self.base = (arguments.folder / "nanochat-base").resolve()
        self.pace: tuple[float, float] | None = None  # seconds to start with, seconds a step
        stubs = self.base / "stubs"
        stubs.mkdir(parents=True, exist_ok=True)
        (stubs / "wandb.py").write_text("# imported by nanochat, not used with --run=dummy\n")
        path = [str(self.folder.resolve()), str(stubs), os.environ.get("PYTHONPATH", "")]
        self.environment = {
            **os.environ, "NANOCHAT_BASE_DIR": str(self.base), "PYTHONPATH": ":".join(filter(None, path)),
        }  # fmt: skip
        self.options = {"cwd": self.folder, "env": self.environment}

    def prepare(self) -> None:
        """The text as its shards, the last one held out, and its tokenizer trained on the others."""
        import pyarrow
        import pyarrow.parquet

        if (self.base / "tokenizer/token_bytes.pt").is_file():
            return
        data = self.base / "base_data_climbmix"
        data.mkdir(parents=True, exist_ok=True)
        corpus = Corpus.open(self.corpus)
        for side, name in (("train", "shard_00000.parquet"), ("held_out", "shard_00001.parquet")):
            texts = [piece for document in corpus.documents(side) for piece in pieces(document)]
            if side == "train":  # its loader reads in order, which for books would be one after the other
                np.random.default_rng(0).shuffle(texts)
            pyarrow.parquet.write_table(pyarrow.table({"text": texts}), data / name, row_group_size=1024)
        start(["-m", "scripts.tok_train"], self.base / "tokenizer.txt", **self.options)

    def run(self, folder: Path, steps: int) -> float:
        """Make so many steps; seconds in all. A longer run than those before tells the pace anew."""
        line = [
            "-m",
            "scripts.base_train",
            *NANOCHAT,
            f"--num-iterations={steps}",
            f"--model-tag={folder.name}",
        ]
        taken = start(line, folder / "log.txt", **self.options)
        times = re.findall(r"\| dt: ([\d.]+)ms", (folder / "log.txt").read_text())
        seconds = [float(ms) / 1000 for ms in times]
        if len(seconds) >= 8:  # the first ones compile, and are slow
            usual = statistics.fmean(seconds[4:])
            self.pace = taken - usual * steps, usual
        return taken

    def train(self, folder: Path, minutes: float) -> dict[str, Any]:
        """Train for so long; what came of it."""
        self.prepare()
        if self.pace is None:
            self.run(folder, 8)
        steps = max(int((60 * minutes - self.pace[0]) / self.pace[1]), 1)
        seconds = self.run(folder, steps)
        command = [str(Path(__file__).resolve()), "--evaluate", str(steps), folder.name]
        start([*map(str, command), str(self.corpus.resolve())], folder / "evaluation.json", **self.options)
        measured = json.loads((folder / "evaluation.json").read_text().splitlines()[-1])
        return {**measured, "seconds": seconds, "steps": steps, "tokens": steps * 16384}


def evaluate_nanochat(steps: int, name: str, corpus: Path) -> None:
    """Print bits a byte of the held-out text, each piece of it after its <|bos|>, and the parameters."""
    from nanochat.checkpoint_manager import build_model

    checkpoint = Path(os.environ["NANOCHAT_BASE_DIR"]) / "base_checkpoints" / name
    model, tokenizer, _ = build_model(str(checkpoint), steps, torch.device("cpu"), "eval")
    nats, size = 0.0, 0
    with torch.inference_mode():
        for document in Corpus.open(corpus).documents("held_out"):
            for piece in pieces(document):
                tokens = torch.tensor([tokenizer.encode(piece, prepend="<|bos|>")])
                for at in range(0, tokens.shape[1] - 1, 512):
                    x, y = tokens[:, at : at + 512], tokens[:, at + 1 : at + 513]
                    nats += float(model(x[:, : y.shape[1]], y, loss_reduction="sum"))
                size += len(piece.encode())
    count = sum(p.numel() for p in model.parameters())
    print(json.dumps({"bits_per_byte": nats / math.log(2) / size, "parameters": count}))


def table(results: dict[tuple[float, str], dict[str, Any]]) -> list[str]:
    """The results in Markdown."""
    lines = [
        "| minutes | program | parameters | steps | tokens | seconds | bits a byte |",
        "|---|---|---|---|---|---|---|",
    ]
    for (minutes, name), found in results.items():
        lines.append(
            f"| {minutes:g} | {name} | {found['parameters'] / 1e6:.1f} M | {found['steps']:,} | "
            f"{found['tokens'] / 1e6:.2f} M | {found['seconds']:.0f} | {found['bits_per_byte']:.3f} |"
        )
    return lines


def main() -> None:
    if sys.argv[1:2] == ["--evaluate"]:
        return evaluate_nanochat(int(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("corpus", type=Path, help="a corpus folder, from `twofold text`")
    parser.add_argument("folder", type=Path, help="where runs and their results lie")
    parser.add_argument(
        "--programs", nargs="+", default=["Twofold", "nanoGPT", "nanochat"], help="run only these"
    )
    parser.add_argument("--nanogpt", type=Path, help="a checkout of nanoGPT")
    parser.add_argument("--nanochat", type=Path, help="a checkout of nanochat")
    parser.add_argument("--minutes", type=float, nargs="+", default=[3, 10, 30])
    parser.add_argument("--output", type=Path, help="write the table here, as Markdown")
    arguments = parser.parse_args()
    known = {"Twofold": Twofold} | ({"nanoGPT": NanoGPT} if arguments.nanogpt else {})
    known |= {"nanochat": Nanochat} if arguments.nanochat else {}
    programs = {name: known[name](arguments) for name in arguments.programs if name in known}
    results: dict[tuple[float, str], dict[str, Any]] = {}
    for minutes in arguments.minutes:
        for name, program in programs.items():
            folder = arguments.folder / f"{name}-{minutes:g}"
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / "result.json").is_file():
                write_json(folder / "result.json", program.train(folder, minutes))
            results[minutes, name] = read_json(folder / "result.json")
            print(table({(minutes, name): results[minutes, name]})[-1], file=sys.stderr)
    machine = environment(torch.device("cpu"), torch.bfloat16)
    lines = [
        f"{machine['processor']}, {machine['cores']} cores, torch {machine['torch']}.",
        "",
        *table(results),
    ]
    print("\n".join(lines))
    if arguments.output:
        with atomic_write(arguments.output) as file:
            file.write("\n".join(lines) + "\n")
    return None


if __name__ == "__main__":
    main()
