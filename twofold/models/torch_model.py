"""The Transformer on torch as a `LanguageModel`: keys and values in pages, ragged asks in one pass.

The tokens of all asks lie in one row, so that norms and matrix products waste nothing; only attention
looks at sequences. There, asks of like shape are padded together; a sequence whose pages lie in one piece
is read in place. Long prompts go through in chunks, which bounds the activations.

Shape letters: N new tokens of a pass, B asks of a group, Q new tokens of each, S remembered tokens;
D model width, H heads, K key-value heads, G heads per key-value head, C head width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from twofold.models.language_model import Ask, ContextFull
from twofold.models.memory import Append, PagedMemory
from twofold.models.transformer import Attend, Transformer

_LARGEST_MASK = 1 << 22  # query-key pairs of a padded group


class KeyValueMemory(PagedMemory):
    """Paged memory with its keys and values: for each layer two tensors [K, places, C]."""

    def __init__(self, transformer: Transformer, pages: int | None = None, page_size: int = 16) -> None:
        super().__init__(page_size, pages)
        config, weight = transformer.config, transformer.output_weight
        self._shape = (2 * config.num_hidden_layers, config.num_key_value_heads, config.head_dim)
        self._of = {"dtype": weight.dtype, "device": weight.device}
        self._rows = torch.empty((self._shape[0], self._shape[1], 0, self._shape[2]), **self._of)
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []

    def make_room(self) -> None:
        """Have places for every page made so far; grows by doubling."""
        rows, kv_heads, width = self._shape
        places = self._rows.shape[2]
        if places < self.pages_made * self.page_size:
            pages = max(self.pages_made, 2 * places // self.page_size, 8)
            if self._limit is not None:
                pages = min(pages, self._limit)
            # zeros: a place never written may be read behind a mask, and 0 times NaN would be NaN
            larger = torch.zeros((rows, kv_heads, pages * self.page_size, width), **self._of)
            larger[:, :, :places] = self._rows
            self._rows = larger
            self.keys, self.values = list(larger[0::2]), list(larger[1::2])

    def copy_pages(self, copies: list[tuple[int, int]]) -> None:
        """Copy whole pages, in all layers."""
        for old, new in copies:
            a, b, size = old * self.page_size, new * self.page_size, self.page_size
            self._rows[:, :, b : b + size] = self._rows[:, :, a : a + size]


@dataclass(slots=True)
class _Part:
    """The tokens of one ask that go through in this pass, at positions `start` to `stop`."""

    ask: int
    start: int
    stop: int
    pages: list[int]


@dataclass(slots=True)
class _Group:
    """Parts that attend together. `at`: where their queries lie in the row of N; `read`: which places."""

    at: slice | Tensor  # [B, Q], padded with each one's last token
    read: slice | Tensor  # places, or pages [B, pages]
    mask: Tensor | None  # [B, 1, Q, S], 0 or -inf
    causal: bool  # without a mask: whether position i sees up to i, or all


class TorchLanguageModel:
    """`LanguageModel` over a `Transformer`, on its device and in its precision; the scores are float32.

    `chunk`: how many tokens go through at once.
    """

    def __init__(self, transformer: Transformer, *, chunk: int = 1024, page_size: int = 16) -> None:
        self.transformer = transformer
        self.vocab_size = transformer.config.vocab_size
        self.context_length = transformer.config.max_position_embeddings
        self.chunk = chunk
        self.page_size = page_size

    def new_memory(self, pages: int | None = None) -> KeyValueMemory:
        """A memory for this model's keys and values; `pages` of 16 tokens, or as many as it takes."""
        return KeyValueMemory(self.transformer, pages, self.page_size)

    @torch.no_grad()
    def scores(self, memory: KeyValueMemory, questions: Sequence[Ask]) -> Tensor:
        """[sum of rows, V] float32 on the model's device; see `LanguageModel.scores`."""
        self._check(memory, questions)
        appends = [(ask.sequence, len(ask.tokens)) for ask in questions]
        with memory.append(appends) as plan:
            memory.make_room()
            memory.copy_pages([step.copy for step in plan if step.copy])
            answers = [self._read(memory, questions, parts, plan) for parts in self._passes(plan)]
            if len(answers) == 1:
                return answers[0]
            empty = torch.empty((0, self.vocab_size), device=self.transformer.output_weight.device)
            return torch.cat([empty, *answers])

    def _check(self, memory: KeyValueMemory, questions: Sequence[Ask]) -> None:
        """ValueError for a wrong call, ContextFull for a sequence that would be too long."""
        if len({ask.sequence for ask in questions}) != len(questions):
            raise ValueError("a sequence is asked twice at once; fork it")
        too_long = None
        for ask in questions:
            if not len(ask.tokens) or not 0 <= ask.rows <= len(ask.tokens):
                raise ValueError(f"an ask of {len(ask.tokens)} tokens cannot have {ask.rows} rows of scores")
            if not 0 <= min(ask.tokens) <= max(ask.tokens) < self.vocab_size:
                raise ValueError(f"a token is outside the vocabulary of {self.vocab_size:,}")
            length = memory.length(ask.sequence) + len(ask.tokens)
            if length > self.context_length:
                too_long = too_long or length
        if too_long:
            raise ContextFull(
                f"A sequence of {too_long:,} tokens is longer than this model's context of "
                f"{self.context_length:,}. Shorten the text, or ask for fewer tokens."
            )

    def _passes(self, plan: list[Append]) -> list[list[_Part]]:
        """Cut the appends into passes of at most `chunk` tokens, in the order of the asks."""
        passes: list[list[_Part]] = []
        room = 0
        for ask, step in enumerate(plan):
            start = step.start
            while start < step.stop:
                if not room:
                    passes.append([])
                    room = self.chunk
                stop = min(step.stop, start + room)
                passes[-1].append(_Part(ask, start, stop, step.pages))
                room -= stop - start
                start = stop
        return passes

    def _read(
        self, memory: KeyValueMemory, questions: Sequence[Ask], parts: list[_Part], plan: list[Append]
    ) -> Tensor:
        """One pass: read the parts' tokens into memory, return the scores asked of them [rows, V]."""
        device = self.transformer.output_weight.device
        tokens: list[int] = []
        wanted: list[int] = []
        for part in parts:
            ask, step = questions[part.ask], plan[part.ask]
            first = max(part.start, step.stop - ask.rows)
            wanted.extend(range(len(tokens) + first - part.start, len(tokens) + part.stop - part.start))
            tokens.extend(ask.tokens[part.start - step.start : part.stop - step.start])
        positions = np.concatenate([np.arange(part.start, part.stop) for part in parts])
        hidden_1ND = self.transformer.hidden(
            torch.tensor([tokens], device=device),
            torch.from_numpy(positions).to(device, non_blocking=True),
            self._attention(memory, parts, device),
        )
        hidden = hidden_1ND[0]
        if len(wanted) < len(tokens):
            hidden = hidden[torch.tensor(wanted, dtype=torch.long, device=device)]
        return self.transformer.logits(hidden).float()

    def _attention(self, memory: KeyValueMemory, parts: list[_Part], device: torch.device) -> Attend:
        """Attention that first remembers the new keys and values, then looks at all of its sequence."""
        size = memory.page_size
        write: slice | Tensor | None = None
        if len(parts) == 1:
            write = _place_slice(parts[0].pages, parts[0].start, parts[0].stop, size)
        if write is None:
            positions = [np.arange(part.start, part.stop) for part in parts]
            places = [
                np.array(p.pages)[at // size] * size + at % size
                for p, at in zip(parts, positions, strict=True)
            ]
            write = torch.from_numpy(np.concatenate(places)).to(device, non_blocking=True)
        groups = _groups(parts, size, self.transformer.output_weight)

        def attend(layer: int, q_1HNC: Tensor, k_1KNC: Tensor, v_1KNC: Tensor) -> Tensor:
            keys_KPC, values_KPC = memory.keys[layer], memory.values[layer]
            for remembered, fresh in ((keys_KPC, k_1KNC[0]), (values_KPC, v_1KNC[0])):
                if isinstance(write, slice):
                    remembered[:, write] = fresh
                else:
                    remembered.index_copy_(1, write, fresh)
            if len(parts) == 1:
                return _attend(q_1HNC, groups[0], keys_KPC, values_KPC, size)
            q_HNC, out_HNC = q_1HNC[0], torch.empty_like(q_1HNC[0])
            for group in groups:
                if isinstance(group.at, slice):
                    queries = q_HNC[:, group.at][None]
                    out_HNC[:, group.at] = _attend(queries, group, keys_KPC, values_KPC, size)[0]
                else:
                    q_BHQC = q_HNC[:, group.at].transpose(0, 1)
                    out_BHQC = _attend(q_BHQC, group, keys_KPC, values_KPC, size)
                    out_HNC[:, group.at] = out_BHQC.transpose(0, 1)  # a repeated token: the same value again
            return out_HNC[None]

        return attend


def _groups(parts: list[_Part], size: int, like: Tensor) -> list[_Group]:
    """Sort the parts by shape and pad like ones together, so that at most half of a group is padding."""
    offsets = [0, *accumulate(part.stop - part.start for part in parts)]
    order = sorted(range(len(parts)), key=lambda i: (parts[i].stop - parts[i].start, parts[i].stop))
    groups: list[list[int]] = []
    cells = longest = 0  # of the last group: query-key pairs without padding, keys
    for i in order:
        new, length = parts[i].stop - parts[i].start, parts[i].stop
        longest = max(longest, length)
        padded = (len(groups[-1]) + 1) * new * longest if groups else 0
        if groups and padded <= 2 * (cells + new * length) and (new == 1 or padded <= _LARGEST_MASK):
            groups[-1].append(i)
            cells += new * length
        else:
            groups.append([i])
            cells, longest = new * length, length
    return [_group([parts[i] for i in g], [offsets[i] for i in g], size, like) for g in groups]


def _place_slice(pages: list[int], start: int, stop: int, size: int) -> slice | None:
    """The places of positions `start` to `stop` if their pages follow each other, else None."""
    first, last = start // size, (stop - 1) // size
    if pages[first : last + 1] != list(range(pages[first], pages[first] + last - first + 1)):
        return None
    begin = pages[first] * size + start % size
    return slice(begin, begin + stop - start)


def _group(parts: list[_Part], offsets: list[int], size: int, like: Tensor) -> _Group:
    """Lay out parts that attend together; `offsets`: where each begins in the row of N tokens; `like`: a
    tensor of the device and precision to use."""
    device = like.device
    starts, stops = (np.array([getattr(part, name) for part in parts]) for name in ("start", "stop"))
    Q, S = int((stops - starts).max()), int(stops.max())
    if len(parts) == 1:
        at: slice | Tensor = slice(offsets[0], offsets[0] + Q)
        read = _place_slice(parts[0].pages, 0, S, size)
        if read is not None and (Q == 1 or not starts[0]):
            return _Group(at, read, None, causal=Q > 1)
    else:
        queries = np.minimum(np.arange(Q), (stops - starts)[:, None] - 1)  # [B, Q]; the last repeats
        at = torch.from_numpy(queries + np.array(offsets)[:, None]).to(device, non_blocking=True)
        read = None
    if read is None:
        count = -(-S // size)
        tables = [part.pages[:count] + part.pages[:1] * (count - len(part.pages)) for part in parts]
        pages = torch.tensor(tables, device=device)  # [B, pages], padded with what the mask hides
        keys = count * size
    else:
        pages, keys = read, S
    position = np.minimum(starts[:, None] + np.arange(Q), stops[:, None] - 1)  # [B, Q]
    hidden = torch.from_numpy(np.arange(keys) > position[..., None])[:, None]  # [B, 1, Q, S]
    mask = torch.zeros(hidden.shape, dtype=like.dtype).masked_fill_(hidden, float("-inf"))
    return _Group(at, pages, mask.to(device, non_blocking=True), causal=False)


def _attend(q_BHQC: Tensor, group: _Group, keys_KPC: Tensor, values_KPC: Tensor, size: int) -> Tensor:
    """Attention of a group's queries to its remembered keys: [B, H, Q, C]."""
    (B, H, Q, C), K = q_BHQC.shape, keys_KPC.shape[0]
    if isinstance(group.read, slice):
        k_BKSC, v_BKSC = keys_KPC[None, :, group.read], values_KPC[None, :, group.read]
    else:  # gather whole pages
        k_BKSC, v_BKSC = (
            x.view(K, -1, size * C).index_select(1, group.read.view(-1)).view(K, B, -1, C).transpose(0, 1)
            for x in (keys_KPC, values_KPC)
        )
    if Q == 1:  # the heads that share keys are queries of one head: nothing is repeated
        q_BKGC = q_BHQC.reshape(B, K, H // K, C)
        return F.scaled_dot_product_attention(q_BKGC, k_BKSC, v_BKSC, attn_mask=group.mask).view(B, H, 1, C)
    return F.scaled_dot_product_attention(
        q_BHQC, k_BKSC, v_BKSC, attn_mask=group.mask, is_causal=group.causal, enable_gqa=H != K
    )
