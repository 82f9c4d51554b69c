"""Shapes in which a product gives a row the same bits in every company, found by trying them on this machine.

What a sum of numbers comes to depends on how it is cut, and matrix libraries cut it by the shape of the whole product:
MKL by rules that differ from processor to processor. A few small products tell which shapes are alike; it takes some
milliseconds, once for each precision and number of threads. `benchmarks/batch_invariance.py` looks at many more.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

VECTOR = 16  # keys are always padded to a multiple of it
BLOCK = 512  # keys that attention sums at once; blocks are summed one after the other
_ROWS = (4, 8, 16, 32)
_MANY = 256
_PRODUCTS = ((768, 256), (384, 128), (256, 1536), (128, 768))  # inputs, outputs


@dataclass(frozen=True)
class Shapes:
    """`rows`: of queries, a multiple of it is alike. `keys`: the sizes of the last block that are, ascending."""

    rows: int
    keys: tuple[int, ...]

    def padded_keys(self, count: int) -> int:
        """How many keys so many are padded to."""
        whole, last = divmod(count, BLOCK)
        return whole * BLOCK + (self.keys[bisect_left(self.keys, last)] if last else 0)

    @property
    def reach(self) -> int:
        """How far padding may reach behind the last key."""
        return max(after - before for before, after in pairwise((0, *self.keys))) - 1


_UNTRIED = Shapes(_ROWS[0], tuple(range(VECTOR, BLOCK + 1, VECTOR)))


def product_rows(like: Tensor) -> int:
    """A multiple of so many rows gives each of them the same bits, in products with matrices like this one; 4 where
    there is no such number, or where nothing is promised (GPUs)."""
    return (_product_rows(like.dtype, torch.get_num_threads()) if like.is_cpu else None) or _ROWS[0]


def same_bits(like: Tensor) -> bool:
    """Whether this machine has such shapes for matrices like this one. Where it multiplies bfloat16 in tiles (AMX), it
    has none: oneDNN chooses kernels by all three sizes of a product."""
    return like.is_cpu and _product_rows(like.dtype, torch.get_num_threads()) is not None


def attention_shapes(like: Tensor, width: int, capped: bool) -> Shapes:
    """The same for attention with heads of `width` channels. `capped`: scores are also computed by themselves."""
    return _attention_shapes(like.dtype, width, capped, torch.get_num_threads()) if like.is_cpu else _UNTRIED


@lru_cache
def _product_rows(dtype: torch.dtype, threads: int) -> int | None:
    dice = torch.Generator().manual_seed(0)
    alike = set(_ROWS)
    with torch.inference_mode():
        for inner, outer in _PRODUCTS:
            x, w = (torch.randn(rows, inner, generator=dice).to(dtype) for rows in (_MANY, outer))
            whole = F.linear(x, w)
            alike = {
                rows
                for rows in alike
                if all(
                    torch.equal(torch.cat([F.linear(part.clone(), w) for part in x.split(some)]), whole)
                    for some in (rows, 2 * _ROWS[-1])
                )
            }
    return min(alike, default=None)


@lru_cache
def _attention_shapes(dtype: torch.dtype, width: int, capped: bool, threads: int) -> Shapes:
    exact = None if dtype == torch.float32 else _attention_shapes(torch.float32, width, capped, threads)
    heads = 8 if exact else 2
    dice = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, heads, rows, width, generator=dice).to(dtype) for rows in (32, BLOCK, BLOCK))

    def attend(rows: int, keys: int, seen: int) -> Tensor:
        mask = torch.zeros(rows, keys, dtype=dtype)
        mask[:, seen:] = float("-inf")
        some = q[:, :, :rows].contiguous()
        if capped:
            mask, some = (some @ k[:, :, :keys].mT).add_(mask), torch.zeros_like(some)
        return F.scaled_dot_product_attention(some, k[:, :, :keys], v[:, :, :keys], attn_mask=mask)

    with torch.inference_mode():
        whole = attend(32, BLOCK, BLOCK)
        alike = [rows for rows in _ROWS if torch.equal(attend(rows, BLOCK, BLOCK), whole[:, :, :rows])]
        rows = min(alike, default=_ROWS[0])
        keys = [
            n for n in _UNTRIED.keys if n == BLOCK or torch.equal(attend(rows, n, n), attend(rows, BLOCK, n))
        ]
    if exact:  # coarse rounding seldom shows a difference that is there
        rows, keys = max(rows, exact.rows), [n for n in keys if n in exact.keys]
    return Shapes(rows, tuple(keys))
