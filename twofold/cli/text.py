"""`twofold text`: the text that a model learns from, gathered into a corpus that can be looked at."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from twofold.cli.show import printable, section, strong
from twofold.cli.terminal import status
from twofold.errors import UsageError
from twofold.files import atomic_write
from twofold.report.quantities import flat, size, value_of, whole

if TYPE_CHECKING:
    from twofold.text.corpus import Corpus

app = App(
    name="text",
    help="""Gather text to learn from: your own, or a made-up village.

A corpus is a folder: the documents, each in the part to train on or in the held-out part, and
`card.json`, which says what is in it. The held-out part is chosen before anything is trained, and
nothing ever trains on it.""",
)

MOST_SOURCES = 20  # shown; the card holds them all

Output = Annotated[Path, Parameter(name=["--output", "-o"])]


@app.command
def read(
    inputs: Annotated[list[str], Parameter(negative_iterable=())],
    /,
    *,
    output: Output,
    held_out: float = 0.05,
    seed: int = 0,
    bad_files: Literal["refuse", "skip"] = "refuse",
) -> None:
    """Read your own text into a corpus, and show its card.

    Takes .txt, .md, .json, .jsonl and .parquet, plain or as .gz or .zst; folders of them; `-` for standard
    input; and hub data sets as `hf://name`. Large files are streamed.

    Parameters
    ----------
    inputs
        Files, folders, - or hf://name.
    output
        The folder to make.
    held_out
        The share of the bytes that is kept for measuring.
    seed
        Which documents are held out.
    bad_files
        What to do with a file that cannot be read: stop, or leave it out and count it.
    """
    from twofold.text.corpus import build_corpus
    from twofold.text.sources import ReadReport, read_documents

    _must_be_new(output)
    report = ReadReport()
    documents = read_documents(inputs, on_bad=bad_files, report=report)
    with _progress() as progress:
        corpus = build_corpus(
            documents, output, held_out=held_out, seed=seed, report=report, progress=progress
        )
    _show(output, corpus)
    _go_on(f"twofold text show {shlex.quote(str(output))} --documents 3")


@app.command
def village(
    *,
    output: Output,
    villagers: int = 2000,
    megabytes: float = 10.0,
    seed: int = 0,
    held_out: float = 0.05,
    conversations: int = 4000,
) -> None:
    """Make a village: a small made-up world in which every fact is known.

    Besides the corpus, the folder gets `conversations.jsonl` to fine-tune on, which ask about one half of
    the villagers, and `questions.jsonl` with the exact answers about both halves. The same for a seed
    on every machine.

    Parameters
    ----------
    output
        The folder to make.
    villagers
        How many people live there.
    megabytes
        How much text is told about them, in millions of bytes.
    seed
        Another seed is another village.
    held_out
        The share of the bytes that is kept for measuring.
    conversations
        How many conversations to fine-tune on.
    """
    from twofold.text.corpus import build_corpus
    from twofold.text.world import SPLITS, Village, VillageSettings

    if not 0 < megabytes <= 100_000:
        raise UsageError(f"--megabytes must be above 0 and at most 100,000, and is {megabytes:g}.")
    if conversations < 0:
        raise UsageError(f"--conversations must not be negative, and is {conversations}.")
    _must_be_new(output)
    world = Village(VillageSettings(villagers=villagers, seed=seed))
    documents = world.documents(int(megabytes * 1e6))
    with _progress() as progress:
        corpus = build_corpus(documents, output, held_out=held_out, seed=seed, progress=progress)
    try:
        _write_lines(
            output / "conversations.jsonl",
            ({"messages": [asdict(m) for m in c.messages]} for c in world.conversations(conversations)),
        )
        _write_lines(
            output / "questions.jsonl",
            (
                {**asdict(question), "split": split}
                for split in SPLITS
                for language in world.settings.languages
                for question in world.questions(split, language)
            ),
        )
    except BaseException:
        shutil.rmtree(output, ignore_errors=True)  # a village is whole or not there
        raise
    _show(output, corpus)
    _go_on(f"twofold text show {shlex.quote(str(output))} --documents 3")


@app.command
def show(
    corpus: Path,
    /,
    *,
    documents: int = 0,
    part: Literal["train", "held_out"] = "train",
    characters: int = 600,
) -> None:
    """Show a corpus: its card, and how some of its documents begin.

    Parameters
    ----------
    corpus
        A corpus folder.
    documents
        How many documents to show.
    part
        Of which part.
    characters
        How much of each document.
    """
    from itertools import islice

    from twofold.text.corpus import Corpus

    if documents < 0 or characters < 0:
        raise UsageError(f"--{'documents' if documents < 0 else 'characters'} must not be negative.")
    opened = Corpus.open(corpus)
    _show(corpus, opened)
    number_shown = min(documents, opened.card[part]["documents"])
    for number, text in enumerate(islice(opened.documents(part), number_shown), start=1):
        print(f"\n{strong(f'Document {number} of {part}')}")
        for line in text[:characters].splitlines():
            print(f"  {printable(line)}")
        if len(text) > characters:
            print(f"  … ({size(len(text.encode()))} in all)")


def _must_be_new(folder: Path) -> None:
    """Refuse before hours of reading, not after."""
    if folder.exists():
        raise UsageError(
            f"{folder} exists already; nothing was changed. Choose another --output, or remove it."
        )


def _write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    with atomic_write(path) as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _show(folder: Path, corpus: Corpus) -> None:
    """Print a corpus's card: how much, what was left out, from where, and how it was split."""
    card = corpus.card
    print(f"{strong(printable(str(folder)))}: {whole(card['documents'])} documents, {size(card['bytes'])}")
    sides = [("train", card["train"]), ("held out", card["held_out"])]
    section(
        "Sides",
        [(name, f"{whole(side['documents'])} documents", size(side["bytes"])) for name, side in sides],
    )
    print(f"  {printable(card['split']['rule'])}; seed {card['split']['seed']}")
    left_out = [("empty", f"{whole(card['empty'])} documents")] if card["empty"] else []
    if card["duplicates"]:
        left_out.append(
            ("repeated", f"{whole(card['duplicates'])} documents, {size(card['duplicate_bytes'])}")
        )
    section("Left out", left_out)
    sources = sorted(card["sources"].items(), key=lambda item: -item[1]["bytes"])
    rows = [(name, f"{whole(of['documents'])} documents", size(of["bytes"])) for name, of in sources]
    section("Sources", rows[:MOST_SOURCES])
    if len(rows) > MOST_SOURCES:
        print(f"  … and {whole(len(rows) - MOST_SOURCES)} more, in {folder / 'card.json'}")
    section("Reading", [(name, value_of(name, value)) for name, value in flat(card.get("reading") or {})])
    section("SHA-256", [("text", card["sha256"])])


def _progress() -> AbstractContextManager[Callable[[int, int], None] | None]:
    return status(lambda documents, n_bytes: f"{whole(documents)} documents, {size(n_bytes)}")


def _go_on(command: str) -> None:
    print(f"\nGo on with:\n  {command}")
