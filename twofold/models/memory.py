"""Who holds which page: the bookkeeping of a key-value memory, without the keys and values.

Memory is cut into pages of `page_size` tokens. A sequence is a length and a list of pages; a fork copies
the list, not the pages. Each page counts its sharers. An append writes into the last page while it is
that sequence's alone, and otherwise takes a fresh page and copies what it holds (copy on write), so a
shared page is never written. Plain Python, so that every model with pages uses it, whatever its arrays.
Source: PagedAttention (arXiv 2309.06180), section 4.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from twofold.models.language_model import MemoryFull, SequenceId


@dataclass(slots=True)
class _Held:
    length: int
    pages: list[int]  # replaced, never changed: an Append may still point at it
    adapter: str | None = None


@dataclass(slots=True)
class Append:
    """Where the next tokens of one sequence go: positions `start` to `stop` in `pages`.

    Position p lives in `pages[p // page_size]` at place p % page_size. `copy`: before writing, copy the
    page `copy[0]` to `copy[1]`.
    """

    sequence: SequenceId
    start: int
    stop: int
    pages: list[int]
    copy: tuple[int, int] | None = None


@dataclass(slots=True)
class Part:
    """The tokens of one ask that go through in a pass, at positions `start` to `stop` of its pages."""

    ask: int
    start: int
    stop: int
    pages: list[int]


def passes(plan: Sequence[Append], chunk: int) -> list[list[Part]]:
    """The appends cut into passes of at most `chunk` tokens, in their order."""
    found: list[list[Part]] = []
    room = 0
    for ask, step in enumerate(plan):
        start = step.start
        while start < step.stop:
            if not room:
                found.append([])
                room = chunk
            stop = min(step.stop, start + room)
            found[-1].append(Part(ask, start, stop, step.pages))
            room -= stop - start
            start = stop
    return found


class PagedMemory:
    """The pages of many sequences; see `twofold.models.language_model.Memory` for the meaning of each verb.

    `pages` limits how many there are; None lets them grow. `pages_made` is how many the owner of the
    arrays needs room for: pages are numbered 0 … pages_made - 1, and the lowest free one is used first,
    so that a sequence alone in memory lies in one piece.
    """

    def __init__(self, page_size: int = 16, pages: int | None = None, adapters: Collection[str] = ()) -> None:
        if page_size < 1 or (pages is not None and pages < 1):
            raise ValueError("page_size and pages must be at least 1")
        self.page_size = page_size
        self.pages_made = 0
        self._limit = pages
        self._adapters = adapters  # the names that a sequence can be read by
        self._free: list[int] = []  # a heap
        self._sharers: list[int] = []  # of each page
        self._held: dict[int, _Held] = {}
        self._next = 0

    def new(self, source: Sequence[int] | None = None, adapter: str | None = None) -> SequenceId:
        """An empty sequence."""
        if source is not None:
            raise ValueError("this model has no encoder, and so no source")
        if adapter is not None and adapter not in self._adapters:
            raise ValueError(f"this model has no adapter {adapter!r}")
        return self._keep(_Held(0, [], adapter))

    def fork(self, sequence: SequenceId) -> SequenceId:
        """A second sequence on the same pages."""
        held = self._find(sequence)
        for page in held.pages:
            self._sharers[page] += 1
        return self._keep(_Held(held.length, held.pages, held.adapter))

    def rewind(self, sequence: SequenceId, length: int) -> None:
        """Keep the first `length` tokens."""
        held = self._find(sequence)
        if not 0 <= length <= held.length:
            raise ValueError(f"sequence {sequence} has {held.length} tokens, so it cannot go to {length}")
        keep = -(-length // self.page_size)
        dropped = held.pages[keep:]
        held.length = length
        if dropped:
            held.pages = held.pages[:keep]
            self._drop(dropped)

    def free(self, sequence: SequenceId) -> None:
        """Forget the sequence."""
        held = self._find(sequence)
        del self._held[sequence]
        self._drop(held.pages)

    def length(self, sequence: SequenceId) -> int:
        """Tokens held."""
        return self._find(sequence).length

    def adapter(self, sequence: SequenceId) -> str | None:
        """Which adapter reads it."""
        return self._find(sequence).adapter

    def pages_free(self) -> int | None:
        """Pages still to be had; None without a limit."""
        return None if self._limit is None else self._limit - self.pages_made + len(self._free)

    def pages_needed(self, appends: Sequence[tuple[SequenceId, int]]) -> int:
        """Fresh pages for appending these numbers of tokens, copies of shared last pages included."""
        return sum(self._fresh(self._find(sequence), count) for sequence, count in appends)

    @contextmanager
    def append(self, appends: Sequence[tuple[SequenceId, int]]) -> Iterator[list[Append]]:
        """Reserve places for these numbers of tokens; the sequences grow when the block ends well.

        If it raises, the reserved pages are given back and all sequences are as they were: until then
        only fresh pages, and places behind the end of unshared ones, may be written. Do every `copy`
        before the first write. Nothing else may be done to the memory inside the block. Each sequence
        may occur once. Raises MemoryFull with nothing changed.
        """
        counts = [self._fresh(self._find(sequence), count) for sequence, count in appends]
        needed, room = sum(counts), self.pages_free()
        if room is not None and needed > room:
            raise MemoryFull(
                f"The key-value memory is full: {needed:,} more pages of {self.page_size} tokens are needed, "
                f"and {room:,} of {self._limit:,} are free. Ask for less at once, or give it more pages."
            )
        plan: list[Append] = []
        taken: list[int] = []
        try:
            for (sequence, count), new in zip(appends, counts, strict=True):
                held = self._held[sequence]
                step = Append(sequence, held.length, held.length + count, held.pages)
                if new:
                    fresh = [self._take(taken) for _ in range(new)]
                    step.pages = held.pages + fresh
                    if count and self._is_shared_tail(held):
                        step.copy = (held.pages[-1], fresh[0])
                        step.pages = held.pages[:-1] + fresh
                plan.append(step)
            yield plan
        except BaseException:
            for page in taken:
                self._sharers[page] = 0
                heapq.heappush(self._free, page)
            raise
        for step in plan:
            held = self._held[step.sequence]
            held.length, held.pages = step.stop, step.pages
            if step.copy is not None:
                self._drop([step.copy[0]])

    def _keep(self, held: _Held) -> SequenceId:
        sequence = SequenceId(self._next)
        self._next += 1
        self._held[sequence] = held
        return sequence

    def _find(self, sequence: SequenceId) -> _Held:
        try:
            return self._held[sequence]
        except KeyError:
            raise ValueError(
                f"there is no sequence {sequence}: it was freed, or is not of this memory"
            ) from None

    def _is_shared_tail(self, held: _Held) -> bool:
        """Whether the last page has room left and another sequence too looks at it."""
        return held.length % self.page_size > 0 and self._sharers[held.pages[-1]] > 1

    def _fresh(self, held: _Held, count: int) -> int:
        pages = -(-(held.length + count) // self.page_size) - len(held.pages)
        return pages + (count > 0 and self._is_shared_tail(held))

    def _take(self, taken: list[int]) -> int:
        if self._free:
            page = heapq.heappop(self._free)
        else:
            page = self.pages_made
            self.pages_made += 1
            self._sharers.append(0)
        self._sharers[page] = 1
        taken.append(page)
        return page

    def _drop(self, pages: list[int]) -> None:
        for page in pages:
            self._sharers[page] -= 1
            if not self._sharers[page]:
                heapq.heappush(self._free, page)
