"""Causal attention for training on CPUs: three matrix products, with the probabilities kept.

At the row lengths of small models the whole [T, T] matrix of probabilities is small, and keeping it for
the backward pass beats torch's fused kernel, whose backward recomputes it (benchmarks/train_throughput.py).
Memory: 4·B·H·T² bytes a layer, so longer rows go to the fused kernel.
"""

from __future__ import annotations

import torch
from torch import Tensor

from twofold.models.transformer import causal_attention

LONGEST = 512  # tokens in a row, above which the probabilities would cost too much memory


class _KeptProbabilities(torch.autograd.Function):
    """softmax(q·kᵀ/√C + mask)·v and its gradient, for q, k, v of shape [B, K, G·T, C], [B, K, T, C] twice."""

    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        ctx.scale = q.shape[-1] ** -0.5
        with torch.autocast("cpu", enabled=False):  # backward runs without it: both must see one dtype
            p = torch.matmul(q, k.mT).mul_(ctx.scale).add_(mask).softmax(-1)
            ctx.save_for_backward(q, k, v, p)
            return p @ v

    @staticmethod
    def backward(ctx, d_out: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v, p = ctx.saved_tensors
        d_p = d_out @ v.mT
        d_s = torch._softmax_backward_data(d_p, p, -1, p.dtype).mul_(ctx.scale)
        return d_s @ k, d_s.mT @ q, p.mT @ d_out, None


def _mask(length: int, groups: int, dtype: torch.dtype) -> Tensor:
    """[G·T, T]: 0 where a query may look, -inf in its future; the same for each head of a group."""
    return torch.full((length, length), float("-inf"), dtype=dtype).triu(1).repeat(groups, 1)


def cpu_attention(layer: int, q_BHTC: Tensor, k_BKTC: Tensor, v_BKTC: Tensor) -> Tensor:
    """`causal_attention` for training on a CPU. The G = H/K query heads that share a key-value head go
    through one product as G·T rows, so keys and values are never copied."""
    B, H, T, C = q_BHTC.shape
    if T > LONGEST or q_BHTC.device.type != "cpu":
        return causal_attention(layer, q_BHTC, k_BKTC, v_BKTC)
    K = k_BKTC.shape[1]
    q = q_BHTC.reshape(B, K, H // K * T, C)
    k, v = (x.to(q.dtype).contiguous() for x in (k_BKTC, v_BKTC))
    return _KeptProbabilities.apply(q, k, v, _mask(T, H // K, q.dtype)).view(B, H, T, C)
