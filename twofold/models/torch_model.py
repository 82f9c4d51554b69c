"""The Transformer on torch as a `LanguageModel`: keys and values in pages, ragged asks in one pass.

The tokens of all asks lie in one row, so that norms and matrix products waste nothing; only attention looks
at sequences (`paged_attention`). Long prompts go through in chunks, which bounds the activations. A pass is
written out (`joined_pass`) for every family of models.

An ask's scores do not depend on its neighbours, nor on how its tokens came in: alone or beside others, at
once, in pieces or by forking, they are the same bits, for a given number of threads. That holds on CPUs where
`invariance.same_bits` finds shapes for it: float32 with MKL, and bfloat16 where it is not multiplied in tiles
(AMX). With several threads MKL on Intel also divides sums of 1,024 inputs and more among them, at some numbers
of tokens and not at others; there, and on GPUs, it holds up to rounding. run.c promises it everywhere.

Shape letters: N new tokens of a pass; D model width, K key-value heads, C head width, V vocabulary, P places in
memory, L layers.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from twofold.models.adapted_pass import Adapted, AdaptedTokens, changes_of
from twofold.models.config import TransformerConfig
from twofold.models.fixed_steps import FixedSteps, Recorder, recorder
from twofold.models.invariance import attention_shapes, product_rows
from twofold.models.joined_pass import JoinedWeights, hidden, turned_by
from twofold.models.language_model import Ask, check_asks, checked_context
from twofold.models.lora import Adapter
from twofold.models.memory import Append, PagedMemory, Part, passes
from twofold.models.paged_attention import groups_of
from twofold.models.rotary import rotary_tables
from twofold.models.transformer import Transformer


class KeyValueMemory(PagedMemory):
    """Paged memory with its keys and values: `rows` [L, P, 2, K, C], keys first."""

    def __init__(
        self,
        transformer: Transformer,
        pages: int | None = None,
        page_size: int = 16,
        adapters: Collection[str] = (),
    ) -> None:
        super().__init__(page_size, pages, adapters)
        config, weight = transformer.config, transformer.output_weight
        shape = (config.num_hidden_layers, 0, 2, config.num_key_value_heads, config.head_dim)
        self.rows = torch.empty(shape, dtype=weight.dtype, device=weight.device)
        capped = config.attn_logit_softcapping is not None
        self._spare = -(-attention_shapes(weight, config.head_dim, capped).reach // page_size)

    def make_room(self) -> None:
        """Have places for every page made so far, and a few behind them that are only read; grows by doubling, on a
        GPU from 1,024 on, as what is recorded there of one size is worth nothing for another."""
        size, spare = self.page_size, self._spare
        layers, places, *rest = self.rows.shape
        pages = places // size - spare
        if pages < self.pages_made:
            pages = max(self.pages_made, 2 * pages, 1024 if self.rows.is_cuda else 8)
            if self._limit is not None:
                pages = min(pages, self._limit)
            # zeros: a place never written may be read behind a mask, and 0 times NaN would be NaN
            larger = self.rows.new_zeros((layers, (pages + spare) * size, *rest))
            larger[:, :places] = self.rows
            self.rows = larger

    def copy_pages(self, copies: list[tuple[int, int]]) -> None:
        """Copy whole pages, in all layers."""
        for old, new in copies:
            a, b, size = old * self.page_size, new * self.page_size, self.page_size
            self.rows[:, b : b + size] = self.rows[:, a : a + size]


def _free_memory() -> int:
    """Bytes of main memory that nobody uses; 4 GB where the system does not tell."""
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 4 << 30


class TorchLanguageModel:
    """`LanguageModel` over a `Transformer`, on its device and in its precision; the scores are float32.

    `chunk`: how many tokens go through at once. `context_length`: how long a sequence may become; None: see
    `default_context`. The transformer's parameters are moved, each to lie beside those that are read with it; it
    may be used and trained on in place, and the scores are always those of its present weights. `adapters`, by
    name: what a sequence can be read by instead of the model alone (`memory.new(adapter=name)`).
    """

    def __init__(
        self,
        transformer: Transformer,
        *,
        chunk: int = 1024,
        page_size: int = 16,
        context_length: int | None = None,
        adapters: Mapping[str, Adapter] | None = None,
    ) -> None:
        """Raises UsageError for a context that is longer than the model's, and for an adapter that does not fit."""
        self.transformer = transformer
        self.vocab_size = transformer.config.vocab_size
        asked = default_context(transformer.config) if context_length is None else context_length
        self.context_length = checked_context(asked, transformer.config.max_position_embeddings)
        self.chunk = chunk
        self.page_size = page_size
        self.adapters = {name: number for number, name in enumerate(adapters or {})}
        self._changes = changes_of(transformer, list(adapters.values())) if adapters else []
        self._own_tokens = AdaptedTokens(transformer, list((adapters or {}).values()))
        self._weights: JoinedWeights | None = None
        self._record: Recorder | None = None
        self._steps: FixedSteps | None = None
        self._rotations: dict[bool, Tensor] = {}  # cos and sin [positions, 1, R/2, 2]; see `_turns`

    def new_memory(self, pages: int | None = None) -> KeyValueMemory:
        """A memory for this model's keys and values; `pages` of 16 tokens, or as many as it takes."""
        return KeyValueMemory(self.transformer, pages, self.page_size, self.adapters)

    def pages_that_fit(self) -> int:
        """How many pages of keys and values a quarter of the free memory holds (on a GPU three quarters); at
        least a whole context."""
        config, weight = self.transformer.config, self.transformer.output_weight
        device = weight.device
        size = torch.cuda.mem_get_info(device)[0] * 3 // 4 if weight.is_cuda else _free_memory() // 4
        place = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
        pages = size // (place * weight.element_size() * self.page_size)
        return max(pages, -(-self.context_length // self.page_size) + 1)

    def scores(self, memory: KeyValueMemory, questions: Sequence[Ask]) -> Tensor:
        """[sum of rows, V] float32 on the model's device; see `LanguageModel.scores`."""
        return self.scores_and_states(memory, questions)[0]

    @torch.no_grad()
    def scores_and_states(self, memory: KeyValueMemory, questions: Sequence[Ask]) -> tuple[Tensor, Tensor]:
        """The scores, and the last activations (after the final norm) they were made from: [sum of rows, V]
        and [sum of rows, D], float32."""
        check_asks(memory, questions, self.vocab_size, self.context_length)
        appends = [(ask.sequence, len(ask.tokens)) for ask in questions]
        with memory.append(appends) as plan:
            memory.make_room()
            memory.copy_pages([step.copy for step in plan if step.copy])
            self._join_weights()
            with torch.inference_mode():  # cheaper than `no_grad`; what leaves it is copied
                answers = [self._read(memory, questions, parts, plan) for parts in passes(plan, self.chunk)]
                answers = answers or [self._nothing()]
            scores, states = (torch.cat(some) for some in zip(*answers, strict=True))
            return scores, states.float()

    def _join_weights(self) -> None:
        """Join the weights, again if someone has moved or replaced them."""
        if self._weights is None or not self._weights.lie_where_they_did():
            with torch.inference_mode(False), torch.no_grad():
                self._weights = JoinedWeights(self.transformer)
                self._record = recorder(self.transformer.output_weight.device)

    def _read(
        self, memory: KeyValueMemory, questions: Sequence[Ask], parts: list[Part], plan: list[Append]
    ) -> tuple[Tensor, Tensor]:
        """One pass: read the parts' tokens into memory, return what is asked of them: scores [rows, V] and
        activations [rows, D]."""
        size = memory.page_size
        tokens: list[int] = []
        positions: list[int] = []
        places: list[int] = []
        wanted: list[int] = []
        # of each adapter: its tokens, and which of the wanted ones are its
        read_by: dict[int, tuple[list[int], list[int]]] = {}
        for part in parts:
            ask, step = questions[part.ask], plan[part.ask]
            first = max(part.start, step.stop - ask.rows)
            end = len(tokens) + part.stop - part.start
            if self.adapters and (adapter := memory.adapter(ask.sequence)) is not None:
                its_rows, its_wanted = read_by.setdefault(self.adapters[adapter], ([], []))
                its_rows.extend(range(len(tokens), end))
                its_wanted.extend(range(len(wanted), len(wanted) + part.stop - first))
            wanted.extend(range(end - (part.stop - first), end))
            tokens.extend(ask.tokens[part.start - step.start : part.stop - step.start])
            positions.extend(range(part.start, part.stop))
            places.extend(part.pages[at // size] * size + at % size for at in range(part.start, part.stop))
        if self._record is not None and len(parts) == len(tokens) == len(wanted) and not read_by:
            return self._fixed_steps(memory)(tokens, parts)
        output, config = self.transformer.output_weight, self.transformer.config
        device, multiple = output.device, product_rows(output)
        N, rows, spare = len(tokens), len(wanted), [0] * (-len(tokens) % multiple)
        token_N, position_N, place_N = torch.from_numpy(
            np.array([tokens + spare, positions + spare, places + spare], dtype=np.int64)
        ).to(device, non_blocking=True)
        chosen = None
        if rows < N:
            wanted += [0] * (-rows % multiple)
            chosen = torch.from_numpy(np.array(wanted, dtype=np.int64)).to(device, non_blocking=True)
        heads_per_key = config.num_attention_heads // config.num_key_value_heads
        capped = config.attn_logit_softcapping is not None
        groups = groups_of(parts, heads_per_key, size, memory.rows, self._weights.windows, capped)
        longest = max(part.stop for part in parts)
        turns = {
            local: turned_by(self._turns(local, longest, device), position_N)
            for local in self._weights.rotations
        }
        adapted = Adapted(self._changes, read_by, multiple, device) if read_by else None
        states = hidden(
            self.transformer,
            self._weights,
            memory.rows,
            size,
            groups,
            token_N,
            position_N,
            place_N[:N],
            turns,
            chosen,
            adapted,
            (lambda x_ND: self._own_tokens.embed(x_ND, tokens, read_by)) if read_by else None,
        )
        scores = self.transformer.logits(states)
        if read_by:
            self._own_tokens.score(scores, states, read_by, multiple)
        return scores[:rows].float(), states[:rows]

    def _fixed_steps(self, memory: KeyValueMemory) -> FixedSteps:
        """Those of this memory, made anew if it or the weights have moved."""
        if self._steps is None or not self._steps.fits(self._weights, memory.rows):
            self._steps = FixedSteps(
                self.transformer, self._weights, memory.rows, memory.page_size, self._turns, self._record
            )
        return self._steps

    def _nothing(self) -> tuple[Tensor, Tensor]:
        weight = self.transformer.output_weight  # [V, D]
        return weight.new_empty((0, len(weight))).float(), weight.new_empty((0, weight.shape[1]))

    def _turns(self, local: bool, length: int, device: torch.device) -> Tensor:
        """[at least `length`, 1, R/2, 2]: cosine and sine by which each position turns each pair of channels."""
        known = self._rotations.get(local)
        if known is None or known.shape[0] < length or known.device != device:
            positions = torch.arange(max(256, 1 << (length - 1).bit_length()), device=device)
            cos, sin = (
                x[:, None, : x.shape[1] // 2]
                for x in rotary_tables(
                    positions, self.transformer.config, local=local, length=self.context_length
                )
            )
            known = self._rotations[local] = torch.stack((cos, sin), -1)
        return known


def default_context(config: TransformerConfig) -> int:
    """How many tokens a sequence may have unless one says otherwise: as many as the model's positions allow.

    With "longrope" positions that is their original length, up to which `transformers` turns them by one set of
    speeds, and longer rows by another. What is in memory has been turned, so there is one set for all lengths
    here: the first, or where a greater length is asked for the second, as llama.cpp and vLLM do it.
    """
    scaling, longest = config.rope_scaling, config.max_position_embeddings
    if scaling is not None and scaling.rope_type == "longrope":
        return min(longest, scaling.original_max_position_embeddings)
    return longest
