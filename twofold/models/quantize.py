"""Float32 ⇄ the tensor encodings of a GGUF file, rounded exactly as ggml rounds.

Three kinds: plain numbers (F32, F16, and BF16, which is the upper half of a float32), blocks of 32 weights
with a scale (`small_blocks.py`), and blocks of 256 with scales of scales (`k_quants.py`). What a weight costs,
in bits: Q8_0 8.5, Q6_K 6.6, Q5_1 6, Q5_0 and Q5_K 5.5, Q4_1 5, Q4_0 and Q4_K 4.5.
Source: ggml (`ggml-quants.c`; `ggml-impl.h`, ggml_compute_fp32_to_bf16).
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from twofold.errors import UsageError
from twofold.models import k_quants, small_blocks

AT_ONCE = 1 << 17  # weights converted in one go, so that the temporary arrays stay in the processor's cache


class TensorType(IntEnum):
    """How a tensor's numbers are stored, of the ways we read; the values are ggml's, as in a GGUF file."""

    F32 = 0
    F16 = 1
    Q4_0 = 2
    Q4_1 = 3
    Q5_0 = 6
    Q5_1 = 7
    Q8_0 = 8
    Q2_K = 10
    Q3_K = 11
    Q4_K = 12
    Q5_K = 13
    Q6_K = 14
    IQ4_NL = 20
    IQ4_XS = 23
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


def quantize(weights: np.ndarray, type: int, importance: np.ndarray | None = None) -> np.ndarray:
    """Encode float32 weights [..., width] as uint8 [..., bytes of a row].

    `importance` [width] says how much an error in each column matters (the mean square of what is multiplied
    with it); scales are then sought for that. Raises UsageError for a type that is only read, and for weights
    that are not finite or too large for the encoding.
    """
    if type not in _ENCODE:
        raise UsageError(f"{_name(type)} cannot be written; {', '.join(t.name for t in WRITABLE)} can.")
    weights = np.ascontiguousarray(weights, dtype=np.float32)
    rows = weights.reshape(-1, weights.shape[-1])
    out = np.empty((len(rows), row_bytes(type, rows.shape[1])), dtype=np.uint8)
    if importance is not None:
        importance = np.ascontiguousarray(importance, dtype=np.float32)
        if (
            importance.shape != rows.shape[1:]
            or not (importance >= 0).all()
            or not np.isfinite(importance).all()
        ):
            raise UsageError(f"An importance must be {rows.shape[1]:,} numbers of at least 0.")
    step = max(1, AT_ONCE // rows.shape[1])
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        if not np.isfinite(part).all():
            raise UsageError("The weights hold NaN or infinity; a model must be finite to be exported.")
        with np.errstate(all="ignore"):  # what comes of it is looked at
            out[start : start + step] = _ENCODE[type](part, importance).reshape(len(part), -1)
    return out.reshape(*weights.shape[:-1], -1)


def dequantize(raw: np.ndarray, type: int) -> np.ndarray:
    """Decode uint8 [..., bytes of a row] to a fresh float32 [..., width].

    Raises UsageError for types other than TensorType's.
    """
    if type not in _DECODE:
        raise UsageError(f"{_name(type)} cannot be read; {', '.join(t.name for t in TensorType)} can.")
    weights, size = BLOCKS[type]
    blocks = np.ascontiguousarray(raw).reshape(-1, size)
    out = np.empty((len(blocks), weights), dtype=np.float32)
    step = AT_ONCE // weights
    with np.errstate(all="ignore"):  # a damaged scale, infinite, times 0
        for start in range(0, len(blocks), step):
            out[start : start + step] = _DECODE[type](blocks[start : start + step])
    return out.reshape(*raw.shape[:-1], raw.shape[-1] // size * weights)


def _name(type: int) -> str:
    return f"Tensors of type {TYPE_NAMES.get(type, type)}"


def _encode_f32(rows: np.ndarray, importance: np.ndarray | None) -> np.ndarray:
    return rows.astype("<f4").view(np.uint8)


def _encode_f16(rows: np.ndarray, importance: np.ndarray | None) -> np.ndarray:
    half = rows.astype("<f2")  # to the nearest, ties to even
    if not np.isfinite(half).all():
        raise UsageError("Some weights exceed 65504, the largest f16; take bf16 or f32 instead.")
    return half.view(np.uint8)


def _encode_bf16(rows: np.ndarray, importance: np.ndarray | None) -> np.ndarray:
    bits = rows.astype("<f4").view("<u4")
    bits = bits + (0x7FFF + ((bits >> 16) & 1))  # to the nearest, ties to even; finite, so no overflow
    half = (bits >> 16).astype("<u2")
    if (half & 0x7FFF == 0x7F80).any():
        raise UsageError("Some weights exceed 3.39e38, the largest bf16; take f32 instead.")
    return half.view(np.uint8)


def _decode_f32(blocks: np.ndarray) -> np.ndarray:
    return blocks.view("<f4")


def _decode_f16(blocks: np.ndarray) -> np.ndarray:
    return blocks.view("<f2")


def _decode_bf16(blocks: np.ndarray) -> np.ndarray:
    return (blocks.view("<u2").astype("<u4") << 16).view("<f4")


_ENCODE = {
    TensorType.F32: _encode_f32,
    TensorType.F16: _encode_f16,
    TensorType.BF16: _encode_bf16,
    TensorType.Q8_0: small_blocks.encode_q8_0,
    TensorType.Q4_0: small_blocks.encode_q4_0,
    TensorType.Q4_1: small_blocks.encode_q4_1,
    TensorType.Q5_0: small_blocks.encode_q5_0,
    TensorType.Q5_1: small_blocks.encode_q5_1,
    TensorType.Q4_K: k_quants.encode_q4_k,
    TensorType.Q5_K: k_quants.encode_q5_k,
    TensorType.Q6_K: k_quants.encode_q6_k,
}
_DECODE = {
    TensorType.F32: _decode_f32,
    TensorType.F16: _decode_f16,
    TensorType.BF16: _decode_bf16,
    TensorType.Q8_0: small_blocks.decode_q8_0,
    TensorType.Q4_0: small_blocks.decode_q4_0,
    TensorType.Q4_1: small_blocks.decode_q4_1,
    TensorType.Q5_0: small_blocks.decode_q5_0,
    TensorType.Q5_1: small_blocks.decode_q5_1,
    TensorType.Q2_K: k_quants.decode_q2_k,
    TensorType.Q3_K: k_quants.decode_q3_k,
    TensorType.Q4_K: k_quants.decode_q4_k,
    TensorType.Q5_K: k_quants.decode_q5_k,
    TensorType.Q6_K: k_quants.decode_q6_k,
    TensorType.IQ4_NL: small_blocks.decode_iq4_nl,
    TensorType.IQ4_XS: k_quants.decode_iq4_xs,
}
WRITABLE = tuple(_ENCODE)  # the types that `quantize` makes
