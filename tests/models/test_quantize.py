"""Encodings of weights, against the `gguf` package's own (which nobody here wrote)."""

import gguf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from twofold.errors import UsageError
from twofold.models.quantize import BLOCKS, TYPE_NAMES, TensorType, dequantize, quantize, row_bytes

rows = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 4), st.integers(1, 3).map(lambda n: 32 * n)),
    elements=st.floats(-60000, 60000, width=32),
)


def theirs(type: TensorType) -> gguf.GGMLQuantizationType:
    return gguf.GGMLQuantizationType(int(type))


@pytest.mark.parametrize("type", TensorType)
@given(weights=rows)
def test_bytes_and_numbers_equal_the_gguf_package(type, weights):
    with np.errstate(all="ignore"):  # theirs divides by denormal scales
        expected = gguf.quants.quantize(weights, theirs(type))
    ours = quantize(weights, type)
    tiny = np.abs(weights).reshape(-1, 32).max(1) < 127 / np.finfo(np.float32).max
    if type is not TensorType.Q8_0 or not tiny.any():
        np.testing.assert_array_equal(ours, expected.view(np.uint8))
    np.testing.assert_array_equal(dequantize(ours, type), gguf.quants.dequantize(ours, theirs(type)))


@pytest.mark.parametrize("scale", [1e-4, 0.02, 1.0, 1e4])
@pytest.mark.parametrize("type", TensorType)
def test_a_large_matrix_equals_the_gguf_package(type, scale):
    weights = (np.random.default_rng(0).standard_normal((300, 256)) * scale).astype(np.float32)
    expected = gguf.quants.quantize(weights, theirs(type)).view(np.uint8)
    np.testing.assert_array_equal(quantize(weights, type), expected)


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


@pytest.mark.parametrize("smallest", [0.0, 1e-45, 1e-40, 1e-9])
def test_blocks_too_small_for_a_scale_become_zeros(smallest):
    weights = np.full((1, 32), smallest, np.float32)
    assert not dequantize(quantize(weights, TensorType.Q8_0), TensorType.Q8_0).any()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("type", TensorType)
def test_weights_that_are_not_finite_are_refused(type, bad):
    with pytest.raises(UsageError, match="NaN or infinity"):
        quantize(np.full((2, 32), bad, np.float32), type)


@pytest.mark.parametrize(
    ("type", "large"), [(TensorType.F16, 1e5), (TensorType.Q8_0, 1e8), (TensorType.BF16, 3.4e38)]
)
def test_weights_too_large_for_the_type_are_refused(type, large):
    with pytest.raises(UsageError, match="largest"):
        quantize(np.full((2, 32), large, np.float32), type)


def test_rows_must_be_whole_blocks():
    with pytest.raises(UsageError, match="32 at a time"):
        quantize(np.zeros((2, 33), np.float32), TensorType.Q8_0)


def test_other_types_are_named_when_refused():
    with pytest.raises(UsageError, match="Q4_K"):
        dequantize(np.zeros((1, 144), np.uint8), 12)


def test_block_sizes_of_all_types_equal_ggmls():
    assert {int(t): sizes for t, sizes in gguf.GGML_QUANT_SIZES.items()} == BLOCKS
    assert {int(t): t.name for t in gguf.GGML_QUANT_SIZES} == TYPE_NAMES
    assert row_bytes(TensorType.Q8_0, 64) == 68
