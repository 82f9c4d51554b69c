"""What a person sees while a run goes on: a live table in a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from itertools import pairwise
from typing import Any, Protocol

PLAIN_SECONDS = 15.0  # between lines when nobody watches a terminal


class Progress(Protocol):
    """Where the loop reports to. All values may be None while unknown."""

    def tell(self, message: str) -> None: ...

    def update(self, row: dict[str, Any]) -> None: ...

    def close(self) -> None: ...


class Silent:
    """For tests and libraries."""

    def tell(self, message: str) -> None:
        """Nothing."""

    def update(self, row: dict[str, Any]) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def duration(seconds: float) -> str:
    """5 s, 1:05 min, 2:03:09 h."""
    seconds = round(max(seconds, 0))
    if seconds < 60:
        return f"{seconds} s"
    minutes, seconds = divmod(seconds, 60)
    if minutes < 60:
        return f"{minutes}:{seconds:02d} min"
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d} h"


def describe(row: dict[str, Any]) -> list[tuple[str, str]]:
    """A row of metrics as (name, value) pairs for people; what is not there is left out."""
    shown = [("step", f"{row['step']:,} of {row['steps']:,}")]
    if row.get("epoch") is not None:
        shown.append(("epochs", f"{row['epoch']:.2f}"))
    if row.get("loss") is not None:
        shown.append(("loss", f"{row['loss']:.3f}"))
    if row.get("held_out_bits_per_byte") is not None:
        shown.append(("held-out bits/byte", f"{row['held_out_bits_per_byte']:.3f}"))
    if row.get("tokens_per_second"):
        shown.append(("tokens/s", f"{row['tokens_per_second']:,.0f}"))
    if row.get("peak_fraction"):
        shown.append(("of matmul peak", f"{row['peak_fraction']:.0%}"))
    if row.get("seconds_left") is not None:
        shown.append(("time left", duration(row["seconds_left"])))
    return shown


class Plain:
    """One line every PLAIN_SECONDS, for logs and pipes."""

    def __init__(self, title: str, stream: Any = None) -> None:
        self.title, self.stream = title, stream or sys.stderr
        self.last = -PLAIN_SECONDS
        self.held_out: float | None = None

    def tell(self, message: str) -> None:
        """A line of its own."""
        print(f"{self.title}: {message}", file=self.stream, flush=True)

    def update(self, row: dict[str, Any]) -> None:
        """Remember, and print when it is time, and at the first and the last step."""
        self.held_out = row.get("held_out_bits_per_byte") or self.held_out
        now = time.monotonic()
        if now - self.last >= PLAIN_SECONDS or row["step"] >= row["steps"]:
            self.last = now
            shown = describe({**row, "held_out_bits_per_byte": self.held_out})
            self.tell(" · ".join(f"{name} {value}" for name, value in shown))

    def close(self) -> None:
        """Nothing to put away."""


class Live:
    """A small table that renews itself, with a sparkline of the loss."""

    BARS = "▁▂▃▄▅▆▇█"

    def __init__(self, title: str) -> None:
        from rich.console import Console
        from rich.live import Live as RichLive

        self.title = title
        self.row: dict[str, Any] = {}
        self.losses: list[float] = []
        self.console = Console(stderr=True)
        self.live = RichLive(
            console=self.console, get_renderable=self.render, refresh_per_second=4, transient=True
        )
        self.live.start()

    def tell(self, message: str) -> None:
        """A line above the table."""
        self.console.print(f"{self.title}: {message}", highlight=False, markup=False)

    def update(self, row: dict[str, Any]) -> None:
        """Show these values from now on."""
        kept = self.row.get("held_out_bits_per_byte")
        self.row = {**row, "held_out_bits_per_byte": row.get("held_out_bits_per_byte") or kept}
        if row.get("loss") is not None:
            self.losses.append(row["loss"])

    def render(self) -> Any:
        """The table as it stands."""
        from rich.panel import Panel
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2))
        if not self.row:
            table.add_row("measuring this machine …")
            return Panel(table, title=self.title, title_align="left", width=64)
        for name, value in describe(self.row):
            table.add_row(Text(name, style="dim"), value)
        table.add_row(Text("loss so far", style="dim"), sparkline(self.losses, 36))
        table.add_row("", ProgressBar(total=self.row["steps"], completed=self.row["step"], width=36))
        return Panel(table, title=self.title, title_align="left", subtitle="Ctrl-C saves and stops", width=64)

    def close(self) -> None:
        """Take the table away, and leave its last values as a line."""
        self.live.stop()
        if self.row:
            self.tell(
                " · ".join(f"{name} {value}" for name, value in describe(self.row) if name != "time left")
            )


def sparkline(values: list[float], width: int) -> str:
    """A line of `width` bars of eight heights, each the mean of its share of `values`."""
    if not values:
        return ""
    width = min(width, len(values))
    edges = [i * len(values) // width for i in range(width + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, high = min(means), max(means)
    scale = 7 / (high - low) if high > low else 0.0
    return "".join(Live.BARS[round((mean - low) * scale)] for mean in means)


def progress_for(title: str) -> Progress:
    """Live where a person watches, plain lines elsewhere."""
    return Live(title) if sys.stderr.isatty() else Plain(title)
