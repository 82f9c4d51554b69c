"""`report.html`: one page that stands alone, drawn from a `Report`.

Key idea: a pure function of the record, the same bytes each time. Nothing is loaded from anywhere: the
style, the figures and a little script for read-outs lie inside, and a content-security policy forbids the
rest, so that even a fault in escaping could not run what a model wrote. Without a script everything can
still be read.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from functools import cache
from importlib.resources import files
from pathlib import Path

from twofold.files import atomic_write
from twofold.report.background import (
    compression_section,
    data_section,
    details_section,
    files_section,
    model_section,
    timeline_section,
)
from twofold.report.facts import key_figures
from twofold.report.markup import Markup, join, raw, tag
from twofold.report.record import Report
from twofold.report.results import run_section, samples_section, scores_section
from twofold.report.tables import Section


def write_report(out: str | os.PathLike, report: Report) -> Path:
    """Write the page to `out`, a file or an existing folder (then its report.html); atomically. Returns the
    file.

    Raises FileError when it cannot be written.
    """
    path = Path(out)
    if path.is_dir():
        path = path / "report.html"
    page = render_report(report)
    with atomic_write(path) as file:
        file.write(page)
    return path


def render_report(report: Report) -> str:
    """The whole page as text."""
    script, style = _part("page.js"), _part("page.css")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="generator", content="Twofold"),
        tag("title", report.title),
        tag("link", rel="icon", href="data:,"),
        tag("style", raw(style)),
    )
    sections = [section for section in _sections(report) if section is not None]
    body = tag(
        "body",
        tag("main", _header(report), _contents(sections), [part for _, _, part in sections]),
        tag(
            "footer",
            tag(
                "p", "Made by Twofold. This page stands alone: it loads nothing, and can be sent as one file."
            ),
        ),
        tag("script", raw(script)),
    )
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"


def _header(report: Report) -> Markup:
    figures = [
        tag(
            "div",
            tag("dt", figure.label),
            tag("dd", figure.value, class_="value"),
            tag("dd", figure.note) if figure.note else None,
        )
        for figure in key_figures(report)
    ]
    return tag(
        "header",
        tag("p", join(["Twofold", tag("span", report.made) if report.made else None]), class_="kicker"),
        tag("h1", report.title, dir="auto"),
        tag("p", _unbroken(report.summary), class_="lede", dir="auto") if report.summary else None,
        tag("dl", figures, class_="figures") if figures else None,
    )


def _unbroken(text: str) -> str:
    """Numbers stay on one line with their units."""
    return re.sub(
        r"(?<=\d) (?=\d+ s\b)|(?<=min) (?=\d+ s\b)|(?<=\d) (?=(s|min|h|[kMGT]B?|bytes?)\b|%)", "\u00a0", text
    )


def _contents(sections: list[Section]) -> Markup | None:
    if len(sections) < 3:
        return None
    links = [tag("a", title, href=f"#{identity}") for identity, title, _ in sections]
    return tag("nav", links, aria_label="Parts of this report")


def _sections(report: Report) -> list[Section | None]:
    """(id, title, HTML) of each part; None for what the record does not hold."""
    found = [run_section(run, f"run-{i}") for i, run in enumerate(report.runs)]
    found.append(scores_section(report.scores))
    found.append(samples_section(report.samples))
    found += [data_section(report.runs), compression_section(report.compression), model_section(report.runs)]
    found += [timeline_section(report.timeline), files_section(report), details_section(report)]
    return found


@cache
def _part(name: str) -> str:
    return files("twofold.report").joinpath(name).read_text(encoding="utf-8").strip()
