"""A GGUF behind `LanguageModel`, computed by run.c: no torch in a pass, weights as they are stored.

Keys and values lie in pages of 16 tokens, each an array of its own, which sequences share as everywhere
(`memory.py`). An ask's scores are the same to the bit whatever is read beside it and however many threads
compute: run.c adds up each number in one order.
"""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from twofold.errors import FileError, TwofoldError
from twofold.models.c_library import FAULT, Part, library
from twofold.models.config import TransformerConfig
from twofold.models.language_model import Ask, check_asks
from twofold.models.memory import Append, PagedMemory

PAGE = 16  # tokens; run.c knows no other


class CMemory(PagedMemory):
    """Pages of `floats` float32 numbers each, and where they lie."""

    def __init__(self, floats: int, pages: int | None = None) -> None:
        super().__init__(PAGE, pages)
        self._floats = floats
        self._arrays: list[np.ndarray] = []
        self.places = np.zeros(0, np.uintp)

    def make_room(self) -> None:
        """Have arrays for every page made so far."""
        while len(self._arrays) < self.pages_made:
            self._arrays.append(np.zeros(self._floats + 16, np.float32))
        if len(self.places) < len(self._arrays):
            starts = [array.ctypes.data for array in self._arrays[len(self.places) :]]
            aligned = (np.array(starts, np.uintp) + np.uintp(63)) // np.uintp(64) * np.uintp(64)
            self.places = np.append(self.places, aligned)

    def copy_pages(self, copies: list[tuple[int, int]]) -> None:
        """Copy whole pages."""
        for old, new in copies:
            ctypes.memmove(int(self.places[new]), int(self.places[old]), 4 * self._floats)


class CLanguageModel:
    """`LanguageModel` over a .gguf that run.c opens. `exact`: rounded weights are kept in float32, so that
    the scores are those of torch up to float32's rounding; else activations are rounded too, which is faster.

    threads: default one for each core. chunk: how many tokens go through at once.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        config: TransformerConfig,
        *,
        threads: int | None = None,
        exact: bool = False,
        chunk: int = 256,
    ) -> None:
        self._library = library()
        fault = ctypes.create_string_buffer(FAULT)
        count = threads or len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else threads or 1
        handle = self._library.twofold_open(os.fsencode(Path(path)), count, exact, fault)
        if not handle:
            raise FileError(f"{fault.value.decode('utf-8', 'replace')}.")
        self._handle = ctypes.c_void_p(handle)
        weakref.finalize(self, self._library.twofold_close, self._handle)
        self.vocab_size = config.vocab_size
        self.context_length = config.max_position_embeddings
        self.chunk = chunk
        width = -(-config.head_dim // 16) * 16
        self._floats = config.num_hidden_layers * 2 * PAGE * config.num_key_value_heads * width

    def new_memory(self, pages: int | None = None) -> CMemory:
        """A memory for this model's keys and values."""
        return CMemory(self._floats, pages)

    def scores(self, memory: CMemory, questions: Sequence[Ask]) -> np.ndarray:
        """[sum of rows, V] float32; see `LanguageModel.scores`."""
        check_asks(memory, questions, self.vocab_size, self.context_length)
        appends = [(ask.sequence, len(ask.tokens)) for ask in questions]
        scores = np.empty((sum(ask.rows for ask in questions), self.vocab_size), np.float32)
        with memory.append(appends) as plan:
            memory.make_room()
            memory.copy_pages([step.copy for step in plan if step.copy])
            row = 0
            for some in self._passes(plan, questions):
                rows = sum(rows for *_, rows in some)
                self._read(memory, some, scores[row : row + rows])
                row += rows
        return scores

    def _passes(
        self, plan: list[Append], questions: Sequence[Ask]
    ) -> list[list[tuple[Append, Sequence[int], int, int]]]:
        """(step, tokens, first position, rows asked) of what is read together: `chunk` tokens at most."""
        passes: list[list[tuple[Append, Sequence[int], int, int]]] = [[]]
        room = self.chunk
        for step, ask in zip(plan, questions, strict=True):
            start = step.start
            while start < step.stop:
                if not room:
                    passes.append([])
                    room = self.chunk
                stop = min(step.stop, start + room)
                rows = max(0, min(stop - start, stop - (step.stop - ask.rows)))
                tokens = ask.tokens[start - step.start : stop - step.start]
                passes[-1].append((step, tokens, start, rows))
                room -= stop - start
                start = stop
        return passes

    def _read(
        self, memory: CMemory, some: list[tuple[Append, Sequence[int], int, int]], scores: np.ndarray
    ) -> None:
        """One pass; writes into `scores` [rows, V]."""
        parts = (Part * len(some))()
        kept = []  # alive until the pass is done
        for part, (step, tokens, start, rows) in zip(parts, some, strict=True):
            numbers = (ctypes.c_int * len(tokens))(*tokens)
            count = -(-(start + len(tokens)) // PAGE)
            pages = memory.places[step.pages[:count]]
            kept.append((numbers, pages))
            part.tokens, part.count, part.start, part.rows = numbers, len(tokens), start, rows
            part.pages = pages.ctypes.data_as(ctypes.POINTER(ctypes.c_void_p))
        fault = self._library.twofold_read(self._handle, parts, len(some), scores.ctypes.data)
        if fault:
            raise TwofoldError(f"run.c: {fault.decode('utf-8', 'replace')}.")
