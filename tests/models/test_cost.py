"""What using a model costs: against tensors that are really made, operations that torch really counts, and sums
written out."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from twofold.models.config import TransformerConfig
from twofold.models.cost import (
    BITS,
    Rates,
    Shape,
    decode_flops,
    key_value_bytes,
    predict,
    prefill_flops,
    weight_bytes,
    working_bytes,
)
from twofold.models.torch_model import KeyValueMemory
from twofold.models.transformer import Transformer

SIZES = dict(
    vocab_size=96, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, head_dim=16,
    intermediate_size=48, max_position_embeddings=512,
)  # fmt: skip
GROUPED = TransformerConfig(**SIZES)
UNTIED = TransformerConfig(**SIZES | {"tie_word_embeddings": False, "num_key_value_heads": 4})
SLIDING = TransformerConfig(**SIZES, model_type="mistral", sliding_window=10)
ALTERNATING = TransformerConfig(
    **SIZES, model_type="gemma2", sliding_window=10, query_pre_attn_scalar=16, attn_logit_softcapping=50.0,
    final_logit_softcapping=30.0,
    layer_types=("sliding_attention", "full_attention", "sliding_attention"),
)  # fmt: skip
CONFIGS = {"grouped": GROUPED, "untied": UNTIED, "sliding": SLIDING, "alternating": ALTERNATING}
every_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


@every_config
def test_weights_take_the_bytes_that_torch_gives_them(config):
    model = Transformer(config)
    for recipe, dtype in (("f32", torch.float32), ("bf16", torch.bfloat16)):
        held = sum(p.numel() * p.element_size() for p in model.to(dtype).parameters())
        assert weight_bytes(config.parameters_by_part(), recipe) == held


def test_quantized_weights_keep_their_vectors_in_float32():
    parts = {"attention": 3200, "norms": 10, "biases": 6, "embedding": 320}
    assert weight_bytes(parts, "q8_0") == 3520 * 34 // 32 + 4 * 16
    assert weight_bytes(parts, "q4_0") == 3520 * 18 // 32 + 4 * 16


@pytest.mark.parametrize("recipe", ["q8_0", "q6_k", "q5_k_m", "q5_0", "q4_k_m", "q4_0"])
def test_the_bits_of_a_recipe_are_those_of_the_tensors_it_makes(recipe):
    """Of the shape of Llama 2 7B, for which llama.cpp tells 4.85 bits of Q4_K_M."""
    from twofold.models.gguf_names import to_file
    from twofold.models.quantize import row_bytes
    from twofold.models.recipes import fitting_type, wanted_type

    config = TransformerConfig(
        vocab_size=32_000, hidden_size=4096, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=32,
        head_dim=128, intermediate_size=11_008, model_type="llama", tie_word_embeddings=False,
    )  # fmt: skip
    with torch.device("meta"):
        shapes = {name: tuple(tensor.shape) for name, tensor in Transformer(config).state_dict().items()}
    total = 0
    for held in to_file(config, shapes):
        shape = held.shape(shapes)
        wanted = wanted_type(recipe, held.name, shape, layers=32, tied=False, weighed=False)
        total += row_bytes(fitting_type(wanted, shape[-1]), shape[-1]) * (shape[0] if len(shape) > 1 else 1)
    assert weight_bytes(config.parameters_by_part(), recipe) == pytest.approx(total, rel=0.015)


@pytest.mark.parametrize("config", [GROUPED, UNTIED], ids=["grouped", "untied"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_keys_and_values_take_the_bytes_that_a_memory_makes(config, dtype):
    memory = KeyValueMemory(Transformer(config).to(dtype))
    rows = memory.rows[:, :0]
    one = 64 * rows.new_empty((rows.shape[0], 1, *rows.shape[2:])).nbytes  # places for 64 tokens
    assert key_value_bytes(Shape.of(config), 64, 1, dtype.itemsize) == one
    assert key_value_bytes(Shape.of(config), 64, 5, dtype.itemsize) == 5 * one


@pytest.mark.parametrize("config", [GROUPED, SLIDING, ALTERNATING], ids=["grouped", "sliding", "alternating"])
def test_keys_and_values_take_the_bytes_of_transformers_cache(config):
    """Whose layers with a window make room for no more than that."""
    from transformers import AutoConfig, StaticCache

    values = config.to_hf()
    theirs = AutoConfig.for_model(**values)
    cache = StaticCache(config=theirs, max_cache_len=64)
    cache.early_initialization(
        3, config.num_key_value_heads, config.head_dim, torch.float32, torch.device("cpu")
    )
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert key_value_bytes(Shape.of(config), 64, 3, 4) == held


def counted(config, tokens):
    """Operations that torch counts in a whole forward pass, all tokens scored, attention to all positions."""
    with torch.device("meta"):
        model = Transformer(config)
        numbers = torch.zeros(1, tokens, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        model(numbers)
    return counter.get_total_flops()


@pytest.mark.parametrize("config", [GROUPED, UNTIED], ids=["grouped", "untied"])
def test_one_token_takes_the_operations_that_torch_counts(config):
    assert decode_flops(Shape.of(config), 1) == counted(config, 1)
    assert prefill_flops(Shape.of(config), 1) == counted(config, 1)


@every_config
@pytest.mark.parametrize("tokens", [1, 7, 10, 11, 40])
def test_a_prompt_takes_the_sum_of_what_its_tokens_take(config, tokens):
    """Written out: every matrix, every pair of positions, the last layer only for the last token but for its keys and
    values."""
    d, inner, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    queries, keys = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
    flops = 2 * config.vocab_size * d
    for layer in range(layers):
        for position in range(1, tokens + 1):
            seen = min(position, config.window(layer) or position)
            flops += 2 * 2 * d * keys
            if layer < layers - 1 or position == tokens:
                flops += 2 * (2 * d * queries + 3 * d * inner) + 2 * 2 * queries * seen
    assert prefill_flops(Shape.of(config), tokens) == flops


@every_config
def test_the_next_token_looks_back_within_its_window(config):
    shape = Shape.of(config)
    queries = config.num_attention_heads * config.head_dim
    seen = sum(min(400, config.window(layer) or 400) for layer in range(3))
    assert decode_flops(shape, 400) == 2 * config.matmul_parameters() + 4 * queries * seen


def test_what_a_pass_needs_grows_with_texts_and_stops_with_the_piece():
    shape = Shape.of(GROUPED)
    assert working_bytes(shape, 10, 1, 4) < working_bytes(shape, 10, 4, 4) < working_bytes(shape, 400, 4, 4)
    grown = working_bytes(shape, 4096, 4, 4) - working_bytes(shape, 1024, 4, 4)
    assert grown == 0
    assert working_bytes(shape, 1, 1, 4) == 4 * (2 * 32 + 12 * 16) + 4 * 96


def test_a_foretold_speed_is_that_of_the_slower_of_reading_and_multiplying():
    shape = Shape.of(GROUPED)
    weights, held = 4 * GROUPED.matmul_parameters(), key_value_bytes(shape, 100, 1, 4)
    reads = predict(shape, Rates({1: 1e6, 4: 1e6}, 1e15), 100, 4, 4, 4)
    assert reads.decode == pytest.approx(1e6 / (weights + held))
    assert reads.together == pytest.approx(4e6 / (weights + 4 * held))
    assert reads.prefill == pytest.approx(100e6 / weights)
    multiplies = predict(shape, Rates({1: 1e15}, 1e9), 100, 4, 4, 4)
    assert multiplies.decode == pytest.approx(1e9 / decode_flops(shape, 100))
    assert multiplies.together == pytest.approx(multiplies.decode)
    assert multiplies.prefill == pytest.approx(100e9 / prefill_flops(shape, 100))
    idle = predict(shape, Rates({1: 1e15}, 1e15, layer=0.001, token=0.0001), 100, 1, 4, 4)
    assert idle.decode == pytest.approx(1 / 0.003)
    assert idle.prefill == pytest.approx(100 / (0.003 + 0.03))
    assert idle.together is None


def test_few_texts_go_through_few_experts():
    shape = Shape(
        Shape.of(GROUPED).layers, 32, 48, 96, 512, matrices=1000 + 32 * 96, experts=800, active=0.25
    )  # fmt: skip
    assert shape.used == 1000 - 600 + 32 * 96
    rates = Rates({1: 1.0}, 1e30)
    one, four, many = (predict(shape, rates, 1, batch, 1, 0) for batch in (2, 4, 100))
    assert 1 / one.decode == pytest.approx(shape.used)
    assert 2 / one.together == pytest.approx(shape.used + 200)
    assert 4 / four.together == pytest.approx(shape.matrices)
    assert 100 / many.together == pytest.approx(shape.matrices)


def test_all_recipes_have_bits():
    from twofold.models.recipes import RECIPES

    assert set(BITS) == set(RECIPES)
