"""Hostile files at every door: what opens a file opens it, or refuses it with a message that names it.

    python benchmarks/hostile_files.py                         # a million cases, on 2 processes
    python benchmarks/hostile_files.py --quick                 # some thousand
    python benchmarks/hostile_files.py --cases 50000 --seed 7 --only tokenizer.json
    python benchmarks/hostile_files.py --case tokenizer.json:17  # one case again, with what came of it

Valid small files of every kind (`hostile_samples.py`) are damaged (`hostile_mutations.py`, `hostile_formats.py`): cut
short, bytes changed, counts, offsets and sizes that lie, wrong types and shapes, names that stand there twice, numbers
without measure, deep nesting, packed files that are enormous unpacked, files of holes, pickles, paths that lead
elsewhere, links, pipes and folders where a file should be. Each comes to the doors of its kind (`hostile_kinds.py`),
and a pass of the model follows where one opened.

Anything but that, or a TwofoldError whose message names the file (a chat template's: the template), is on one short
line and holds nothing that a terminal would obey, is a fault: another exception, a warning, anything printed, a process
that dies, more than 5 seconds (11 for a conversation by a chat template, which may take 5 twice) or 500 MB beside what
the process had, a canary that a pickle or a template made. Cases run in processes of their own, whose memory is
limited. Linux only.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from random import Random
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything imports torch
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from hostile_kinds import KINDS, kind_of_message, make_case, try_case, valid_files

MOST_ADDRESSES = 3 << 30  # bytes that a process may map beside what it has
HUNG = 30.0  # seconds after which a process is ended
CHUNK = 250  # cases that a process gets at once


@dataclass
class Tally:
    """What came of the cases of one kind. `faults`: text -> (how often, the first case)."""

    cases: int = 0
    opened: int = 0
    seconds: float = 0.0
    messages: set[str] = field(default_factory=set)
    slowest: tuple[float, int] = (0.0, 0)
    largest: tuple[int, int] = (0, 0)
    faults: dict[str, list[int]] = field(default_factory=dict)

    def add(self, other: Tally) -> None:
        """Join another's."""
        self.cases, self.opened = self.cases + other.cases, self.opened + other.opened
        self.seconds += other.seconds
        self.messages |= other.messages
        self.slowest, self.largest = max(self.slowest, other.slowest), max(self.largest, other.largest)
        for fault, cases in other.faults.items():
            self.faults[fault] = self.faults.get(fault, []) + cases


def try_cases(kind: str, seeds: range, skip: set[int], place: Path, now: Any, log: int) -> Tally:
    """Try these cases, telling in `now` which one it is."""
    tally, before = Tally(), len(os.listdir("/proc/self/fd"))
    for seed in seeds:
        if seed in skip:
            continue
        now[0], now[1] = seed, time.monotonic()
        outcome = try_case(kind, seed, place, place / "canary", log)
        tally.cases += 1
        tally.opened += outcome.opened
        tally.seconds += outcome.seconds
        if outcome.message:
            tally.messages.add(kind_of_message(outcome.message))
        tally.slowest = max(tally.slowest, (outcome.seconds, seed))
        tally.largest = max(tally.largest, (outcome.memory, seed))
        if outcome.fault:
            tally.faults.setdefault(outcome.fault, []).append(seed)
    gc.collect()
    if (left := len(os.listdir("/proc/self/fd")) - before) > 0:
        tally.faults[f"one of {len(seeds)} cases from this one on leaves {left} files open"] = [seeds.start]
    return tally


class Worker:
    """A process that tries cases; `now` is shared: the case it is at, and since when (0: at none)."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.now = multiprocessing.RawArray("d", 2)
        self.task: tuple[str, range, set[int]] | None = None
        self._start()

    def _start(self) -> None:
        shutil.rmtree(self.place, ignore_errors=True)
        self.place.mkdir()
        self.pipe, theirs = multiprocessing.Pipe()
        self.process = multiprocessing.Process(
            target=_serve, args=(theirs, self.place, self.now), daemon=True
        )
        self.process.start()
        theirs.close()

    def give(self, kind: str, seeds: range, skip: set[int] | None = None) -> None:
        """Cases to try."""
        self.task = kind, seeds, skip or set()
        self.now[1] = 0.0
        self.pipe.send(self.task)

    def answer(self) -> Tally | None:
        """What came of the cases; None while there is no answer, and from a process that is dead."""
        try:
            return self.pipe.recv() if self.pipe.poll() else None
        except (EOFError, OSError):
            self.process.join()
            return None

    def hangs(self) -> bool:
        """Whether a case takes far too long."""
        return self.task is not None and self.now[1] > 0 and time.monotonic() - self.now[1] > HUNG

    def renew(self) -> tuple[str, int, str]:
        """End a process that hangs or is dead, start another at the same cases without that one; which it was."""
        hung = self.process.is_alive()
        self.process.kill()
        self.process.join()
        kind, seeds, skip = self.task
        seed = int(self.now[0])
        code = self.process.exitcode
        log = self.place.parent / f"{self.place.name}.log"
        said = log.read_bytes()[-1500:].decode(errors="replace") if log.exists() else ""
        fault = f"it took more than {HUNG:.0f} s" if hung else f"the process died (exit code {code}) {said}"
        self._start()
        self.give(kind, seeds, skip | {seed})
        return kind, seed, fault

    def stop(self) -> None:
        """No more cases."""
        self.process.kill()
        self.process.join()


def _serve(pipe: Connection, place: Path, now: Any) -> None:
    limit_memory()
    log = os.open(place.parent / f"{place.name}.log", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    while True:
        kind, seeds, skip = pipe.recv()
        tally = try_cases(kind, seeds, skip, place, now, log)
        now[1] = 0.0
        pipe.send(tally)


def limit_memory() -> None:
    """Let this process map only so much more than it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MOST_ADDRESSES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def chunks(cases: int, seed: int, kinds: list[str]) -> list[tuple[str, range]]:
    """All cases in pieces, of each kind its share, mixed; those of another `seed` are others."""
    shares, found = sum(KINDS[kind].share for kind in kinds), []
    for kind in kinds:
        count, first = -(-cases * KINDS[kind].share // shares), seed * 10**8
        for start in range(first, first + count, CHUNK):
            found.append((kind, range(start, min(start + CHUNK, first + count))))
    Random(seed).shuffle(found)
    return found


def measure(cases: int, seed: int, kinds: list[str], processes: int) -> dict[str, Tally]:
    """Try all cases; prints as it goes on."""
    memory = Path("/dev/shm")
    root = Path(tempfile.mkdtemp(prefix="hostile-", dir=memory if memory.is_dir() else None))
    tallies = {kind: Tally() for kind in kinds}
    todo, start, shown = iter(chunks(cases, seed, kinds)), time.monotonic(), 0.0
    workers = [Worker(root / f"worker{number}") for number in range(processes)]
    try:
        for worker in workers:
            if (task := next(todo, None)) is not None:
                worker.give(*task)
        while busy := [worker for worker in workers if worker.task is not None]:
            wait([thing for worker in busy for thing in (worker.pipe, worker.process.sentinel)], timeout=1.0)
            for worker in busy:
                if (tally := worker.answer()) is not None:
                    kind = worker.task[0]
                    tallies[kind].add(tally)
                    worker.task = None
                    for fault, seeds in tally.faults.items():
                        print(f"{kind}:{seeds[0]}: {fault.rstrip()[-200:]}", file=sys.stderr, flush=True)
                    if (task := next(todo, None)) is not None:
                        worker.give(*task)
                elif worker.hangs() or not worker.process.is_alive():
                    kind, number, fault = worker.renew()
                    tallies[kind].add(Tally(cases=1, faults={fault: [number]}))
            if time.monotonic() - shown > 30:
                shown, done = time.monotonic(), sum(tally.cases for tally in tallies.values())
                faults = sum(len(tally.faults) for tally in tallies.values())
                print(
                    f"{shown - start:6.0f} s  {done:9,} cases, {faults} faults", file=sys.stderr, flush=True
                )
    except KeyboardInterrupt:
        print("stopped: this is what was tried so far", file=sys.stderr)
    finally:
        for worker in workers:
            worker.stop()
        shutil.rmtree(root, ignore_errors=True)
    return tallies


def show(tallies: dict[str, Tally]) -> None:
    """The table, and every fault with the first cases that show it."""
    titles = ("kind", "cases", "opened", "refused", "messages", "ms a case", "worst s", "worst MB", "faults")
    total = Tally()
    for tally in tallies.values():
        total.add(tally)
    rows = [
        (kind, f"{t.cases:,}", f"{t.opened:,}", f"{t.cases - t.opened:,}", f"{len(t.messages):,}",
         f"{1e3 * t.seconds / max(1, t.cases):.2f}", f"{t.slowest[0]:.2f}", f"{t.largest[0] / 1e6:.0f}",
         str(sum(map(len, t.faults.values()))))
        for kind, t in {**tallies, "all": total}.items()
    ]  # fmt: skip
    widths = [max(len(row[column]) for row in (titles, *rows)) for column in range(len(titles))]
    for row in (titles, *rows):
        print(
            "  ".join(
                cell.ljust(w) if i == 0 else cell.rjust(w)
                for i, (cell, w) in enumerate(zip(row, widths, strict=True))
            )
        )
    for kind, tally in tallies.items():
        print(f"{kind}: slowest {kind}:{tally.slowest[1]}, largest {kind}:{tally.largest[1]}")
    for kind, tally in tallies.items():
        for fault, seeds in sorted(tally.faults.items(), key=lambda item: -len(item[1])):
            print(
                f"\nFAULT, {len(seeds):,} cases: {', '.join(f'{kind}:{seed}' for seed in seeds[:4])}\n{fault.rstrip()}"
            )


def one_case(name: str) -> int:
    """Try one case again, and leave its files to look at."""
    kind, _, number = name.rpartition(":")
    root = Path(tempfile.mkdtemp(prefix="hostile-"))
    files = root / "files"
    files.mkdir()
    from hostile_mutations import Link, place

    for file, content in make_case(kind, int(number), str(root / "canary")).items():
        place(
            files / file, Link(file) if isinstance(content, Link) and content.target == "@self" else content
        )
    limit_memory()
    outcome = try_case(kind, int(number), root, root / "canary")
    print(f"files: {files}")
    print(
        f"{'opened' if outcome.opened else 'refused'} in {outcome.seconds:.3f} s, {outcome.memory / 1e6:.0f} MB"
    )
    print(outcome.message)
    print(f"FAULT: {outcome.fault}" if outcome.fault else "no fault")
    return bool(outcome.fault)


def main() -> int:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0, help="each has its own cases")
    parser.add_argument("--only", action="append", choices=KINDS, help="a kind; may be given again")
    parser.add_argument("--case", metavar="KIND:SEED", help="one case again")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="10,000 cases")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.case:
        return one_case(options.case)
    kinds = options.only or list(KINDS)
    multiprocessing.set_start_method(
        "fork"
    )  # processes begin with everything loaded, and the valid files made
    for kind in kinds:
        valid_files(kind)
    start = time.monotonic()
    tallies = measure(10_000 if options.quick else options.cases, options.seed, kinds, options.processes)
    show(tallies)
    print(f"\n{sum(t.cases for t in tallies.values()):,} cases in {time.monotonic() - start:,.0f} s")
    return int(any(tally.faults for tally in tallies.values()))


if __name__ == "__main__":
    sys.exit(main())
