"""Line charts as SVG that fits any width, drawn by hand.

Key idea: the SVG's own viewport is the plot, and everything in it stands in percent, so the browser lays
the chart out at phone or paper width without a script and without shrinking its text. Axis labels hang over
the edge into the frame's padding. Only the curves stand in a stretched 1000 x 1000 box, with strokes that
do not stretch.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass

from twofold.report.markup import Markup, join, raw, tag
from twofold.report.quantities import number, short
from twofold.report.series import Points, domain, log_ticks, smoothed, thin, ticks

MAX_POINTS = 600  # a line
MAX_MARKS = 80  # held-out points drawn as dots, and rows of their table


@dataclass(frozen=True)
class Line:
    """One series. `measured` lines are few exact points, drawn as dots joined by a line; others are smoothed
    with the raw values faint behind. `tone` names a colour of the page: "accent", "held-out", "tone-3"..."""

    name: str
    points: Points
    tone: str = "accent"
    measured: bool = False


@dataclass(frozen=True)
class _Axes:
    """Maps values to percent of the plot: x from the left, y from the top."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float
    log_x: bool

    def x(self, value: float) -> float:
        low, high = self.x_low, self.x_high
        if self.log_x:
            low, high, value = math.log(low), math.log(high), math.log(max(value, low))
        return 100 * (value - low) / (high - low)

    def y(self, value: float) -> float:
        value = min(max(value, self.y_low), self.y_high)
        return 100 - 100 * (value - self.y_low) / (self.y_high - self.y_low)


def line_chart(
    name: str,
    lines: list[Line],
    *,
    identity: str,
    x_label: str = "step",
    small: bool = False,
    choose_log_x: bool = False,
    from_zero: bool = False,
    scale: float = 1.0,
    unit: str = "",
) -> Markup | None:
    """A figure with a title, a legend and the chart; None when no line has a point.

    `identity` is unique on the page. `choose_log_x` adds a switch between a linear and a logarithmic x
    axis, which needs no script. `scale` multiplies every y before it is drawn (100 for a fraction in
    percent).
    """
    lines = [_scaled(line, scale) for line in lines if line.points]
    if not lines:
        return None
    values = [y for line in lines for _, y in line.points]
    y_low, y_high = domain(values)
    outside = sum(not y_low <= y <= y_high for y in values)
    if from_zero:
        y_low = min(0.0, y_low)
    else:
        y_low -= 0.04 * (y_high - y_low)
    y_high += 0.04 * (y_high - y_low)
    xs = [x for line in lines for x, _ in line.points]
    x_low, x_high = min(xs), max(xs)
    if not x_low < x_high:
        room = max(1.0, abs(x_low) * 1e-9)  # 1 alone is lost in a number of twenty digits
        x_low, x_high = x_low - room, x_high + room
    above_zero = [x for x in xs if x > 0]
    views = [_view(name, lines, _Axes(x_low, x_high, y_low, y_high, False), x_label, small, unit)]
    switch: list[Markup] = []
    if choose_log_x and above_zero and x_high / min(above_zero) >= 20:
        axes = _Axes(min(above_zero), x_high, y_low, y_high, True)
        positive = [Line(k.name, [p for p in k.points if p[0] > 0], k.tone, k.measured) for k in lines]
        views.append(_view(name, [k for k in positive if k.points], axes, x_label, small, unit))
        switch = _switch(identity, x_label)
    notes = []
    if outside:
        notes.append(f"{outside} far-off value{'s' * (outside > 1)} drawn at the edge.")
    return tag(
        "figure",
        tag("figcaption", tag("span", name, class_="chart-name"), None if small else _legend(lines, unit)),
        switch,
        [tag("div", view, class_=f"view view-{'ab'[i]}") for i, view in enumerate(views)],
        tag("p", " ".join(notes), class_="chart-note") if notes else None,
        class_="chart small" if small else "chart",
    )


def _scaled(line: Line, scale: float) -> Line:
    points = [(x, y * scale) for x, y in line.points] if scale != 1 else line.points
    return Line(line.name, points, line.tone, line.measured)


def _switch(identity: str, x_label: str) -> list[Markup]:
    """Two radio buttons that CSS reads: no script needed to change the axis."""
    made = []
    for letter, text in (("a", "linear"), ("b", "log")):
        own = f"{identity}-{letter}"
        made.append(
            tag(
                "input",
                type="radio",
                name=identity,
                id=own,
                class_=f"pick pick-{letter}",
                checked=letter == "a",
            )
        )
        made.append(tag("label", text, for_=own, title=f"{text} {x_label} axis"))
    return made


def _legend(lines: list[Line], unit: str) -> Markup:
    items = []
    for line in lines:
        kind = "dot" if line.measured else "dash"
        items.append(
            tag(
                "span",
                tag("i", class_=f"swatch {kind} {line.tone}", aria_hidden="true"),
                line.name,
                " ",
                tag("b", _ended(line, unit)),
                class_="key",
            )
        )
    return tag("span", items, class_="legend")


def _ended(line: Line, unit: str) -> str:
    """The value that a line ends at: its last point, or the mean of the last few of a noisy one."""
    last = [y for _, y in line.points[-1 if line.measured else -max(1, len(line.points) // 50) :]]
    value = sum(last) / len(last)
    return f"{value:.3f} {unit}".rstrip() if 0.01 <= abs(value) < 100 else _worded(value, unit)


def _worded(value: float, unit: str) -> str:
    text = re.sub(r"\.0+ ", " ", short(value)) if abs(value) >= 10_000 else number(value)
    return f"{text} {unit}".rstrip()


def _view(name: str, lines: list[Line], axes: _Axes, x_label: str, small: bool, unit: str) -> Markup:
    drawn: list[Markup] = []
    dots: list[Markup] = []
    read_out = []
    for line in lines:
        clamped = [(x, min(max(y, axes.y_low), axes.y_high)) for x, y in line.points]
        if line.measured:
            drawn.append(_path(thin(clamped, MAX_POINTS, log_x=axes.log_x), axes, f"line {line.tone}"))
            dots += [_dot(line, point, axes, x_label, unit) for point in thin(clamped, MAX_MARKS)]
            shown = thin(clamped, MAX_POINTS // 2, log_x=axes.log_x)
        else:
            soft = thin(smoothed(clamped), MAX_POINTS, log_x=axes.log_x)
            if len(line.points) >= 100:
                drawn.append(
                    _path(thin(clamped, MAX_POINTS, log_x=axes.log_x), axes, f"line raw {line.tone}")
                )
            drawn.append(_path(soft, axes, f"line {line.tone}"))
            if len(soft) == 1:
                dots.append(_dot(line, soft[0], axes, x_label, unit))
            shown = thin(soft, MAX_POINTS // 2, log_x=axes.log_x)
        read_out.append(
            {
                "name": line.name,
                "tone": line.tone,
                "x": [_brief(x) for x, _ in shown],
                "y": [_brief(y) for _, y in shown],
                "at": [[round(axes.x(x), 2), round(axes.y(y), 2)] for x, y in shown],
            }
        )
    box = tag(
        "svg",
        drawn,
        viewBox="0 0 1000 1000",
        preserveAspectRatio="none",
        width="100%",
        height="100%",
        overflow="visible",
    )
    plot = tag(
        "svg",
        _grid(axes, small),
        box,
        dots,
        role="img",
        aria_label=_described(name, lines, x_label, unit),
        class_="plot",
        width="100%",
        height="100%",
        overflow="visible",
    )
    data = json.dumps(
        {"x": x_label, "unit": unit, "lines": read_out}, ensure_ascii=True, separators=(",", ":")
    )
    data = data.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return join(
        [
            tag("div", plot, class_="frame"),
            tag("div", x_label, class_="axis-name"),
            raw(f'<script type="application/json">{data}</script>'),
        ]
    )


def _described(name: str, lines: list[Line], x_label: str, unit: str) -> str:
    """The chart in words, for those who do not see it."""
    told = []
    for line in lines:
        (x0, y0), (x1, y1) = line.points[0], line.points[-1]
        told.append(
            f"{line.name}: from {_worded(y0, unit)} at {x_label} {number(x0)} "
            f"to {_worded(y1, unit)} at {number(x1)}, lowest {_worded(min(y for _, y in line.points), unit)}"
        )
    return f"{name}. " + "; ".join(told)


def _grid(axes: _Axes, small: bool) -> list[Markup]:
    parts = []
    for value in ticks(axes.y_low, axes.y_high, 3 if small else 5):
        at = f"{axes.y(value):.2f}%"
        parts.append(tag("line", x1="0", x2="100%", y1=at, y2=at, class_="grid"))
        parts.append(tag("text", _worded(value, ""), x="0", y=at, dx="-8", dy="0.32em", class_="tick y"))
    marks = (
        log_ticks(axes.x_low, axes.x_high)
        if axes.log_x
        else ticks(axes.x_low, axes.x_high, 3 if small else 6)
    )
    for i, value in enumerate(marks):
        place = axes.x(value)
        at = f"{place:.2f}%"
        crowd = " odd" if i % 2 and len(marks) > 5 else ""
        parts.append(tag("text", _worded(value, ""), x=at, y="100%", dy="1.5em", class_="tick x" + crowd))
    parts.append(tag("line", x1="0", x2="100%", y1="100%", y2="100%", class_="axis"))
    return parts


def _path(points: Points, axes: _Axes, class_: str) -> Markup:
    steps = [f"{10 * axes.x(x):.1f} {10 * axes.y(y):.1f}" for x, y in points]
    return tag("path", d="M" + "L".join(steps), class_=class_, vector_effect="non-scaling-stroke")


def _dot(line: Line, point: tuple[float, float], axes: _Axes, x_label: str, unit: str) -> Markup:
    x, y = point
    words = tag("title", f"{line.name}: {_worded(y, unit)} at {x_label} {number(x)}")
    return tag(
        "circle", words, cx=f"{axes.x(x):.2f}%", cy=f"{axes.y(y):.2f}%", r="3", class_=f"dot {line.tone}"
    )


def _brief(value: float) -> float | int:
    """A number in at most six figures, to keep the page small."""
    value = float(f"{value:.6g}")
    return int(value) if value.is_integer() and abs(value) < 1e15 else value
