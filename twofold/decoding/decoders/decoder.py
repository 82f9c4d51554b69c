"""What a decoder is to the engine: a maker of programs."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from twofold.decoding.branch import Branch
from twofold.decoding.task import Task


@dataclass(frozen=True, slots=True)
class Rows:
    """A question: the scores after the last `rows` tokens of a branch, not only after the last one."""

    branch: Branch
    rows: int


@dataclass(frozen=True, slots=True)
class States:
    """A question: the scores after these branches (or `Rows`), and the model's last activations there. The
    answer: (scores [rows, V], activations [rows, D]). Not every model can; then it is a UsageError."""

    asked: Sequence[Branch | Rows]


@dataclass(frozen=True, slots=True)
class Answer:
    """One finished text of a decoder. `score`: what the decoder ranks by, where it ranks."""

    branch: Branch
    score: float | None = None


Program = Generator[Any, Any, Sequence[Answer]]


class Decoder(Protocol):
    """A frozen dataclass of settings that makes a program for each request."""

    def program(self, task: Task) -> Program:
        """Plain sequential Python that yields questions and returns its answers, best first.

        It yields a list of branches (and `Rows`) and is sent their scores [rows, V], float32; or `States`, or
        a `Draw`, which say what they are sent; or an empty list, to wait for a turn. Raises UsageError at once
        for a request that it cannot serve.
        """
        ...
