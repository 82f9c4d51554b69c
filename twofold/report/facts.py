"""What a record tells when asked: the figures that several places of the page need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from twofold.report.quantities import duration, finite, flat, percent, short, size
from twofold.report.record import KeyFigure, Report, RunRecord
from twofold.report.series import points_of


def text_bytes(card: Mapping[str, Any]) -> int | None:
    """Bytes of training text that a data card states, or None."""
    values = {key.lower(): finite(value) for key, value in flat(card)}
    for name in ("train.bytes", "train_bytes", "training_bytes", "text_bytes", "bytes"):
        found = values.get(name)
        if found and 0 < found < 2**63:
            return int(found)
    return None


def run_seconds(run: RunRecord) -> float | None:
    """How long a run took: its result's word for it, or its last row's."""
    told = finite(run.result.get("seconds"))
    if told is None:
        seconds = [s for row in run.metrics if (s := finite(row.get("seconds"))) is not None]
        told = max(seconds, default=None)
    return told if told and told > 0 else None


def last_value(rows: Sequence[Mapping[str, Any]], key: str) -> float | None:
    """The last finite value of `key`; rows need not hold it (an evaluation's row has no loss)."""
    return next((v for row in reversed(rows) if (v := finite(row.get(key))) is not None), None)


def held_out_result(run: RunRecord) -> float | None:
    """Bits per byte on held-out text at the end of a run, or None when it was never measured."""
    told = finite(run.result.get("held_out_bits_per_byte"))
    if told is not None:
        return told
    points = points_of(run.metrics, "held_out_bits_per_byte")
    return points[-1][1] if points else None


def key_figures(report: Report) -> tuple[KeyFigure, ...]:
    """The large numbers at the top: those given, or what the rest of the report has to show."""
    if report.figures:
        return report.figures
    found = []
    scores = report.scores
    cells = scores.rows[0].cells if scores and scores.rows else ()
    if scores and cells and (cell := cells[-1]) is not None and cell.fraction is not None:
        before = cells[0] if len(cells) > 1 else None
        notes = []
        if before is not None and before.fraction is not None:
            notes.append(f"{scores.columns[0] if scores.columns else 'before'}: {percent(before.fraction)}")
        if scores.chance is not None:
            notes.append(f"by chance: {percent(scores.chance)}")
        found.append(KeyFigure(percent(cell.fraction), "of the questions right", "; ".join(notes)))
    first = report.runs[0] if report.runs else None
    held_out = held_out_result(first) if first else None
    if held_out is not None:
        found.append(KeyFigure(f"{held_out:.3f}", "bits per byte", "on held-out text"))
    parameters = report.compression.parameters if report.compression else 0
    parameters = parameters or next(
        (sum(run.parameters.values()) for run in report.runs if run.parameters), 0
    )
    if parameters:
        found.append(KeyFigure(short(parameters), "parameters"))
    n_bytes = (
        report.compression.text_bytes
        if report.compression
        else (text_bytes(first.data_card) if first else None)
    )
    if n_bytes:
        found.append(KeyFigure(size(n_bytes), "of training text"))
    seconds = sum(stage.seconds for stage in report.timeline if finite(stage.seconds) is not None)
    seconds = seconds or sum(run_seconds(run) or 0 for run in report.runs)
    if seconds > 0:
        found.append(
            KeyFigure(
                duration(60 * round(seconds / 60) if seconds >= 600 else seconds),
                "in all" if len(report.timeline) > 1 else "of training",
            )
        )
    return tuple(found)
