"""How facts are shown in a terminal: headings, aligned rows, text from elsewhere made harmless."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from twofold.cli.pages import wants_colour
from twofold.cli.terminal import harmless


def section(title: str, rows: Iterable[tuple[str, ...]]) -> None:
    """Print a heading and its rows: a name, then columns, all but the last and the name right-aligned
    when there are more than two. Prints nothing when there are no rows."""
    rows = [tuple(printable(cell) for cell in row) for row in rows]
    if not rows:
        return
    print(f"\n{strong(title)}")
    widths = [max(len(row[i]) if i < len(row) else 0 for row in rows) for i in range(max(map(len, rows)))]
    for row in rows:
        middle = [cell.rjust(widths[i]) for i, cell in enumerate(row[1:-1], start=1)]
        print("  " + "  ".join([row[0].ljust(widths[0]), *middle, *row[1:][-1:]]).rstrip())


def strong(text: str) -> str:
    """`text` in bold where standard output shows it."""
    return f"\x1b[1m{text}\x1b[0m" if wants_colour(sys.stdout) else text


def printable(text: str) -> str:
    """`text` on one line, and harmless: what came from a file must not steer the terminal."""
    return harmless(text).replace("\n", " ").replace("\t", " ")
