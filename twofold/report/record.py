"""What a report says, as plain data: any stage can fill it in, and it goes to JSON and back.

Key idea: the page (page.py) is a pure function of a `Report`. Everything is optional but the title; what is
missing is left out of the page. Text in here may come from a model or from anyone's documents: it is
untrusted, and only the page's writer escapes it.
"""

from __future__ import annotations

import dataclasses
import math
import os
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from twofold.errors import FileError
from twofold.files import read_json, write_json

Values = Mapping[str, Any]  # names to numbers, text, lists or further names: whatever JSON holds


@dataclass(frozen=True)
class RunRecord:
    """One training run.

    `metrics` are the rows of metrics.jsonl in order: step, seconds, tokens, loss (nats a token),
    bits_per_byte (estimate on the training batch), held_out_bits_per_byte (only at evaluations),
    learning_rate, tokens_per_second, peak_fraction (of the measured matmul peak, 0 to 1), grad_norm; any
    may be missing. `model` is the shape in Qwen3's names, `parameters` the count of each part. `notes` are
    sentences to print beside the curves.
    """

    name: str = "Training"
    settings: Values = field(default_factory=dict)
    metrics: tuple[Values, ...] = ()
    model: Values = field(default_factory=dict)
    parameters: Mapping[str, int] = field(default_factory=dict)
    data_card: Values = field(default_factory=dict)
    result: Values = field(default_factory=dict)
    environment: Values = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ScoreCell:
    """`right` of `n` questions answered exactly."""

    right: int
    n: int

    @property
    def fraction(self) -> float | None:
        """right / n, or None when nothing was asked."""
        return self.right / self.n if self.n > 0 else None

    def interval(self, z: float = 1.959963984540054) -> tuple[float, float]:
        """The Wilson score interval (Wilson 1927) of the fraction; 95 % by default. (0, 1) when n is 0."""
        if self.n <= 0:
            return 0.0, 1.0
        share = min(max(self.right / self.n, 0.0), 1.0)
        scale = 1 + z * z / self.n
        centre = (share + z * z / (2 * self.n)) / scale
        spread = z / scale * math.sqrt(share * (1 - share) / self.n + z * z / (4 * self.n * self.n))
        return max(0.0, centre - spread), min(1.0, centre + spread)


@dataclass(frozen=True)
class ScoreRow:
    """One kind of question; `cells` in the order of the scores' columns, None where not asked.

    Rows of the same `group` ("by topic", "by language") stand under one heading; `chance` is this row's own
    chance level, where it differs from the whole's.
    """

    name: str
    cells: tuple[ScoreCell | None, ...]
    group: str = ""
    chance: float | None = None


@dataclass(frozen=True)
class Answer:
    """What one model answered, and whether that was right."""

    text: str
    right: bool


@dataclass(frozen=True)
class Example:
    """One question with the answer of each model, in the order of the scores' columns."""

    question: str
    expected: str
    answers: tuple[Answer, ...] = ()
    kind: str = ""


@dataclass(frozen=True)
class Scores:
    """Questions with exact answers, put to one or several models. The first row is the headline.

    `chance` is the fraction (0 to 1) that guessing would get right.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[ScoreRow, ...]
    explanation: str = ""
    chance: float | None = None
    examples: tuple[Example, ...] = ()


@dataclass(frozen=True)
class Sample:
    """A text that a model went on with. `settings` such as temperature, top-p and seed."""

    prompt: str
    continuation: str
    settings: Values = field(default_factory=dict)
    model: str = ""


@dataclass(frozen=True)
class Compression:
    """The training text's bytes against the bytes of what was made of it.

    `precisions`: bytes of the parameters by name ("F32": 4 * count, ...). `files`: the two files by name.
    `gzip_bytes`: the text after gzip, if it was measured.
    """

    text_bytes: int
    parameters: int = 0
    precisions: Mapping[str, int] = field(default_factory=dict)
    files: Mapping[str, int] = field(default_factory=dict)
    gzip_bytes: int | None = None


@dataclass(frozen=True)
class FileNote:
    """What lies at `path`; `size` in bytes if known."""

    path: str
    what: str
    size: int | None = None


@dataclass(frozen=True)
class NextStep:
    """How to go on: a line of explanation and the command to type."""

    what: str
    command: str


@dataclass(frozen=True)
class Stage:
    """A part of the work and how long it took."""

    name: str
    seconds: float


@dataclass(frozen=True)
class KeyFigure:
    """One of the large numbers at the top: "84 %", "questions right", "4 % by chance"."""

    value: str
    label: str
    note: str = ""


@dataclass(frozen=True)
class Report:
    """A whole page. `summary`: what was made from what, in how long, on what machine.

    `figures`: the large numbers; when empty, they are drawn from the rest. `commands`: what to type to get
    the same again. `made`: when, as text.
    """

    title: str
    summary: str = ""
    made: str = ""
    figures: tuple[KeyFigure, ...] = ()
    runs: tuple[RunRecord, ...] = ()
    scores: Scores | None = None
    samples: tuple[Sample, ...] = ()
    compression: Compression | None = None
    timeline: tuple[Stage, ...] = ()
    files: tuple[FileNote, ...] = ()
    next_steps: tuple[NextStep, ...] = ()
    commands: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values. A number that is not finite becomes null, since JSON has none."""
        return _plain(self)

    @classmethod
    def from_json(cls, value: Any) -> Report:
        """The report that `to_json` wrote. Raises FileError naming the place of anything else."""
        return _read(cls, value, "report")


def save_report(path: str | os.PathLike, report: Report) -> None:
    """Write a report's record as JSON, atomically, so that its page can be made again."""
    write_json(path, report.to_json())


def load_report(path: str | os.PathLike) -> Report:
    """Read what `save_report` wrote. Raises FileError if it is missing or damaged."""
    return Report.from_json(read_json(path))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if hasattr(value, "item"):  # a NumPy number, or a tensor of one element
        return _plain(value.item())
    return str(value)


def _read(kind: Any, value: Any, place: str) -> Any:
    """`value` from JSON as `kind`: one of this module's dataclasses or the types of their fields."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        return _read(next(a for a in arguments if a is not type(None)), value, place)
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        hints = typing.get_type_hints(kind)
        try:
            return kind(**{k: _read(hints[k], v, f"{place}.{k}") for k, v in value.items() if k in hints})
        except TypeError:
            raise FileError(f"This report's record lacks a part of {place}; make it again.") from None
    if origin is tuple and isinstance(value, list):
        return tuple(_read(arguments[0], item, f"{place}[{i}]") for i, item in enumerate(value))
    if origin is Mapping and isinstance(value, dict):
        return {key: _read(arguments[1], item, f"{place}.{key}") for key, item in value.items()}
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if kind in (str, int, bool) and type(value) is kind and not (kind is int and abs(value) >= 2**63):
        return value
    raise FileError(
        f"This report's record is damaged at {place}: {type(value).__name__} does not belong there."
    )
