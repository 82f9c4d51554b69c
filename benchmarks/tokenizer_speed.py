"""How fast the well-kept BPE libraries train and encode, on the same text, with the same ids.

    python benchmarks/tokenizer_speed.py                      # 20 MB of the made-up village
    python benchmarks/tokenizer_speed.py books.jsonl.gz notes/ --vocab-size 32768

Every encoder runs once a round, rounds follow each other, and the median of each is shown, so that a busy
minute of the machine hits all of them alike; core seconds suffer less from one. Ratios are to `tokenizers`
in batch. The ids of all encoders are compared before anything is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib import metadata

import numpy as np
import tokenizers

from twofold.text.sources import read_documents
from twofold.tokens import tokenizer_file
from twofold.tokens.tokenizer import Tokenizer
from twofold.tokens.train import train_tokenizer
from twofold.tokens.vocabulary import PATTERN, Vocabulary, standard_added, to_bytes, to_letters

DOCUMENT = 4_000  # characters: the size of a page


def documents(inputs: list[str], megabytes: float) -> list[str]:
    """Texts of a page each, together about so many MB."""
    if inputs:
        source = (document.text for document in read_documents(inputs))
    else:
        from twofold.text.world import Village, VillageSettings

        village = Village(VillageSettings(villagers=2000, seed=0))
        source = (document.text for document in village.documents(int(megabytes * 1e6)))
    pages, held, size = [], "", 0
    for text in source:
        held += text + "\n"
        while len(held) >= DOCUMENT:
            page, held = held[:DOCUMENT], held[DOCUMENT:]
            pages.append(page)
            size += len(page.encode())
            if size >= megabytes * 1e6:
                return pages
    return [*pages, held] if held.strip() else pages


def train_rustbpe(pages: list[str], vocab_size: int) -> Tokenizer:
    """The same kind of tokenizer, trained by rustbpe."""
    import rustbpe

    trainer = rustbpe.Tokenizer()
    added = len(standard_added(0))
    trainer.train_from_iterator(iter(pages), vocab_size - added, pattern=PATTERN)
    ranks = sorted(((rank, bytes(piece)) for piece, rank in trainer.get_mergeable_ranks()))
    pieces = [to_letters(piece) for _, piece in ranks]
    number = {to_bytes(piece): rank for rank, piece in enumerate(pieces)}
    merges = []
    for rank, piece in ranks[256:]:
        parts = [piece[i : i + 1] for i in range(len(piece))]
        while len(parts) > 2:
            pairs = [(number.get(a + b, rank), i) for i, (a, b) in enumerate(zip(parts, parts[1:]))]  # noqa: B905,RUF007
            _, place = min(pairs)
            parts[place : place + 2] = [parts[place] + parts[place + 1]]
        merges.append(" ".join(map(to_letters, parts)))
    tokens = standard_added(len(pieces))
    return Tokenizer(Vocabulary((*pieces, *(token.name for token in tokens)), tuple(merges), tokens))


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """How long one run takes: by the clock, and of all cores' time."""
    start, used = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start, time.process_time() - used


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("inputs", nargs="*", help="text files or folders; none: the village")
    parser.add_argument("--megabytes", type=float, default=20.0)
    parser.add_argument("--vocab-size", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()

    pages = documents(options.inputs, options.megabytes)
    size = sum(len(page.encode()) for page in pages)
    tokenizer = train_tokenizer(pages, options.vocab_size)

    training = {"tokenizers (Twofold)": lambda: train_tokenizer(pages, options.vocab_size)}
    try:
        import rustbpe  # noqa: F401

        training["rustbpe"] = lambda: train_rustbpe(pages, options.vocab_size)
    except ImportError:
        print("rustbpe is not installed, so it is not compared.")

    content = json.dumps(tokenizer_file.to_json(tokenizer._vocabulary, added=False))
    peer = tokenizers.Tokenizer.from_str(content)
    fast = tokenizer._fast
    encoders: dict[str, Callable[[], list]] = {
        "tokenizers, batch": lambda: [each.ids for each in peer.encode_batch_fast(pages)],
        "tokenizers, one by one": lambda: [peer.encode(page).ids for page in pages],
        "tiktoken, batch of lists": lambda: fast.encode_ordinary_batch(
            pages, num_threads=os.cpu_count() or 1
        ),
        "tiktoken, one by one": lambda: [fast.encode_ordinary(page) for page in pages],
        "tiktoken, one by one to NumPy": lambda: [
            fast.encode_to_numpy(p, disallowed_special=()) for p in pages
        ],
        "Twofold encode": lambda: [tokenizer.encode(page) for page in pages],
        "Twofold encode_batch": lambda: tokenizer.encode_batch(pages),
    }
    expected = encoders["tokenizers, batch"]()
    for name, encode in encoders.items():
        found = encode()
        same = all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
        print(f"{name}: {'the same ids' if same else 'OTHER IDS'}")

    times: dict[str, list[tuple[float, float]]] = {name: [] for name in (*training, *encoders)}
    for _ in range(options.rounds):
        for name, work in {**training, **encoders}.items():
            times[name].append(seconds(work))

    versions = {name: metadata.version(name) for name in ("tokenizers", "tiktoken")}
    print(f"\n{size / 1e6:.1f} MB in {len(pages):,} pages, {tokenizer.vocab_size:,} tokens, {versions}")
    print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}\n")
    print("| what | seconds | MB/s | ratio | core seconds | ratio |\n|---|---|---|---|---|---|")
    medians = {name: tuple(map(statistics.median, zip(*runs, strict=True))) for name, runs in times.items()}
    for names, base in ((training, "tokenizers (Twofold)"), (encoders, "tokenizers, batch")):
        for name in names:
            (took, core), (base_took, base_core) = medians[name], medians[base]
            label = f"train: {name}" if name in training else name
            speed = size / 1e6 / took
            print(
                f"| {label} | {took:.2f} | {speed:.1f} | {base_took / took:.1f}x "
                f"| {core:.2f} | {base_core / core:.1f}x |"
            )


if __name__ == "__main__":
    main()
