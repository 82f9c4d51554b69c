"""One prompt on its way through the engine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from twofold.decoding.branch import Branch
from twofold.decoding.decoders.decoder import Answer, Program
from twofold.decoding.draw import Drawing
from twofold.decoding.task import Choice, Task
from twofold.errors import TwofoldError

if TYPE_CHECKING:
    from twofold.decoding.engine import Engine


class OutOfTime(TwofoldError):
    """A request's time-out passed before it had said anything."""


@dataclass(eq=False, slots=True)
class Item:
    """One branch of a question, and once it is answered where its scores are; `twins` begin and end alike
    and take the same."""

    branch: Branch
    rows: int
    request: Request
    wants_states: bool = False
    drawing: Drawing | None = None  # if the engine draws after it
    unread: list[int] | None = None  # this step's, if they were looked up already
    among: Tensor | None = None  # the scores [N, V] of a step; its own end at row `at`
    at: int = 0
    among_states: Tensor | None = None
    twins: list[Item] = field(default_factory=list)

    @property
    def scores(self) -> Tensor:
        """[rows, V]."""
        return self.among[self.at + 1 - self.rows : self.at + 1]

    @property
    def states(self) -> Tensor:
        """[rows, D]."""
        return self.among_states[self.at + 1 - self.rows : self.at + 1]


@dataclass(eq=False)
class Request:
    """One prompt on its way. Iterating yields its choices as they become certain, and drives the engine.

    `answers` are there once it is `done`, best first. However it ends, its branches are freed.
    """

    engine: Engine
    task: Task
    program: Program
    deadline: float | None = None
    started: bool = False
    done: bool = False
    timed_out: bool = False
    served: int = 0  # the step that last read for it
    error: BaseException | None = None
    answers: list[Answer] = field(default_factory=list)
    question: Any = None
    items: list[Item] = field(default_factory=list)

    def __iter__(self) -> Iterator[Choice]:
        """Choices, in order. Raises what went wrong, after what was chosen before."""
        while not self.is_over:
            self.engine.drive(self)
            yield from self.take()

    def take(self) -> Iterator[Choice]:
        """The choices that are there already. Raises what went wrong, once, after what was chosen before."""
        while self.task.events:
            yield self.task.events.popleft()
        if self.error is not None:
            error, self.error = self.error, None
            raise error

    def result(self) -> list[Answer]:
        """All answers, best first, when they are finished."""
        for _ in self:
            pass
        return self.answers

    def cancel(self) -> None:
        """Stop it; what was told stays told. Calling it on a finished request does nothing."""
        self.engine.finish(self)

    @property
    def is_over(self) -> bool:
        """Done, and all that it told was taken."""
        return self.done and not self.task.events

    @property
    def is_answered(self) -> bool:
        """Whether nothing of its question is still to be read."""
        for item in self.items:  # noqa: SIM110 - a generator costs more, for every request at every step
            if item.among is None:
                return False
        return True
