"""Q8_0, Q4_0, Q4_1, Q5_0, Q5_1 and IQ4_NL: blocks of 32 weights that share a scale in float16.

Key idea: a weight is d·q with a whole number q of 4, 5 or 8 bits, or d·q + m in the types that end in 1,
whose blocks also keep a minimum m. Of four-bit numbers, a byte holds the i-th and the (i + 16)-th; of
five-bit ones, the upper bits come first, 32 in 4 bytes.
Decoders take uint8 [N, bytes of a block] and give float32 [N, 32]. Encoders take float32 rows [R, W], and
how much each column matters ([W], or None for the plain rule), and give uint8 [N, bytes of a block].
Source: ggml (`ggml-quants.c`, quantize_row_…_ref without and quantize_row_…_impl with an importance).
"""

from __future__ import annotations

import numpy as np

from twofold.errors import UsageError
from twofold.models import scale_search

# The 16 values of the IQ4 types, which lie closer where weights do.
IQ4 = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.float32)


def halves(raw: np.ndarray) -> np.ndarray:
    """Bytes [N, 2n] as float16 -> float32 [N, n]."""
    return np.ascontiguousarray(raw).view("<f2").astype(np.float32)


def stored(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scales [N] as float16: their bytes [N, 2], and what these say in float32 [N, 1].

    Raises UsageError for scales that float16 cannot hold.
    """
    half = x.astype("<f2")[:, None]
    if not np.isfinite(half).all():
        raise UsageError(
            "Some weights are too large for a scale in float16, whose largest is 65504; take bf16 or f32."
        )
    return half.view(np.uint8), half.astype(np.float32)


def planes(raw: np.ndarray, bits: int, width: int) -> np.ndarray:
    """Numbers of `bits` bits: of `width` bytes the lowest bits first. uint8 [N, n·width] -> [N, n·8/bits, width]."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)[:, None]
    parts = raw.reshape(len(raw), -1, 1, width) >> shifts & np.uint8((1 << bits) - 1)
    return parts.reshape(len(raw), -1, width)


def joined(codes: np.ndarray, bits: int, width: int) -> np.ndarray:
    """The inverse of `planes`: uint8 [N, n·8/bits·width] -> [N, n·width]; numbers have no higher bits."""
    parts = codes.reshape(len(codes), -1, 8 // bits, width)
    out = parts[:, :, 0].copy()
    for place in range(1, 8 // bits):
        out |= parts[:, :, place] << np.uint8(place * bits)
    return out.reshape(len(codes), -1)


def decode_q8_0(raw: np.ndarray) -> np.ndarray:
    """d, 32 signed bytes."""
    return raw[:, 2:].view(np.int8) * halves(raw[:, :2])


def decode_q4_0(raw: np.ndarray) -> np.ndarray:
    """d, 16 bytes; q is 8 too high."""
    return halves(raw[:, :2]) * (planes(raw[:, 2:], 4, 16).reshape(-1, 32).astype(np.float32) - 8)


def decode_q4_1(raw: np.ndarray) -> np.ndarray:
    """d, m, 16 bytes."""
    d, m = halves(raw[:, :4]).T[..., None]
    return d * planes(raw[:, 4:], 4, 16).reshape(-1, 32).astype(np.float32) + m


def decode_q5_0(raw: np.ndarray) -> np.ndarray:
    """d, 4 bytes of upper bits, 16 of lower ones; q is 16 too high."""
    return halves(raw[:, :2]) * (_five_bits(raw[:, 2:]) - 16)


def decode_q5_1(raw: np.ndarray) -> np.ndarray:
    """d, m, 4 bytes of upper bits, 16 of lower ones."""
    d, m = halves(raw[:, :4]).T[..., None]
    return d * _five_bits(raw[:, 4:]) + m


def decode_iq4_nl(raw: np.ndarray) -> np.ndarray:
    """d, 16 bytes of places in the table `IQ4`."""
    return halves(raw[:, :2]) * IQ4[planes(raw[:, 2:], 4, 16).reshape(-1, 32)]


def _five_bits(raw: np.ndarray) -> np.ndarray:
    upper = np.unpackbits(raw[:, :4], axis=1, bitorder="little") << np.uint8(4)
    return (planes(raw[:, 4:], 4, 16).reshape(-1, 32) | upper).astype(np.float32)


def _packed_five_bits(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.packbits(codes >> 4, axis=1, bitorder="little"), joined(codes & 15, 4, 16)


def encode_q8_0(rows: np.ndarray, importance: np.ndarray | None) -> np.ndarray:
    """The largest weight becomes ±127, whatever matters most."""
    del importance
    blocks = rows.reshape(-1, 32)
    scale = np.abs(blocks).max(axis=1) / np.float32(127)
    scaled = blocks * _inverse(scale)
    size = np.abs(scaled)
    whole = np.floor(size)
    whole += size - whole >= 0.5  # round half away from zero, as C's roundf: np.round would go to even
    return np.hstack((stored(scale)[0], np.copysign(whole, scaled).astype(np.int8).view(np.uint8)))


def encode_q4_0(rows: np.ndarray, importance: np.ndarray | None) -> np.ndarray:
    """The weight of the largest size becomes -8, or what errs least."""
    scale, codes = _symmetric(rows, importance, 8)
    return np.hstack((scale, joined(codes, 4, 16)))


def encode_q5_0(rows: np.ndarray, importance: np.ndarray | None) -> np.ndarray:
    """The weight of the largest size becomes -16, or what errs least."""
    scale, codes = _symmetric(rows, importance, 16)
    return np.hstack((scale, *_packed_five_bits(codes)))


def encode_q4_1(rows: np.ndarray, importance: np.ndarray | None) -> np.ndarray:
    """The lowest weight becomes 0 and the highest 15, or what errs least."""
    scale, minimum, codes = _with_minimum(rows, importance, 15)
    return np.hstack((scale, minimum, joined(codes, 4, 16)))


def encode_q5_1(rows: np.ndarray, importance: np.ndarray | None) -> np.ndarray:
    """The lowest weight becomes 0 and the highest 31, or what errs least."""
    scale, minimum, codes = _with_minimum(rows, importance, 31)
    return np.hstack((scale, minimum, *_packed_five_bits(codes)))


def _symmetric(rows: np.ndarray, importance: np.ndarray | None, levels: int) -> tuple[np.ndarray, np.ndarray]:
    blocks = rows.reshape(-1, 32)
    if importance is None:
        scale = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=1)[:, None], axis=1)[:, 0] / -levels
        codes = np.trunc(blocks * _inverse(scale) + np.float32(levels + 0.5))
        codes = np.minimum(codes, 2 * levels - 1)
    else:
        scale, codes = scale_search.symmetric(blocks.T.copy(), _weights(rows, importance), levels)
        codes = codes.T
    return stored(scale)[0], codes.astype(np.uint8)


def _with_minimum(
    rows: np.ndarray, importance: np.ndarray | None, levels: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    blocks = rows.reshape(-1, 32)
    if importance is None:
        minimum = blocks.min(axis=1)
        scale = (blocks.max(axis=1) - minimum) / levels
        codes = np.trunc((blocks - minimum[:, None]) * _inverse(scale) + np.float32(0.5))
        codes = np.minimum(codes, levels)
    else:
        weights = _weights(rows, importance)
        scale, below, codes = scale_search.with_minimum(blocks.T.copy(), weights, levels, -0.9, 0.05, 36)
        minimum, codes = -below, codes.T
    return stored(scale)[0], stored(minimum)[0], codes.astype(np.uint8)


def _inverse(scale: np.ndarray) -> np.ndarray:
    """[N] -> 1 / scale, [N, 1]; 0 for a block of zeros, or one so small that its float16 scale is zero anyway."""
    inverse = 1 / scale[:, None]
    inverse[~np.isfinite(inverse)] = 0
    return inverse


def _weights(rows: np.ndarray, importance: np.ndarray) -> np.ndarray:
    """What the squared errors weigh, [32, N]: large weights more, by what is usual in their row."""
    squares = rows * rows
    usual = np.add.accumulate(squares, axis=1)[:, -1:] / np.float32(rows.shape[1])
    return (importance * np.sqrt(usual + squares)).reshape(-1, 32).T.copy()
