"""From chosen tokens to the text that is shown: whole characters, and nothing of a stop string."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from twofold.errors import UsageError

if TYPE_CHECKING:
    from twofold.tokens.tokenizer import Tokenizer


class StopStrings:
    """Lets text through until one of `stops` appears, wherever the borders between pieces fall.

    What may still become a stop string is held back.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        if any(not stop for stop in stops):
            raise UsageError("A stop string is empty; it would stop before the first word.")
        self.stops = tuple(stops)
        self.found: str | None = None
        self._held = ""

    def feed(self, piece: str) -> str:
        """What has become certain. After a stop string: what stood before it, and then nothing more."""
        if self.found is not None:
            return ""
        text = self._held + piece
        places = [(text.find(stop), stop) for stop in self.stops if stop in text]
        if places:
            at, self.found = min(places)
            self._held = ""
            return text[:at]
        held = max((_overlap(text, stop) for stop in self.stops), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def flush(self) -> str:
        """The end: what was held back becomes no stop string any more."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that is a beginning of `stop`."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0


class TextOut:
    """The text of one request: feed tokens, take what may be shown. `goes_on`: it continues a text."""

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str] = (), *, goes_on: bool = False) -> None:
        self._stream = tokenizer.stream(goes_on=goes_on)
        self._stops = StopStrings(stops)
        self._ready: list[str] = []

    def feed(self, token: int) -> bool:
        """Take a token; True if a stop string is complete."""
        self._ready.append(self._stops.feed(self._stream.feed(token)))
        return self._stops.found is not None

    def take(self) -> str:
        """What has become certain since the last call."""
        text = "".join(self._ready)
        self._ready.clear()
        return text

    def finish(self) -> str:
        """What is left when no more tokens come."""
        self._ready.append(self._stops.feed(self._stream.flush()))
        self._ready.append(self._stops.flush())
        return self.take()
