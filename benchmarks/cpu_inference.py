"""run.c against llama.cpp, llama2.c, transformers and our torch path: reading and going on, on this machine's CPU.

    python benchmarks/cpu_inference.py --llama FOLDER                      # builds llama.cpp there, the first time
    python benchmarks/cpu_inference.py --llama FOLDER --llama2c FOLDER --output cpu.md
    python benchmarks/cpu_inference.py --quick                             # run.c and torch alone, the smallest size

Random Qwen3-shaped weights. The programs run in turns, each alone; a ratio is the median over the rounds of the ratios
within a round, a speed the best of its rounds. GB/s: the bytes of all weights, once for each step, which is what going
on must read; GOP/s: two for each weight of a layer and token, which is what reading must compute. The machine's own
peaks are measured in every round.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from random_gguf import SHAPES, STD, TYPES, bits_per_weight, config_of, write_model

from twofold.files import atomic_write
from twofold.training.machine import environment

BRANCHES = (1, 2, 4, 8, 16)
OTHERS = ("torch", "transformers", "llama2.c")
UNIT = {
    "F32": "f32",
    "F16": "f32",
    "BF16": "bf16",
    "Q8_0": "int8",
    "Q4_0": "int8",
}  # what a product is made of
LLAMA_SOURCE = "llama-cpp-python==0.3.36"
SOURCE = Path(__file__).with_suffix(".c")
Speeds = dict[str, float]  # "prefill", "decode 1" … -> tokens a second


@dataclass
class Bench:
    """The programs, and a folder for what they need."""

    folder: Path
    llama: Path | None
    llama2c: Path | None
    seconds: float

    def model(self, size: str, kind: str) -> Path:
        path = self.folder / f"{size}-{kind}.gguf"
        if not path.is_file():
            write_model(path, size, kind)
        return path

    @cached_property
    def program(self) -> Path:
        """run.c with a stopwatch, compiled as its first lines say."""
        path = self.folder / "cpu_inference"
        command = ["cc", "-O3", "-march=native", "-w", str(SOURCE), "-o", str(path), "-lm", "-lpthread"]
        subprocess.run(command, check=True)
        return path

    def peaks(self, threads: int) -> dict[str, float]:
        return numbers(run([self.program, "peaks", threads]))

    def ours(self, size: str, kind: str, threads: int) -> Speeds:
        return numbers(run([self.program, self.model(size, kind), threads, self.seconds]))

    def llama_cpp(self, size: str, kind: str, threads: int, branches: bool) -> Speeds:
        assert self.llama
        model = self.model(size, kind)
        found = {}
        command = [self.llama / "llama-bench", "-m", model, "-t", threads, "-r", 3, "-o", "json"]
        for row in json.loads(run([*command, "-p", 512, "-n", 128])):
            found["prefill" if row["n_prompt"] else "decode 1"] = max(row["samples_ts"])
        if branches:
            command = [self.llama / "llama-batched-bench", "-m", model, "-t", threads, "-tb", threads]
            command += ["-c", 4096, "-npp", 16, "-ntg", 64, "-npl", ",".join(map(str, BRANCHES))]
            for line in run([*command, "--output-format", "jsonl"]).splitlines():
                if line.startswith("{"):
                    row = json.loads(line)
                    found[f"decode {row['pl']}"] = max(row["speed_tg"], found.get(f"decode {row['pl']}", 0.0))
        return found

    def llama2_c(self, size: str, threads: int) -> Speeds:
        """karpathy's program on float32 weights of this shape (which has no norms of heads)."""
        assert self.llama2c
        program, model = self.folder / "llama2", self.folder / f"{size}.bin"
        if not program.is_file():
            flags = ["-Ofast", "-fopenmp", "-march=native", "-w"]
            run(["gcc", *flags, self.llama2c / "run.c", "-o", program, "-lm"])
        d, layers, heads, kv_heads, head, inner, vocabulary = SHAPES[size]
        if not model.is_file():
            dice = np.random.default_rng(0)
            sizes = [vocabulary * d, layers * d, layers * d * heads * head, layers * d * kv_heads * head,
                     layers * d * kv_heads * head, layers * d * heads * head, layers * d, layers * d * inner,
                     layers * d * inner, layers * d * inner, d, 1024 * head]  # fmt: skip
            with open(model, "wb") as file:
                file.write(struct.pack("<7i", d, inner, layers, heads, kv_heads, vocabulary, 1024))
                for count in sizes:
                    weights = dice.standard_normal(count, np.float32) * np.float32(STD)
                    if count == sizes[0]:
                        weights[d : 2 * d] = 0  # the token that ends a text is never the best
                    file.write(weights.tobytes())
            with open(self.folder / f"{size}.tok", "wb") as file:
                file.write(struct.pack("<i", 12))
                for token in range(vocabulary):
                    name = f"t{token}".encode()
                    file.write(struct.pack("<fi", 0.0, len(name)) + name)
        command = [program, model, "-z", self.folder / f"{size}.tok", "-t", 0, "-n", 129]
        done = run(command, OMP_NUM_THREADS=str(threads))
        return {"decode 1": float(re.search(r"tok/s: ([\d.]+)", done)[1])}

    def torch_path(self, size: str, kind: str, threads: int, whose: str) -> Speeds:
        """`transformers` or our torch engine, in a process of their own."""
        command = [sys.executable, __file__, "--child", whose, size, kind, str(threads), str(self.seconds)]
        return numbers(run(command, OMP_NUM_THREADS=str(threads)))


def run(command: list, **more: str) -> str:
    """What a program printed. Raises SystemExit with its last words."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env={**os.environ, **more})
    if done.returncode:
        sys.exit(f"{command[0]} failed:\n{(done.stdout + done.stderr)[-2000:]}")
    return done.stdout + (done.stderr if "tok/s" in done.stderr else "")


def numbers(text: str) -> dict[str, float]:
    """ "name 1.5" on each line."""
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in text.splitlines() if line)}


def child(whose: str, size: str, kind: str, threads: int, seconds: float) -> None:
    """Print the speeds of a program on torch."""
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    config, dtype = config_of(size), torch.float32 if kind == "F32" else torch.bfloat16
    text = [(i * 7919 + 13) % config.vocab_size for i in range(640)]
    if whose == "ours":
        from twofold.models.language_model import Ask
        from twofold.models.torch_model import TorchLanguageModel
        from twofold.models.transformer import Transformer

        model = TorchLanguageModel(Transformer(config).to(dtype).eval())

        def prefill() -> None:
            memory = model.new_memory()
            model.scores(memory, [Ask(memory.new(), text[:512])])

        def decode() -> None:
            memory = model.new_memory()
            sequence = memory.new()
            for token in text[:128]:
                model.scores(memory, [Ask(sequence, [token])])
    else:
        from transformers import Qwen3Config, Qwen3ForCausalLM

        hf = {
            name: value
            for name, value in config.to_hf().items()
            if name not in ("architectures", "torch_dtype")
        }
        model = Qwen3ForCausalLM(Qwen3Config(**hf)).to(dtype).eval()

        def prefill() -> None:
            model(torch.tensor([text[:512]]), logits_to_keep=1)

        def decode() -> None:
            cache = None
            for token in text[:128]:
                cache = model(torch.tensor([[token]]), past_key_values=cache, use_cache=True).past_key_values

    with torch.inference_mode():
        for name, work, count in (("prefill", prefill, 512), ("decode 1", decode, 128)):
            best, end = float("inf"), time.perf_counter() + seconds
            turns = 0
            while turns < 2 or time.perf_counter() < end:
                started = time.perf_counter()
                work()
                best, turns = min(best, time.perf_counter() - started), turns + 1
            print(name, count / best)


def llama_cpp(folder: Path) -> Path:
    """The folder of llama.cpp's programs, built from the source that `llama-cpp-python` carries."""
    built = folder / "build" / "bin"
    if not (built / "llama-batched-bench").is_file():
        print(f"Building llama.cpp in {folder}; that takes a while.", flush=True)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            pip = [
                sys.executable,
                "-m",
                "pip",
                "download",
                "--no-deps",
                "--no-binary",
                ":all:",
                "-d",
                scratch,
            ]
            run([*pip, LLAMA_SOURCE])
            run(["tar", "xzf", next(Path(scratch).glob("*.tar.gz")), "-C", folder, "--strip-components=1"])
        options = [
            "-DCMAKE_BUILD_TYPE=Release",
            "-DGGML_NATIVE=ON",
            "-DLLAMA_CURL=OFF",
            "-DLLAMA_BUILD_TESTS=OFF",
        ]
        processor = Path("/proc/cpuinfo")
        if processor.is_file() and "amx_tile" in processor.read_text():
            # GCC 12 takes the shape of AMX's tiles for memory that nobody reads, leaves it out, and it crashes.
            options.append("-DCMAKE_CXX_FLAGS=-fno-dse -fno-tree-dse")
        source = folder / "vendor" / "llama.cpp"
        run(["cmake", "-S", source, "-B", folder / "build", *options])
        targets = ["--target", "llama-bench", "llama-batched-bench", f"-j{os.cpu_count()}"]
        run(["cmake", "--build", folder / "build", *targets])
    return built


Results = dict[tuple, list]  # (program, size, type, threads) -> Speeds of each round


def measure(bench: Bench, arguments: argparse.Namespace) -> Results:
    """All rounds, the programs in turns."""
    results: Results = defaultdict(list)
    most = max(arguments.threads)
    for _ in range(arguments.rounds):
        for threads in arguments.threads:
            results["peaks", threads].append(bench.peaks(threads))
        for size in arguments.sizes:
            for kind in arguments.types:
                for threads in arguments.threads:
                    programs = {"run.c": lambda s=size, k=kind, t=threads: bench.ours(s, k, t)}
                    if bench.llama:
                        programs["llama.cpp"] = lambda s=size, k=kind, t=threads: bench.llama_cpp(
                            s, k, t, t == most
                        )
                    if bench.llama2c and kind == "F32":
                        programs["llama2.c"] = lambda s=size, t=threads: bench.llama2_c(s, t)
                    if kind in ("F32", "BF16") and threads == most:
                        programs["torch"] = lambda s=size, k=kind, t=threads: bench.torch_path(
                            s, k, t, "ours"
                        )
                        programs["transformers"] = lambda s=size, k=kind, t=threads: bench.torch_path(
                            s, k, t, "hf"
                        )
                    for name, program in programs.items():
                        speeds = program()
                        results[name, size, kind, threads].append(speeds)
                        told = ", ".join(
                            f"{what} {speed:,.0f}" for what, speed in speeds.items() if what != "open"
                        )
                        print(f"{size} {kind} {threads} threads, {name}: {told}", flush=True)
                if not arguments.keep:
                    bench.model(size, kind).unlink()
    return results


def best(results: Results, key: tuple, what: str) -> float | None:
    found = [speeds[what] for speeds in results.get(key, []) if what in speeds]
    return max(found) if found else None


def ratio(results: Results, ours: tuple, theirs: tuple, what: str) -> float | None:
    pairs = zip(results.get(ours, []), results.get(theirs, []), strict=False)
    found = [a[what] / b[what] for a, b in pairs if what in a and what in b]
    return statistics.median(found) if found else None


def shown(value: float | None, form: str = ",.0f") -> str:
    return "–" if value is None else format(value, form)


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines) + "\n"


def speeds(results: Results, size: str, kind: str, threads: int) -> list[str]:
    """A row: how fast run.c reads and goes on, what that is of the machine, and llama.cpp."""
    ours, theirs = ("run.c", size, kind, threads), ("llama.cpp", size, kind, threads)
    config, prefill, decode = config_of(size), best(results, ours, "prefill"), best(results, ours, "decode 1")
    work = 2e-9 * prefill * (config.matmul_parameters() - config.vocab_size * config.hidden_size)
    moved = 1e-9 * decode * config.matmul_parameters() * bits_per_weight(kind) / 8
    row = [size, kind, str(threads), shown(prefill)]
    row += [f"{work:,.0f} ({work / best(results, ('peaks', threads), UNIT[kind]):.0%})"]
    row += [shown(best(results, theirs, "prefill")), shown(ratio(results, ours, theirs, "prefill"), ".2f")]
    row += [shown(decode), f"{moved:.1f}", shown(best(results, theirs, "decode 1"))]
    return [*row, shown(ratio(results, ours, theirs, "decode 1"), ".2f")]


def branches(results: Results, size: str, kind: str, threads: int) -> list[str]:
    """A row: tokens a second of all branches."""
    ours, theirs = ("run.c", size, kind, threads), ("llama.cpp", size, kind, threads)
    row = [size, kind]
    for what in (f"decode {count}" for count in BRANCHES):
        row.append(f"{shown(best(results, ours, what))} ({shown(best(results, theirs, what))})")
    gain = statistics.median(round["decode 8"] / round["decode 1"] for round in results[ours])
    return [*row, f"{gain:.1f}", shown(ratio(results, ours, theirs, "decode 8"), ".2f")]


def beside(results: Results, size: str, kind: str, threads: int) -> list[str]:
    """A row: the programs on torch, and llama2.c."""
    row = [size, kind]
    for name in OTHERS:
        for what in ("prefill", "decode 1"):
            times = ratio(results, ("run.c", size, kind, threads), (name, size, kind, threads), what)
            speed = best(results, (name, size, kind, threads), what)
            row.append("–" if times is None else f"{shown(speed)} ({times:.1f}x)")
    return row


def report(results: Results, arguments: argparse.Namespace) -> str:
    """All tables, as Markdown."""
    import torch

    machine = environment(torch.device("cpu"), torch.float32)
    text = f"{machine['processor']}, torch {machine['torch']}, commit {machine['git_commit']}.\n\n"
    for threads in arguments.threads:
        peak = {what: best(results, ("peaks", threads), what) for what in ("read", "int8", "bf16", "f32")}
        text += f"Peaks with {threads} threads: {peak['read']:.1f} GB/s read; in registers "
        text += ", ".join(f"{kind} {peak[kind]:,.0f} GOP/s" for kind in ("int8", "bf16", "f32")) + ".\n\n"
    head = ["size", "type", "threads", "prefill 512, tok/s", "GOP/s (of peak)", "llama.cpp", "ratio"]
    head += ["decode 128, tok/s", "GB/s", "llama.cpp", "ratio"]
    pairs = [(size, kind) for size in arguments.sizes for kind in arguments.types]
    text += table(head, [speeds(results, *pair, threads) for pair in pairs for threads in arguments.threads])
    most = max(arguments.threads)
    text += (
        f"Branches that go on together, tokens a second in all, {most} threads (llama.cpp's in brackets):\n\n"
    )
    head = ["size", "type", *map(str, BRANCHES), "8 over 1", "8 over llama.cpp's 8"]
    text += table(head, [branches(results, *pair, most) for pair in pairs])
    text += f"Others, {most} threads: tokens a second, and in brackets how many times as fast run.c is:\n\n"
    head = ["size", "type", *(f"{name}, {what}" for name in OTHERS for what in ("prefill", "decode"))]
    return text + table(head, [beside(results, *pair, most) for pair in pairs if pair[1] in ("F32", "BF16")])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="the smallest size, one round, without peers")
    parser.add_argument("--sizes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--types", nargs="+", choices=TYPES, default=["F32", "BF16", "Q8_0", "Q4_0"])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.5, help="for each thing measured")
    parser.add_argument("--llama", type=Path, help="where llama.cpp is built, or will be")
    parser.add_argument("--llama2c", type=Path, help="a clone of llama2.c")
    parser.add_argument("--keep", type=Path, help="keep the models in this folder (6 GB)")
    parser.add_argument("--output", type=Path, help="write the tables here, as Markdown")
    parser.add_argument("--child", nargs=5, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        whose, size, kind, threads, seconds = arguments.child
        return child(whose, size, kind, int(threads), float(seconds))
    if arguments.quick:
        arguments.sizes, arguments.rounds, arguments.threads = ["5M"], 1, [1]
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        llama = llama_cpp(arguments.llama) if arguments.llama and not arguments.quick else None
        bench = Bench(folder, llama, arguments.llama2c, arguments.seconds)
        text = report(measure(bench, arguments), arguments)
    print(text)
    if arguments.output:
        with atomic_write(arguments.output, "w") as file:
            file.write(text)
    return None


if __name__ == "__main__":
    main()
