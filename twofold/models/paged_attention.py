"""Attention of many sequences to their pages, in groups of like shape, the same bits in every company.

What a sum of numbers comes to depends on how it is cut, and matrix libraries cut it by the shape of the whole
product. So every shape here is one for which that does not show (measured on MKL, `benchmarks/
batch_invariance.py`): query rows are padded to a multiple of `ROWS`, keys to `padded_keys`, and what was added
is hidden by a mask, whose zeros change no sum. The heads that share keys are queries of one head.

Shape letters: N tokens of a pass, B sequences of a group, Q queries of each, S keys; H heads, K key-value
heads, G heads per key-value head, R = Q·G rows and their padding, C head width; L layers, P places in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

ROWS = 4  # a matrix product of MKL gives each row the same bits whenever it has a multiple of 4 of them
SPARE_PLACES = 192  # behind a memory's last place, which `padded_keys` may reach
_BLOCK = 128  # queries of a long part that attend together, to the keys that the last of them sees
_LARGEST_MASK = 1 << 22  # query-key pairs of a padded group


@dataclass(slots=True)
class Part:
    """The tokens of one ask that go through in a pass, at positions `start` to `stop` of its pages."""

    ask: int
    start: int
    stop: int
    pages: list[int]


@dataclass(slots=True)
class Group:
    """Queries that attend together, with room for them; what is the same in every layer is made once."""

    queries_BKRC: Tensor
    into_BQKGC: Tensor  # where in `queries` the queries go: its rows without the padding
    at: slice | Tensor  # which of the N tokens they are [B·Q]; short parts repeat their last one
    keys: list[Tensor] | None  # of each layer [1, K, S, C], where they lie
    values: list[Tensor] | None
    pages: Tensor | None  # or of which pages to gather them [B·pages]
    mask: Tensor  # [B, 1, R, S], or for one query each [B, 1, 1, S]: 0 or -inf


def padded_keys(count: int) -> int:
    """How many keys `count` are padded to: a multiple of 16 (a vector), and in every block of 512 (which
    attention sums one after the other) none of the sizes that MKL cuts in two."""
    padded = -(-count // 16) * 16
    last = padded % 512
    return padded - last + 384 if 192 < last < 384 else padded


def groups_of(parts: Sequence[Part], G: int, size: int, rows_LP2KC: Tensor) -> list[Group]:
    """Sort the parts by shape and pad like ones together, so that at most half of a group is padding.

    A page holds `size` tokens; `rows`: keys and values of all layers L and places P.
    """
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
        _group([blocks[i] for i in group], [offsets[i] for i in group], G, size, rows_LP2KC)
        for group in map(sorted, groups)
    ]


def _group(blocks: list[Part], offsets: list[int], G: int, size: int, rows_LP2KC: Tensor) -> Group:
    """Lay out what attends together; `offsets`: where each block begins in the row of N tokens."""
    (_, P, _, K, C), B = rows_LP2KC.shape, len(blocks)
    counts = [block.stop - block.start for block in blocks]
    Q, S = max(counts), padded_keys(max(block.stop for block in blocks))

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

    R = -(-Q * G // ROWS) * ROWS
    sees = np.array([block.stop for block in blocks])[:, None]  # [B, 1]: how many keys
    if Q > 1:
        starts = np.array([block.start for block in blocks])[:, None]
        sees = np.minimum(starts + np.arange(R) // G + 1, sees)  # [B, R]
    windows = _windows(S, rows_LP2KC.dtype, rows_LP2KC.device)
    mask = windows.index_select(0, on_device(S - sees)).view(B, 1, -1, S)
    queries_BKRC = rows_LP2KC.new_zeros((B, K, R, C))
    into_BQKGC = queries_BKRC[:, :, : Q * G].view(B, K, Q, G, C).transpose(1, 2)
    return Group(queries_BKRC, into_BQKGC, at, keys, values, pages, mask)


@lru_cache(maxsize=16)
def _windows(length: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Every mask of `length` keys: window i, on as many zeros as keys followed by as many -inf, hides all
    but the first length - i."""
    row = torch.zeros(2 * length, dtype=dtype, device=device)
    row[length:] = float("-inf")
    return row.unfold(0, length, 1)


def attend(
    groups: list[Group], layer: int, q_NHC: Tensor, rows_P2KC: Tensor, size: int, out_NHC: Tensor
) -> None:
    """Write each query's attention to its sequence into `out`; `rows`: this layer's keys and values."""
    for group in groups:
        (B, Q, K, G, C), q_BKRC = group.into_BQKGC.shape, group.queries_BKRC
        group.into_BQKGC.copy_(q_NHC[group.at].view(B, Q, K, G, C))
        if group.pages is None:
            k_BKSC, v_BKSC = group.keys[layer], group.values[layer]
        else:
            pages = rows_P2KC.view(-1, size * 2 * K * C).index_select(0, group.pages)
            kv_BS2KC = pages.view(B, -1, 2, K, C)[:, : group.mask.shape[-1]]
            k_BKSC, v_BKSC = kv_BS2KC.permute(2, 0, 3, 1, 4).unbind()
        if B * K == 1 and Q * G <= 32 and q_BKRC.is_cpu and torch.get_num_threads() > 1:
            # all threads would share one product, and cut it otherwise than one of them does: let it be two
            q_BKRC, k_BKSC, v_BKSC = (x.expand(2, -1, -1, -1) for x in (q_BKRC, k_BKSC, v_BKSC))
        o_BKRC = F.scaled_dot_product_attention(q_BKRC, k_BKSC, v_BKSC, attn_mask=group.mask)
        o_BQKGC = o_BKRC[:B, :, : Q * G].view(B, K, Q, G, C).transpose(1, 2)
        if isinstance(group.at, slice):
            out_NHC[group.at].view(B, Q, K, G, C).copy_(o_BQKGC)
        else:  # a repeated token: the same value again
            out_NHC.index_copy_(0, group.at, o_BQKGC.reshape(B * Q, K * G, C))
