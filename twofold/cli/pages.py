"""Help pages that were rendered beforehand, found and shown with the standard library alone.

`help.json` holds, for each width and each command path ("", "create", "text village"), the page with its
colours; plain text is the same page without them. `python -m twofold.cli.reference` writes the file and
`tests/cli/test_reference.py` compares it with a fresh rendering, so the two cannot drift.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO

FILE = Path(__file__).with_name("help.json")
WIDTHS = (80, 100)  # columns; the widest that fits the terminal is shown


@dataclass(frozen=True)
class Pages:
    """All help pages. `pages[width][path]` is text with ANSI colours; `groups` are the command paths
    that only hold other commands, so that naming one alone shows its page."""

    pages: dict[str, dict[str, str]]
    groups: tuple[str, ...]

    @classmethod
    def load(cls) -> Pages:
        """The packaged pages, or freshly rendered ones (slow) where the file is missing."""
        try:
            stored = json.loads(FILE.read_text(encoding="utf-8"))
            return cls(stored["pages"], tuple(stored["groups"]))
        except (OSError, ValueError, KeyError):
            from twofold.cli.reference import render_all

            return render_all()

    def children(self, path: list[str]) -> list[str]:
        """The commands directly under `path`, in the order of the life of a model."""
        return [
            name.rpartition(" ")[2]
            for name in self.pages[str(WIDTHS[0])]
            if name and name.split(" ")[:-1] == path
        ]

    def longest_path(self, words: list[str]) -> list[str]:
        """The leading `words` that name a command, as far as they do."""
        known = self.pages[str(WIDTHS[0])]
        length = 0
        while length < len(words) and " ".join(words[: length + 1]) in known:
            length += 1
        return words[:length]

    def is_group(self, path: list[str]) -> bool:
        """Whether `path` does nothing on its own but hold commands."""
        return " ".join(path) in self.groups

    def show(self, path: list[str]) -> str:
        """The page of `path`, as wide and as colourful as standard output can take."""
        page = self.pages[str(_width())][" ".join(path)]
        return page if wants_colour(sys.stdout) else without_colour(page)


def did_you_mean(word: str, known: list[str]) -> str:
    """ " Did you mean create?" for the nearest of `known`; nothing when none is near."""
    import difflib

    near = difflib.get_close_matches(word, known, n=2, cutoff=0.6)
    return f" Did you mean {' or '.join(near)}?" if near else ""


def wants_colour(stream: IO[str] | None) -> bool:
    """Whether to colour what goes to `stream`: a terminal, unless NO_COLOR or TERM=dumb; FORCE_COLOR wins."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return bool(stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb")


def without_colour(text: str) -> str:
    """`text` without its ANSI colour sequences (ESC [ … m)."""
    first, *rest = text.split("\x1b[")
    return first + "".join(piece.partition("m")[2] for piece in rest)


def _width() -> int:
    columns = WIDTHS[-1]
    if sys.stdout is not None and sys.stdout.isatty():
        import shutil

        columns = shutil.get_terminal_size((WIDTHS[-1], 24)).columns
    return max((width for width in WIDTHS if width <= columns), default=WIDTHS[0])
