"""Numbers as people read them: 1,234,567 · 39.6 MB · 12 min 5 s · 84 % · 3 × 10⁻⁴."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def finite(value: Any) -> float | None:
    """`value` as a finite float, or None for anything else (text, truth values, NaN, huge integers)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def whole(count: float) -> str:
    """A count in full: 1,234,567."""
    return f"{round(count):,}"


def short(count: float) -> str:
    """A count in three figures: 1,234 · 1.23 M · 4.5 G."""
    for limit, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(count) >= limit:
            return f"{_three(count / (1e3 if unit == 'k' else limit))} {unit}"
    return f"{count:,.0f}" if float(count).is_integer() else number(count)


def size(n_bytes: float) -> str:
    """Bytes in decimal units: 812 bytes · 39.6 MB."""
    for limit, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if abs(n_bytes) >= limit:
            return f"{_three(n_bytes / limit)} {unit}"
    return f"{n_bytes:,.0f} bytes"


def _three(value: float) -> str:
    return f"{value:.{max(0, 2 - int(math.log10(max(abs(value), 1))))}f}"


def duration(seconds: float) -> str:
    """0.4 s · 42 s · 12 min 5 s · 3 h 20 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        minutes, rest = divmod(seconds, 60)
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, rest = divmod(round(seconds / 60), 60)
    return f"{hours:,} h {rest} min" if rest else f"{hours:,} h"


def percent(fraction: float) -> str:
    """A fraction (0 to 1) as a percentage: whole numbers, with one decimal below 10 %."""
    value = 100 * fraction
    return f"{value:.1f} %" if 0 < value < 9.95 else f"{value:.0f} %"


def number(value: float) -> str:
    """About four significant figures; a power of ten where the number is very large or small."""
    if value == 0:
        return "0"
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else ("∞" if value > 0 else "−∞")
    exponent = math.floor(math.log10(abs(value)))
    if exponent < -3 or exponent > 8:
        mantissa = f"{value / 10.0**exponent:.3g}" if exponent > -300 else "0"
        power = f"10{str(exponent).translate(_SUPERSCRIPT)}"
        return (power if mantissa == "1" else f"{mantissa} × {power}").replace("-", "−")
    text = f"{value:,.{max(0, 3 - exponent)}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return text.replace("-", "−")


def value_of(name: str, value: Any) -> str:
    """Any value of a settings table as text, in the unit that its name tells (…bytes, seconds, …fraction)."""
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    key = name.lower()
    amount = finite(value)
    if amount is None and isinstance(value, (int, float)):
        return str(value) if isinstance(value, float) else "a very large number"
    if amount is not None:
        if key.endswith(("bytes", ".size", "_size_on_disk")) and "per" not in key and amount >= 1000:
            return f"{size(amount)} ({whole(amount)} bytes)"
        if key.endswith("seconds"):
            return duration(amount) if amount >= 0 else number(amount)
        if isinstance(value, int):
            return str(value) if key.endswith(("seed", "year")) else f"{value:,}"
        return number(amount)
    if isinstance(value, str):
        return value
    if isinstance(value, (list, tuple)) and all(isinstance(v, (str, int, float)) for v in value):
        return ", ".join(value_of("", v) for v in value)
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (ValueError, RecursionError):
        return str(type(value).__name__)


def flat(
    values: Mapping[str, Any], prefix: str = "", depth: int = 3, joint: str = "."
) -> list[tuple[str, Any]]:
    """Nested names as pairs ("optimizer.learning_rate", value), in order."""
    pairs: list[tuple[str, Any]] = []
    for key, value in values.items():
        if isinstance(value, Mapping) and value and depth > 1:
            pairs += flat(value, f"{prefix}{key}{joint}", depth - 1, joint)
        else:
            pairs.append((f"{prefix}{key}", value))
    return pairs
