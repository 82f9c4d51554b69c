"""`twofold report`: make a run's page again, from what its folder holds."""

from __future__ import annotations

from pathlib import Path


def report(run: Path, /, *, output: Path | None = None) -> None:
    """Make a run's report again: one HTML page that stands alone.

    It is drawn from what the folder holds (settings, metrics, samples, scores), so it also works for a run
    that still goes on or was stopped.

    Parameters
    ----------
    run
        The folder of a training run, or the folder that `twofold create` made.
    output
        The file to write; report.html in the folder when not given.
    """
    from twofold.report import report_of_folder, write_report

    path = write_report(output if output is not None else run / "report.html", report_of_folder(run))
    print(path)
