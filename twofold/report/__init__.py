"""The page that every run ends in: one self-contained `report.html`, and the record it is drawn from.

`write_report(out, report)` draws; `Report` (record.py) is what any stage fills in; `report_of_run(folder)`
reads one from a run folder.
"""

from twofold.report.page import render_report, write_report
from twofold.report.read import load_run_record, report_of_folder, report_of_run
from twofold.report.record import (
    Answer,
    Compression,
    Example,
    FileNote,
    KeyFigure,
    NextStep,
    Report,
    RunRecord,
    Sample,
    ScoreCell,
    ScoreRow,
    Scores,
    Stage,
    load_report,
    save_report,
)

__all__ = [
    "Answer",
    "Compression",
    "Example",
    "FileNote",
    "KeyFigure",
    "NextStep",
    "Report",
    "RunRecord",
    "Sample",
    "ScoreCell",
    "ScoreRow",
    "Scores",
    "Stage",
    "load_report",
    "load_run_record",
    "render_report",
    "report_of_folder",
    "report_of_run",
    "save_report",
    "write_report",
]
