"""From a run folder to a report: settings.json, metrics.jsonl, run.json, samples.json, whatever is there.

Key idea: the folder may be of a run that still goes on, was killed, or is damaged. What can be read is
shown, a line that was cut is left out, and memory stays bounded however long the run was.
"""

from __future__ import annotations

import json
import math
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twofold.errors import FileError
from twofold.files import explained, read_json
from twofold.report.facts import held_out_result, last_value, run_seconds, text_bytes
from twofold.report.quantities import duration, finite, short, size, whole
from twofold.report.record import Compression, NextStep, Report, RunRecord, Sample, Stage, load_report

MAX_JSON_BYTES = 64 * 2**20  # settings, run.json, samples.json
MAX_LINE_BYTES = 64 * 2**10  # one row of metrics
MAX_ROWS = 20_000  # rows of metrics in a record; of more, the telling ones
RECORD = "report.json"  # a whole report's record, where a pipeline left one
_MARKS = ("settings.json", "metrics.jsonl", "run.json")


def report_of_folder(folder: str | os.PathLike) -> Report:
    """The report of any folder that has one: a pipeline's (report.json), or a run's.

    Raises FileError when the folder is neither, or is damaged.
    """
    folder = Path(folder)
    if (folder / RECORD).is_file():
        _check_size(folder / RECORD)
        return load_report(folder / RECORD)
    return report_of_run(folder)


def load_run_record(run_folder: str | os.PathLike, name: str | None = None) -> RunRecord:
    """Read a run folder; what it lacks stays empty. `name` overrides the name that the run gives itself.

    Raises FileError when it is no run folder or a JSON file in it is damaged.
    """
    folder = Path(run_folder)
    if not any((folder / mark).is_file() for mark in _MARKS):
        there = "has none of settings.json, metrics.jsonl and run.json" if folder.is_dir() else "is not there"
        raise FileError(
            f"{folder} is not a run folder: it {there}. Give the folder that a training run made."
        )
    run = _mapping(folder / "run.json")
    settings = _mapping(folder / "settings.json")
    rows, unread = _rows(folder / "metrics.jsonl")
    shape = settings.get("model") if isinstance(settings.get("model"), dict) else {}
    model = _first(run, "model", "config") or _mapping(folder / "config.json") or shape
    finished = {"finished": run["finished"]} if isinstance(run.get("finished"), str) else {}
    notes = []
    if unread:
        notes.append(f"{whole(unread)} damaged line{'s' * (unread > 1)} of metrics.jsonl left out.")
    return RunRecord(
        name=name or _text(run.get("name")) or _text(settings.get("name")) or "Training",
        settings={k: v for k, v in settings.items() if k not in ("name", "model")},
        metrics=tuple(rows),
        model=model,
        parameters=_counts(_first(run, "parameters")),
        data_card=_first(run, "data_card", "data", "card"),
        result=_first(run, "result") | finished,
        environment=_first(run, "environment"),
        notes=tuple(notes),
    )


def report_of_run(run_folder: str | os.PathLike) -> Report:
    """The report of one run folder alone, for its own page. Raises as `load_run_record`."""
    folder = Path(run_folder)
    run = load_run_record(folder)
    shown = folder.resolve().name
    where = shlex.quote(os.fspath(folder))
    parameters = sum(run.parameters.values())
    n_bytes = text_bytes(run.data_card)
    seconds = run_seconds(run)
    made = _text(run.result.get("finished"))[:10]
    compression = None
    if parameters and n_bytes:
        compression = Compression(n_bytes, parameters, {"F32": 4 * parameters, "F16": 2 * parameters})
    return Report(
        title=f"{run.name}: {shown}",
        summary=_summary(run, parameters, n_bytes, seconds),
        made=made,
        runs=(run,),
        samples=_samples(folder / "samples.json"),
        compression=compression,
        timeline=(Stage(run.name, seconds),) if seconds else (),
        next_steps=(
            NextStep("See what it writes", f'twofold generate {where} "Once upon a time"'),
            NextStep("Make its two files", f"twofold export {where} -o {where}-two-files"),
        ),
    )


def _summary(run: RunRecord, parameters: int, n_bytes: int | None, seconds: float | None) -> str:
    step, tokens = last_value(run.metrics, "step"), last_value(run.metrics, "tokens")
    made = f"language model of {short(parameters)} parameters" if parameters else "language model"
    adapter = run.settings.get("adapter")
    rank = finite(adapter.get("rank")) if isinstance(adapter, Mapping) else None
    parts = [f"A {made}" if rank is None else f"An adapter of rank {whole(rank)} to a {made},"]
    if step:
        parts.append(f"trained for {whole(step)} steps")
    if tokens:
        parts.append(f"on {short(tokens)} tokens")
    if n_bytes:
        parts.append(f"of {size(n_bytes)} of text" if tokens else f"on {size(n_bytes)} of text")
    if seconds:
        parts.append(f"in {duration(seconds)}")
    machine = next(
        (str(run.environment[k]) for k in ("processor", "cpu", "device") if run.environment.get(k)), ""
    )
    cores = finite(run.environment.get("cores"))
    if machine:
        parts.append(f"on {whole(cores)} cores of {machine}" if cores else f"on {machine}")
    sentence = " ".join(parts) + "."
    held_out = held_out_result(run)
    if held_out is not None:
        sentence += f" It needs {held_out:.3f} bits for a byte of text that it has not seen."
    return sentence


def _rows(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The rows of a metrics.jsonl and how many lines could not be read, a cut last one not counted."""
    if not path.is_file():
        return [], 0
    rows: list[dict[str, Any]] = []
    unread = 0
    with explained(path, "read"), open(path, "rb") as file:
        whole_line = True
        while line := file.readline(MAX_LINE_BYTES):
            began, whole_line = whole_line, line.endswith(b"\n")
            if not began or not line.strip():
                continue  # the rest of a line that was too long, or an empty one
            try:
                row = json.loads(line) if whole_line or len(line) < MAX_LINE_BYTES else None
            except (ValueError, RecursionError):
                row = None
            if isinstance(row, dict):
                rows.append({k: v for k, v in row.items() if isinstance(v, (int, float, str, bool))})
            elif whole_line or len(line) == MAX_LINE_BYTES:
                unread += 1
            if len(rows) >= 2 * MAX_ROWS:
                rows = _thinned(rows)
    return rows if len(rows) <= MAX_ROWS else _thinned(rows), unread


def _thinned(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """At most MAX_ROWS of the rows: of each stretch the lowest and highest loss and the last evaluation.

    Stretches are of equal length in steps, not in rows, so that doing it again and again stays even.
    """
    steps = [finite(row.get("step")) for row in rows]
    known = [step for step in steps if step is not None]
    start, end = (min(known), max(known)) if known else (0.0, 0.0)
    stretches = MAX_ROWS // 3
    scale = stretches / (end - start) if end > start else 0.0
    chosen: dict[tuple[int, str], tuple[float, int]] = {}
    for i, row in enumerate(rows):
        step = steps[i]
        where = min(stretches - 1, int((step - start) * scale)) if step is not None else 0
        loss = finite(row.get("loss"))
        if finite(row.get("held_out_bits_per_byte")) is not None:
            chosen[where, "evaluation"] = (0.0, i)
        for kind, better in (("low", loss), ("high", None if loss is None else -loss)):
            if better is not None and (better, i) < chosen.get((where, kind), (math.inf, 0)):
                chosen[where, kind] = (better, i)
        chosen.setdefault((where, "low"), (math.inf, i))
    return [rows[i] for i in sorted({i for _, i in chosen.values()})]


def _samples(path: Path, limit: int = 50) -> tuple[Sample, ...]:
    """samples.json: a list of {prompt, continuation, ...}; every other value counts as a setting."""
    if not path.is_file():
        return ()
    _check_size(path)
    value = read_json(path)
    if isinstance(value, dict):
        value = value.get("samples")
    found = []
    for item in value if isinstance(value, list) else []:
        if not isinstance(item, dict):
            continue
        text = next(
            (item[k] for k in ("continuation", "text", "completion") if isinstance(item.get(k), str)), None
        )
        if text is None:
            continue
        settings = dict(item["settings"]) if isinstance(item.get("settings"), dict) else {}
        known = ("prompt", "continuation", "text", "completion", "settings", "model")
        settings |= {k: v for k, v in item.items() if k not in known and isinstance(v, (int, float, str))}
        found.append(Sample(_text(item.get("prompt")), text, settings, _text(item.get("model"))))
    return tuple(found[-limit:])  # the last ones: of the model as it was at the end


def _check_size(path: Path) -> None:
    with explained(path, "read"):
        n_bytes = path.stat().st_size
    if n_bytes > MAX_JSON_BYTES:
        raise FileError(f"{path} is {size(n_bytes)} large, which no run writes. It may be damaged.")


def _mapping(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    _check_size(path)
    value = read_json(path)
    if not isinstance(value, dict):
        raise FileError(
            f"{path} should hold names and values (a JSON object), and holds a {type(value).__name__}."
        )
    return value


def _first(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return next((dict(values[n]) for n in names if isinstance(values.get(n), dict)), {})


def _counts(values: Mapping[str, Any]) -> dict[str, int]:
    """The whole numbers among `values` that can be counts."""
    return {k: int(v) for k, v in values.items() if (n := finite(v)) is not None and 0 <= n < 2**63}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
