"""What two processes gain over one, and what the death of one costs.

    python benchmarks/many_processes.py CORPUS [--steps 60] [--output many.md]

Trains the mini preset (the smallest with two key-value heads for tensor parallelism) through `torchrun` on a corpus
that `twofold text` leaves: one process with one thread, two with one thread each, laid out in each way, and one
process with two threads, for comparison. Efficiency is the speed of two over twice that of one. Then two processes
train again, one is killed, and the time from its death to the first new step is taken, and how many steps had to be
made again.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from twofold.files import atomic_write
from twofold.training.machine import environment
from twofold.training.run_folder import read_rows


def command(corpus: Path, run: Path, steps: int, processes: int, *options: str) -> list[str]:
    """`twofold train` in so many processes."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = str(s.getsockname()[1])
    start = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--max-restarts", "1"]
    start += ["--master-addr", "127.0.0.1", "--master-port", port, "-m", "twofold", "train", str(corpus)]
    train = ["-o", str(run), "--steps", str(steps), "--preset", "mini", "--batch-rows", "16", *options]
    return [sys.executable, *start, *train]


def speed(corpus: Path, folder: Path, steps: int, processes: int, threads: int, *options: str) -> float:
    """Tokens a second, the median of the rows of metrics after the first."""
    run = folder / f"run-{processes}-{threads}-{'-'.join(options)}"
    env = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(
        command(corpus, run, steps, processes, *options), env=env, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    rows = [r["tokens_per_second"] for r in read_rows(run / "metrics.jsonl") if "tokens_per_second" in r]
    return statistics.median(rows[1:])


def recovery(corpus: Path, folder: Path) -> tuple[float, int]:
    """(seconds from a process's death to the first step after it, steps made twice)."""
    run = folder / "killed"
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    line = command(corpus, run, 100_000, 2, "--checkpoint-seconds", "5", "--compile", "no")
    job = subprocess.Popen(line, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    metrics = run / "metrics.jsonl"

    def last_step() -> int:
        rows = read_rows(metrics) if metrics.is_file() else []
        return max((row["step"] for row in rows), default=0)

    try:
        while last_step() < 80:
            time.sleep(0.2)
        mine = f"/proc/{job.pid}/task/{job.pid}/children"
        victim = int(Path(mine).read_text().split()[-1])
        before, at = last_step(), time.monotonic()
        os.kill(victim, signal.SIGKILL)
        while (step := last_step()) >= before:  # metrics beyond the checkpoint go when the run goes on
            time.sleep(0.02)
        again, begun = before - step, step
        while last_step() <= begun:
            time.sleep(0.02)
        return time.monotonic() - at, again
    finally:
        job.send_signal(signal.SIGTERM)
        job.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("corpus", type=Path, help="a corpus folder, from `twofold text`")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--output", type=Path, help="write the table here, as Markdown")
    arguments = parser.parse_args()
    ways = {
        "1 process × 1 thread": (1, 1),
        "1 process × 2 threads": (1, 2),
        "2 processes": (2, 1),
        "2 processes, --shards 2": (2, 1, "--shards", "2"),
        "2 processes, --tensor 2": (2, 1, "--tensor", "2"),
    }
    machine = environment(torch.device("cpu"), torch.bfloat16)
    lines = [
        f"{machine['processor']}, {machine['cores']} cores, torch {machine['torch']}; mini, 16 rows of 256 tokens.",
        "",
        "| way | tokens/s | against one thread | efficiency |",
        "|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        base = 0.0
        for name, (processes, threads, *options) in ways.items():
            found = speed(
                arguments.corpus,
                Path(folder),
                arguments.steps,
                processes,
                threads,
                *options,
                "--compile",
                "no",
            )
            base = base or found
            lines.append(
                f"| {name} | {found:,.0f} | {found / base:.2f} | {found / base / processes / threads:.0%} |"
            )
            print(lines[-1], file=sys.stderr)
        seconds, again = recovery(arguments.corpus, Path(folder))
    lines += ["", f"A killed process: {seconds:.1f} s to the next row of metrics, {again} steps made again."]
    print("\n".join(lines))
    if arguments.output:
        with atomic_write(arguments.output) as file:
            file.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
