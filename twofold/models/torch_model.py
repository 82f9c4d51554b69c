"""The Transformer on torch as a `LanguageModel`: keys and values in pages, ragged asks in one pass.

The tokens of all asks lie in one row, so that norms and matrix products waste nothing; only attention looks
at sequences (`paged_attention`). Long prompts go through in chunks, which bounds the activations. A pass is
written out here, with few and large operations: small models spend their time in calling torch.

An ask's scores do not depend on its neighbours, nor on how its tokens came in: alone or beside others, at
once, in pieces or by forking, they are the same bits. That holds in float32 and bfloat16 on CPUs where torch
uses MKL, for a given number of threads; it is not promised for GPUs and other libraries, where it holds up to
rounding.

Shape letters: N new tokens of a pass; D model width, H heads, K key-value heads, C head width, V vocabulary,
P places in memory, L layers.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from twofold.models.language_model import Ask, check_asks
from twofold.models.memory import Append, PagedMemory
from twofold.models.paged_attention import ROWS, SPARE_PLACES, Part, attend, groups_of
from twofold.models.transformer import Transformer, rotary_tables


class KeyValueMemory(PagedMemory):
    """Paged memory with its keys and values: `rows` [L, P, 2, K, C], keys first."""

    def __init__(self, transformer: Transformer, pages: int | None = None, page_size: int = 16) -> None:
        super().__init__(page_size, pages)
        config, weight = transformer.config, transformer.output_weight
        shape = (config.num_hidden_layers, 0, 2, config.num_key_value_heads, config.head_dim)
        self.rows = torch.empty(shape, dtype=weight.dtype, device=weight.device)

    def make_room(self) -> None:
        """Have places for every page made so far, and a few behind them that are only read; grows by
        doubling."""
        size, spare = self.page_size, -(-SPARE_PLACES // self.page_size)
        layers, places, *rest = self.rows.shape
        pages = places // size - spare
        if pages < self.pages_made:
            pages = max(self.pages_made, 2 * pages, 8)
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


class _Weights:
    """A Transformer's weights as a pass uses them: what is multiplied with the same input is joined.

    The parameters become views of what they are joined to: no memory is held twice, and whoever trains them
    on in place changes both.
    """

    def __init__(self, transformer: Transformer) -> None:
        config, blocks = transformer.config, transformer.model.layers
        L, attention, mlp = len(blocks), [b.self_attn for b in blocks], [b.mlp for b in blocks]
        norms = [norm for b in blocks for norm in (b.input_layernorm, b.post_attention_layernorm)]
        self.norms = _joined(*norms, transformer.model.norm).view(2 * L + 1, -1)
        self.head_norms = _joined(*(n for a in attention for n in (a.q_norm, a.k_norm))).view(L, 2, -1)
        self.qkv = [_joined(a.q_proj, a.k_proj, a.v_proj) for a in attention]  # each [(H+2K)·C, D]
        self.out = [a.o_proj.weight.detach().t() for a in attention]  # [H·C, D]
        self.gate_up = [_joined(m.gate_proj, m.up_proj) for m in mlp]  # [2·inner, D]
        self.down = [m.down_proj.weight.detach().t() for m in mlp]  # [inner, D]
        device = self.norms.device
        self.kinds = torch.tensor(  # of each head: a query's (0) or a key's (1)
            [0] * config.num_attention_heads + [1] * config.num_key_value_heads, device=device
        )
        widths = torch.tensor([config.hidden_size, config.head_dim], dtype=torch.float32, device=device)
        self.floors = (widths * config.rms_norm_eps).sqrt().unbind()  # see `_normed`
        self._lie = [(p, p.data_ptr()) for p in transformer.model.parameters()]

    def lie_where_they_did(self) -> bool:
        """Whether no parameter has been given other memory since."""
        return all(parameter.data_ptr() == lies for parameter, lies in self._lie)


def _joined(*modules: nn.Module) -> Tensor:
    """Their weights below each other in one tensor, of which they become views."""
    whole = torch.cat([module.weight.detach() for module in modules])
    parts = whole.split([len(module.weight) for module in modules])
    for module, part in zip(modules, parts, strict=True):
        module.weight.data = part
    return whole


def _normed(x: Tensor, scale: Tensor, floor: Tensor) -> Tensor:
    """`RMSNorm` in few operations, in float32: x / √(|x|² + D·eps) · scale, with scale = √D · weight and
    floor = √(D·eps)."""
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
    return (x / torch.hypot(norm, floor)).mul_(scale)


def _free_memory() -> int:
    """Bytes of main memory that nobody uses; 4 GB where the system does not tell."""
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 4 << 30


class TorchLanguageModel:
    """`LanguageModel` over a `Transformer`, on its device and in its precision; the scores are float32.

    `chunk`: how many tokens go through at once. The transformer's parameters are moved, each to lie beside
    those that are read with it; it may be used and trained on in place, and the scores are always those of its
    present weights.
    """

    def __init__(self, transformer: Transformer, *, chunk: int = 1024, page_size: int = 16) -> None:
        self.transformer = transformer
        self.vocab_size = transformer.config.vocab_size
        self.context_length = transformer.config.max_position_embeddings
        self.chunk = chunk
        self.page_size = page_size
        self._weights: _Weights | None = None
        self._rotations = torch.empty(0)  # [positions, 1, C/2] complex

    def new_memory(self, pages: int | None = None) -> KeyValueMemory:
        """A memory for this model's keys and values; `pages` of 16 tokens, or as many as it takes."""
        return KeyValueMemory(self.transformer, pages, self.page_size)

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
                answers = [self._read(memory, questions, parts, plan) for parts in self._passes(plan)]
                answers = answers or [self._nothing()]
            scores, states = (torch.cat(some) for some in zip(*answers, strict=True))
            return scores, states.float()

    def _join_weights(self) -> None:
        """Join the weights, again if someone has moved or replaced them."""
        if self._weights is None or not self._weights.lie_where_they_did():
            with torch.inference_mode(False), torch.no_grad():
                self._weights = _Weights(self.transformer)

    def _passes(self, plan: list[Append]) -> list[list[Part]]:
        """Cut the appends into passes of at most `chunk` tokens, in the order of the asks."""
        passes: list[list[Part]] = []
        room = 0
        for ask, step in enumerate(plan):
            start = step.start
            while start < step.stop:
                if not room:
                    passes.append([])
                    room = self.chunk
                stop = min(step.stop, start + room)
                passes[-1].append(Part(ask, start, stop, step.pages))
                room -= stop - start
                start = stop
        return passes

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
        for part in parts:
            ask, step = questions[part.ask], plan[part.ask]
            first = max(part.start, step.stop - ask.rows)
            wanted.extend(range(len(tokens) + first - part.start, len(tokens) + part.stop - part.start))
            tokens.extend(ask.tokens[part.start - step.start : part.stop - step.start])
            positions.extend(range(part.start, part.stop))
            places.extend(part.pages[at // size] * size + at % size for at in range(part.start, part.stop))
        N, rows, spare = len(tokens), len(wanted), [0] * (-len(tokens) % ROWS)
        device = self.transformer.output_weight.device
        token_N, position_N, place_N = torch.from_numpy(
            np.array([tokens + spare, positions + spare, places + spare], dtype=np.int64)
        ).to(device, non_blocking=True)
        chosen = None
        if rows < N:
            wanted += [0] * (-rows % ROWS)
            chosen = torch.from_numpy(np.array(wanted, dtype=np.int64)).to(device, non_blocking=True)
        hidden = self._hidden(memory, parts, token_N, position_N, place_N[:N], chosen)
        return self.transformer.logits(hidden)[:rows].float(), hidden[:rows]

    def _nothing(self) -> tuple[Tensor, Tensor]:
        weight = self.transformer.output_weight  # [V, D]
        return weight.new_empty((0, len(weight))).float(), weight.new_empty((0, weight.shape[1]))

    def _hidden(
        self,
        memory: KeyValueMemory,
        parts: list[Part],
        token_N: Tensor,
        position_N: Tensor,
        place_N: Tensor,
        chosen: Tensor | None,
    ) -> Tensor:
        """Final normed activations of the `chosen` tokens (None: all), remembering all keys and values.

        What `Transformer.hidden` computes; channels of queries and keys lie in another order here, pair by
        pair, which their products do not see. Tokens beyond the places are padding.
        """
        config, dtype, N = self.transformer.config, memory.rows.dtype, len(place_N)
        H, K, C = config.num_attention_heads, config.num_key_value_heads, config.head_dim
        weights = self._weights
        norms = (weights.norms.float() * config.hidden_size**0.5).unbind()
        head_norms = (weights.head_norms.float() * C**0.5).index_select(1, weights.kinds).unbind()  # [H+K, C]
        floor, head_floor = weights.floors
        turn_N1C = self._rotation(max(part.stop for part in parts)).index_select(0, position_N)  # of pairs
        groups = groups_of(parts, H // K, memory.page_size, memory.rows)
        x_ND = self.transformer.model.embed_tokens.weight.index_select(0, token_N)
        out_NHC = x_ND.new_zeros((len(token_N), H, C))
        out_ND = out_NHC.view(len(token_N), H * C)
        for layer, rows_P2KC in enumerate(memory.rows.unbind()):
            normed = _normed(x_ND, norms[2 * layer], floor).to(dtype)
            heads = F.linear(normed, weights.qkv[layer]).view(-1, H + 2 * K, C)
            qk = _normed(heads[:, : H + K], head_norms[layer], head_floor).view(-1, H + K, 2, C // 2)
            qk = torch.view_as_real(torch.complex(*qk.unbind(2)).mul_(turn_N1C)).flatten(2)
            heads[:, : H + K] = qk
            rows_P2KC.index_copy_(0, place_N, heads[:N, H:].view(N, 2, K, C))
            attend(groups, layer, heads[:, :H], rows_P2KC, memory.page_size, out_NHC)
            if chosen is not None and layer == len(memory.rows) - 1:  # only keys and values of the others
                x_ND, out_ND = x_ND[chosen], out_ND[chosen]
            x_ND.addmm_(out_ND, weights.out[layer])
            normed = _normed(x_ND, norms[2 * layer + 1], floor).to(dtype)
            gate, up = (
                F.linear(normed, weights.gate_up[layer]).view(-1, 2, config.intermediate_size).unbind(1)
            )
            x_ND.addmm_(F.silu(gate).mul_(up), weights.down[layer])
        return _normed(x_ND, norms[-1], floor).to(dtype)

    def _rotation(self, length: int) -> Tensor:
        """[at least `length`, 1, C/2]: by which complex number each position turns each pair of channels."""
        device = self.transformer.output_weight.device
        if len(self._rotations) < length or self._rotations.device != device:
            positions = torch.arange(max(256, 1 << (length - 1).bit_length()), device=device)
            cos, sin = (
                x[:, None, : x.shape[1] // 2] for x in rotary_tables(positions, self.transformer.config)
            )
            self._rotations = torch.complex(cos, sin)
        return self._rotations
