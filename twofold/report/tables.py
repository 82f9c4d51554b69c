"""What every part of the page is built with: sections, tables of facts, folds, and text cut to a length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from twofold.report.markup import Markup, tag
from twofold.report.quantities import flat, value_of, whole

Section = tuple[str, str, Markup]  # id, words of the link to it, HTML

MAX_TEXT = 4_000  # characters of one sample or answer
MAX_ROWS = 200  # of a table of settings
MAX_VALUE = 600  # characters of one setting


def section(identity: str, title: str, *children: Any, lede: str = "", link: str = "") -> Section:
    """A part of the page: a heading, a line or two that explain, and what follows."""
    note = tag("p", lede, class_="section-lede") if lede else None
    return identity, link or title, tag("section", tag("h2", title, dir="auto"), note, *children, id=identity)


def cut(text: str, limit: int) -> str:
    """At most `limit` characters of `text`, and how many more there are."""
    return text if len(text) <= limit else f"{text[:limit]} … [{whole(len(text) - limit)} more characters]"


def table(head: Sequence[str], rows: Sequence[Sequence[Any]], class_: str = "", caption: str = "") -> Markup:
    """A table whose first column names the rows; it scrolls by itself where the page is too narrow."""
    top = tag("thead", tag("tr", [tag("th", cell, scope="col") for cell in head])) if head else None
    body = [tag("tr", tag("th", row[0], scope="row"), [tag("td", cell) for cell in row[1:]]) for row in rows]
    name = tag("caption", caption) if caption else None
    return tag(
        "div", tag("table", name, top, tag("tbody", body), class_=class_), class_="scroll", tabindex="0"
    )


def facts(values: Mapping[str, Any]) -> Markup:
    """Names and values in two columns; of records (the sources of a text), a line each."""
    pairs: list[tuple[str, Any]] = []
    for name, value in values.items():
        records = _records(value)
        if records:
            pairs.append((name, [tag("div", cut(line, MAX_VALUE)) for line in records]))
            continue
        found = flat({name: value}, joint=" · ")
        pairs += [(key, cut(value_of(key, item), MAX_VALUE)) for key, item in found]
    shown = [(cut(key.replace("_", " "), 80), value) for key, value in pairs[:MAX_ROWS]]
    if len(pairs) > MAX_ROWS:
        shown.append(("…", f"{whole(len(pairs) - MAX_ROWS)} more"))
    return table((), shown, "facts")


def _records(value: Any, limit: int = 20) -> list[str]:
    """A list of records, or records by name, as lines; empty for anything else."""
    if isinstance(value, Mapping) and all(isinstance(item, Mapping) for item in value.values()):
        named = [(f"{name}: ", item) for name, item in value.items()]
    elif isinstance(value, (list, tuple)) and all(isinstance(item, Mapping) for item in value):
        named = [("", item) for item in value]
    else:
        return []
    lines = []
    for name, item in named[:limit]:
        lines.append(
            name + "; ".join(f"{key} {value_of(str(key), v)}".replace("_", " ") for key, v in item.items())
        )
    return lines + [f"… and {whole(len(named) - limit)} more"] * (len(named) > limit)


def fold(title: str, *children: Any) -> Markup:
    """What is shown only when asked for."""
    return tag("details", tag("summary", title), *children)
