"""How fast the two files are: `run.py` (NumPy) beside the product's Transformer (torch), on the same weights.

    python benchmarks/two_files.py                                 # a random model of 5 million parameters
    python benchmarks/two_files.py --model demo/assistant --output two-files.md

Each engine runs in a process of its own, so that its peak of resident memory (VmHWM) is its own: it opens the
model, reads a prompt (prefill), then writes tokens one by one with its cache (decode). Prefill and decode are
the median of the rounds, and the engines take turns. GB/s is the bytes of weights that a token reads (as they
are held in memory) times tokens per second: what a faster program could only exceed with smaller weights.
The logits after the prompt are compared with torch's before anything is believed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from twofold.files import atomic_write
from twofold.twofiles.export import export

ENGINES = ("torch f32", "run.py f32", "run.py bf16", "run.py q8_0")


def random_model(folder: Path) -> Path:
    """A Hugging Face folder: 5.0 million parameters, 320 tokens and an embedding of 1,280 rows."""
    import torch

    from twofold.models.config import TransformerConfig
    from twofold.models.folder import save_folder
    from twofold.models.transformer import Transformer
    from twofold.tokens.tokenizer import bytes_only

    tokenizer = bytes_only()
    config = TransformerConfig(
        vocab_size=1280, hidden_size=256, num_hidden_layers=6, num_attention_heads=4, num_key_value_heads=2,
        head_dim=64, intermediate_size=768, max_position_embeddings=1024,
    )  # fmt: skip
    torch.manual_seed(0)
    save_folder(folder, Transformer(config), tokenizer, chat=True)
    return folder


def measure(engine: str, path: str, prompt: int, tokens: int) -> dict:
    """One engine, in this process: {prefill, decode} in tokens/s, peak MB, logits after the prompt."""
    read = open_torch(path) if engine.startswith("torch") else open_run(path)
    ids = np.random.default_rng(0).integers(0, 256, prompt).tolist()
    read(ids)  # warm: matrices converted, kernels chosen
    started = time.perf_counter()
    step, scores = read(ids)
    prefill = prompt / (time.perf_counter() - started)
    logits = np.asarray(scores, dtype=np.float32).tolist()
    started = time.perf_counter()
    for _ in range(tokens):
        scores = step(int(scores.argmax()))
    decode = tokens / (time.perf_counter() - started)
    status = Path("/proc/self/status").read_text().split("VmHWM:")[1]
    return {"prefill": prefill, "decode": decode, "peak_mb": int(status.split()[0]) / 1000, "logits": logits}


def open_run(path: str):
    """`read(ids) -> (step(token) -> scores, scores)` with run.py."""
    from twofold.twofiles import run

    model = run.Session(SimpleNamespace(model=path, seed=0)).model

    def read(ids):
        memory = run.Memory(model)

        def step(*tokens):
            return model.output.times(model.read(list(tokens), memory)[-1:])[0]

        return step, step(*ids)

    return read


def open_torch(path: str):
    """The same with the product's Transformer and its paged memory."""
    import torch

    from twofold.models.language_model import Ask
    from twofold.models.load import load_model
    from twofold.models.torch_model import TorchLanguageModel

    torch.set_grad_enabled(False)
    model = TorchLanguageModel(load_model(path)[0])

    def read(ids):
        memory = model.new_memory()
        sequence = memory.new()

        def step(*tokens):
            return model.scores(memory, [Ask(sequence, list(tokens))])[0].numpy()

        return step, step(*ids)

    return read


def main() -> None:
    """Export, measure in turns, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", type=Path, help="a run folder, a Hugging Face folder or a .gguf")
    parser.add_argument(
        "--prompt", type=int, default=512, help="tokens read; with those written at most the context"
    )
    parser.add_argument("--tokens", type=int, default=128, help="tokens written")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--output", type=Path, help="write the table there too")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(*options.child, options.prompt, options.tokens)))
        return

    with tempfile.TemporaryDirectory() as folder:
        source = options.model or random_model(Path(folder) / "random")
        made = {name: export(source, Path(folder) / name, type=name) for name in ("f32", "bf16", "q8_0")}
        runs: dict[str, list[dict]] = {engine: [] for engine in ENGINES}
        threads = {f"{name}_NUM_THREADS": str(options.threads) for name in ("OMP", "OPENBLAS", "MKL")}
        for _ in range(options.rounds):
            for engine in ENGINES:
                model = str(made[engine.split()[1]].folder / "model.gguf")
                command = [sys.executable, __file__, "--child", engine, model]
                command += ["--prompt", str(options.prompt), "--tokens", str(options.tokens)]
                done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **threads})
                if done.returncode:
                    sys.exit(f"{engine} failed:\n{done.stderr}")
                runs[engine].append(json.loads(done.stdout))

    reference = np.array(runs["torch f32"][0]["logits"])
    lines = [
        f"{made['f32'].parameters:,} parameters; {options.prompt} tokens read, {options.tokens} written; "
        f"{options.threads} threads, median of {options.rounds}; {platform.machine()}, "
        f"Python {platform.python_version()}, NumPy {np.__version__}",
        "",
        "| engine | file, MB | prefill, tokens/s | decode, tokens/s | decode, GB/s | peak, MB | furthest logit |",
        "|---|---|---|---|---|---|---|",
    ]
    for engine in ENGINES:
        middle = {
            key: statistics.median(r[key] for r in runs[engine]) for key in ("prefill", "decode", "peak_mb")
        }
        away = np.abs(np.array(runs[engine][0]["logits"]) - reference).max() / np.abs(reference).max()
        size = made[engine.split()[1]].bytes / 1e6
        held = 4 * made["f32"].parameters / 1e9  # all engines compute with float32 matrices
        lines.append(
            f"| {engine} | {size:.1f} | {middle['prefill']:,.0f} | {middle['decode']:,.0f} "
            f"| {held * middle['decode']:.1f} | {middle['peak_mb']:,.0f} | {away:.1e} |"
        )
    text = "\n".join(lines) + "\n"
    print(text, end="")
    if options.output:
        with atomic_write(options.output) as file:
            file.write(text)


if __name__ == "__main__":
    main()
