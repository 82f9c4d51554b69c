"""Figures made of bars and squares: scores with their intervals, sizes to scale, shares of a whole.

Key idea: as in chart.py, the SVG's viewport is the plot and everything in it stands in percent, so that
text keeps its size at every width. Areas and lengths are proportional to what they stand for, always.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from twofold.report.markup import Markup, tag
from twofold.report.quantities import duration, percent, size, whole
from twofold.report.record import ScoreRow, Stage

BAR, GAP = 15, 5  # pixels: a bar's height, and the room between two


def tone_of(column: int, columns: int) -> str:
    """The colour of a column of scores: the last one in the accent, the first of several in grey."""
    if column == columns - 1:
        return "accent"
    return "quiet" if column == 0 else f"tone-{min(column + 1, 4)}"


def score_bars(rows: Sequence[ScoreRow], columns: Sequence[str], chance: float | None) -> Markup:
    """Horizontal bars from 0 to 100 %, one a column and row, with 95 % intervals and the chance level."""
    parts = []
    group = ""
    for row in rows:
        if row.group != group:
            group = row.group
            parts.append(tag("h4", group))
        label = tag("div", row.name, class_="bar-label")
        parts.append(tag("div", label, _score_row(row, columns, chance), class_="bar-row"))
    axis = [
        tag("text", f"{value} %" if value == 100 else str(value), x=f"{value}%", y="12", class_="tick x")
        for value in (0, 25, 50, 75, 100)
    ]
    scale = tag("svg", axis, width="100%", height="16", overflow="visible", aria_hidden="true")
    parts.append(
        tag("div", tag("div", class_="bar-label"), tag("div", scale, class_="bar-plot"), class_="bar-row")
    )
    return tag("div", parts, class_="bars")


def _score_row(row: ScoreRow, columns: Sequence[str], chance: float | None) -> Markup:
    height = len(columns) * (BAR + GAP) + GAP
    shapes = [
        tag("line", x1=f"{v}%", x2=f"{v}%", y1="0", y2="100%", class_="axis" if v == 0 else "grid")
        for v in (0, 25, 50, 75, 100)
    ]
    level = row.chance if row.chance is not None else chance
    told = []
    for i, column in enumerate(columns):
        cell = row.cells[i] if i < len(row.cells) else None
        top, middle = GAP + i * (BAR + GAP), GAP + i * (BAR + GAP) + BAR / 2
        if cell is None or cell.fraction is None:
            shapes.append(
                tag("text", "not asked", x="0", y=middle, dx="6", dy="0.35em", class_="bar-value quiet")
            )
            told.append(f"{column}: not asked")
            continue
        share = min(max(cell.fraction, 0.0), 1.0)
        low, high = cell.interval()
        words = f"{column}: {percent(share)} right ({whole(cell.right)} of {whole(cell.n)})"
        told.append(words)
        title = tag("title", f"{words}, 95 % interval {percent(low)} to {percent(high)}")
        width = f"{100 * share:.2f}%"
        shapes.append(
            tag(
                "rect", title, x="0", y=top, width=width, height=BAR, class_=f"bar {tone_of(i, len(columns))}"
            )
        )
        ends = {"x1": f"{100 * low:.2f}%", "x2": f"{100 * high:.2f}%"}
        shapes.append(tag("line", **ends, y1=middle, y2=middle, class_="whisker under"))
        shapes.append(tag("line", **ends, y1=middle, y2=middle, class_="whisker"))
        for end in ends.values():
            shapes.append(tag("line", x1=end, x2=end, y1=middle - 3, y2=middle + 3, class_="whisker"))
        after = (
            level if level is not None and high <= level < high + 0.12 else high
        )  # clear of the chance line
        at = f"{100 * after:.2f}%"
        shapes.append(tag("text", percent(share), x=at, y=middle, dx="7", dy="0.35em", class_="bar-value"))
    if level is not None and 0 <= level <= 1:
        at = f"{100 * level:.2f}%"
        words = tag("title", f"by chance: {percent(level)}")
        shapes.append(tag("line", words, x1=at, x2=at, y1="0", y2="100%", class_="chance"))
        told.append(f"by chance {percent(level)}")
    picture = tag(
        "svg",
        shapes,
        role="img",
        aria_label=f"{row.name}. " + "; ".join(told),
        width="100%",
        height=height,
        overflow="visible",
    )
    return tag("div", picture, class_="bar-plot")


@dataclass(frozen=True)
class Square:
    """One thing whose area on the page is its number of bytes."""

    name: str
    n_bytes: int
    tone: str
    note: str = ""


def squares(items: Sequence[Square], side: float = 9.5) -> Markup:
    """Squares on one ground line, their areas proportional to the bytes; the largest is `side` rem wide."""
    largest = max(item.n_bytes for item in items)
    parts = []
    for item in items:
        width = side * math.sqrt(item.n_bytes / largest)
        square = tag(
            "svg",
            tag("rect", width="100%", height="100%", class_=f"area {item.tone}"),
            role="img",
            aria_label=f"{item.name}: {size(item.n_bytes)}",
            style=f"width:{width:.3f}rem;height:{width:.3f}rem",
        )
        label = [tag("strong", size(item.n_bytes)), tag("span", item.name)]
        if item.note:
            label.append(tag("small", item.note))
        label = tag("div", label, class_="square-label")
        parts.append(tag("div", square, label, class_="square", style=f"width:max({width:.3f}rem, 5.3rem)"))
    return tag("div", parts, class_="squares")


@dataclass(frozen=True)
class Share:
    """A part of a whole: its name, its amount, and the amount in words."""

    name: str
    amount: float
    words: str


def shares(items: Sequence[Share]) -> Markup:
    """A list of the parts of a whole, each with a bar as long as its share; the largest fills the row."""
    total = sum(item.amount for item in items) or 1.0
    largest = max(item.amount for item in items) or 1.0
    rows = []
    for item in items:
        width = f"{100 * item.amount / largest:.2f}%"
        bar = tag("rect", width=width, height="100%", class_="bar accent")
        rows.append(
            tag(
                "li",
                tag("span", item.name, class_="share-name"),
                tag("svg", bar, width="100%", height="10", aria_hidden="true"),
                tag("span", item.words, class_="share-words"),
                tag("span", percent(item.amount / total), class_="share-percent"),
            )
        )
    return tag("ul", rows, class_="shares")


def timeline(stages: Sequence[Stage]) -> Markup:
    """How long each stage took, as shares of the whole."""
    parts = [Share(s.name, max(0.0, s.seconds), duration(max(0.0, s.seconds))) for s in stages]
    return shares(parts)
