"""Steps of decoding in shapes that repeat, which CUDA records once and replays: a step is then one call.

On a GPU a small model's step is mostly the calling of some hundred kernels. A CUDA graph holds them all, with the
addresses they read and write. So the number of sequences and of their pages is filled up to a power of two, what
differs from step to step is one array of numbers, and keys are gathered by pages. What is added is hidden by masks, or
goes to the spare places behind the last page.

Shape letters: B sequences, filled up; T pages of each, filled up; S = T · page size keys; K key-value heads, G query
heads for each, C head width, V vocabulary, D model width, L layers, P places in memory.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from twofold.models.joined_pass import JoinedWeights, hidden, turned_by
from twofold.models.memory import Part
from twofold.models.paged_attention import fixed_group
from twofold.models.transformer import Transformer

FEWEST_PAGES = 8
TOKEN, POSITION, PLACE, PAGES = range(4)  # the rows of a step's numbers; the rest are pages

Answers = tuple[Tensor, Tensor]  # scores [B, V] float32, activations [B, D]
Recorder = Callable[[Callable[[], Answers]], tuple[Callable[[], None], Answers]]


def recorder(device: torch.device) -> Recorder | None:
    """What records on this device; None where steps are computed plainly."""
    return CudaRecorder() if device.type == "cuda" else None


class CudaRecorder:
    """Records a computation as a CUDA graph: (what computes it again, where its answers will lie).

    The graphs share their memory, so what one left there is gone after the next.
    """

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, compute: Callable[[], Answers]) -> tuple[Callable[[], None], Answers]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            answers = compute()
        return graph.replay, answers


@dataclass(slots=True)
class _Shape:
    numbers: Tensor  # [3 + T, B] int64, on the device
    turns: dict[bool, Tensor]  # kept, as the recorded kernels read them
    replay: Callable[[], None] | None = None
    answers: Answers | None = None


class FixedSteps:
    """The steps of one model over one memory, as long as neither's tensors move (`fits`). The memory is not kept.

    A shape is computed plainly the first time, which also loads its kernels, and recorded the second.
    """

    def __init__(
        self,
        transformer: Transformer,
        weights: JoinedWeights,
        rows_LP2KC: Tensor,
        page_size: int,
        turns: Callable[[bool, int, torch.device], Tensor],
        record: Recorder,
    ) -> None:
        """`turns`: of (local layers or not, number of positions, device) a table of how each position turns."""
        self._transformer, self._weights, self._turns = transformer, weights, turns
        self._page_size, self._record = page_size, record
        self._rows = weakref.ref(rows_LP2KC)  # large: whoever gives up a memory must get its room back
        self._shapes: dict[tuple[int, int], _Shape] = {}

    def fits(self, weights: JoinedWeights, rows_LP2KC: Tensor) -> bool:
        """Whether these are the tensors whose addresses were recorded."""
        return weights is self._weights and rows_LP2KC is self._rows()

    def __call__(self, tokens: Sequence[int], parts: Sequence[Part]) -> Answers:
        """Read one token more of each sequence into memory; scores and activations after it."""
        size, count, rows_LP2KC = self._page_size, len(parts), self._rows()
        B = 1 << (count - 1).bit_length()
        T = max(FEWEST_PAGES, 1 << (max(len(part.pages) for part in parts) - 1).bit_length())
        numbers = np.zeros((PAGES + T, B), dtype=np.int64)
        numbers[PLACE] = rows_LP2KC.shape[1] - 1  # what fills up is written behind the last page
        for i, (token, part) in enumerate(zip(tokens, parts, strict=True)):
            place = part.pages[part.start // size] * size + part.start % size
            numbers[:PAGES, i] = token, part.start, place
            numbers[PAGES : PAGES + len(part.pages), i] = part.pages
        shape, answers = self._shapes.get((B, T)), None
        if shape is None:
            device = rows_LP2KC.device
            turns = {local: self._turns(local, T * size, device) for local in self._weights.rotations}
            shape = self._shapes[B, T] = _Shape(torch.from_numpy(numbers).to(device), turns)
            answers = self._compute(shape, rows_LP2KC)
        else:
            shape.numbers.copy_(torch.from_numpy(numbers))
            if shape.replay is None:
                shape.replay, shape.answers = self._record(lambda: self._compute(shape, rows_LP2KC))
            shape.replay()
            answers = shape.answers
        scores, states = answers
        return scores[:count].clone(), states[:count].clone()  # the next step writes where they lie

    def _compute(self, shape: _Shape, rows_LP2KC: Tensor) -> Answers:
        """What is recorded: nothing in it may depend on the numbers' values, nor come from the host."""
        numbers = shape.numbers
        weights, length = self._weights, (len(numbers) - PAGES) * self._page_size
        config, position_B = weights.config, numbers[POSITION]
        G = config.num_attention_heads // config.num_key_value_heads
        group = fixed_group(numbers[PAGES:].t(), position_B + 1, G, rows_LP2KC, length, weights.windows)
        states = hidden(
            self._transformer,
            weights,
            rows_LP2KC,
            self._page_size,
            [group],
            numbers[TOKEN],
            position_B,
            numbers[PLACE],
            {local: turned_by(table, position_B) for local, table in shape.turns.items()},
            None,
        )
        return self._transformer.logits(states).float(), states
