"""Conversations in: JSON and JSON lines files become a stream of `Conversation`, in any of the usual shapes.

    report = ConversationReport()
    for conversation in read_conversations(["chats.jsonl.gz"], on_bad="skip", report=report): ...

Files are read one record at a time. Each bad one is named by file and record with its reason, and by choice
ends the reading or is skipped and counted. The shapes are in conversation_shapes.py.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from twofold.errors import DataError, UsageError
from twofold.files import explain
from twofold.text.documents import Conversation
from twofold.text.formats import LONGEST_JSON, json_values
from twofold.text.reading import BadFile
from twofold.text.streams import ByteSource, disguise, file_chunks, text_chunks, unpacked
from twofold.tokens.conversation_shapes import BadRecord, messages_of, shape_of

_ENDINGS = (".json", ".jsonl", ".ndjson")
_COMPRESSIONS = {".gz": "gz", ".zst": "zst"}
_MOST_NAMES = 1000


@dataclass
class ConversationReport:
    """Counts of what was read. shapes: conversations by shape. bad: reasons by name ("file" or
    "file, record 3"), at most a thousand; bad_files and bad_records count them all."""

    conversations: int = 0
    files: int = 0
    bad_files: int = 0
    bad_records: int = 0
    shapes: Counter[str] = field(default_factory=Counter)
    bad: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "shapes": dict(self.shapes)}

    def __str__(self) -> str:
        """One line for people."""
        shapes = ", ".join(f"{name} {count:,}" for name, count in self.shapes.most_common())
        text = f"{_count(self.conversations, 'conversation')} from {_count(self.files, 'file')}"
        text += f" ({shapes})" if shapes else ""
        bad = {"bad record": self.bad_records, "bad file": self.bad_files}
        skipped = [_count(count, thing) for thing, count in bad.items() if count]
        return text + (f", {' and '.join(skipped)} skipped" if skipped else "")


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}" + ("" if number == 1 else "s")


def read_conversations(
    paths: Sequence[str | os.PathLike],
    *,
    on_bad: Literal["refuse", "skip"] = "refuse",
    report: ConversationReport | None = None,
) -> Iterator[Conversation]:
    """The conversations of all files, in order, one at a time.

    paths: .json (a list, or one record after another) and .jsonl files, plain or .gz/.zst, and folders of
    them (sorted, hidden files left out). on_bad: "refuse" raises DataError or FileError at the first bad
    record or file; "skip" goes on behind it and counts it in `report`.
    """
    if on_bad not in ("refuse", "skip"):
        raise UsageError(f'on_bad is "refuse" or "skip", not {on_bad!r}.')
    if isinstance(paths, str | os.PathLike):
        paths = [paths]
    if not paths:
        raise UsageError("Name at least one file or folder of conversations.")
    return _read(
        [Path(path) for path in paths], on_bad, report if report is not None else ConversationReport()
    )


def _read(paths: list[Path], on_bad: str, report: ConversationReport) -> Iterator[Conversation]:
    def bad(name: str, reason: str) -> None:
        if on_bad == "refuse":
            raise DataError(f"{name}: {reason}. Mend it, or skip what is bad.")
        if len(report.bad) < _MOST_NAMES:
            report.bad[name] = reason

    for path in paths:
        try:
            for file in _files(path):
                yield from _read_file(file, on_bad == "refuse", bad, report)
        except BadFile as fault:
            bad(fault.name, fault.reason)
            report.bad_files += 1


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = [file for file in sorted(path.rglob("*")) if _kind(file) and file.is_file()]
    found = [file for file in found if not any(part.startswith(".") for part in file.relative_to(path).parts)]
    if not found:
        raise BadFile(str(path), f"holds no files named {', '.join(_ENDINGS)} (plain, .gz or .zst)")
    return found


def _kind(path: Path) -> tuple[str, str | None] | None:
    """The ending that names a file's format, and its compression; None for another file."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    compression = _COMPRESSIONS.get(suffixes[-1]) if suffixes else None
    if compression:
        suffixes.pop()
    return (suffixes[-1], compression) if suffixes and suffixes[-1] in _ENDINGS else None


def _read_file(path: Path, refuse: bool, bad, report: ConversationReport) -> Iterator[Conversation]:
    name, count = str(path), 0
    try:
        for count, (record, fault) in enumerate(_records(path, name), 1):
            where = f"{name}, record {count}"
            try:
                if fault is not None:
                    raise BadRecord(fault)
                conversation = Conversation(messages_of(record), f"{path.name}:{count}")
                shape = shape_of(record)
            except BadRecord as error:
                bad(where, str(error))
                report.bad_records += 1
                continue
            report.conversations += 1
            report.shapes[shape] += 1
            yield conversation
        if not count:
            raise BadFile(name, "holds no conversations: it is empty")
        report.files += 1
    except BadFile as fault:
        bad(fault.name, fault.reason)
        report.bad_files += 1
    except OSError as error:
        fault = explain(error, path, "read")
        if refuse:
            raise fault from error
        bad(name, str(fault))
        report.bad_files += 1


def _records(path: Path, name: str) -> Iterator[tuple[Any, str | None]]:
    """(record, None), or (None, why it is not JSON), for each record of a file."""
    kind = _kind(path)
    if kind is None:
        raise BadFile(name, f"does not end in {', '.join(_ENDINGS)}, plain or with .gz or .zst")
    ending, compression = kind
    with open(path, "rb") as file:
        source = unpacked(ByteSource(file_chunks(file)), name, compression)
        head = source.peek(1 << 12)
        if (what := disguise(head)) is not None:
            raise BadFile(name, f"is not JSON: it is {what}")
        in_list = head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")
        if ending == ".json" or in_list:
            yield from ((value, None) for value, _ in json_values(text_chunks(source, name), name))
        else:
            yield from _lines(source)


def _lines(source: ByteSource) -> Iterator[tuple[Any, str | None]]:
    for number, line in source.lines(LONGEST_JSON):
        if line is None:
            yield None, f"line {number} is longer than {LONGEST_JSON >> 20} MiB"
            continue
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line.strip():
            continue
        try:
            record = json.loads(line.decode("utf-8"))
        except UnicodeDecodeError:
            yield None, f"line {number} is not valid UTF-8"
        except (ValueError, RecursionError) as error:
            yield None, f"line {number} is not valid JSON ({str(error)[:100]})"
        else:
            yield record, None
