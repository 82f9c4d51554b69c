"""Files that a fuzzer makes up for run.c: AFL++ with sanitizers, guided by which branches a file reaches.

    python benchmarks/fuzz_run_c.py AFLPLUSPLUS FOLDER --minutes 30

AFLPLUSPLUS is a checkout of AFL++, whose fuzzer is built first if it is not; GCC compiles run.c, with the door in
tests/twofiles/fuzz_run.c, so no clang is needed. It begins with small whole models of each family and type. A file is
opened, goes on with a text, tells what it holds, scores a text, chats and tests itself. Whatever crashes, hangs, or
makes a sanitizer speak is kept in FOLDER/out/default. Says how much of run.c's lines the files reached.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch

from twofold.models.config import TransformerConfig
from twofold.models.convert import convert
from twofold.models.folder import save_folder
from twofold.models.gguf import read_gguf
from twofold.models.transformer import Transformer
from twofold.tokens.train import train_tokenizer
from twofold.training.machine import environment
from twofold.twofiles import run
from twofold.twofiles.export import export

SOURCE = Path(run.__file__).with_name("run.c")
DOOR = Path(__file__).parents[1] / "tests/twofiles/fuzz_run.c"
SEEDS = {  # family, type
    "f32": ("qwen3", "f32"), "f16": ("qwen3", "f16"), "bf16": ("qwen3", "bf16"), "q8_0": ("qwen3", "q8_0"),
    "q4_0": ("qwen3", "q4_0"), "llama": ("llama", "q8_0"), "qwen2": ("qwen2", "q8_0"), "q4_k_m": ("qwen3", "q4_k_m"),
}  # fmt: skip
SANITIZED = [
    "-O1", "-g", "-no-pie", "-fsanitize=address,undefined", "-fno-sanitize-recover=all",
    "-fsanitize-coverage=trace-pc,trace-cmp",
]  # fmt: skip
LIMITS = {
    "ASAN_OPTIONS": "abort_on_error=1:symbolize=0:detect_leaks=0:max_allocation_size_mb=256:"
    "allocator_may_return_null=1",
    "UBSAN_OPTIONS": "abort_on_error=1:halt_on_error=1:symbolize=0",
    "AFL_SKIP_CPUFREQ": "1", "AFL_NO_AFFINITY": "1", "AFL_NO_UI": "1",
    "AFL_I_DONT_CARE_ABOUT_MISSING_CRASHES": "1", "AFL_HANG_TMOUT": "5000",
    "AFL_FUZZER_LOOPCOUNT": "500",  # a fault leaves memory behind, and files that find none are refused at once
}  # fmt: skip


def seeds(folder: Path) -> None:
    """The smallest whole models: of each family, of each type."""
    folder.mkdir()
    tokenizer = train_tokenizer([SOURCE.read_text()], 320)
    for name, (family, type) in SEEDS.items():
        width = 256 if name == "q4_k_m" else 32  # of the smallest blocks
        config = TransformerConfig(
            vocab_size=tokenizer.vocab_size, hidden_size=width, num_hidden_layers=1, num_attention_heads=width // 32,
            num_key_value_heads=1, head_dim=32, intermediate_size=width, max_position_embeddings=64,
            model_type=family,
        )  # fmt: skip
        model = Transformer(config)
        torch.manual_seed(0)
        with torch.no_grad():
            for weights in model.parameters():  # all of them: a fresh model's layers add nothing yet
                weights.add_(0.3 * torch.randn_like(weights))
        with tempfile.TemporaryDirectory() as scratch:
            save_folder(Path(scratch) / "model", model, tokenizer, chat=True)
            if type != "q4_k_m":
                made = export(Path(scratch) / "model", Path(scratch) / "two", type=type).folder / "model.gguf"
            else:
                made = convert(Path(scratch) / "model", Path(scratch) / "one.gguf", type=type).path
            shutil.copy(made, folder / f"{name}.gguf")


def dictionary(seed: Path, path: Path) -> None:
    """What stands in a header, for the fuzzer to put elsewhere."""
    file = read_gguf(seed)
    words = [*file.metadata, *file.tensors, "llama", "qwen2", "qwen3", "linear", "llama-bpe", "smollm"]
    path.write_text(
        "".join(f'w{n}="{word}"\n' for n, word in enumerate(dict.fromkeys(words)) if len(word) < 100)
    )


def build(afl: Path, folder: Path) -> None:
    """The fuzzer, and run.c with it and with counters of lines."""
    if not (afl / "afl-fuzz").is_file():
        subprocess.run(["make", "-C", afl, "afl-fuzz"], check=True, stdout=subprocess.DEVNULL)
    cc, inner = ["gcc", "-w", "-O1"], [f"-I{afl}/include", f"-I{afl}/instrumentation"]
    for name in ("instrumentation/afl-compiler-rt.o.c", "utils/aflpp_driver/aflpp_driver.c"):
        subprocess.run([*cc, *inner, "-c", afl / name, "-o", folder / f"{Path(name).stem}.o"], check=True)
    parts = [str(path) for path in folder.glob("*.o")]
    for name, options in (("fuzz", SANITIZED), ("lines", ["--coverage"])):
        command = [*cc, "-march=native", "-DGUIDED", *options, f"-I{SOURCE.parent}", str(DOOR), *parts]
        subprocess.run([*command, "-o", name, "-lm", "-lpthread"], check=True, cwd=folder)


def lines_reached(folder: Path) -> str:
    """The share of run.c's lines that the kept files reached, as gcov counts them."""
    files = [str(path) for path in (folder / "out/default/queue").iterdir() if path.is_file()]
    for at in range(0, len(files), 200):
        subprocess.run(
            ["./lines", *files[at : at + 200]], cwd=folder, env=os.environ | LIMITS, capture_output=True
        )
    notes = next(folder.glob("*.gcda"))
    told = subprocess.run(["gcov", "-n", notes.name], cwd=folder, capture_output=True, text=True).stdout
    return re.search(r"File '[^']*twofiles/run\.c'\nLines executed:(.*)", told)[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("afl", type=Path, metavar="AFLPLUSPLUS", help="a checkout of AFL++")
    parser.add_argument("folder", type=Path, help="a new folder for what is made and found")
    parser.add_argument("--minutes", type=float, default=30)
    arguments = parser.parse_args()
    if not (arguments.afl / "instrumentation/afl-compiler-rt.o.c").is_file():
        parser.error(f"{arguments.afl} is no checkout of AFL++")
    folder = arguments.folder.resolve()
    if folder.exists():
        parser.error(f"{folder} is there already: choose a new folder")
    folder.mkdir(parents=True)
    build(arguments.afl.resolve(), folder)
    seeds(folder / "in")
    dictionary(folder / "in/q8_0.gguf", folder / "words")
    command = [
        arguments.afl.resolve() / "afl-fuzz", "-i", "in", "-o", "out", "-x", "words", "-c", "0", "-m", "none",
        "-t", "5000", "-V", str(int(60 * arguments.minutes)), "--", "./fuzz",
    ]  # fmt: skip
    with open(folder / "log.txt", "w") as log:
        subprocess.run(command, cwd=folder, env=os.environ | LIMITS, stdout=log, stderr=log, check=False)
    text = (folder / "out/default/fuzzer_stats").read_text()
    found = dict(re.split(r"\s+: ", line, maxsplit=1) for line in text.splitlines())
    machine = environment(torch.device("cpu"), torch.bfloat16)
    print(f"{machine['processor']}, one core, AFL++ {found['afl_version']}, {arguments.minutes:g} minutes.\n")
    print("| files tried | a second | kept, for a new way through | crashes | hangs | lines of run.c |")
    print("|---|---|---|---|---|---|")
    print(
        f"| {int(found['execs_done']):,} | {float(found['execs_per_sec']):.0f} | {found['corpus_count']} | "
        f"{found['saved_crashes']} | {found['saved_hangs']} | {lines_reached(folder)} |"
    )


if __name__ == "__main__":
    main()
