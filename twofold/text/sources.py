"""Real text in: files, folders, standard input and hub data sets become a stream of documents.

    for document in read_documents(["books/", "more.jsonl.gz", "-", "hf://owner/name"]): ...

Formats: .txt .md .jsonl .json .parquet, plain or .gz/.zst (Parquet has its own compression). Whatever the
size, a few megabytes are in memory at a time. Each bad file or line is named with its reason, and by
choice ends the reading or is skipped and counted.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from twofold.errors import DataError, UsageError
from twofold.files import explain
from twofold.text.documents import Document
from twofold.text.formats import (
    Text,
    json_line_texts,
    json_texts,
    looks_like_json_lines,
    parts,
    plain_texts,
)
from twofold.text.hub import PREFIX, hub_files
from twofold.text.parquet import parquet_texts
from twofold.text.reading import ADVICE, BadFile, ReadReport, why
from twofold.text.streams import ByteSource, compression_of, disguise, file_chunks, unpacked

__all__ = ["ReadReport", "read_documents"]

OnBad = Literal["refuse", "skip"]
STANDARD_INPUT = "-"
_FORMATS = {
    ".txt": "text",
    ".text": "text",
    ".md": "text",
    ".jsonl": "lines",
    ".ndjson": "lines",
    ".json": "json",
    ".parquet": "parquet",
}
_COMPRESSIONS = {".gz": "gz", ".zst": "zst"}


def read_documents(
    inputs: Sequence[str | os.PathLike],
    *,
    on_bad: OnBad = "refuse",
    report: ReadReport | None = None,
    text_field: str | None = None,
) -> Iterator[Document]:
    """The documents of all inputs, in order, one at a time.

    inputs: files, folders (read through in sorted order, hidden files left out), "-" for standard input
    (plain text or JSON lines), `hf://owner/name[:split]`.
    on_bad: "refuse" raises DataError or FileError at the first bad file or line; "skip" goes on behind it
    and counts it in `report`. Of a file that turns bad half way, what came before has been given out.
    text_field: the name of the text in JSON and Parquet; None for the usual names (text, content, …).
    A plain text file is one document, or several with `<|endoftext|>` between them; documents of more
    than a million characters come in parts, cut at paragraphs.
    """
    if on_bad not in ("refuse", "skip"):
        raise UsageError(f'on_bad is "refuse" or "skip", not {on_bad!r}.')
    if isinstance(inputs, str | os.PathLike):
        inputs = [inputs]
    if not inputs:
        raise UsageError("Name at least one file, folder or data set to read.")
    reader = _Reader(on_bad, report if report is not None else ReadReport(), text_field)
    return reader.read([os.fspath(each) for each in inputs])


class _Input(NamedTuple):
    """A stream to read: its name for people and, unless it is standard input, its path. `kind` and
    `compression` follow from the file's name; kind None is found by looking inside."""

    name: str
    path: Path | None
    kind: str | None
    compression: str | None


def _input(name: str, path: Path | None) -> _Input:
    suffixes = [suffix.lower() for suffix in Path(name).suffixes]
    compression = _COMPRESSIONS.get(suffixes[-1]) if suffixes else None
    if compression is not None:
        suffixes.pop()
    return _Input(name, path, _FORMATS.get(suffixes[-1]) if suffixes else None, compression)


class _Reader:
    def __init__(self, on_bad: OnBad, report: ReadReport, text_field: str | None):
        self.on_bad, self.report, self.text_field = on_bad, report, text_field

    def read(self, names: list[str]) -> Iterator[Document]:
        for name in names:
            if not name:
                raise UsageError("The name of an input is empty; name a file, a folder or a data set.")
            if name == STANDARD_INPUT:
                yield from self._read_input(_Input("standard input", None, None, None))
            elif name.startswith(PREFIX):
                for shown, path in hub_files(name):
                    yield from self._read_input(_input(shown, path))
            elif os.path.isdir(name):
                yield from self._read_folder(name)
            else:
                yield from self._read_input(_input(name, Path(name)))

    def _read_folder(self, folder: str) -> Iterator[Document]:
        found = 0

        def unreadable(error: OSError) -> None:
            self._bad(BadFile(error.filename or folder, why(error), error))

        for where, folders, files in os.walk(folder, onerror=unreadable):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(files):
                path = os.path.join(where, name)
                each = _input(path, Path(path))
                if name.startswith("."):
                    continue
                if each.kind is None or (each.kind == "parquet" and each.compression):
                    self.report.ignored += 1
                    continue
                found += 1
                yield from self._read_input(each, in_folder=True)
        if not found:
            self._bad(BadFile(folder, f"holds no files named {', '.join(_FORMATS)} (plain, .gz or .zst)"))

    def _read_input(self, each: _Input, in_folder: bool = False) -> Iterator[Document]:
        """The documents of one input; its faults are raised or counted here."""
        before = self.report.documents + self.report.bad_lines
        try:
            try:
                if in_folder and not stat.S_ISREG(os.stat(each.path).st_mode):
                    raise BadFile(each.name, "is not a regular file")
                goes_on = False
                for text in self._texts(each):
                    self.report.cut += text.more and not goes_on
                    goes_on = text.more
                    document = self._document(each.name, text)
                    if document is not None:
                        yield document
            except OSError as error:
                raise BadFile(each.name, why(error), error) from error
            if self.report.documents + self.report.bad_lines == before:
                raise BadFile(each.name, "holds no text")
            self.report.files += 1
        except BadFile as fault:
            self._bad(fault)

    def _texts(self, each: _Input) -> Iterator[Text]:
        if each.path is None:
            file = getattr(sys.stdin, "buffer", None)
            if file is None:
                raise BadFile(each.name, "is closed")
            yield from self._stream_texts(each, ByteSource(file_chunks(file)))
            return
        if each.kind == "parquet":
            if each.compression is not None:
                raise BadFile(each.name, "is a compressed Parquet file; unpack it first")
            yield from parts(parquet_texts(each.path, each.name, self.text_field))
            return
        with open(each.path, "rb") as file:
            yield from self._stream_texts(each, ByteSource(file_chunks(file)))

    def _stream_texts(self, each: _Input, source: ByteSource) -> Iterator[Text]:
        kind, compression = each.kind, each.compression
        if not source.peek(1):
            raise BadFile(each.name, "is empty")
        if kind is None and compression is None:
            compression = compression_of(source.peek(4))
        source = unpacked(source, each.name, compression)
        if kind is None:
            kind = "lines" if looks_like_json_lines(source.peek(1 << 20)) else "text"
        if kind == "text":
            yield from plain_texts(source, each.name)
            return
        other = disguise(source.peek(4))
        if other is not None:
            raise BadFile(each.name, f"is not JSON: it is {other}")
        read = json_line_texts if kind == "lines" else json_texts

        def bad_line(line: int, reason: str) -> None:
            self._bad_line(each.name, line, reason)

        yield from parts(read(source, each.name, self.text_field, bad_line))

    def _document(self, name: str, text: Text) -> Document | None:
        content = text.text
        if "\r" in content:
            content = content.replace("\r\n", "\n")
        if not content or content.isspace():
            self.report.empty += 1
            return None
        try:
            size = len(content) if content.isascii() else len(content.encode())
        except UnicodeEncodeError:
            self._bad_line(name, text.line, "holds half of a character (a lone surrogate)")
            return None
        if "\0" in content:
            self._bad_line(name, text.line, "is not text: it holds NUL characters")
            return None
        self.report.documents += 1
        self.report.bytes += size
        return Document(content, f"{name}:{text.line}")

    def _bad(self, fault: BadFile) -> None:
        if self.on_bad == "skip":
            self.report.bad_file(fault.name, fault.reason)
        elif fault.error is not None:
            raise explain(fault.error, fault.name, "read") from fault.error
        else:
            raise fault

    def _bad_line(self, name: str, line: int, reason: str) -> None:
        if self.on_bad == "skip":
            self.report.bad_line(name, line, reason)
        else:
            raise DataError(f"{name}:{line} {reason}. {ADVICE}")
