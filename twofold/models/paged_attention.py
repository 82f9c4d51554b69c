"""Attention of many sequences to their pages, in groups of like shape, the same bits in every company.

Every shape here is one of those in which a query's company does not show (`invariance.py`): rows of queries and keys
are padded, and what was added is hidden by a mask, whose zeros change no sum. The heads that share keys are queries of
one head.

Shape letters: N tokens of a pass, B sequences of a group, Q queries of each, S keys; H heads, K key-value
heads, G heads per key-value head, R = Q·G rows and their padding, C head width; L layers, P places in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from twofold.models.invariance import Shapes, attention_shapes
from twofold.models.memory import Part

_BLOCK = 128  # queries of a long part that attend together, to the keys that the last of them sees
_LARGEST_MASK = 1 << 22  # query-key pairs of a padded group


@dataclass(frozen=True, slots=True)
class Look:
    """How a layer looks at its keys. `window`: how many positions, its own and those before, a position attends
    to; None: all. `softcap` c makes c·tanh(s/c) of each score s. `scale` stands for 1/√C."""

    window: int | None = None
    softcap: float | None = None
    scale: float | None = None


@dataclass(slots=True)
class Group:
    """Queries that attend together, with room for them; what is the same in every layer is made once."""

    queries_BKRC: Tensor
    into_BQKGC: Tensor  # where in `queries` the queries go: its rows without the padding
    at: slice | Tensor  # which of the N tokens they are [B·Q]; short parts repeat their last one
    keys: list[Tensor] | None  # of each layer [1, K, S, C], where they lie
    values: list[Tensor] | None
    pages: Tensor | None  # or of which pages to gather them [B·pages]
    masks: dict[int | None, Tensor]  # by window: [B, 1, R, S], or for one query each [B, 1, 1, S]: 0 or -inf
    answers: Tensor | None = None  # where all answers [N, H, C] go
    own_BQKGC: Tensor | None = None  # of these the group's own, where they lie together


def groups_of(
    parts: Sequence[Part],
    G: int,
    size: int,
    rows_LP2KC: Tensor,
    windows: Iterable[int | None] = (None,),
    capped: bool = False,
) -> list[Group]:
    """Sort the parts by shape and pad like ones together, so that at most half of a group is padding.

    A page holds `size` tokens; `rows`: keys and values of all layers L and places P; `windows`: those that the
    layers have; `capped`: whether some of them cap their scores.
    """
    shapes = attention_shapes(rows_LP2KC, rows_LP2KC.shape[-1], capped)
    blocks, offsets = [], []
    groups: list[list[int]] = []
    for part, offset in zip(parts, accumulate((p.stop - p.start for p in parts), initial=0), strict=False):
        is_long = part.stop - part.start > _BLOCK
        for start in range(part.start, part.stop, _BLOCK):
            if is_long:  # its blocks see very different numbers of keys
                groups.append([len(blocks)])
            blocks.append(Part(part.ask, start, min(part.stop, start + _BLOCK), part.pages))
            offsets.append(offset + start - part.start)
    alone = {i for group in groups for i in group}
    order = sorted(
        (i for i in range(len(blocks)) if i not in alone),
        key=lambda i: (blocks[i].stop - blocks[i].start, blocks[i].stop),
    )
    group: list[int] = []
    cells = longest = 0  # of the group at hand: query-key pairs without padding, keys
    for i in order:
        new, length = blocks[i].stop - blocks[i].start, blocks[i].stop
        longest = max(longest, length)
        padded = (len(group) + 1) * new * longest
        if group and padded <= 2 * (cells + new * length) and (new == 1 or padded <= _LARGEST_MASK):
            group.append(i)
            cells += new * length
        else:
            group = [i]
            groups.append(group)
            cells, longest = new * length, length
    return [
        _group([blocks[i] for i in group], [offsets[i] for i in group], G, size, rows_LP2KC, windows, shapes)
        for group in map(sorted, groups)
    ]


def _group(
    blocks: list[Part],
    offsets: list[int],
    G: int,
    size: int,
    rows_LP2KC: Tensor,
    windows: Iterable[int | None],
    shapes: Shapes,
) -> Group:
    """Lay out what attends together; `offsets`: where each block begins in the row of N tokens."""
    (_, P, _, K, C), B = rows_LP2KC.shape, len(blocks)
    counts = [block.stop - block.start for block in blocks]
    Q, S = max(counts), shapes.padded_keys(max(block.stop for block in blocks))

    def on_device(numbers: np.ndarray) -> Tensor:
        return torch.from_numpy(numbers.ravel()).to(rows_LP2KC.device, non_blocking=True)

    if min(counts) == Q and offsets == list(range(offsets[0], offsets[0] + B * Q, Q)):
        at: slice | Tensor = slice(offsets[0], offsets[0] + B * Q)
    else:
        queries = np.minimum(np.arange(Q), np.array(counts)[:, None] - 1)  # [B, Q]; the last repeats
        at = on_device(queries + np.array(offsets)[:, None])

    keys = values = pages = None
    first, count = blocks[0].pages[0], -(-blocks[0].stop // size)
    if B == 1 and first * size + S <= P and blocks[0].pages[:count] == list(range(first, first + count)):
        read_2LKSC = rows_LP2KC[:, first * size : first * size + S].permute(2, 0, 3, 1, 4)
        keys, values = (layers[:, None].unbind() for layers in read_2LKSC.unbind())
    else:
        count = -(-S // size)
        tables = [block.pages[:count] + block.pages[:1] * (count - len(block.pages)) for block in blocks]
        pages = on_device(np.array(tables))

    R = -(-Q * G // shapes.rows) * shapes.rows
    sees = np.array([block.stop for block in blocks])[:, None]  # [B, 1]: how many keys
    if Q > 1:
        starts = np.array([block.start for block in blocks])[:, None]
        sees = np.minimum(starts + np.arange(R) // G + 1, sees)  # [B, R]
    masks = {window: _mask(S, sees, window, rows_LP2KC) for window in windows}
    queries_BKRC = rows_LP2KC.new_zeros((B, K, R, C))
    into_BQKGC = queries_BKRC[:, :, : Q * G].view(B, K, Q, G, C).transpose(1, 2)
    return Group(queries_BKRC, into_BQKGC, at, keys, values, pages, masks)


def fixed_group(
    pages_BT: Tensor, sees_B: Tensor, G: int, rows_LP2KC: Tensor, length: int, windows: Iterable[int | None]
) -> Group:
    """One query of each sequence, to the first `sees` of the `length` keys in its pages, laid out on the device alone:
    no shape in it depends on the numbers."""
    B, (K, C) = len(pages_BT), rows_LP2KC.shape[-2:]
    rows = attention_shapes(rows_LP2KC, C, False).rows
    queries_BKRC = rows_LP2KC.new_zeros((B, K, -(-G // rows) * rows, C))
    into_BQKGC = queries_BKRC[:, :, :G].view(B, K, 1, G, C).transpose(1, 2)
    from_end_BS = sees_B[:, None] - torch.arange(length, device=sees_B.device)  # 1: the last that is seen
    masks = {}
    for window in windows:
        hidden_BS = (from_end_BS < 1) | (from_end_BS > (window or length))
        mask_BS = rows_LP2KC.new_zeros(hidden_BS.shape).masked_fill_(hidden_BS, float("-inf"))
        masks[window] = mask_BS.view(B, 1, 1, length)
    pages = pages_BT.reshape(-1)
    return Group(queries_BKRC, into_BQKGC, slice(0, B), None, None, pages, masks)


def _mask(length: int, sees: np.ndarray, window: int | None, like: Tensor) -> Tensor:
    """0 for the last `window` of the first `sees` keys, -inf for the others of `length`: [B, 1, rows, length] for
    sees [B, rows]."""
    window = length if window is None else min(window, length)
    index = torch.from_numpy((length + window - sees).ravel()).to(like.device, non_blocking=True)
    chosen = _masks(length, window, like.dtype, like.device).index_select(0, index)
    return chosen.view(len(sees), 1, -1, length)


@lru_cache(maxsize=16)
def _masks(length: int, window: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Every mask of `length` keys: number i, on -inf for each key, as many zeros as the window and -inf again,
    lets the keys from length - i up to length - i + window be seen."""
    row = torch.full((2 * length + window,), float("-inf"), dtype=dtype, device=device)
    row[length : length + window] = 0
    return row.unfold(0, length, 1)


def answer_into(groups: list[Group], out_NHC: Tensor) -> None:
    """Have `attend` write into `out`."""
    for group in groups:
        group.answers = out_NHC
        if isinstance(group.at, slice):
            group.own_BQKGC = out_NHC[group.at].view(group.into_BQKGC.shape)


def attend(groups: list[Group], layer: int, q_NHC: Tensor, rows_P2KC: Tensor, size: int, look: Look) -> None:
    """Answer each query by attention to its sequence (see `answer_into`); `rows`: this layer's keys and values."""
    for group in groups:
        (B, Q, K, G, C), q_BKRC, mask = group.into_BQKGC.shape, group.queries_BKRC, group.masks[look.window]
        group.into_BQKGC.copy_(q_NHC[group.at].view(B, Q, K, G, C))
        if group.pages is None:
            k_BKSC, v_BKSC = group.keys[layer], group.values[layer]
        else:
            pages = rows_P2KC.view(-1, size * 2 * K * C).index_select(0, group.pages)
            kv_BS2KC = pages.view(B, -1, 2, K, C)[:, : mask.shape[-1]]
            k_BKSC, v_BKSC = kv_BS2KC.permute(2, 0, 3, 1, 4).unbind()
        if B * K == 1 and Q * G <= 32 and q_BKRC.is_cpu and torch.get_num_threads() > 1:
            # all threads would share one product, and cut it otherwise than one of them does: let it be two
            q_BKRC, k_BKSC, v_BKSC = (x.expand(2, -1, -1, -1) for x in (q_BKRC, k_BKSC, v_BKSC))
        if look.softcap is not None:
            mask, q_BKRC = _capped(q_BKRC, k_BKSC, mask, look), torch.zeros_like(q_BKRC)
        o_BKRC = F.scaled_dot_product_attention(q_BKRC, k_BKSC, v_BKSC, attn_mask=mask, scale=look.scale)
        o_BQKGC = o_BKRC[:B, :, : Q * G].view(B, K, Q, G, C).transpose(1, 2)
        if group.own_BQKGC is not None:
            group.own_BQKGC.copy_(o_BQKGC)
        else:  # a repeated token: the same value again
            group.answers.index_copy_(0, group.at, o_BQKGC.reshape(B * Q, K * G, C))


def _capped(q_BKRC: Tensor, k_BKSC: Tensor, mask: Tensor, look: Look) -> Tensor:
    """The whole scores, capped, as a mask [B, K, R, S] for queries of zeros: the kernel knows no caps."""
    scale = q_BKRC.shape[-1] ** -0.5 if look.scale is None else look.scale
    scores = (q_BKRC @ k_BKSC.mT).mul_(scale / look.softcap).tanh_().mul_(look.softcap)
    return scores.add_(mask)
