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
import torch

from twofold.errors import FileError, TwofoldError, UsageError
from twofold.models import c_library
from twofold.models.c_library import FAULT, library
from twofold.models.config import TransformerConfig
from twofold.models.gguf import header
from twofold.models.gguf_config import write_config
from twofold.models.gguf_names import to_file
from twofold.models.language_model import Ask, check_asks, checked_context
from twofold.models.memory import Append, PagedMemory, Part, passes
from twofold.models.quantize import TensorType
from twofold.models.transformer import Transformer

PAGE = 16  # tokens; run.c knows no other
_LIVE = {torch.float32: TensorType.F32, torch.bfloat16: TensorType.BF16}


class CMemory(PagedMemory):
    """Pages of `size` bytes each, and where they lie."""

    def __init__(self, size: int, pages: int | None = None) -> None:
        super().__init__(PAGE, pages)
        self._size = size
        self._arrays: list[np.ndarray] = []
        self.places = np.zeros(0, np.uintp)

    def make_room(self) -> None:
        """Have arrays for every page made so far."""
        while len(self._arrays) < self.pages_made:
            self._arrays.append(np.zeros(self._size + 64, np.uint8))
        if len(self.places) < len(self._arrays):
            starts = [array.ctypes.data for array in self._arrays[len(self.places) :]]
            aligned = (np.array(starts, np.uintp) + np.uintp(63)) // np.uintp(64) * np.uintp(64)
            self.places = np.append(self.places, aligned)

    def copy_pages(self, copies: list[tuple[int, int]]) -> None:
        """Copy whole pages."""
        for old, new in copies:
            ctypes.memmove(int(self.places[new]), int(self.places[old]), self._size)


class CLanguageModel:
    """`LanguageModel` over a .gguf that run.c opens. `exact`: rounded weights are kept in float32, so that
    the scores are those of torch up to float32's rounding; else activations are rounded too, which is faster.

    threads: default one for each core. chunk: how many tokens go through at once. context_length: how long a
    sequence may become; default as long as the model's positions allow.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        config: TransformerConfig,
        *,
        threads: int | None = None,
        exact: bool = False,
        chunk: int = 256,
        context_length: int | None = None,
    ) -> None:
        fault = ctypes.create_string_buffer(FAULT)
        handle = library().twofold_open(os.fsencode(Path(path)), threads or _cores(), exact, fault)
        self._begin(handle, fault, config, chunk, context_length)

    @classmethod
    def live(
        cls,
        transformer: Transformer,
        *,
        threads: int | None = None,
        chunk: int = 256,
        context_length: int | None = None,
    ) -> CLanguageModel:
        """Over the weights of a `Transformer` on the CPU, float32 or bfloat16, without a file: for rollouts and
        evaluation while it is trained. run.c computes with a copy in its own order, so call `refresh` after every
        change of the weights; before, the scores are of neither the old nor the new ones. Raises UsageError for
        families whose weights lie otherwise in run.c.
        """
        self = cls.__new__(cls)
        weights = {name: tensor.detach() for name, tensor in transformer.state_dict().items()}
        metadata, tables, _ = write_config(transformer.config)
        held = list(to_file(transformer.config, weights))
        kinds = {tensor.dtype for tensor in weights.values()}
        strange = any(len(one.parts) > 1 or one.heads or one.plus_one for one in held) or tables
        if strange or kinds - _LIVE.keys() or any(not tensor.is_cpu for tensor in weights.values()):
            raise UsageError(
                f"The C engine cannot compute with these weights where they lie ({transformer.config.model_type}, "
                f"{', '.join(sorted(map(str, kinds)))}): it takes qwen3 and qwen2, float32 or bfloat16, on the CPU. "
                f"Export the model, and open its .gguf."
            )
        tensors = [weights[one.parts[0]].contiguous() for one in held]
        lines = [(one.name, _LIVE[t.dtype], tuple(t.shape)) for one, t in zip(held, tensors, strict=True)]
        data = header(metadata, lines)
        places = (ctypes.c_void_p * len(tensors))(*(tensor.data_ptr() for tensor in tensors))
        self._kept = (data, places, tensors)  # alive as long as run.c looks at them
        fault = ctypes.create_string_buffer(FAULT)
        handle = library().twofold_take(data, len(data), places, threads or _cores(), fault)
        self._begin(handle, fault, transformer.config, chunk, context_length)
        return self

    def refresh(self) -> None:
        """Take a live model's weights as they are now. Sequences read before hold keys and values of the old
        ones; use a new memory."""
        fault = self._library.twofold_take_again(self._handle)
        if fault:
            raise TwofoldError(f"run.c: {fault.decode('utf-8', 'replace')}.")

    def _begin(
        self,
        handle: int | None,
        fault: ctypes.Array,
        config: TransformerConfig,
        chunk: int,
        context_length: int | None,
    ) -> None:
        if not handle:
            raise FileError(f"{fault.value.decode('utf-8', 'replace')}.")
        self._library = library()
        self._handle = ctypes.c_void_p(handle)
        weakref.finalize(self, self._library.twofold_close, self._handle)
        self.vocab_size = config.vocab_size
        longest = config.max_position_embeddings
        self.context_length = longest if context_length is None else checked_context(context_length, longest)
        self.chunk = chunk
        self._page_bytes = self._library.twofold_page_size(self._handle)

    def new_memory(self, pages: int | None = None) -> CMemory:
        """A memory for this model's keys and values."""
        return CMemory(self._page_bytes, pages)

    def scores(self, memory: CMemory, questions: Sequence[Ask]) -> np.ndarray:
        """[sum of rows, V] float32; see `LanguageModel.scores`."""
        check_asks(memory, questions, self.vocab_size, self.context_length)
        appends = [(ask.sequence, len(ask.tokens)) for ask in questions]
        scores = np.empty((sum(ask.rows for ask in questions), self.vocab_size), np.float32)
        with memory.append(appends) as plan:
            memory.make_room()
            memory.copy_pages([step.copy for step in plan if step.copy])
            row = 0
            for parts in passes(plan, self.chunk):
                row += self._read(memory, questions, plan, parts, scores[row:])
        return scores

    def _read(
        self,
        memory: CMemory,
        questions: Sequence[Ask],
        plan: list[Append],
        parts: list[Part],
        scores: np.ndarray,
    ) -> int:
        """One pass; writes what is asked of it into the first of `scores` [rows, V], and returns how many."""
        theirs = (c_library.Part * len(parts))()
        kept = []  # alive until the pass is done
        for part, its in zip(parts, theirs, strict=True):
            ask, step = questions[part.ask], plan[part.ask]
            tokens = ask.tokens[part.start - step.start : part.stop - step.start]
            numbers = (ctypes.c_int * len(tokens))(*tokens)
            pages = memory.places[part.pages[: -(-part.stop // PAGE)]]
            kept.append((numbers, pages))
            its.tokens, its.count, its.start = numbers, len(tokens), part.start
            its.rows = max(0, part.stop - max(part.start, step.stop - ask.rows))
            its.pages = pages.ctypes.data_as(ctypes.POINTER(ctypes.c_void_p))
        fault = self._library.twofold_read(self._handle, theirs, len(parts), scores.ctypes.data)
        if fault:
            raise TwofoldError(f"run.c: {fault.decode('utf-8', 'replace')}.")
        return sum(its.rows for its in theirs)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
