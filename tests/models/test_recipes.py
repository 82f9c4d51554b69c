"""Which tensor gets which type: as in files that llama.cpp's own quantizer made."""

import pytest

from twofold.errors import UsageError
from twofold.models.quantize import WRITABLE, TensorType
from twofold.models.recipes import FILE_TYPES, RECIPES, check_recipe, fitting_type, wanted_type

T = TensorType
# Of 17 layers, those whose attn_v (or attn_qkv) and ffn_down its mixes keep better.
BETTER = {0, 1, 4, 7, 10, 13, 14, 15, 16}


def wanted(recipe, name, shape=(512, 256), *, tied=False, weighed=False, layers=17):
    return wanted_type(recipe, name, shape, layers=layers, tied=tied, weighed=weighed)


@pytest.mark.parametrize(("recipe", "base"), [("q4_k_m", T.Q4_K), ("q5_k_m", T.Q5_K)])
@pytest.mark.parametrize("stem", ["attn_v", "attn_qkv", "ffn_down"])
def test_mixes_keep_some_matrices_of_some_layers_better(recipe, base, stem):
    for layer in range(17):
        kind = T.Q6_K if layer in BETTER else base
        assert wanted(recipe, f"blk.{layer}.{stem}.weight") == kind
        assert wanted(recipe, f"blk.{layer}.attn_q.weight") == base
        assert wanted(recipe, f"blk.{layer}.ffn_up.weight") == base


def test_few_layers_are_counted_as_many_are():
    assert {i for i in range(3) if wanted("q4_k_m", f"blk.{i}.attn_v.weight", layers=3) == T.Q6_K} == {2}


@pytest.mark.parametrize("recipe", [r for r in RECIPES if r.startswith("q") and r != "q8_0"])
def test_the_output_and_a_tied_embedding_are_kept_well(recipe):
    assert wanted(recipe, "output.weight") == T.Q6_K
    assert wanted(recipe, "token_embd.weight", tied=True) == T.Q6_K
    assert wanted(recipe, "token_embd.weight") == wanted(recipe, "blk.3.attn_q.weight")
    assert fitting_type(wanted(recipe, "output.weight", (512, 96)), 96) == T.Q8_0


@pytest.mark.parametrize("recipe", RECIPES)
def test_norms_biases_and_positions_stay_as_they_are(recipe):
    for name, shape in (
        ("blk.0.attn_norm.weight", (256,)),
        ("blk.0.attn_q.bias", (256,)),
        ("output_norm.weight", (256,)),
        ("position_embd.weight", (1024, 256)),
    ):
        assert wanted(recipe, name, shape) == T.F32


def test_with_an_importance_the_first_layers_of_the_plain_types_get_a_minimum():
    for recipe, base, safer in (("q4_0", T.Q4_0, T.Q4_1), ("q5_0", T.Q5_0, T.Q5_1)):
        found = [wanted(recipe, f"blk.{i}.ffn_down.weight", weighed=True) for i in range(17)]
        assert found == [safer] * 2 + [base] * 15
        assert wanted(recipe, "blk.0.ffn_down.weight") == base
        assert wanted(recipe, "blk.0.attn_v.weight", weighed=True) == base


@pytest.mark.parametrize(
    ("kind", "width", "taken"),
    [(T.Q4_K, 256, T.Q4_K), (T.Q4_K, 96, T.Q5_0), (T.Q5_K, 96, T.Q5_1), (T.Q6_K, 96, T.Q8_0), (T.Q4_K, 100, T.F16),
     (T.Q8_0, 100, T.F16), (T.Q4_0, 96, T.Q4_0), (T.F32, 7, T.F32), (T.BF16, 7, T.BF16)],
)  # fmt: skip
def test_rows_that_are_no_whole_blocks_take_the_next_type(kind, width, taken):
    assert fitting_type(kind, width) == taken


def test_every_recipe_has_a_number_and_can_be_written():
    assert set(FILE_TYPES) == set(RECIPES)
    for recipe in RECIPES:
        check_recipe(recipe)
        assert wanted(recipe, "blk.3.attn_q.weight") in WRITABLE
    with pytest.raises(UsageError, match="q4_k_m"):
        check_recipe("q2_k")
