"""Text that a model wrote, on its way to a terminal.

What a model says is as untrusted as what a stranger says: with escape sequences it could retitle the
window, hide text, or answer the terminal's own questions. So line ends and tabs pass, and every other
character that steers instead of showing becomes �.
"""

from __future__ import annotations

import json
import sys
import unicodedata

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


def json_line(value: object) -> str:
    """`value` as one line of JSON, safe to look at: what steers a terminal is written as \\uXXXX."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def say(text: str) -> None:
    """Show a piece of a model's text at once."""
    sys.stdout.write(harmless(text))
    sys.stdout.flush()


def note(text: str) -> None:
    """A remark of the program's own, beside the model's text: on standard error."""
    print(text, file=sys.stderr, flush=True)
