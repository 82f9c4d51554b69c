"""Encodings of weights, against the `gguf` package's and llama.cpp's own (which nobody here wrote)."""

import ctypes
from pathlib import Path

import gguf
import numpy as np
import pytest
import xllamacpp
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from twofold.errors import UsageError
from twofold.models.quantize import BLOCKS, TYPE_NAMES, WRITABLE, TensorType, dequantize, quantize, row_bytes

OF_PACKAGE = [t for t in WRITABLE if not t.name.endswith("_K")]  # what the gguf package can encode too
IN_BLOCKS = [t for t in WRITABLE if BLOCKS[t][0] > 1]

rows = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 4), st.integers(1, 3).map(lambda n: 32 * n)),
    elements=st.floats(-60000, 60000, width=32),
)


def theirs(type: TensorType) -> gguf.GGMLQuantizationType:
    return gguf.GGMLQuantizationType(int(type))


@pytest.fixture(scope="module")
def ggml():
    """The C library within the binding: (weights, type, importance or None) -> bytes."""
    [path] = Path(xllamacpp.__file__).parent.glob("*.so")
    library = ctypes.CDLL(str(path))
    if not hasattr(library, "quantize_q4_K"):
        pytest.skip("this build of llama.cpp hides its encoders")

    def encode(weights, type, importance):
        out = np.zeros((len(weights), row_bytes(type, weights.shape[1])), np.uint8)
        function = getattr(library, f"quantize_{type.name[:-1].lower()}{type.name[-1]}")
        function.restype = ctypes.c_size_t
        function.argtypes = [
            ctypes.c_void_p,
            ctypes.c_void_p,
            ctypes.c_int64,
            ctypes.c_int64,
            ctypes.c_void_p,
        ]
        matters = None if importance is None else importance.ctypes.data
        size = function(weights.ctypes.data, out.ctypes.data, *weights.shape, matters)
        assert size == out.size
        return out

    return encode


def shaped(kind: str) -> np.ndarray:
    """Weights as real ones are, and as none should be: float32 [24, 512]."""
    dice = np.random.default_rng(5)
    normal = dice.standard_normal((24, 512))
    groups = np.repeat(dice.standard_normal((24, 32)), 16, axis=1)
    weights = {
        "normal": 0.02 * normal,
        "heavy tails": 0.02 * dice.standard_t(3, normal.shape),
        "positive": dice.random(normal.shape),
        "negative": -dice.random(normal.shape),
        "mostly zeros": np.where(dice.random(normal.shape) < 0.9, 0, normal),
        "groups of zeros": np.where(groups < 0, 0, normal),
        "groups of other sizes": normal * np.exp(4 * groups) * 1e-3,
        "whole numbers": dice.integers(-8, 8, normal.shape),
        "one number": np.full(normal.shape, 0.3),
    }
    return weights[kind].astype(np.float32)


KINDS = ["normal", "heavy tails", "positive", "negative", "mostly zeros", "groups of zeros",
         "groups of other sizes", "whole numbers", "one number"]  # fmt: skip


@pytest.mark.parametrize("type", OF_PACKAGE)
@given(weights=rows)
def test_bytes_and_numbers_equal_the_gguf_package(type, weights):
    with np.errstate(all="ignore"):  # theirs divides by denormal scales
        expected = gguf.quants.quantize(weights, theirs(type))
    ours = quantize(weights, type)
    blocks = weights.reshape(-1, 32)
    tiny = np.ptp(np.hstack((blocks, -blocks)), axis=1) < 2 * 127 / np.finfo(np.float32).max
    tiny |= np.ptp(blocks, axis=1) < 127 / np.finfo(np.float32).max
    if type not in IN_BLOCKS or not tiny.any():
        np.testing.assert_array_equal(ours, expected.view(np.uint8))
    np.testing.assert_array_equal(dequantize(ours, type), gguf.quants.dequantize(ours, theirs(type)))


@pytest.mark.parametrize("scale", [1e-4, 0.02, 1.0, 1e4])
@pytest.mark.parametrize("type", OF_PACKAGE)
def test_a_large_matrix_equals_the_gguf_package(type, scale):
    weights = (np.random.default_rng(0).standard_normal((300, 256)) * scale).astype(np.float32)
    expected = gguf.quants.quantize(weights, theirs(type)).view(np.uint8)
    np.testing.assert_array_equal(quantize(weights, type), expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("matters", [False, True], ids=["plain", "importance"])
@pytest.mark.parametrize("type", IN_BLOCKS)
def test_bytes_equal_llama_cpps(type, matters, kind, ggml):
    weights = shaped(kind)
    importance = (np.random.default_rng(6).random(512) ** 4).astype(np.float32) if matters else None
    np.testing.assert_array_equal(quantize(weights, type, importance), ggml(weights, type, importance))


@pytest.mark.parametrize("matters", [False, True], ids=["plain", "importance"])
@pytest.mark.parametrize("type", IN_BLOCKS)
def test_a_block_does_not_depend_on_what_is_encoded_beside_it(type, matters):
    weights = shaped("heavy tails")[:, :256]
    importance = np.linspace(0, 1, 256, dtype=np.float32) if matters else None
    together = quantize(weights, type, importance)
    alone = np.vstack([quantize(row[None], type, importance) for row in weights])
    np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize("type", TensorType)
def test_any_bytes_decode_as_in_the_gguf_package(type):
    weights, size = BLOCKS[type]
    raw = np.random.default_rng(7).integers(0, 256, (70_000 // weights, size), dtype=np.uint8)
    with np.errstate(all="ignore"):
        expected = gguf.quants.dequantize(raw, theirs(type))
    np.testing.assert_array_equal(dequantize(raw, type), expected)  # NaN where a scale is
    assert dequantize(raw, type).dtype == np.float32


@pytest.mark.parametrize("kind", ["normal", "heavy tails", "positive"])
@pytest.mark.parametrize(("type", "levels"), [(TensorType.Q4_K, 15), (TensorType.Q5_K, 31)])
def test_the_search_errs_less_than_the_range_of_each_group(type, levels, kind):
    groups = shaped(kind).reshape(-1, 32)
    low, high = np.minimum(groups.min(1, keepdims=True), 0), groups.max(1, keepdims=True)
    scale = (high - low) / levels
    naive = np.rint((groups - low) / scale) * scale + low  # though these scales have all their bits
    ours = dequantize(quantize(groups.reshape(-1, 512), type), type).reshape(groups.shape)
    assert np.square(ours - groups).mean() < np.square(naive - groups).mean()


@pytest.mark.parametrize("type", [t for t in IN_BLOCKS if t is not TensorType.Q8_0])
def test_an_importance_lowers_the_error_that_it_weighs(type):
    dice = np.random.default_rng(8)
    weights, importance = shaped("heavy tails"), np.exp(2 * dice.standard_normal(512)).astype(np.float32)
    plain, weighed = (
        float((importance * np.square(dequantize(quantize(weights, type, i), type) - weights)).mean())
        for i in (None, importance)
    )
    assert weighed < 0.97 * plain


@pytest.mark.parametrize(
    ("type", "most"),
    [(TensorType.Q8_0, 0.006), (TensorType.Q6_K, 0.02), (TensorType.Q5_K, 0.04), (TensorType.Q5_1, 0.04),
     (TensorType.Q5_0, 0.045), (TensorType.Q4_K, 0.075), (TensorType.Q4_1, 0.08), (TensorType.Q4_0, 0.09)],
)  # fmt: skip
def test_the_error_of_normal_weights_is_what_the_bits_allow(type, most):
    weights = shaped("normal")
    error = dequantize(quantize(weights, type), type) - weights
    assert most / 2 < np.sqrt(np.square(error).mean() / np.square(weights).mean()) < most


def test_bf16_rounds_every_kind_of_number_as_ggml_does():
    bits = np.random.default_rng(1).integers(0, 2**32, 1 << 20, dtype=np.uint32)
    weights = bits.view(np.float32)
    weights = weights[np.isfinite(weights) & (np.abs(weights) < 3e38)][: 1 << 19].reshape(1, -1)
    expected = gguf.quants.quantize(weights, theirs(TensorType.BF16)).view(np.uint8)
    np.testing.assert_array_equal(quantize(weights, TensorType.BF16), expected)


def test_q8_0_rounds_halves_away_from_zero():
    weights = np.zeros((1, 32), np.float32)
    weights[0, :5] = [127, 0.5, -0.5, 1.5, -2.5]
    decoded = dequantize(quantize(weights, TensorType.Q8_0), TensorType.Q8_0)
    assert decoded[0, :5].tolist() == [127, 1, -1, 2, -3]


@pytest.mark.parametrize("smallest", [0.0, 1e-45, 1e-40, 1e-37, 1e-20, 1e-11])
@pytest.mark.parametrize("type", IN_BLOCKS)
def test_blocks_too_small_for_a_scale_become_zeros(type, smallest):
    weights = np.full((1, 256), smallest, np.float32)
    weights[0, ::3] *= -1
    for importance in (None, np.ones(256, np.float32)):
        assert not dequantize(quantize(weights, type, importance), type).any()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("type", WRITABLE)
def test_weights_that_are_not_finite_are_refused(type, bad):
    with pytest.raises(UsageError, match="NaN or infinity"):
        quantize(np.full((2, 256), bad, np.float32), type)


@pytest.mark.parametrize(
    ("type", "large"),
    [(TensorType.F16, 1e5), (TensorType.BF16, 3.4e38), *((type, 1e9) for type in IN_BLOCKS),
     *((type, 3e38) for type in IN_BLOCKS)],
)  # fmt: skip
def test_weights_too_large_for_the_type_are_refused(type, large):
    weights = np.full((2, 256), large, np.float32)
    weights[:, ::2] *= -1
    for importance in (None, np.ones(256, np.float32)):
        with pytest.raises(UsageError, match="largest"):
            quantize(weights, type, importance)


def test_rows_must_be_whole_blocks():
    with pytest.raises(UsageError, match="32 at a time"):
        quantize(np.zeros((2, 33), np.float32), TensorType.Q8_0)
    with pytest.raises(UsageError, match="256 at a time"):
        quantize(np.zeros((2, 128), np.float32), TensorType.Q4_K)


@pytest.mark.parametrize(
    "importance", [np.ones(31), np.ones((1, 32)), -np.ones(32), np.full(32, np.nan), np.full(32, np.inf)]
)
def test_an_importance_must_fit(importance):
    with pytest.raises(UsageError, match="importance"):
        quantize(np.ones((2, 32), np.float32), TensorType.Q4_0, importance)


def test_other_types_are_named_when_refused():
    with pytest.raises(UsageError, match="IQ2_XXS cannot be read"):
        dequantize(np.zeros((1, 66), np.uint8), 16)
    with pytest.raises(UsageError, match="Q2_K cannot be written"):
        quantize(np.zeros((1, 256), np.float32), TensorType.Q2_K)


def test_block_sizes_of_all_types_equal_ggmls():
    assert {int(t): sizes for t, sizes in gguf.GGML_QUANT_SIZES.items()} == BLOCKS
    assert {int(t): t.name for t in gguf.GGML_QUANT_SIZES} == TYPE_NAMES
    assert row_bytes(TensorType.Q8_0, 64) == 68
