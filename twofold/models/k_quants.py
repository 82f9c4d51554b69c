"""Q2_K … Q6_K and IQ4_XS: 256 weights share a scale in float16, which whole numbers refine for parts of them.

Key idea: a block keeps one float16 d, and each group of 16 or 32 weights in it a whole number s of 4 to 8
bits, so that a weight is d·s·q. In the types with minimums (Q2_K, Q4_K, Q5_K) it is d·s·q - e·m, which suits
groups that do not lie around zero. The bits lie where it suits ggml's instructions.
Decoders take uint8 [N, bytes of a block] and give float32 [N, 256]. Encoders take float32 rows [R, W], and
how much each column matters ([W], or None), and give uint8 [N, bytes of a block].
Source: ggml (`ggml-common.h` for the layout; `ggml-quants.c` for the encoding).
"""

from __future__ import annotations

import numpy as np

from twofold.models import scale_search
from twofold.models.small_blocks import IQ4, halves, joined, planes, stored


def decode_q2_k(raw: np.ndarray) -> np.ndarray:
    """16 bytes of scales and minimums, 64 of weights, d, e."""
    d, e = halves(raw[:, 80:]).T[..., None]
    scale, minimum = d * (raw[:, :16] & 15).astype(np.float32), e * (raw[:, :16] >> 4).astype(np.float32)
    q = planes(raw[:, 16:80], 2, 32).reshape(-1, 16, 16).astype(np.float32)
    return (scale[..., None] * q - minimum[..., None]).reshape(-1, 256)


def decode_q3_k(raw: np.ndarray) -> np.ndarray:
    """32 bytes of upper bits, 64 of lower ones, 12 of scales, d."""
    scales = planes(raw[:, 96:104], 4, 8).reshape(-1, 16) | planes(raw[:, 104:108], 2, 4).reshape(-1, 16) << 4
    q = planes(raw[:, 32:96], 2, 32) | planes(raw[:, :32], 1, 32) << 2
    scale = halves(raw[:, 108:]) * (scales.astype(np.float32) - 32)
    return (scale[..., None] * (q.reshape(-1, 16, 16).astype(np.float32) - 4)).reshape(-1, 256)


def decode_q4_k(raw: np.ndarray) -> np.ndarray:
    """d, e, 12 bytes of scales and minimums, 128 of weights."""
    return _with_minimums(raw, planes(raw[:, 16:], 4, 32))


def decode_q5_k(raw: np.ndarray) -> np.ndarray:
    """As Q4_K, with 32 bytes of upper bits before the 128 of lower ones."""
    return _with_minimums(raw, planes(raw[:, 48:], 4, 32) | planes(raw[:, 16:48], 1, 32) << 4)


def decode_q6_k(raw: np.ndarray) -> np.ndarray:
    """128 bytes of lower bits, 64 of upper ones, 16 scales, d."""
    q = planes(raw[:, :128], 4, 64).reshape(-1, 8, 32) | planes(raw[:, 128:192], 2, 32) << 4
    scale = halves(raw[:, 208:]) * raw[:, 192:208].view(np.int8).astype(np.float32)
    return (scale[..., None] * (q.reshape(-1, 16, 16).astype(np.float32) - 32)).reshape(-1, 256)


def decode_iq4_xs(raw: np.ndarray) -> np.ndarray:
    """d, 2 bytes of upper and 4 of lower bits of scales, 128 of places in the table `IQ4`."""
    upper = planes(raw[:, 2:4], 2, 1).reshape(-1, 8) << 4
    lower = planes(raw[:, 4:8], 4, 1).reshape(-1, 8)
    scale = halves(raw[:, :2]) * ((lower | upper).astype(np.float32) - 32)
    return (scale[..., None] * IQ4[planes(raw[:, 8:], 4, 16).reshape(-1, 8, 32)]).reshape(-1, 256)


def encode_q4_k(rows: np.ndarray, importance: np.ndarray | None) -> np.ndarray:
    """Scales and minimums of least error, then these in 6 bits, then each weight for what they became."""
    head, codes = _encode_with_minimums(rows, importance, 15, -1.0, 20)
    return np.hstack((head, joined(codes, 4, 32)))


def encode_q5_k(rows: np.ndarray, importance: np.ndarray | None) -> np.ndarray:
    """As Q4_K, with one more bit for each weight."""
    head, codes = _encode_with_minimums(rows, importance, 31, -0.5, 15)
    return np.hstack((head, joined(codes >> 4, 1, 32), joined(codes & 15, 4, 32)))


def encode_q6_k(rows: np.ndarray, importance: np.ndarray | None) -> np.ndarray:
    """Scales of least error, then these in 8 bits, the largest as -128, then each weight for its scale."""
    x = _columns(rows, 16)
    weights = x * x if importance is None else _columns(np.broadcast_to(importance, rows.shape), 16)
    scale, codes = scale_search.symmetric(x, weights, 32)
    scale = scale.reshape(-1, 16)
    largest = np.take_along_axis(scale, np.abs(scale).argmax(axis=1)[:, None], axis=1)
    inverse = np.float32(-128) / largest
    whole = np.minimum(np.rint(inverse * scale), 127)
    nothing = np.abs(largest[:, 0]) < scale_search.NOTHING
    inverse[nothing], whole[nothing] = np.inf, 0
    d_bytes, d = stored(1 / inverse[:, 0])
    codes = _rounded(x, (d * whole).reshape(-1), -32, 31, codes - 32) + 32
    codes = codes.T.reshape(-1, 256).astype(np.uint8)
    codes[nothing] = 0
    lower, upper = joined(codes & 15, 4, 64), joined(codes >> 4, 2, 32)
    return np.hstack((lower, upper, whole.astype(np.int8).view(np.uint8), d_bytes))


def _encode_with_minimums(
    rows: np.ndarray, importance: np.ndarray | None, levels: int, first: float, steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """Of Q4_K and Q5_K: the first 16 bytes of each block, and the weights' whole numbers [N, 256]."""
    x = _columns(rows, 32)  # [32, 8N]
    if importance is None:
        weights = np.sqrt(scale_search.total(x * x) / 32) + np.abs(x)
        scale, below, codes = scale_search.with_minimum(x, weights, levels, first, 0.1, steps)
        parts = [_by_the_largest(part.reshape(-1, 8)) for part in (scale, below)]
    else:
        blocks = _columns(rows, 256)
        usual = np.repeat(2 * scale_search.total(blocks * blocks) / 256, 8)
        weights = _columns(np.broadcast_to(importance, rows.shape), 32) * np.sqrt(usual + x * x)
        scale, below, codes = scale_search.with_minimum(x, weights, levels, -0.9, 0.05, 36)
        sums = _columns(scale_search.total(weights), 8)
        parts = [scale_search.positive(_columns(part, 8), sums, 63) for part in (scale, below)]
        parts = [(found, whole.T) for found, whole in parts]
    (d, scales), (e, minimums) = parts
    (d_bytes, d), (e_bytes, e) = stored(d), stored(e)
    codes = _rounded(x + (e * minimums).reshape(-1), (d * scales).reshape(-1), 0, levels, codes)
    head = np.hstack((d_bytes, e_bytes, _packed_six_bits(scales.astype(np.uint8), minimums.astype(np.uint8))))
    return head, codes.T.reshape(-1, 256).astype(np.uint8)


def _columns(values: np.ndarray, width: int) -> np.ndarray:
    """Any shape -> [width, n], as the searches of scales take them."""
    return values.reshape(-1, width).T.copy()


def _rounded(x: np.ndarray, step: np.ndarray, low: int, high: int, otherwise: np.ndarray) -> np.ndarray:
    """x / step to the nearest whole number from low to high; `otherwise` where the step is 0."""
    return np.where(step != 0, np.clip(np.rint(x / step), low, high), otherwise)


def _by_the_largest(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(scale [N], whole numbers up to 63 [N, 8]) of values [N, 8] that are not negative."""
    values = np.maximum(values, 0)
    largest = values.max(axis=1, keepdims=True)
    inverse = np.where(largest > 0, np.float32(63) / largest, 0)
    return largest[:, 0] / 63, np.minimum(np.rint(inverse * values), 63)


def _with_minimums(raw: np.ndarray, q: np.ndarray) -> np.ndarray:
    d, e = halves(raw[:, :4]).T[..., None]
    scales, minimums = _six_bits(raw[:, 4:16])
    weights = (d * scales)[..., None] * q.astype(np.float32) - (e * minimums)[..., None]
    return weights.reshape(-1, 256)


def _six_bits(packed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eight scales and eight minimums of six bits, out of 12 bytes: two float32 [N, 8].

    The first four of each have a byte of their own, whose upper bits hold those of the other four.
    """
    scales, minimums, rest = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    scales = np.hstack((scales & 63, rest & 15 | scales >> 6 << 4))
    minimums = np.hstack((minimums & 63, rest >> 4 | minimums >> 6 << 4))
    return scales.astype(np.float32), minimums.astype(np.float32)


def _packed_six_bits(scales: np.ndarray, minimums: np.ndarray) -> np.ndarray:
    first = scales[:, :4] | scales[:, 4:] >> 4 << 6
    second = minimums[:, :4] | minimums[:, 4:] >> 4 << 6
    return np.hstack((first, second, scales[:, 4:] & 15 | minimums[:, 4:] << 4))
