"""The corpus: all documents of a run in one file, counted, without repeats, split before training.

A folder holds `documents.utf8` (the texts, one after another), `index.bin` (for each its bytes, digest
and side) and `card.json` (what the text is, and the sizes and SHA-256 of both files). One pass over the
documents writes the store; then the index alone decides what is held out. The folder takes its name in
one rename, so half a corpus is never read.
"""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import numpy as np

from twofold.errors import DataError, FileError, UsageError
from twofold.files import atomic_folder, explained, read_json, sha256, write_json
from twofold.text.documents import Document
from twofold.text.seen import SeenDigests
from twofold.text.split import HELD_OUT_LIMIT, choose_documents, choose_ends

FORMAT = "twofold corpus"
VERSION = 1
STORE, INDEX, CARD = "documents.utf8", "index.bin", "card.json"
LEAST_BYTES = 2048
SIDES = ("train", "held_out")

_ENTRY = np.dtype([("bytes", "<u8"), ("digest", "<u8", (2,)), ("side", "u1")])
_MOST_SOURCES = 1000
_OTHER_SOURCES = "(other sources)"
_PROGRESS_EVERY = 1 << 24  # bytes


def build_corpus(
    documents: Iterable[Document],
    folder: str | os.PathLike,
    *,
    held_out: float = 0.05,
    seed: int = 0,
    report: Any = None,
    progress: Callable[[int, int], None] | None = None,
) -> Corpus:
    """Write `documents` as a corpus into a new folder and open it.

    held_out: the fraction of bytes to hold out, above 0 and at most 0.5; never more than 4 MB.
    seed: keys the digests that choose the held-out documents.
    report: what reading found (its `as_dict()` goes into the card).
    progress: called now and then with (documents, bytes) so far.
    Raises DataError where there is no text or too little, or where a text is not valid Unicode.
    """
    folder = Path(folder)
    if not 0 < held_out <= 0.5:
        raise UsageError(f"held_out must be above 0 and at most 0.5, but it is {held_out}.")
    if not 0 <= seed < 2**63:
        raise UsageError(f"The seed must be from 0 to 2**63 - 1, but it is {seed}.")
    if folder.exists():
        raise FileError(f"{folder} exists already; a corpus is written into a new folder.")
    with atomic_folder(folder) as partial:
        writer = _Writer(seed, progress)
        with open(partial / STORE, "wb", buffering=1 << 20) as file:
            for document in documents:
                writer.add(document, file)
            file.flush()
            os.fsync(file.fileno())
        writer.check()
        index, split = _split(partial / STORE, writer.take_index(), held_out)
        with open(partial / INDEX, "wb") as file:
            file.write(memoryview(index.view(np.uint8)))
            file.flush()
            os.fsync(file.fileno())
        card = {"format": FORMAT, "version": VERSION, "created": datetime.now(UTC).isoformat("T", "seconds")}
        card |= {"documents": len(index), "bytes": writer.bytes}
        for number, side in enumerate(SIDES):
            sizes = index["bytes"][index["side"] == number]
            card[side] = {"documents": len(sizes), "bytes": int(sizes.sum())}
        card["split"] = {"fraction": held_out, "limit": HELD_OUT_LIMIT, "seed": seed, **split}
        card |= writer.counts()
        card["reading"] = report.as_dict() if report is not None else None
        card["sha256"] = writer.sha256.hexdigest()
        card["index"] = {"size": index.nbytes, "sha256": sha256(partial / INDEX)}
        write_json(partial / CARD, card)
    return Corpus.open(folder)


class _Writer:
    """The one pass: encode, digest, drop repeats, write, count."""

    def __init__(self, seed: int, progress: Callable[[int, int], None] | None):
        self.key = seed.to_bytes(8, "little")
        self.progress = progress
        self.progress_at = _PROGRESS_EVERY
        self.seen = SeenDigests()
        self.sizes = array("Q")
        self.bytes = 0
        self.empty = self.duplicates = self.duplicate_bytes = 0
        self.sources: dict[str, list[int]] = {}
        self.sha256 = hashlib.sha256()

    def add(self, document: Document, file: IO[bytes]) -> None:
        text = document.text
        if not text or text.isspace():
            self.empty += 1
            return
        try:
            data = text.encode()
        except UnicodeEncodeError as error:
            where = document.source or f"document {len(self.sizes)}"
            raise DataError(f"{where} is not valid Unicode text (a lone surrogate): {error}.") from error
        if not self.seen.add(hashlib.blake2b(data, digest_size=16, key=self.key).digest()):
            self.duplicates += 1
            self.duplicate_bytes += len(data)
            return
        file.write(data)
        self.sha256.update(data)
        self.sizes.append(len(data))
        self.bytes += len(data)
        counts = self._source(document.source)
        counts[0] += 1
        counts[1] += len(data)
        if self.progress is not None and self.bytes >= self.progress_at:
            self.progress_at = self.bytes + _PROGRESS_EVERY
            self.progress(len(self.sizes), self.bytes)

    def _source(self, source: str) -> list[int]:
        """The counts of a source; "books.jsonl:17" counts for "books.jsonl"."""
        name, colon, number = source.rpartition(":")
        if not (colon and number.isdecimal()):
            name = source
        name = name or "(no source)"
        if name not in self.sources and len(self.sources) >= _MOST_SOURCES:
            name = _OTHER_SOURCES
        return self.sources.setdefault(name, [0, 0])

    def check(self) -> None:
        if not self.sizes:
            raise DataError("There is no text: every document is empty, or there is none.")
        if self.bytes < LEAST_BYTES:
            raise DataError(
                f"There are only {self.bytes} bytes of text (repeats not counted). At least {LEAST_BYTES} "
                "are needed to train and to hold some out; a useful model needs a megabyte or more."
            )

    def take_index(self) -> np.ndarray:
        """The index, all on the train side, in exchange for the memory of the table it came from."""
        index = np.zeros(len(self.sizes), _ENTRY)
        index["bytes"] = np.frombuffer(self.sizes, np.uint64)
        index["digest"] = self.seen.array()
        self.seen, self.sizes = SeenDigests(), array("Q")
        return index

    def counts(self) -> dict[str, Any]:
        sources = {name: {"documents": d, "bytes": b} for name, (d, b) in self.sources.items()}
        return {
            "empty": self.empty,
            "duplicates": self.duplicates,
            "duplicate_bytes": self.duplicate_bytes,
            "sources": sources,
        }


def _split(store: Path, index: np.ndarray, held_out: float) -> tuple[np.ndarray, dict[str, str]]:
    """The index with its sides, and how they were chosen, for the card."""
    sizes = index["bytes"].astype(np.int64)
    budget = min(int(held_out * int(sizes.sum())), HELD_OUT_LIMIT)
    chosen = choose_documents(index["digest"], sizes, budget)
    if chosen is not None:
        index["side"][chosen] = 1
        return index, {
            "way": "documents",
            "rule": "whole documents, in the order of their keyed BLAKE2b digest",
        }
    stops = np.cumsum(sizes)
    with open(store, "rb") as file:

        def tail_of(document: int, count: int) -> bytes:
            file.seek(int(stops[document]) - count)
            return file.read(count)

        ends = choose_ends(sizes, budget, tail_of)
    if not ends:
        raise DataError("The text cannot be split: no document has an end that could be held out.")
    parts, done = [], 0
    for document, held in sorted(ends):
        whole = index[document : document + 1]
        kept, tail = whole.copy(), whole.copy()
        kept["bytes"] -= np.uint64(held)
        tail["bytes"], tail["side"] = held, 1
        parts += [index[done:document], kept, tail]
        done = document + 1
    return np.concatenate([*parts, index[done:]]), {
        "way": "ends",
        "rule": "too few documents to hold out whole ones: the ends of the longest, cut at a border",
    }


class Corpus:
    """A corpus on disk. `card` is what is known of it; `len(corpus)` counts the documents of both sides."""

    def __init__(self, folder: Path, card: dict[str, Any], index: np.ndarray):
        self.folder, self.card, self._index = folder, card, index

    @classmethod
    def open(cls, folder: str | os.PathLike, *, verify: bool = False) -> Corpus:
        """Open a folder that `build_corpus` made. Sizes, and the SHA-256 of the index, are always checked;
        that of the whole text only with `verify`. Raises FileError where anything does not fit."""
        folder = Path(folder)
        if not (folder / CARD).is_file():
            raise FileError(
                f"{folder} holds no corpus (no {CARD}). It was never finished or is another folder."
            )
        card = read_json(folder / CARD)
        try:
            if card["format"] != FORMAT or card["version"] != VERSION:
                raise ValueError("it is of another kind or version")
            counts = [card["documents"], card["bytes"], card["index"]["size"]]
            counts += [card["empty"], card["duplicates"], card["duplicate_bytes"]]
            for part in (*(card[side] for side in SIDES), *card["sources"].values()):
                counts += [part["documents"], part["bytes"]]
            if not {"rule", "seed"} <= card["split"].keys() or not isinstance(
                card.get("reading") or {}, dict
            ):
                raise ValueError("what it says of the split, or of how it was read, is missing or no object")
            if any(type(count) is not int or count < 0 for count in counts):
                raise ValueError("a count is not a whole number")
            digests = {STORE: card["sha256"], INDEX: card["index"]["sha256"]}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FileError(f"{folder / CARD} is not a valid corpus card: {error}.") from error
        for name, size in ((STORE, card["bytes"]), (INDEX, card["index"]["size"])):
            path = folder / name
            with explained(path, "read"):
                found = path.stat().st_size
            if found != size:
                raise _changed(path, f"it has {found} bytes, and its card says {size}")
            if (name == INDEX or verify) and sha256(path) != digests[name]:
                raise _changed(path, "its SHA-256 differs from its card")
        corpus = cls(folder, card, _read_index(folder / INDEX))
        for side in SIDES:
            sizes = corpus.sizes(side)
            if [len(sizes), int(sizes.sum())] != [card[side]["documents"], card[side]["bytes"]]:
                raise _changed(folder / INDEX, "its documents do not fit its card")
        return corpus

    def __len__(self) -> int:
        return len(self._index)

    def sizes(self, side: str) -> np.ndarray:
        """UTF-8 bytes of each document of a side, int64, in the order of `documents(side)`."""
        return self._index["bytes"][self._index["side"] == _side(side)].astype(np.int64)

    def documents(self, side: str) -> Iterator[str]:
        """The texts of a side ("train" or "held_out"), in the order they were given, one at a time."""
        wanted, path = _side(side), self.folder / STORE
        with explained(path, "read"), open(path, "rb", buffering=1 << 20) as file:
            skip = 0
            for first in range(0, len(self._index), 1 << 16):
                entries = self._index[first : first + (1 << 16)]
                for size, here in zip(entries["bytes"].tolist(), entries["side"].tolist(), strict=True):
                    if here != wanted:
                        skip += size
                        continue
                    if skip:
                        file.seek(skip, os.SEEK_CUR)
                        skip = 0
                    data = file.read(size)
                    if len(data) != size:
                        raise _changed(path, "it is cut short")
                    try:
                        text = data.decode()
                    except UnicodeDecodeError:
                        raise _changed(path, "a document in it is not valid UTF-8") from None
                    yield text


def _side(side: str) -> int:
    if side not in SIDES:
        raise UsageError(f'A side of a corpus is "train" or "held_out", not {side!r}.')
    return SIDES.index(side)


def _read_index(path: Path) -> np.ndarray:
    if path.stat().st_size % _ENTRY.itemsize or not path.stat().st_size:
        raise _changed(path, "its size is not that of an index")
    return np.memmap(path, _ENTRY, mode="r")


def _changed(path: Path, what: str) -> FileError:
    return FileError(f"{path} is damaged or was changed: {what}. Build the corpus again.")
