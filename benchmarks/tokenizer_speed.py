"""How fast tokenizers train and encode, on the same text, with the same ids.

    python benchmarks/tokenizer_speed.py                      # 8 MB of the made-up village, small vocabularies
    python benchmarks/tokenizer_speed.py books.jsonl.gz notes/ --vocab-size 32768
    python benchmarks/tokenizer_speed.py --tokenizer gpt2/ --tokenizer o200k_base.tiktoken --tokenizer llama.gguf

Our own kind, and others' as they are opened here: those named with --tokenizer, or else one of each kind,
trained here. Every encoder runs once a round, rounds follow each other, and the median of each is shown, so that
a busy minute of the machine hits all of them alike; core seconds suffer less from one. Ratios are Twofold's
speed to that of the fastest other library. The ids of all encoders are compared before anything is measured.
"""

from __future__ import annotations

import argparse
import io
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
from twofold.tokens.codec import Roles
from twofold.tokens.json_checks import check
from twofold.tokens.json_codec import JsonCodec
from twofold.tokens.opening import from_content
from twofold.tokens.own import OwnCodec
from twofold.tokens.patterns import GPT2, LLAMA3, O200K
from twofold.tokens.piece_codec import PieceCodec
from twofold.tokens.rank_codec import RankCodec
from twofold.tokens.sentencepiece_file import read_model, write_model
from twofold.tokens.special import Config
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


Encoders = dict[str, Callable[[], list]]


def encoders_of(tokenizer: Tokenizer, pages: list[str]) -> Encoders:
    """Twofold's encoder of a batch, and all libraries' that can do what this tokenizer does."""
    codec, threads = tokenizer.codec, os.cpu_count() or 1
    found: Encoders = {"Twofold": lambda: tokenizer.encode_batch(pages)}
    joiner = None
    if isinstance(codec, OwnCodec):
        content = json.dumps(tokenizer_file.to_json(codec.vocabulary, added=False))
        found |= _tokenizers(tokenizers.Tokenizer.from_str(content), pages)
        joiner = codec._joiner
    elif isinstance(codec, JsonCodec):
        found |= _tokenizers(codec._library, pages)
        joiner = None if codec._way is None or codec._way.spaces or codec._way.composed else codec._way.joiner
    elif isinstance(codec, RankCodec):
        joiner = codec._joiner
    elif isinstance(codec, PieceCodec):
        import sentencepiece

        peer = sentencepiece.SentencePieceProcessor(model_proto=write_model(codec.model))
        found["sentencepiece, batch"] = lambda: peer.encode(pages, num_threads=threads)
        found["sentencepiece, one by one"] = lambda: [peer.encode(page) for page in pages]
    if joiner is not None and joiner._ids is None:
        core = joiner._core
        found["tiktoken, batch"] = lambda: core.encode_ordinary_batch(pages, num_threads=threads)
        found["tiktoken, one by one"] = lambda: [core.encode_ordinary(page) for page in pages]
    return found


def _tokenizers(peer: tokenizers.Tokenizer, pages: list[str]) -> Encoders:
    def ids(encode: Callable) -> list:
        return [each.ids for each in encode(pages, add_special_tokens=False)]

    return {
        "tokenizers, batch": lambda: ids(peer.encode_batch),
        "tokenizers, fast batch": lambda: ids(peer.encode_batch_fast),
    }


def trained_here(pages: list[str], vocab_size: int) -> dict[str, Tokenizer]:
    """One tokenizer of each kind, learned from the beginning of the text."""
    from tokenizers import Regex, decoders, models, pre_tokenizers, trainers

    some = pages[: 1 + 2_000_000 // DOCUMENT]
    found: dict[str, Tokenizer] = {}
    for name, pattern in {"gpt-2": GPT2, "llama-3": LLAMA3, "o200k": O200K}.items():
        made = tokenizers.Tokenizer(models.BPE(ignore_merges=name == "llama-3"))
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        split = pre_tokenizers.Split(Regex(pattern), "isolated")
        made.pre_tokenizer, made.decoder = pre_tokenizers.Sequence([split, byte_level]), decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False)
        made.train_from_iterator(some, trainer)
        found[name] = from_content(check(json.loads(made.to_str()), name), Config(), name)
    try:
        import sentencepiece
    except ImportError:
        print("sentencepiece is not installed, so its models are not compared.")
        return found
    for kind in ("bpe", "unigram"):
        written = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(line for page in some for line in page.split("\n")),
            model_writer=written, model_type=kind, vocab_size=vocab_size, byte_fallback=True, hard_vocab_limit=False,
            minloglevel=2,
        )  # fmt: skip
        codec = PieceCodec(read_model(written.getvalue(), kind), kind)
        found[f"SentencePiece {kind}"] = Tokenizer.of(codec, Roles())
    return found


def opened(path: str) -> Tokenizer:
    """A tokenizer by path, that of a `.gguf` too."""
    if not path.endswith(".gguf"):
        return Tokenizer.load(path)
    from twofold.models.gguf import read_gguf
    from twofold.tokens.gguf import from_metadata

    return from_metadata(read_gguf(path).metadata, path)


def measured(work: dict[str, Callable[[], object]], rounds: int) -> dict[str, tuple[float, float]]:
    """The median seconds of each, by the clock and of all cores."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, each in work.items():
            times[name].append(seconds(each))
    return {name: tuple(map(statistics.median, zip(*runs, strict=True))) for name, runs in times.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("inputs", nargs="*", help="text files or folders; none: the village")
    parser.add_argument(
        "--tokenizer", action="append", default=[], help="a tokenizer, or a .gguf; may be repeated"
    )
    parser.add_argument("--megabytes", type=float, default=8.0)
    parser.add_argument("--vocab-size", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="1 MB, one round")
    options = parser.parse_args()
    if options.quick:
        options.megabytes, options.rounds = 1.0, 1

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    pages = documents(options.inputs, options.megabytes)
    size = sum(len(page.encode()) for page in pages) / 1e6
    versions = {name: metadata.version(name) for name in ("tokenizers", "tiktoken")}
    print(
        f"{size:.1f} MB in {len(pages):,} pages; {os.cpu_count()} cores, {platform.machine()}, {versions}\n"
    )

    training: dict[str, Callable[[], object]] = {
        "Twofold": lambda: train_tokenizer(pages, options.vocab_size)
    }
    try:
        import rustbpe  # noqa: F401

        training["rustbpe"] = lambda: train_rustbpe(pages, options.vocab_size)
    except ImportError:
        print("rustbpe is not installed, so it is not compared in training.")
    print("| training | seconds | MB/s | core seconds |\n|---|---|---|---|")
    for name, (took, core) in measured(training, options.rounds).items():
        print(f"| {name} | {took:.2f} | {size / took:.1f} | {core:.2f} |")

    chosen = {path: opened(path) for path in options.tokenizer} or trained_here(pages, options.vocab_size)
    print("\n| tokenizer | tokens | encoder | MB/s | core seconds | Twofold to the fastest other |")
    print("|---|---|---|---|---|---|")
    for kind, tokenizer in {"Twofold's own": train_tokenizer(pages, options.vocab_size), **chosen}.items():
        encoders = encoders_of(tokenizer, pages)
        expected = encoders["Twofold"]()
        for name, encode in encoders.items():
            if not all(np.array_equal(a, b) for a, b in zip(encode(), expected, strict=True)):
                raise SystemExit(f"{kind}: {name} gives other ids.")
        found = measured(encoders, options.rounds)
        ours = found["Twofold"][0]
        best = min((took for name, (took, _) in found.items() if name != "Twofold"), default=ours)
        for name, (took, core) in found.items():
            ratio = f"{best / ours:.2f}" if name == "Twofold" else ""
            print(
                f"| {kind} | {tokenizer.vocab_size:,} | {name} | {size / took:.1f} | {core:.2f} | {ratio} |"
            )


if __name__ == "__main__":
    main()
