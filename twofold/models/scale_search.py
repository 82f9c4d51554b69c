"""The best scale for a few weights that become small whole numbers: many blocks side by side.

Key idea: for given whole numbers q, the scale (and minimum) of least weighted squared error follows from a
2×2 system; so one tries a few scales near the obvious one, rounds, solves, and keeps what errs least.
Arrays are [n, N]: n weights of a block, N blocks; sums run over n one after another in float32, so that a
block's bytes depend on nothing beside it and are those of ggml's C code.
Source: ggml (`ggml-quants.c`, make_qkx2_quants, make_qkx3_quants, make_qx_quants, make_qp_quants).
"""

from __future__ import annotations

import numpy as np

NOTHING = np.float32(1e-15)  # a block whose weights are all smaller is one of zeros
_FLAT = np.float32(1e-36)  # a range that has no inverse
_STEP = np.float32(0.1)


def total(x: np.ndarray) -> np.ndarray:
    """[n, N] -> [N], added in order (NumPy adds a single column in another order)."""
    return np.add.reduce(x, axis=0) if x.shape[1] > 1 else np.add.accumulate(x, axis=0)[-1]


def rounded(x: np.ndarray, scale: np.ndarray, low: int, high: int, out: np.ndarray) -> np.ndarray:
    """x · scale to the nearest whole number (ties to even) from low to high, as float32, into `out`."""
    np.multiply(x, scale, out=out)
    np.rint(out, out=out)
    np.maximum(out, np.float32(low), out=out)
    return np.minimum(out, np.float32(high), out=out)


def with_minimum(
    x: np.ndarray, weights: np.ndarray, levels: int, first: float, step: float, steps: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(scale [N], below [N], q [n, N]) so that x ≈ scale·q - below; q from 0 to `levels`, below ≥ 0.

    `weights` weigh the squared errors. Scales tried: (levels + first + k·step) / range for k = 0 … steps.
    """
    low, top = np.minimum(x.min(axis=0), 0), x.max(axis=0)
    flat = top - low < _FLAT
    q, error, weighted = np.empty_like(x), np.empty_like(x), np.empty_like(x)
    weighted_x = weights * x
    sum_w, sum_x = total(weights), total(weighted_x)

    def err(scale: np.ndarray, low: np.ndarray) -> np.ndarray:
        np.multiply(q, scale, out=error)
        np.add(error, low, out=error)
        np.subtract(error, x, out=error)
        np.multiply(error, error, out=error)
        np.multiply(error, weights, out=error)
        return total(error)

    def round_from(low: np.ndarray, inverse: np.ndarray) -> None:
        np.subtract(x, low, out=q)
        rounded(q, inverse, 0, levels, out=q)

    inverse = np.float32(levels) / (top - low)
    scale = 1 / inverse
    round_from(low, inverse)
    least = err(scale, low)
    used, used_low = inverse, low  # what the best q came from
    for k in range(steps + 1):
        inverse = (np.float32(first) + np.float32(step) * np.float32(k) + np.float32(levels)) / (top - low)
        round_from(low, inverse)
        np.multiply(weights, q, out=weighted)
        sum_q = total(weighted)
        sum_xq = total(np.multiply(weighted, x, out=error))
        sum_q2 = total(np.multiply(weighted, q, out=error))
        determinant = sum_w * sum_q2 - sum_q * sum_q
        new_scale = (sum_w * sum_xq - sum_x * sum_q) / determinant
        new_low = (sum_q2 * sum_x - sum_q * sum_xq) / determinant
        above = new_low > 0
        new_low = np.where(above, 0, new_low)
        new_scale = np.where(above, sum_xq / sum_q2, new_scale)
        new = err(new_scale, new_low)
        better = (determinant > 0) & (new < least)
        used, used_low = np.where(better, inverse, used), np.where(better, low, used_low)
        least, scale = np.where(better, new, least), np.where(better, new_scale, scale)
        low = np.where(better, new_low, low)
    round_from(used_low, used)
    q[:, flat], scale[flat] = 0, 0
    return scale, -low, q


def symmetric(x: np.ndarray, weights: np.ndarray, levels: int) -> tuple[np.ndarray, np.ndarray]:
    """(scale [N], codes [n, N]) so that x ≈ scale·(code - levels); codes from 0 to 2·levels - 1.

    `weights` weigh the squared errors. The largest weight is tried at -levels ± 0.9, in steps of 0.1.
    """
    largest = np.take_along_axis(x, np.abs(x).argmax(axis=0)[None], axis=0)[0]
    nothing = np.abs(largest) < NOTHING
    weighted_x = weights * x
    q, product = np.empty_like(x), np.empty_like(x)

    def tried(inverse: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rounded(x, inverse, -levels, levels - 1, out=q)
        sum_xq = total(np.multiply(weighted_x, q, out=product))
        np.multiply(weights, q, out=product)
        return sum_xq, total(np.multiply(product, q, out=product))

    used = np.float32(-levels) / largest
    sum_xq, sum_q2 = tried(used)
    scale = np.where(sum_q2 != 0, sum_xq / sum_q2, 0)
    best = scale * sum_xq
    for k in (*range(-9, 0), *range(1, 10)):
        inverse = -(np.float32(levels) + _STEP * np.float32(k)) / largest
        sum_xq, sum_q2 = tried(inverse)
        better = (sum_q2 > 0) & (sum_xq * sum_xq > best * sum_q2)
        used, scale = np.where(better, inverse, used), np.where(better, sum_xq / sum_q2, scale)
        best = np.where(better, scale * sum_xq, best)
    codes = rounded(x, used, -levels, levels - 1, out=q)
    codes += np.float32(levels)
    codes[:, nothing], scale[nothing] = 0, 0
    return scale, codes


def positive(x: np.ndarray, weights: np.ndarray, levels: int) -> tuple[np.ndarray, np.ndarray]:
    """(scale [N], q [n, N]) so that x ≈ scale·q; q from 0 to `levels`, and so for x ≥ 0 only.

    `weights` weigh the squared errors. After a scale is found, each q in turn takes what is best for it.
    """
    x = np.maximum(x, 0)
    largest = x.max(axis=0)
    nothing = largest < NOTHING
    q = np.empty_like(x)

    def err(inverse: np.ndarray) -> np.ndarray:
        difference = x - 1 / inverse * np.minimum(np.rint(x * inverse), np.float32(levels))
        return total(weights * difference * difference)

    used = np.float32(levels) / largest
    least = err(used)
    for k in (*range(-4, 0), *range(1, 5)):
        inverse = (_STEP * np.float32(k) + np.float32(levels)) / largest
        new = err(inverse)
        better = new < least
        used, least = np.where(better, inverse, used), np.where(better, new, least)
    np.minimum(np.rint(x * used), np.float32(levels), out=q)
    weighted_x = weights * x
    sum_xq, sum_q2 = total(weighted_x * q), total(weights * q * q)
    for _ in range(5):
        changed = False
        for i in range(len(x)):
            others_xq = sum_xq - weighted_x[i] * q[i]
            others_q2 = sum_q2 - weights[i] * q[i] * q[i]
            new = np.minimum(np.rint(x[i] * others_q2 / others_xq), np.float32(levels))
            new_xq, new_q2 = others_xq + weighted_x[i] * new, others_q2 + weights[i] * new * new
            better = (others_xq > 0) & (others_q2 > 0) & (new != q[i])
            better &= new_xq * new_xq * sum_q2 > sum_xq * sum_xq * new_q2
            q[i] = np.where(better, new, q[i])
            sum_xq, sum_q2 = np.where(better, new_xq, sum_xq), np.where(better, new_q2, sum_q2)
            changed |= better.any()
        if not changed:
            break
    scale = np.where(sum_q2 > 0, sum_xq / sum_q2, 0)
    q[:, nothing], scale[nothing] = 0, 0
    return scale, q
