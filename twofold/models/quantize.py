"""Float32 ⇄ the four tensor encodings we write: F32, F16, BF16 and Q8_0, rounded exactly as ggml rounds.

Q8_0 is 8.5 bits a weight: a row is cut into blocks of 32, and a block keeps one float16 scale
d = max|x| / 127 and 32 whole numbers q = round(x / d), so that x ≈ d·q. BF16 is the upper half of a float32.
Source: ggml (`ggml-quants.c`, quantize_row_q8_0_ref; `ggml-impl.h`, ggml_compute_fp32_to_bf16).
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from twofold.errors import UsageError

ROWS_AT_ONCE = 1 << 22  # weights converted in one go: bounds the temporary arrays to some tens of MB


class TensorType(IntEnum):
    """How a tensor's numbers are stored; the values are ggml's, as they stand in a GGUF file."""

    F32 = 0
    F16 = 1
    Q8_0 = 8
    BF16 = 30


# (weights, bytes) of one block. Files of other types are recognised and measured, but not converted.
BLOCKS: dict[int, tuple[int, int]] = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 40),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292),
    16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110),
    22: (256, 82), 23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8),
    29: (256, 56), 30: (1, 2), 34: (256, 54), 35: (256, 66), 39: (32, 17), 40: (64, 36), 41: (128, 18),
}  # fmt: skip
TYPE_NAMES: dict[int, str] = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 9: "Q8_1", 10: "Q2_K",
    11: "Q3_K", 12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS",
    18: "IQ3_XXS", 19: "IQ1_S", 20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS", 24: "I8",
    25: "I16", 26: "I32", 27: "I64", 28: "F64", 29: "IQ1_M", 30: "BF16", 34: "TQ1_0", 35: "TQ2_0",
    39: "MXFP4", 40: "NVFP4", 41: "Q1_0",
}  # fmt: skip


def row_bytes(type: int, width: int) -> int:
    """Bytes of a row of `width` weights. Raises UsageError where a row is not whole blocks."""
    weights, size = BLOCKS[type]
    if width % weights:
        raise UsageError(
            f"Rows of {width} weights cannot be {TYPE_NAMES[type]}: it takes {weights} at a time."
        )
    return width // weights * size


def quantize(weights: np.ndarray, type: TensorType) -> np.ndarray:
    """Encode float32 weights [..., width] as uint8 [..., bytes of a row].

    Raises UsageError for weights that are not finite, or too large for the encoding.
    """
    weights = np.ascontiguousarray(weights, dtype=np.float32)
    rows = weights.reshape(-1, weights.shape[-1])
    out = np.empty((len(rows), row_bytes(type, rows.shape[1])), dtype=np.uint8)
    step = max(1, ROWS_AT_ONCE // rows.shape[1])
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        if not np.isfinite(part).all():
            raise UsageError("The weights hold NaN or infinity; a model must be finite to be exported.")
        out[start : start + step] = _ENCODE[type](part)
    return out.reshape(*weights.shape[:-1], -1)


def dequantize(raw: np.ndarray, type: int) -> np.ndarray:
    """Decode uint8 [..., bytes of a row] to a fresh float32 [..., width].

    Raises UsageError for types other than TensorType's.
    """
    if type not in _DECODE:
        raise UsageError(
            f"Tensors of type {TYPE_NAMES.get(type, type)} cannot be decoded; "
            f"{', '.join(t.name for t in TensorType)} can."
        )
    rows = np.ascontiguousarray(raw).reshape(-1, raw.shape[-1])
    weights, size = BLOCKS[type]
    out = np.empty((len(rows), rows.shape[1] // size * weights), dtype=np.float32)
    step = max(1, ROWS_AT_ONCE // max(1, out.shape[1]))
    for start in range(0, len(rows), step):
        out[start : start + step] = _DECODE[type](rows[start : start + step])
    return out.reshape(*raw.shape[:-1], -1)


def _encode_f32(rows: np.ndarray) -> np.ndarray:
    return rows.astype("<f4").view(np.uint8)


def _encode_f16(rows: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        half = rows.astype("<f2")  # to the nearest, ties to even
    if not np.isfinite(half).all():
        raise UsageError("Some weights exceed 65504, the largest f16; export as bf16 or f32 instead.")
    return half.view(np.uint8)


def _encode_bf16(rows: np.ndarray) -> np.ndarray:
    bits = rows.astype("<f4").view("<u4")
    bits = bits + (0x7FFF + ((bits >> 16) & 1))  # to the nearest, ties to even; finite, so no overflow
    half = (bits >> 16).astype("<u2")
    if (half & 0x7FFF == 0x7F80).any():
        raise UsageError("Some weights exceed 3.39e38, the largest bf16; export as f32 instead.")
    return half.view(np.uint8)


def _encode_q8_0(rows: np.ndarray) -> np.ndarray:
    blocks = rows.reshape(-1, 32)
    scale = np.abs(blocks).max(axis=1, keepdims=True) / np.float32(127)
    with np.errstate(divide="ignore", over="ignore"):
        inverse = np.float32(1) / scale
        half = scale.astype("<f2")
    if not np.isfinite(half).all():
        raise UsageError("Some weights exceed 8.3e6, the largest q8_0; export as bf16 or f32 instead.")
    inverse[~np.isfinite(inverse)] = 0  # a block of zeros, or so small that its float16 scale is zero anyway
    scaled = blocks * inverse
    size = np.abs(scaled)
    whole = np.floor(size)
    whole += size - whole >= 0.5  # round half away from zero, as C's roundf: np.round would go to even
    out = np.empty((len(blocks), 34), dtype=np.uint8)
    out[:, :2] = half.view(np.uint8)
    out[:, 2:] = np.copysign(whole, scaled).astype(np.int8).view(np.uint8)
    return out.reshape(len(rows), -1)


def _decode_f32(rows: np.ndarray) -> np.ndarray:
    return rows.view("<f4")


def _decode_f16(rows: np.ndarray) -> np.ndarray:
    return rows.view("<f2")


def _decode_bf16(rows: np.ndarray) -> np.ndarray:
    return (rows.view("<u2").astype("<u4") << 16).view("<f4")


def _decode_q8_0(rows: np.ndarray) -> np.ndarray:
    blocks = rows.reshape(-1, 34)
    scale = blocks[:, :2].copy().view("<f2").astype(np.float32)
    with np.errstate(invalid="ignore"):  # a damaged scale, infinite, times 0
        return (blocks[:, 2:].view(np.int8) * scale).reshape(len(rows), -1)


_ENCODE = {
    TensorType.F32: _encode_f32,
    TensorType.F16: _encode_f16,
    TensorType.BF16: _encode_bf16,
    TensorType.Q8_0: _encode_q8_0,
}
_DECODE = {
    TensorType.F32: _decode_f32,
    TensorType.F16: _decode_f16,
    TensorType.BF16: _decode_bf16,
    TensorType.Q8_0: _decode_q8_0,
}
