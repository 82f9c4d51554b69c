"""run.c on machines that are not here: compiled for each, and on Arm also run, in an emulator.

    python benchmarks/other_machines.py

Needs `pip install ziglang qiling`: a C compiler that knows many machines, and an emulator of Linux programs. Compiled
with -Wall -Wextra -Werror. On Arm (NEON), for small models of each family and type: the self-test, in which the quick
kernels are held against the exact ones, and the most likely text after a prompt, exact and quick, beside what this
machine writes.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from fuzz_run_c import SEEDS, SOURCE, seeds

COMPILED = ["aarch64-linux-musl", "aarch64-macos", "x86_64-linux-gnu", "x86_64-linux-musl", "x86_64-macos"]
EMULATED = "aarch64-linux-musl"
PROMPT = "Once upon a time, in 1851, there lived a cat."
ASKED = {
    "self-test": ["selftest"],
    "exact text": ["generate", PROMPT, "--temperature", "0", "--exact"],
    "quick text": ["generate", PROMPT, "--temperature", "0"],
}


def compile_for(target: str, program: Path) -> str:
    """`yes`, or the first thing that the compiler says."""
    strict = ["-O2", "-Wall", "-Wextra", "-Werror", "-lm", "-lpthread"]
    command = [
        sys.executable,
        "-m",
        "ziglang",
        "cc",
        "-target",
        target,
        str(SOURCE),
        "-o",
        str(program),
        *strict,
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    return "yes" if done.returncode == 0 else done.stderr.splitlines()[0]


def emulate(root: str, *arguments: str) -> None:
    """Run a program of the folder `root` in the emulator, in this process."""
    from qiling import Qiling
    from qiling.const import QL_VERBOSE

    machine = Qiling([f"{root}/run", *arguments], root, verbose=QL_VERBOSE.OFF)

    def one_core(ql: Qiling, process: int, size: int, at: int) -> int:
        ql.mem.write(at, b"\1")
        return 8

    machine.os.set_syscall("sched_getaffinity", one_core)
    machine.run()


def output(command: list[str]) -> bytes:
    """What a program prints in the time it is given."""
    done = subprocess.run(command, capture_output=True, timeout=100)
    return done.stdout if done.returncode == 0 else done.stderr


def main() -> None:
    if sys.argv[1:2] == ["--emulate"]:
        return emulate(*sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.parse_args()
    if missing := [name for name in ("ziglang", "qiling") if find_spec(name) is None]:
        parser.error(f"this needs more than is installed: pip install {' '.join(missing)}")
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        print("| machine | compiles without a warning |\n|---|---|")
        for target in COMPILED:
            print(f"| {target} | {compile_for(target, folder / target)} |", flush=True)
        seeds(folder / "root")
        shutil.copy(folder / EMULATED, folder / "root/run")
        native = ["cc", "-O2", "-march=native", str(SOURCE), "-o", str(folder / "native"), "-lm", "-lpthread"]
        subprocess.run(native, check=True)
        print(
            f"\n| on {EMULATED.split('-')[0]}, emulated | {' | '.join(ASKED)} |\n|{'---|' * (1 + len(ASKED))}"
        )
        for name in SEEDS:
            cells = []
            for asked in ASKED.values():
                if asked == ["selftest"] and name == "q4_k_m":
                    cells.append("carries none")
                    continue
                here = output([str(folder / "native"), *asked, "--model", str(folder / f"root/{name}.gguf")])
                emulator = [sys.executable, __file__, "--emulate", str(folder / "root")]
                there = output([*emulator, *asked, "--model", f"/{name}.gguf", "--threads", "1"])
                # The emulator loses what is printed first, which is the prompt.
                here, there = (text.removeprefix(PROMPT.encode()) for text in (here, there))
                cells.append("same" if here == there else f"{there[:200]!r}, not {here[:200]!r}")
            print(f"| {name} | {' | '.join(cells)} |", flush=True)
    return None


if __name__ == "__main__":
    main()
