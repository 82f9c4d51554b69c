"""Attention for training: causal, and within the documents of a packed row.

On CPUs: matrix products over blocks of queries, the probabilities kept. At the row lengths of small models the
[T, T] probabilities are small, and keeping them for the backward pass beats torch's fused kernel, whose backward
recomputes them. A block of queries looks at the keys up to its own end and no further, which spares up to half of
the products. Memory: from 2 to 4·B·H·T² bytes a layer in bfloat16, so longer rows go to the fused kernel.
(benchmarks/train_throughput.py)

On GPUs: FlexAttention where the step is compiled, which leaves out blocks of keys that no query of a block may
see; else the fused kernel with a mask. Source: Dong et al. 2024 (arXiv 2412.05496).
"""

from __future__ import annotations

from copy import copy
from typing import Any

import torch
from torch import Tensor

from twofold.models.attention import Attend, causal_attention, masked_attention

LONGEST = 512  # tokens in a row, above which the probabilities would cost too much memory
BLOCK = 128  # queries: smaller products run less well than they save


class _KeptProbabilities(torch.autograd.Function):
    """softmax(q·kᵀ/√C + mask)·v and its gradient, for q of shape [B, K, G, T, C] (G query heads share a
    key-value head and go through one product), k and v [B, K, T, C], mask [T, T] or [B, 1, 1, T, T]."""

    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        ctx.scale = q.shape[-1] ** -0.5
        kept, out = [], []
        with torch.autocast("cpu", enabled=False):  # backward runs without it: both must see one dtype
            for start, end in _blocks(q.shape[3]):
                scores = torch.matmul(_rows(q, start, end), k[:, :, :end].mT)
                scores = _heads(scores, q) * ctx.scale + mask[..., start:end, :end]
                kept.append(scores.softmax(-1).flatten(2, 3))
                out.append(_heads(kept[-1] @ v[:, :, :end], q))
        ctx.save_for_backward(q, k, v, *kept)
        return torch.cat(out, 3)

    @staticmethod
    def backward(ctx, d_out: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v, *kept = ctx.saved_tensors
        d_q = []
        exact = torch.promote_types(k.dtype, torch.float32)  # sums over blocks
        d_k, d_v = torch.zeros_like(k, dtype=exact), torch.zeros_like(v, dtype=exact)
        for (start, end), p in zip(_blocks(q.shape[3]), kept, strict=True):
            rows, d_rows = _rows(q, start, end), _rows(d_out, start, end)
            d_p = d_rows @ v[:, :, :end].mT
            d_s = torch._softmax_backward_data(d_p, p, -1, p.dtype) * ctx.scale
            d_q.append(_heads(d_s @ k[:, :, :end], q))
            d_k[:, :, :end] += d_s.mT @ rows
            d_v[:, :, :end] += p.mT @ d_rows
        return torch.cat(d_q, 3), d_k.to(k.dtype), d_v.to(v.dtype), None


def _blocks(length: int) -> list[tuple[int, int]]:
    """(first, one past the last) query of each block."""
    return [(start, min(start + BLOCK, length)) for start in range(0, length, BLOCK)]


def _rows(x: Tensor, start: int, end: int) -> Tensor:
    """[B, K, G, T, C] -> the block's rows of all heads of a group together, [B, K, G·block, C]."""
    return x[:, :, :, start:end].flatten(2, 3)


def _heads(rows: Tensor, like: Tensor) -> Tensor:
    """[B, K, G·block, X] -> [B, K, G, block, X]."""
    return rows.unflatten(2, (like.shape[2], -1))


class CpuAttention:
    """An `Attend` for training on a CPU, with its mask made once: a whole row, until `within` parts of it."""

    def __init__(self, length: int, dtype: torch.dtype) -> None:
        """For rows of `length` tokens and products in `dtype`."""
        ahead = torch.full((min(length, LONGEST),) * 2, float("-inf"), dtype=dtype)
        self.mask = ahead.triu(1)  # [T, T]: 0 where a query may look, -inf in its future
        self.parts: Tensor | None = None

    def within(self, parts_BT: Tensor) -> CpuAttention:
        """The same within the parts of each row; its mask is [B, 1, 1, T, T]."""
        found, T = copy(self), parts_BT.shape[1]
        found.parts = parts_BT
        if len(self.mask) >= T:
            found.mask = torch.where(_same(parts_BT)[:, None, None], self.mask[:T, :T], float("-inf"))
        return found

    def __call__(self, layer: int, q_BHTC: Tensor, k_BKTC: Tensor, v_BKTC: Tensor, **looks: Any) -> Tensor:
        """[B, H, T, C]; other lengths, dtypes and devices than the mask's go to the fused kernel, and so do the
        layers that look otherwise (see `Attend`)."""
        T = q_BHTC.shape[2]
        if (
            looks
            or self.mask.shape[-1] < T
            or q_BHTC.dtype != self.mask.dtype
            or q_BHTC.device != self.mask.device
        ):
            return FusedAttention(self.parts)(layer, q_BHTC, k_BKTC, v_BKTC, **looks)
        K = k_BKTC.shape[1]
        k, v = (x.to(q_BHTC.dtype).contiguous() for x in (k_BKTC, v_BKTC))
        q = q_BHTC.unflatten(1, (K, -1))
        return _KeptProbabilities.apply(q, k, v, self.mask[..., :T, :T]).flatten(1, 2)


class FusedAttention:
    """An `Attend` on torch's kernels, within the parts of each row."""

    def __init__(self, parts_BT: Tensor | None) -> None:
        self.parts = parts_BT

    def __call__(self, layer: int, q_BHTC: Tensor, k_BKTC: Tensor, v_BKTC: Tensor, **looks: Any) -> Tensor:
        """[B, H, T, C]; for `looks`, see `Attend`."""
        if self.parts is None:
            return causal_attention(layer, q_BHTC, k_BKTC, v_BKTC, **looks)
        if q_BHTC.is_cuda and torch.compiler.is_compiling() and not looks:
            return flexible(q_BHTC, k_BKTC, v_BKTC, self.parts)
        return masked_attention(q_BHTC, k_BKTC, v_BKTC, _same(self.parts).tril()[:, None], **looks)


def flexible(q_BHTC: Tensor, k_BKTC: Tensor, v_BKTC: Tensor, parts_BT: Tensor) -> Tensor:
    """FlexAttention, causal and within the parts: [B, H, T, C]."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    def sees(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        del head
        return (key <= query) & (parts_BT[row, query] == parts_BT[row, key])

    B, T = parts_BT.shape
    mask = create_block_mask(sees, B, None, T, T, device=q_BHTC.device)
    grouped = q_BHTC.shape[1] != k_BKTC.shape[1]
    return flex_attention(q_BHTC, k_BKTC, v_BKTC, block_mask=mask, enable_gqa=grouped)


def within(attend: Attend, parts_BT: Tensor) -> Attend:
    """`attend`, causal within a row, kept within the parts of each row."""
    return attend.within(parts_BT) if isinstance(attend, CpuAttention) else FusedAttention(parts_BT)


def _same(parts_BT: Tensor) -> Tensor:
    """bool [B, T, T]: whether two steps belong to the same part."""
    return parts_BT[:, :, None] == parts_BT[:, None, :]
