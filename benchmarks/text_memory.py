"""How much memory reading takes: a generated text of many gigabytes goes through `read_documents` and,
with --corpus, on into a corpus on disk.

    python benchmarks/text_memory.py                       # 10 GB of plain text through a pipe
    python benchmarks/text_memory.py --gigabytes 1 --format jsonl --corpus

A child process reads from its standard input what this process generates; the child's peak resident
memory (VmHWM of /proc/self/status) and the speed are printed as one JSON object.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path


def blocks(kind: str, total: int) -> Iterator[bytes]:
    """About a megabyte at a time, `total` bytes in all; no two documents are equal."""
    draw = random.Random(0)
    words = [f"w{number}" for number in range(5000)]
    stories = [" ".join(draw.choices(words, k=300)) for _ in range(600)]
    done = number = 0
    while done < total:
        parts = []
        for story in stories:
            number += 1
            if kind == "jsonl":
                parts.append(json.dumps({"text": f"Story {number}. {story}"}) + "\n")
            else:
                end = "\n<|endoftext|>\n" if kind == "separated" else "\n\n"
                parts.append(f"Story {number}. {story}{end}")
        block = "".join(parts).encode()[: total - done]
        done += len(block)
        yield block


def child(corpus: str | None) -> None:
    from twofold.text.corpus import build_corpus
    from twofold.text.sources import ReadReport, read_documents

    report = ReadReport()
    documents = read_documents(["-"], report=report, on_bad="skip")
    if corpus is not None:
        build_corpus(documents, corpus, report=report)
    else:
        for _ in documents:
            pass
    status = Path("/proc/self/status").read_text().split("VmHWM:")[1]
    print(
        json.dumps(
            {"peak_mb": int(status.split()[0]) // 1000, "documents": report.documents, "cut": report.cut}
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gigabytes", type=float, default=10.0)
    parser.add_argument("--format", choices=["plain", "separated", "jsonl"], default="plain")
    parser.add_argument("--corpus", action="store_true", help="also write the corpus (needs the disk space)")
    parser.add_argument("--child", nargs="?", const="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child is not None:
        child(arguments.child or None)
        return
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--child", *([f"{folder}/corpus"] if arguments.corpus else [])]
        start = time.perf_counter()
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            for block in blocks(arguments.format, int(arguments.gigabytes * 1e9)):
                process.stdin.write(block)
            process.stdin.close()
            found = json.loads(process.stdout.read())
        seconds = time.perf_counter() - start
    found |= {"format": arguments.format, "corpus": arguments.corpus, "gigabytes": arguments.gigabytes}
    found |= {"seconds": round(seconds, 1), "mb_per_second": round(1000 * arguments.gigabytes / seconds, 1)}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
