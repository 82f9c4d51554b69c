"""Being stopped: by the person, by the machine's keeper, or by the death of another process of the run."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from twofold.errors import TrainingError

_SIGNS_OF_DEATH = ("Connection closed", "Connection reset", "NCCL", "Broken pipe", "Timed out", "timed out")


@contextmanager
def stop_signals(alone: bool) -> Iterator[threading.Event]:
    """An event that the first Ctrl-C or SIGTERM sets. A second Ctrl-C stops at once, where this process is alone:
    torchrun hands on the first one, so that each of many processes gets it twice."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return

    def note(number: int, frame: Any) -> None:
        if stopped.is_set() and number == signal.SIGINT and alone:
            raise KeyboardInterrupt
        stopped.set()

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def deaths_explained(alone: bool, again: str) -> Iterator[None]:
    """Turn what an exchange with a dead process raises into a TrainingError. `again`: what goes on with the run."""
    try:
        yield
    except RuntimeError as error:
        if alone or not any(word in str(error) for word in _SIGNS_OF_DEATH):
            raise
        raise TrainingError(
            "Another process of this run has died or cannot be reached; its own message says why. What the last "
            f"checkpoint holds is safe. {again} goes on from it, and torchrun --max-restarts does so by itself."
        ) from error
