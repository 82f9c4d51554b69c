"""A run is a folder. This file knows what lies where in it, and nothing of training.

`settings.json` (what was asked for), `metrics.jsonl` (a row each so often), `checkpoints/`, the model as
a Hugging Face folder, and `run.json`, written last: where it is, the run is finished.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from twofold.errors import FileError, UsageError
from twofold.files import atomic_write, explained, read_json, write_json
from twofold.training.checkpoints import list_checkpoints


def finished(run: Path) -> dict[str, Any] | None:
    """The contents of `run.json`, or None while the run is not finished."""
    return read_json(run / "run.json") if (run / "run.json").is_file() else None


def claim(run: Path, settings: dict[str, Any], resume: bool) -> None:
    """Make the folder this run's own, or check that it is the one to go on with.

    Raises UsageError when a run lies there and `resume` is off, or it had other settings.
    """
    path = run / "settings.json"
    if not path.is_file():
        if list_checkpoints(run):
            raise FileError(f"{path} is missing beside the checkpoints; bring it back or move {run} away.")
        write_json(path, settings)
        return
    if not resume:
        raise UsageError(f"{run} already holds a run. Go on with it by --resume, or choose another folder.")
    before = read_json(path)
    if not isinstance(before, dict):
        raise FileError(f"{path} is damaged. Bring it back from a copy, or move {run} away to begin again.")
    plain = json.loads(json.dumps(settings))
    changed = [k for k in {**before, **plain} if before.get(k) != plain.get(k)]
    if changed:
        lines = "".join(f"\n  {k}: {before.get(k)} before, {plain.get(k)} now" for k in changed)
        raise UsageError(
            f"The run in {run} was started with other settings:{lines}\nUse the same, or another folder."
        )


class Metrics:
    """`metrics.jsonl`, open for appending rows; on resuming, rows after the checkpoint's step go."""

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        if path.exists():
            kept = [row for row in read_rows(path) if row.get("step", 0) <= step]
            with atomic_write(path) as file:
                file.writelines(_line(row) for row in kept)
        with explained(path, "write"):
            self.file = open(path, "a", encoding="utf-8")  # noqa: SIM115 - open as long as the run

    def add(self, row: dict[str, Any]) -> None:
        """Append one row, at once on its way to the disk."""
        with explained(self.path, "write"):
            self.file.write(_line(row))
            self.file.flush()

    def close(self) -> None:
        """Close the file."""
        self.file.close()


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row, allow_nan=False) + "\n"


def read_rows(path: Path) -> list[dict[str, Any]]:
    """All whole rows; a line that a kill cut short is left out."""
    rows = []
    with explained(path, "read"), open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict):
                rows.append(row)
    return rows
