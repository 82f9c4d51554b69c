"""A frozen matrix as the blocks of a GGUF hold it, decoded whenever it is multiplied with: a base for adapters.

Training only an adapter needs each matrix of the base twice a step and never its gradient, so that it can stay in 4
or 5 bits a weight. Neither the decoded matrix nor anything of its size is kept between the two passes.
The decoders are those of `small_blocks.py` and `k_quants.py`, in torch, to the same bits; uint8 [N, bytes of a block]
-> float32 [N, weights of a block]. Source: QLoRA (arXiv 2305.14314), section 3.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from twofold.models.quantize import BLOCKS, TensorType

AT_ONCE = {
    "cpu": 1 << 17,
    "cuda": 1 << 24,
}  # weights decoded in one go: what stays in the cache, or fills the GPU


def _halves(raw: Tensor) -> Tensor:
    """Bytes [N, 2n] as float16 -> float32 [N, n]."""
    return raw.contiguous().view(torch.float16).float()


def _planes(raw: Tensor, bits: int, width: int) -> Tensor:
    """Numbers of `bits` bits, of `width` bytes the lowest bits first: [N, n·width] -> [N, n·8/bits, width]."""
    raw = raw.reshape(len(raw), -1, width)
    return torch.stack([raw >> shift & (1 << bits) - 1 for shift in range(0, 8, bits)], 2).flatten(1, 2)


def _fours(raw: Tensor) -> Tensor:
    return _planes(raw, 4, 16).reshape(-1, 32)


def _fives(raw: Tensor) -> Tensor:
    upper = _planes(raw[:, :4], 1, 1).reshape(-1, 32) << 4
    return _fours(raw[:, 4:]) | upper


def _scaled(raw: Tensor, q: Tensor, middle: int) -> Tensor:
    """d·(q - middle), d first."""
    return _halves(raw[:, :2]) * (q.float() - middle)


def _shifted(raw: Tensor, q: Tensor) -> Tensor:
    """d·q + m, d and m first."""
    d, m = _halves(raw[:, :4]).split(1, 1)
    return d * q.float() + m


def _with_minimums(raw: Tensor, q: Tensor) -> Tensor:
    """d·s·q - e·m in groups of 32; d, e and 12 bytes of s and m first. q [N, 8, 32]."""
    d, e = _halves(raw[:, :4]).split(1, 1)
    s, m, rest = raw[:, 4:16].split(4, 1)
    scales = torch.cat((s & 63, rest & 15 | s >> 6 << 4), 1).float()
    minimums = torch.cat((m & 63, rest >> 4 | m >> 6 << 4), 1).float()
    return ((d * scales)[..., None] * q.float() - (e * minimums)[..., None]).reshape(-1, 256)


def _q6_k(raw: Tensor) -> Tensor:
    q = _planes(raw[:, :128], 4, 64).reshape(-1, 8, 32) | _planes(raw[:, 128:192], 2, 32) << 4
    scale = _halves(raw[:, 208:]) * raw[:, 192:208].view(torch.int8).float()
    return (scale[..., None] * (q.reshape(-1, 16, 16).float() - 32)).reshape(-1, 256)


DECODERS = {
    TensorType.Q8_0: lambda raw: _scaled(raw, raw[:, 2:].view(torch.int8), 0),
    TensorType.Q4_0: lambda raw: _scaled(raw, _fours(raw[:, 2:]), 8),
    TensorType.Q4_1: lambda raw: _shifted(raw, _fours(raw[:, 4:])),
    TensorType.Q5_0: lambda raw: _scaled(raw, _fives(raw[:, 2:]), 16),
    TensorType.Q5_1: lambda raw: _shifted(raw, _fives(raw[:, 4:])),
    TensorType.Q4_K: lambda raw: _with_minimums(raw, _planes(raw[:, 16:], 4, 32)),
    TensorType.Q5_K: lambda raw: _with_minimums(
        raw, _planes(raw[:, 48:], 4, 32) | _planes(raw[:, 16:48], 1, 32) << 4
    ),
    TensorType.Q6_K: _q6_k,
}


class BlockLinear(nn.Module):
    """y = x·Wᵀ + bias, W [outputs, inputs] as `blocks`, uint8 [outputs, bytes of a row], of a type of DECODERS."""

    def __init__(self, blocks: Tensor, type: TensorType, bias: nn.Parameter | None) -> None:
        super().__init__()
        weights, self.size = BLOCKS[type]
        self.encoding = type
        self.out_features, self.in_features = len(blocks), blocks.shape[1] // self.size * weights
        self.register_buffer("blocks", blocks, persistent=False)
        self.bias = bias

    @property
    def weight(self) -> Tensor:
        """W, decoded: float32 [outputs, inputs]."""
        return self.decoded(torch.float32)

    @torch.no_grad()
    def decoded(self, dtype: torch.dtype) -> Tensor:
        """W in `dtype`."""
        blocks, decode = self.blocks.view(-1, self.size), DECODERS[self.encoding]
        weights = BLOCKS[self.encoding][0]
        out = torch.empty((len(blocks), weights), dtype=dtype, device=blocks.device)
        step = AT_ONCE.get(blocks.device.type, 1 << 20) // weights
        for start in range(0, len(blocks), step):
            out[start : start + step] = decode(blocks[start : start + step])
        return out.view(self.out_features, self.in_features)

    @torch.compiler.disable  # decoding is a loop that a compiled step would unroll
    def forward(self, x: Tensor) -> Tensor:
        """[..., inputs] -> [..., outputs], in the dtype of matrix products."""
        y = _Product.apply(x, self)
        return y if self.bias is None else y + self.bias.to(y.dtype)


class _Product(torch.autograd.Function):
    """x·Wᵀ, for whose gradient W is decoded again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: BlockLinear) -> Tensor:
        ctx.layer, ctx.dtype = layer, x.dtype
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        with torch.autocast(kind, enabled=False):
            return F.linear(x.to(dtype), layer.decoded(dtype))

    @staticmethod
    def backward(ctx: Any, d_y: Tensor) -> tuple[Tensor, None]:
        return (d_y @ ctx.layer.decoded(d_y.dtype)).to(ctx.dtype), None
