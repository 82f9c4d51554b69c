"""Packing documents into rows of a fixed length that start at document starts and waste nothing.

The unit is a *step*: one input token and the target that follows it. A document of n tokens
`[start, t1, …]` gives n steps; its last target is its own start token, which also means "the end". So a
document can be cut between any two steps and its pieces put in any rows: each token after the start is
a target exactly once an epoch, no target crosses from one document into another, and the one token at
a cut serves as a target on one side and as an input on the other.

An epoch is a permutation of *stretches*, laid end to end and divided into windows of whole rows. A document
of up to a row is one stretch. A longer one is cut into stretches of a row each, at places that differ from
epoch to epoch: whole books in a row would have the model learn one author after another, and forget.
A window is planned on its own: first-fit decreasing (each row takes the longest item that fits, again
and again); where none fits, the shortest is cut and its rest goes back. Only the last row of an epoch
can have room left. So row k is a function of (seed, k), found without replaying what came before.
First-fit decreasing: D. S. Johnson, "Near-optimal bin packing algorithms", 1973.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from twofold.errors import UsageError

IGNORED = -100  # the target that no loss counts


class Documents(Protocol):
    """What packing needs to know of documents; `Shards` is one."""

    @property
    def lengths(self) -> np.ndarray: ...
    def __getitem__(self, document: int) -> np.ndarray: ...


class Piece(NamedTuple):
    """Steps `start` to `stop` of a document. `start == 0` is a document's start."""

    document: int
    start: int
    stop: int


def shuffled(count: int, *key: int) -> np.ndarray:
    """A permutation of range(count), int64, that depends on `key` alone. Made from raw PCG64 output and
    a stable sort, both of which are the same in every version of NumPy."""
    draws = np.random.PCG64(np.random.SeedSequence(key)).random_raw(count)
    return np.argsort(draws, kind="stable")


MOST_STRETCHES = 1 << 24  # of long documents; in more text than that many rows, a stretch is several rows


def cut_into_stretches(
    lengths: np.ndarray, longest: int, first: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(document, start, stop) of each stretch, int64: documents of up to `longest` steps are whole; others end
    their first stretch after `first` steps (1 to `longest`) and each further one after `longest` more."""
    lengths = np.asarray(lengths, np.int64)
    counts = np.where(lengths <= longest, 1, 1 + -(-(lengths - first) // longest))
    document = np.repeat(np.arange(len(lengths)), counts)
    number = np.arange(len(document)) - np.repeat(np.cumsum(counts) - counts, counts)
    start = np.where(number == 0, 0, first + (number - 1) * longest)
    stop = np.where(number == counts[document] - 1, lengths[document], first + number * longest)
    return document, start, stop


class _Pool:
    """Items waiting for a row, by length; finds the longest that fits and the shortest, in one step.

    The lengths present are the bits of one Python integer.
    """

    def __init__(self, longest: int):
        self.bits = 0
        self.waiting: list[list[Piece]] = [[] for _ in range(longest + 1)]

    def add(self, piece: Piece) -> None:
        length = piece[2] - piece[1]
        self.waiting[length].append(piece)
        self.bits |= 1 << length

    def longest(self, limit: int) -> int:
        """The greatest length present that is at most `limit`; 0 if none."""
        return max((self.bits & ((2 << limit) - 1)).bit_length() - 1, 0)

    def shortest(self) -> int:
        """The least length present; 0 if none."""
        return max((self.bits & -self.bits).bit_length() - 1, 0)

    def take(self, length: int) -> Piece:
        waiting = self.waiting[length]
        piece = waiting.pop()
        if not waiting:
            self.bits ^= 1 << length
        return piece


def plan_whole(pieces: list[Piece], length: int) -> list[list[Piece]]:
    """Put `pieces`, each of at most `length` steps, into rows of at most `length`; none is cut.
    The number of rows depends on their lengths alone."""
    pool = _Pool(length)
    for piece in reversed(pieces):
        pool.add(piece)
    rows = []
    while pool.bits:
        row, room = [], length
        while fits := pool.longest(room):
            row.append(pool.take(fits))
            room -= fits
        rows.append(row)
    return rows


def plan_rows(pieces: list[Piece], length: int) -> list[list[Piece]]:
    """Put `pieces` into rows of `length` steps each; all rows but the last are full.

    A row begins at a document's start while any is left. Pieces that begin inside a document go behind
    those that begin at a start. What is longer than a row is cut first, and what is cut to fill a gap
    is, in this order: a long rest, the shortest fragment, the shortest whole document.
    """
    documents, fragments = _Pool(length), _Pool(length)
    rests: list[Piece] = []  # rests of long documents, each longer than a row, used from the front
    rows: list[list[Piece]] = []
    for document, start, stop in reversed(pieces):
        if stop - start <= length:
            (fragments if start else documents).add(Piece(document, start, stop))
            continue
        if start == 0:
            rows.append([Piece(document, 0, length)])
            start = length
        if stop - start > length:
            rests.append(Piece(document, start, stop))
        else:
            fragments.add(Piece(document, start, stop))

    def fill(row: list[Piece], room: int) -> None:
        while room:
            whole, part = documents.longest(room), fragments.longest(room)
            if part and part >= whole:
                row.append(fragments.take(part))
                room -= part
            elif whole:
                row.append(documents.take(whole))
                room -= whole
            else:  # nothing fits: cut something
                if rests:
                    piece = rests.pop()
                elif fragments.bits:
                    piece = fragments.take(fragments.shortest())
                elif documents.bits:
                    piece = documents.take(documents.shortest())
                else:
                    return
                row.append(Piece(piece.document, piece.start, piece.start + room))
                rest = Piece(piece.document, piece.start + room, piece.stop)
                if rest.stop - rest.start > length:
                    rests.append(rest)
                elif rest.stop > rest.start:
                    fragments.add(rest)
                return

    while documents.bits:
        first = documents.take(documents.longest(length))
        row = [first]
        fill(row, length - (first.stop - first.start))
        rows.append(row)
    while rests:  # no document start is left: the long rests, a row at a time
        piece = rests.pop()
        rows.append([Piece(piece.document, piece.start, piece.start + length)])
        rest = Piece(piece.document, piece.start + length, piece.stop)
        if rest.stop - rest.start > length:
            rests.append(rest)
        else:
            fragments.add(rest)
    while fragments.bits:
        row = []
        fill(row, length)
        rows.append(row)
    return rows


class PackedRows:
    """Training rows of `length` steps over documents, epoch after epoch without end.

    rows_per_epoch: int, the same for every epoch. padding_per_epoch: steps of the last row of each
    epoch that hold no document (fewer than `length`); their targets are IGNORED.
    """

    def __init__(
        self,
        documents: Documents,
        length: int,
        *,
        seed: int = 0,
        shuffle: bool = True,
        window_tokens: int = 1 << 20,
    ):
        if length < 1:
            raise UsageError(f"A row needs at least one token, not {length}.")
        if seed < 0:
            raise UsageError(f"The seed must not be negative, but it is {seed}.")
        self.documents, self.length, self.seed, self.shuffle = documents, length, seed, shuffle
        self.total = int(documents.lengths.sum())
        self.rows_per_epoch = -(-self.total // length)
        self.padding_per_epoch = self.rows_per_epoch * length - self.total
        self.rows_per_window = max(window_tokens // length, 1)
        self.stretch = length * max(-(-self.total // (length * MOST_STRETCHES)), 1)
        self._epoch: int | None = None
        self._stretches = (np.zeros(0, np.int64),) * 3  # document, start, stop; in the epoch's order
        self._ends = np.zeros(0, np.int64)
        self._window: tuple[int, int] | None = None
        self._plan: list[list[Piece]] = []

    def epoch(self, row: int) -> int:
        """The epoch that a row belongs to."""
        return row // self.rows_per_epoch

    def pieces(self, row: int) -> list[Piece]:
        """What row `row` (from 0, over all epochs) is made of, in order."""
        epoch, within = divmod(row, self.rows_per_epoch)
        window, place = divmod(within, self.rows_per_window)
        if self._window != (epoch, window):
            self._plan = self._plan_window(epoch, window)
            self._window = (epoch, window)
        return self._plan[place]

    def batch(self, first_row: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows `first_row` to `first_row + count`: inputs_BT, targets_BT (IGNORED where nothing is to be
        predicted) and parts_BT (which piece of its row a step belongs to, from 0), int64. The same call always
        gives the same answer."""
        inputs, targets, parts = np.empty((3, count, self.length), np.int64)
        for place in range(count):
            pieces = self.pieces(first_row + place)
            fill_row(self.documents, pieces, inputs[place], targets[place], parts[place])
        return inputs, targets, parts

    def _start_epoch(self, epoch: int) -> None:
        lengths, first = self.documents.lengths, self.stretch
        if self.shuffle:
            draw = np.random.PCG64(np.random.SeedSequence((self.seed, epoch, 0, 0))).random_raw()
            first = 1 + int(draw) % self.stretch
        stretches = cut_into_stretches(lengths, self.stretch, first)
        if self.shuffle:
            order = shuffled(len(stretches[0]), self.seed, epoch)
            stretches = tuple(column[order] for column in stretches)
        self._stretches = stretches
        self._ends = np.cumsum(stretches[2] - stretches[1])
        self._epoch = epoch

    def _plan_window(self, epoch: int, window: int) -> list[list[Piece]]:
        if self._epoch != epoch:
            self._start_epoch(epoch)
        steps = self.rows_per_window * self.length
        begin, end = window * steps, min((window + 1) * steps, self.total)
        first = int(np.searchsorted(self._ends, begin, side="right"))
        last = int(np.searchsorted(self._ends, end, side="left"))
        order, starts, stops = (column[first : last + 1].copy() for column in self._stretches)
        # A stretch that crosses the window's edge is cut there.
        starts[0] = stops[0] - (int(self._ends[first]) - begin)
        stops[-1] -= int(self._ends[last]) - end
        pieces = list(map(Piece, order.tolist(), starts.tolist(), stops.tolist()))
        rows = plan_rows(pieces, self.length)
        return self._mix(rows, epoch, window) if self.shuffle else rows

    def _mix(self, rows: list[list[Piece]], epoch: int, window: int) -> list[list[Piece]]:
        """Shuffle the rows of a window (an epoch's last, unfilled row stays last), and turn the pieces of
        each row around by chance, so that short documents do not always stand last."""
        full = len(rows) if sum(p.stop - p.start for p in rows[-1]) == self.length else len(rows) - 1
        order = shuffled(full, self.seed, epoch, window + 1).tolist()
        turns = shuffled(len(rows), self.seed, epoch, window + 1, 1).tolist()
        mixed = [rows[place] for place in order] + rows[full:]
        for place, row in enumerate(mixed):
            heads = [piece for piece in row if piece.start == 0]
            turn = turns[place] % len(heads) if heads else 0
            mixed[place] = heads[turn:] + heads[:turn] + [piece for piece in row if piece.start]
        return mixed


def fill_row(
    documents: Documents, pieces: list[Piece], inputs: np.ndarray, targets: np.ndarray, parts: np.ndarray
) -> int:
    """Write pieces one after another into one row of inputs, targets and parts (int64 [T]); returns how many
    steps they take. The rest of the row gets the first document's start token, IGNORED, and a part of its own."""
    place = 0
    for number, (document, start, stop) in enumerate(pieces):
        tokens = documents[document]
        end = place + stop - start
        inputs[place:end] = tokens[start:stop]
        targets[place : end - 1] = tokens[start + 1 : stop]
        targets[end - 1] = tokens[stop] if stop < len(tokens) else tokens[0]
        parts[place:end] = number
        place = end
    if place < len(inputs):
        inputs[place:] = documents[pieces[0].document][0] if pieces else 0
        targets[place:] = IGNORED
        parts[place:] = len(pieces)
    return place
