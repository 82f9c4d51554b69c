"""Render every help page once: `python -m twofold.cli.reference` writes `help.json` and `docs/cli.md`.

Key idea: pages are rendered by the same code from the same signatures and docstrings that parse the
command line, so what help says is what the command takes. The look: no boxes; headings, a name
column, a description column, then examples and what to go on with (`examples.py`).
"""

from __future__ import annotations

import io
import re
from pathlib import Path

from cyclopts import App
from cyclopts.help import HelpEntry, HelpPanel
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from rich.theme import Theme

from twofold.cli.app import COMMANDS, build_app
from twofold.cli.examples import EXAMPLES, FIRST_STEPS, GO_ON
from twofold.cli.pages import FILE, WIDTHS, Pages, without_colour
from twofold.files import atomic_write, write_json

HEADING = "bold"
NAME = "cyan"
FAINT = "dim"
DOCUMENT = Path(__file__).parents[2] / "docs" / "cli.md"


class Page:
    """How one help page looks: the formatter that cyclopts calls for usage, description and each panel."""

    def render_usage(self, console: Console, options: ConsoleOptions, usage: Text | str | None) -> None:
        """Print the usage line."""
        if usage:
            console.print(Text.assemble(("Usage: ", HEADING), str(usage).strip()), soft_wrap=True)

    def render_description(self, console: Console, options: ConsoleOptions, text: RenderableType) -> None:
        """Print the command's description, a blank line before it."""
        if text:
            console.print()
            console.print(text)

    def __call__(self, console: Console, options: ConsoleOptions, panel: HelpPanel) -> None:
        """Print one group of commands or parameters."""
        if not panel.entries:
            return
        width = min(max(len(_name(entry).plain) for entry in panel.entries), options.max_width * 2 // 5)
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(width=width, overflow="fold")
        table.add_column()
        for entry in panel.entries:
            table.add_row(_name(entry), _description(entry))
        console.print()
        console.print(Text(str(panel.title), style=HEADING))
        console.print(Padding(table, (0, 0, 0, 2), expand=False))


def _name(entry: HelpEntry) -> Text:
    if entry.positional_label and not entry.required:
        return Text(f"[{entry.positional_label}]", style=NAME)
    if entry.positional_label:
        return Text(entry.positional_label, style=NAME)
    longs, shorts, negatives = entry.positive_names, entry.positive_shorts, entry.negative_names
    label = Text(", ".join([*shorts, *longs, *negatives]), style=NAME)
    if entry.metavar:
        label.append(f" {entry.metavar}", style=FAINT)
    return label


def _description(entry: HelpEntry) -> RenderableType:
    notes = []
    if entry.choices:
        notes.append("one of " + ", ".join(entry.choices))
    if entry.default not in (None, "False", "None", "[]", "()"):
        notes.append(f"default: {entry.default.removesuffix('.0')}")
    if entry.required:
        notes.append("required")
    if entry.description is not None and notes and hasattr(entry.description, "append"):
        entry.description.append(Text(f"[{'; '.join(notes)}]", style=FAINT))
        return entry.description
    return Group(entry.description) if entry.description is not None else Text("; ".join(notes), style=FAINT)


def render(app: App, path: list[str], width: int) -> str:
    """The help page of one command path, `width` columns wide, with ANSI colours (8 colours, bold, dim)."""
    console = Console(
        file=io.StringIO(),
        width=width,
        force_terminal=True,
        color_system="standard",
        legacy_windows=False,
        theme=Theme({"markdown.code": "bold"}),  # the library's default paints a dark box on light screens
        _environ={},
    )
    app.help_formatter = Page()
    app.help_print(path, console=console)
    name = " ".join(path)
    if examples := FIRST_STEPS if not path else EXAMPLES.get(name, ()):
        console.print(Text("\nExamples" if path else "\nFirst steps", style=HEADING))
        for line, purpose in examples:
            console.print(Text(f"  # {purpose}", style=FAINT), soft_wrap=True)
            console.print(Text(f"  {line}"), soft_wrap=True)
    if name in GO_ON:
        console.print(Text("\nGo on with", style=HEADING))
        for line in GO_ON[name]:
            console.print(Text(f"  {line}"), soft_wrap=True)
    if not path:
        console.print(Text("\nEvery command teaches itself: twofold COMMAND --help", style=FAINT))
    lines = [re.sub(r" +(\x1b\[0m)?$", r"\1", line.rstrip()) for line in console.file.getvalue().splitlines()]
    kept = [line for line, before in zip(lines, ["", *lines], strict=False) if line or before]
    return "\n".join(kept).rstrip() + "\n"


def render_all() -> Pages:
    """All pages at all widths. Loads every command module."""
    app = build_app()
    paths = [[]]
    groups = []
    for path in paths:  # grows while it is walked: commands of commands
        here = _at(app, path)
        children = [name for name in here if not name.startswith("-") and here[name].show]
        children.sort(key=lambda name: here[name].sort_key if isinstance(here[name].sort_key, int) else 0)
        paths.extend([*path, name] for name in children)
        if here.default_command is None:
            groups.append(" ".join(path))
    order = [command.name for command in COMMANDS]
    paths.sort(key=lambda path: (order.index(path[0]) if path else -1, len(path)))
    pages = {str(width): {" ".join(path): render(app, path, width) for path in paths} for width in WIDTHS}
    return Pages(pages, tuple(groups))


def _at(app: App, path: list[str]) -> App:
    for name in path:
        app = app[name]
    return app


def as_markdown(pages: Pages) -> str:
    """The command-line reference: every page as text, under its command's name."""
    parts = ["# Commands\n\nEvery page here is what `twofold COMMAND --help` prints.\n"]
    for path, page in pages.pages[str(WIDTHS[-1])].items():
        heading = "##" if " " not in path else "###"
        title = f"twofold {path}".strip()
        parts.append(f"{heading} {title}\n\n```text\n{without_colour(page)}```\n")
    return "\n".join(parts)


def write(file: Path = FILE, document: Path = DOCUMENT) -> None:
    """Write the pages and the reference. Raises FileError."""
    pages = render_all()
    write_json(file, {"pages": pages.pages, "groups": list(pages.groups)})
    with atomic_write(document) as out:
        out.write(as_markdown(pages))


if __name__ == "__main__":
    write()
    print(f"Wrote {FILE} and {DOCUMENT}.")
