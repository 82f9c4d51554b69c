"""Text that a model wrote, on its way to a terminal.

What a model says is as untrusted as what a stranger says: with escape sequences it could retitle the
window, hide text, or answer the terminal's own questions. So line ends and tabs pass, and every other
character that steers instead of showing becomes �.
"""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from twofold.errors import DataError, UsageError
from twofold.files import explained

_JOINERS = "\u200c\u200d\u00ad"  # within words of many scripts, and within emoji


def harmless(text: str) -> str:
    """`text` without control, direction-changing and unassigned characters. Carriage returns are dropped."""
    if text.isprintable():
        return text
    return "".join(c if _shows(c) else "" if c == "\r" else "\ufffd" for c in text)


def _shows(character: str) -> bool:
    if character.isprintable() or character in "\n\t" or character in _JOINERS:
        return True
    return unicodedata.category(character) == "Zs"  # spaces of all widths


def standard_input() -> str:
    """All of standard input, without a last new line. Raises UsageError where it is no text."""
    try:
        return sys.stdin.buffer.read().decode("utf-8").removesuffix("\n")
    except UnicodeDecodeError as error:
        raise UsageError(f"Standard input is not text in UTF-8 (byte {error.start:,}).") from error


def json_line(value: object) -> str:
    """`value` as one line of JSON, safe to look at: what steers a terminal is written as \\uXXXX."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def say(text: str) -> None:
    """Show a piece of a model's text at once."""
    sys.stdout.write(harmless(text))
    sys.stdout.flush()


def read_text(name: str) -> str:
    """The text of a file in UTF-8; - is standard input. Raises DataError for what is empty or no text."""
    where = "Standard input" if name == "-" else name
    with explained(name, "read"):
        data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{where} is not text in UTF-8: byte {error.start:,} cannot be read.") from error
    if not text:
        raise DataError(f"{where} is empty; there is nothing to read.")
    return text


@contextmanager
def status(line: Callable[..., str]) -> Iterator[Callable[..., None] | None]:
    """What shows how far a work is: `line` of what it is told, in one place, while a person is watching; else None."""
    if not sys.stderr.isatty():
        yield None
        return
    try:
        yield lambda *done: print(f"\r{line(*done)} ", end="", file=sys.stderr, flush=True)
    finally:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def counting(what: str) -> AbstractContextManager[Callable[[int, int], None] | None]:
    """A `status` that is told (done, all) of `what`."""
    return status(lambda done, total: f"{done / max(1, total):4.0%} of {total:,} {what}")


def note(text: str) -> None:
    """A remark of the program's own, beside the model's text: on standard error."""
    print(text, file=sys.stderr, flush=True)
