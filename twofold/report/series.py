"""Series of measurements made fit to draw: finite, smoothed, and few enough.

Key idea: a line on a screen has some hundreds of pixels, so of a million points only the lowest and the
highest of each pixel column can be seen. `thin` keeps exactly those; a page stays small and no spike is
lost.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from twofold.report.quantities import finite

Points = list[tuple[float, float]]  # (x, y), finite, x never falling


def points_of(rows: Iterable[Mapping[str, Any]], y: str, x: str = "step") -> Points:
    """The finite (x, y) pairs of some metric rows, in the order of x; of equal x the last one counts.

    Rows that a resumed run repeated are thereby drawn once.
    """
    found: dict[float, float] = {}
    for row in rows:
        at, value = finite(row.get(x)), finite(row.get(y))
        if at is not None and value is not None and max(abs(at), abs(value)) < 1e100:
            found[at] = value
    return sorted(found.items())


def smoothed(points: Points, share: float = 0.03) -> Points:
    """A moving average over `share` of the points: centred, narrower at the start, where losses fall
    steeply, so that it never lags there, and one-sided at the end, where they hardly move."""
    reach = int(len(points) * share / 2)
    if reach < 1:
        return points
    sums = [0.0]
    for _, y in points:
        sums.append(sums[-1] + y)
    last = len(points) - 1
    averaged = []
    for i, (x, _) in enumerate(points):
        room = min(reach, i // 3)
        first, after = i - room, min(i + room, last) + 1
        averaged.append((x, (sums[after] - sums[first]) / (after - first)))
    return averaged


def thin(points: Points, limit: int = 600, *, log_x: bool = False) -> Points:
    """At most `limit` of the points: the first, the last, and the lowest and highest of each column of x."""
    if len(points) <= limit:
        return points
    place = (lambda x: math.log(max(x, 1e-300))) if log_x else (lambda x: x)
    start, end = place(points[0][0]), place(points[-1][0])
    columns = (limit - 2) // 2
    scale = columns / (end - start) if end > start else 0.0
    kept: Points = [points[0]]
    column: int | None = None
    low = high = points[0]
    for point in points:
        here = min(columns - 1, int((place(point[0]) - start) * scale))
        if here != column:
            if column is not None:
                kept += sorted({low, high})
            column, low, high = here, point, point
        elif point[1] < low[1]:
            low = point
        elif point[1] > high[1]:
            high = point
    kept += sorted({low, high})
    kept.append(points[-1])
    return [p for i, p in enumerate(kept) if i == 0 or p != kept[i - 1]]


def domain(values: Sequence[float]) -> tuple[float, float]:
    """The range to draw: all of `values`, unless a few lie so far out that they would hide the rest."""
    ordered = sorted(values)
    low, high = ordered[0], ordered[-1]
    n = len(ordered) - 1
    middle, tenth, ninetieth = ordered[n // 2], ordered[n // 10], ordered[n - n // 10]
    reach = 40 * max(ninetieth - tenth, abs(middle) * 0.05)
    if reach > 0:
        low, high = max(low, middle - reach), min(high, middle + reach)
    if not low < high:
        room = abs(low) * 0.1 or 1.0
        low, high = low - room, high + room
    return low, high


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) from `low` to `high`, about as many as asked."""
    if not low < high:
        return [low]
    rough = (high - low) / max(1, about)
    power = 10.0 ** math.floor(math.log10(rough)) if rough > 1e-300 else 1e-300
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    if last < first:  # the step passes over the whole range
        return ticks(low, high, about + 1)
    if last - first > 100:  # numbers too close for floats to tell apart
        return [low, high]
    return [float(f"{i * step:.12g}") for i in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten from `low` to `high` (both above 0), with 2 and 5 between them when they are few."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    inside = [m * 10.0**e for e in range(first, last + 1) for m in (1, 2, 5)]
    inside = [t for t in inside if low * 0.999 <= t <= high * 1.001]
    tens = [t for t in inside if math.isclose(math.log10(t) % 1, 0, abs_tol=1e-9)]
    return tens if len(tens) >= 4 else inside
