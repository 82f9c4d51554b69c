"""What is found by a few small products holds for others."""

import pytest
import torch
from torch.nn import functional as F

from twofold.models.invariance import BLOCK, VECTOR, Shapes, attention_shapes, product_rows, same_bits

if not torch.backends.mkl.is_available():
    pytest.skip("promised where torch uses MKL", allow_module_level=True)


@pytest.fixture(autouse=True, params=[1, 2], ids="{} threads".format)
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("inner", [32, 96, 200, 512, 768])
@pytest.mark.parametrize("outer", [48, 320, 1000])
def test_products_of_that_many_rows_are_alike(inner, outer):
    x, w = torch.randn(512, inner), torch.randn(outer, inner)
    assert same_bits(w)
    multiple, whole = product_rows(w), F.linear(x, w)
    for rows in {multiple, 2 * multiple, 3 * multiple, 64, 96, 288}:
        some = F.linear(x[-rows:].clone(), w)
        assert torch.equal(some, whole[-rows:])


@pytest.mark.parametrize("width", [16, 48, 64, 128])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_attention_in_those_shapes_is_alike(width, dtype):
    """Against queries among others, with more keys behind a mask."""
    if dtype == torch.bfloat16 and not same_bits(torch.zeros(1, dtype=dtype)):
        pytest.skip("nothing is promised where bfloat16 is multiplied in tiles")
    q, k, v = (torch.randn(2, 4, rows, width).to(dtype) for rows in (32, 3 * BLOCK, 3 * BLOCK))
    shapes = attention_shapes(k, width, False)

    def attend(rows, keys, seen):
        mask = torch.zeros(rows, keys, dtype=dtype)
        mask[:, seen:] = float("-inf")
        return F.scaled_dot_product_attention(q[:, :, -rows:], k[:, :, :keys], v[:, :, :keys], attn_mask=mask)

    for seen in (1, 30, 190, 200, 270, 300, 385, 400, 450, 512, 513, 600, 720, 900, 1024):
        whole = attend(32, 3 * BLOCK, seen)
        for rows in (shapes.rows, 2 * shapes.rows):
            some = attend(min(rows, 32), shapes.padded_keys(seen), seen)
            assert torch.equal(some, whole[:, :, -some.shape[2] :])


def test_keys_are_padded_to_the_next_size_that_is_alike():
    shapes = Shapes(4, (16, 32, 64, BLOCK))
    found = [shapes.padded_keys(count) for count in (1, 16, 17, 33, 65, 512, 513, 577, 1024)]
    assert found == [16, 16, 32, 64, 512, 512, 528, 1024, 1024]


def test_every_size_has_one_above():
    for width in (16, 64):
        for capped in (False, True):
            shapes = attention_shapes(torch.zeros(1), width, capped)
            reached = max(shapes.padded_keys(count) - count for count in range(1, BLOCK))
            assert shapes.reach == reached
            for count in range(1, 2 * BLOCK + 1):
                padded = shapes.padded_keys(count)
                assert count <= padded <= -(-count // BLOCK) * BLOCK
                assert padded % VECTOR == 0


def test_elsewhere_nothing_is_tried():
    like = torch.zeros(1, device="meta")
    assert (product_rows(like), same_bits(like)) == (4, False)
    assert attention_shapes(like, 64, False).padded_keys(300) == 304
