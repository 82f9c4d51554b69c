"""What reading found: the report, and the faults it names."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from twofold.errors import DataError

_MOST_NAMES = 1000


ADVICE = "Mend it or leave it out, or choose to skip bad input."


class BadFile(DataError):
    """A file that cannot be read as text from here on. `reason` goes on a sentence that begins with
    `name` ("is empty"); `error` is the system's fault, if it was one."""

    def __init__(self, name: str, reason: str, error: OSError | None = None):
        super().__init__(f"{name} {reason}. {ADVICE}")
        self.name, self.reason, self.error = name, reason, error


def why(error: OSError) -> str:
    """A system's fault as a reason."""
    return f"cannot be read ({(error.strerror or str(error)).lower()})"


@dataclass
class ReadReport:
    """Counts of what was read. bytes: UTF-8 bytes of the documents. empty: documents without a visible
    character, dropped. cut: documents too long for one piece, given out in parts. ignored: files in
    folders whose names do not end as text does. bad: reasons by name of file (and line), at most a
    thousand; bad_files and bad_lines count them all."""

    documents: int = 0
    bytes: int = 0
    files: int = 0
    empty: int = 0
    cut: int = 0
    ignored: int = 0
    bad_files: int = 0
    bad_lines: int = 0
    bad: dict[str, str] = field(default_factory=dict)

    def bad_file(self, name: str, reason: str) -> None:
        self.bad_files += 1
        self._remember(name, reason)

    def bad_line(self, name: str, line: int, reason: str) -> None:
        self.bad_lines += 1
        self._remember(f"{name}:{line}", reason)

    def _remember(self, name: str, reason: str) -> None:
        if len(self.bad) < _MOST_NAMES:
            self.bad[name] = reason

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        """One line for people."""
        parts = [f"{self.documents:,} documents ({self.bytes:,} bytes) from {_count(self.files, 'file')}"]
        notes = {
            f"{self.empty:,} empty dropped": self.empty,
            f"{self.cut:,} long ones cut into parts": self.cut,
            f"{_count(self.ignored, 'file')} of other kinds ignored": self.ignored,
            f"{_count(self.bad_files, 'bad file')} skipped": self.bad_files,
            f"{_count(self.bad_lines, 'bad line')} skipped": self.bad_lines,
        }
        return ", ".join(parts + [note for note, count in notes.items() if count])


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}" + ("" if number == 1 else "s")
