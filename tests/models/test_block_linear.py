"""A matrix in blocks is the matrix that the blocks decode to, forwards and backwards."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from twofold.models.block_linear import DECODERS, BlockLinear
from twofold.models.quantize import WRITABLE, TensorType, dequantize, quantize

PLAIN = {TensorType.F32, TensorType.F16, TensorType.BF16}


def test_every_block_that_is_written_is_decoded():
    assert DECODERS.keys() == set(WRITABLE) - PLAIN


@pytest.mark.parametrize("kind", DECODERS)
def test_the_decoded_weights_are_those_of_numpy_to_the_bit(kind):
    rng = np.random.default_rng(kind)
    weights = rng.normal(size=(9, 512)).astype(np.float32) * rng.choice([1e-4, 1, 100], size=(9, 1))
    raw = quantize(weights, kind)
    raw[4:] = rng.integers(0, 256, raw[4:].shape, dtype=np.uint8)  # any bytes
    found = BlockLinear(torch.from_numpy(raw), kind, None).weight.numpy()
    expected = dequantize(raw, kind)
    assert np.array_equal(found, expected, equal_nan=True)


@pytest.mark.parametrize("kind", DECODERS)
@pytest.mark.parametrize("autocast", [False, True])
def test_products_and_gradients_are_those_of_the_decoded_matrix(kind, autocast):
    torch.manual_seed(0)
    raw = torch.from_numpy(quantize(torch.randn(40, 256).numpy(), kind))
    layer = BlockLinear(raw, kind, torch.nn.Parameter(torch.randn(40)))
    assert (layer.in_features, layer.out_features) == (256, 40)
    x, plain = (
        torch.randn(3, 5, 256, generator=torch.Generator().manual_seed(1)).requires_grad_() for _ in "ab"
    )
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        y = layer(x)
        expected = F.linear(plain, layer.weight, layer.bias)
    assert y.dtype == expected.dtype == (torch.bfloat16 if autocast else torch.float32)
    close = {"atol": 1e-1, "rtol": 2e-2} if autocast else {"atol": 1e-4}
    assert torch.allclose(y, expected, **close)
    y.float().square().sum().backward()
    expected.float().square().sum().backward()
    scale = float(plain.grad.abs().max())
    assert torch.allclose(x.grad, plain.grad, atol=scale * (2e-2 if autocast else 1e-5))
