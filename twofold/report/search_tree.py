"""A search as a page: every token that was looked at, as a tree from left to right. The page stands alone."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

from twofold.files import atomic_write
from twofold.report.markup import Markup, join, raw, tag

MOST = 3_000  # tokens on a page; beyond, what led nowhere is left out
COLUMN, ROW, LETTERS = 112, 22, 13

_STYLE = """
:root { --ink: #1d2126; --quiet: #8a929c; --line: #c9ced5; --best: #0b6e4f; --paper: #fff; color-scheme: light dark }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8eaed; --quiet: #8f98a3; --line: #454c55; --best: #5fd3a8; --paper: #14171a }
}
body { margin: 1.5rem; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif }
h1 { font-size: 1.25rem; margin: 0 0 .3rem } p { max-width: 46rem; margin: .3rem 0 }
.prompt { white-space: pre-wrap; font-family: ui-monospace, monospace; border-left: 3px solid var(--line);
  padding-left: .7rem; margin: .8rem 0 }
.scroll { overflow: auto; max-height: 85vh; border-top: 1px solid var(--line); margin-top: 1rem }
svg text { font: 12px ui-monospace, monospace; fill: var(--quiet) }
svg .best text { fill: var(--best); font-weight: 600 }
svg path { fill: none; stroke: var(--line) } svg .best path { stroke: var(--best) }
"""


@dataclass(frozen=True, slots=True)
class Step:
    """One token. `parent`: its number in the list, None for a first token; `log_probability`: the model's
    own, nats; `is_answer`: it is part of a text that was returned."""

    parent: int | None
    text: str
    log_probability: float
    is_answer: bool = False


def write_search_tree(path: str | os.PathLike, prompt: str, steps: Sequence[Step]) -> None:
    """Write the page, atomically. Raises FileError when it cannot be written."""
    with atomic_write(path) as file:
        file.write(render_search_tree(prompt, steps))


def render_search_tree(prompt: str, steps: Sequence[Step]) -> str:
    """The whole page as text. A parent stands before its children in `steps`."""
    shown = _shown(steps)
    left_out = len(steps) - len(shown)
    note = f" {left_out:,} that led nowhere are left out." if left_out else ""
    page = tag(
        "html",
        tag(
            "head",
            tag("meta", charset="utf-8"),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag(
                "meta",
                http_equiv="Content-Security-Policy",
                content="default-src 'none'; style-src 'unsafe-inline'",
            ),
            tag("title", "What was looked at"),
            tag("style", raw(_STYLE)),
        ),
        tag(
            "body",
            tag("h1", "What was looked at"),
            tag(
                "p",
                f"{len(steps):,} tokens, from left to right, the most probable on top. A line is as thick as its "
                f"token is probable; green is what was returned. Hold the pointer over a token for its "
                f"figures.{note}",
            ),
            tag("div", prompt, class_="prompt"),
            tag("div", _drawing(steps, shown), class_="scroll"),
        ),
        lang="en",
    )
    return "<!doctype html>\n" + page


def _shown(steps: Sequence[Step]) -> list[int]:
    """The numbers of the steps to draw: all, or only what led on or was returned."""
    if len(steps) <= MOST:
        return list(range(len(steps)))
    parents = {step.parent for step in steps}
    return [i for i, step in enumerate(steps) if step.is_answer or i in parents][:MOST]


def _drawing(steps: Sequence[Step], shown: Sequence[int]) -> Markup:
    children: dict[int | None, list[int]] = {}
    for i in shown:
        children.setdefault(steps[i].parent, []).append(i)
    for some in children.values():
        some.sort(key=lambda i: -steps[i].log_probability)
    place = _places(children)
    width = (max((x for x, _ in place.values()), default=0) + 1) * COLUMN + 20
    height = (max((y for _, y in place.values()), default=0) + 1) * ROW + 20
    drawn = [_token(steps, i, place) for i in sorted(shown, key=lambda i: steps[i].is_answer)]
    return tag("svg", join(drawn), width=width, height=height, role="img", aria_label="search tree")


def _places(children: dict[int | None, list[int]]) -> dict[int, tuple[int, int]]:
    """Column and row of each step: the first child goes on in its parent's row, the others below."""
    place: dict[int, tuple[int, int]] = {}
    row = -1
    stack = [(i, 0, True) for i in reversed(children.get(None, []))]
    while stack:
        i, column, is_new_row = stack.pop()
        row += is_new_row
        place[i] = (column, row)
        some = children.get(i, [])
        stack += [(child, column + 1, at > 0) for at, child in reversed(list(enumerate(some)))]
    return place


def _token(steps: Sequence[Step], i: int, place: dict[int, tuple[int, int]]) -> Markup:
    step = steps[i]
    column, row = place[i]
    x, y = column * COLUMN + 14, row * ROW + 22
    start = place.get(step.parent) if step.parent is not None else None
    x0, y0 = (0, y) if start is None else ((start[0] + 1) * COLUMN - 4, start[1] * ROW + 22)
    text = repr(step.text)[1:-1] or "∅"
    text = text.replace(" ", "␣") if text.strip() == "" else text
    total, node = 0.0, i
    while node is not None:
        total += steps[node].log_probability
        node = steps[node].parent
    share = math.exp(step.log_probability)
    title = (
        f"{step.text!r}: {100 * share:.2f} %, log-probability {step.log_probability:.3f}, so far {total:.3f}"
    )
    line = tag(
        "path",
        d=f"M{x0} {y0 - 4} C {x0 + 8} {y0 - 4}, {x - 10} {y - 4}, {x - 2} {y - 4}",
        stroke_width=f"{0.6 + 4 * share:.2f}",
    )
    label = tag("text", text if len(text) <= LETTERS else text[: LETTERS - 1] + "…", x=x, y=y)
    return tag("g", tag("title", title), line, label, class_="best" if step.is_answer else None)
