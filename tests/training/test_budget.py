"""A run on paper against torch's own counts, a brute-force optimizer, what autograd keeps, published runs."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.checkpoint import checkpoint

from twofold.errors import UsageError
from twofold.models.config import TransformerConfig
from twofold.models.transformer import Transformer, causal_attention
from twofold.training.budget import (
    USABLE,
    Sharding,
    activation_bytes,
    budget,
    compute_optimal_tokens,
    memory,
    smallest_sharding,
    tokens_in,
)
from twofold.training.devices import DEVICES
from twofold.training.objectives import Batch, next_token
from twofold.training.optimizers import Optimizer
from twofold.training.settings import TrainSettings
from twofold.training.shapes import LARGE, PRESETS, SHAPES

H100 = DEVICES["h100"]
SMALL = TransformerConfig(
    vocab_size=512, hidden_size=64, num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=2,
    head_dim=16, intermediate_size=160,
)  # fmt: skip
LLAMA_405B = TransformerConfig(  # arXiv 2407.21783, table 3
    vocab_size=128_256, hidden_size=16_384, num_hidden_layers=126, num_attention_heads=128,
    num_key_value_heads=8, head_dim=128, intermediate_size=53_248, max_position_embeddings=8192,
    tie_word_embeddings=False,
)  # fmt: skip


def kept_by_autograd(config, rows, row_tokens, function):
    """Bytes of storages that the backward pass of `function(model, tokens)` needs, parameters left out."""
    model = Transformer(config)
    tokens = torch.zeros(rows, row_tokens, dtype=torch.int64)
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = (
                storage.nbytes(),
                tensor,
            )  # the tensor too: addresses are not used again
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            result = function(model, tokens)
        del result
    return sum(n_bytes for n_bytes, _ in kept.values())


@pytest.mark.parametrize("name", SHAPES)
def test_parameters_are_as_many_as_torch_has(name):
    with torch.device("meta"):
        model = Transformer(SHAPES[name])
    found = budget(SHAPES[name], 1e9, 256, H100, Sharding()).parameters
    assert found == sum(parameter.numel() for parameter in model.parameters())


def test_the_named_sizes_are_what_they_are_called_and_no_presets():
    assert LARGE["1b"].count_parameters() == pytest.approx(1e9, rel=0.15)
    assert LARGE["70b"].count_parameters() == pytest.approx(70e9, rel=0.05)
    assert not set(LARGE) & set(PRESETS)


def test_a_published_run_comes_out():
    found = budget(LLAMA_405B, 15.6e12, 8192, H100, Sharding(replicas=2048, tensor_parallel=8))
    assert found.parameters == pytest.approx(405e9, rel=0.01)
    assert found.flops == pytest.approx(3.8e25, rel=0.05)  # arXiv 2407.21783, section 3.2.1
    assert found.device_hours == pytest.approx(30.84e6, rel=0.15)  # its model card's
    assert found.seconds == pytest.approx(found.device_hours * 3600 / 16_384)


def test_recomputing_costs_a_third_more_on_the_hardware_and_nothing_of_the_model():
    plain, again = (budget(SMALL, 1e9, 64, H100, Sharding(recompute=r)) for r in (False, True))
    assert again.flops == plain.flops == plain.hardware_flops
    assert again.hardware_flops == pytest.approx(plain.flops * 8 / 6)
    assert again.seconds / plain.seconds == pytest.approx(8 / 6)
    assert again.cost / plain.cost == pytest.approx(8 / 6)


@pytest.mark.parametrize("tied", [True, False])
def test_lasting_memory_is_that_of_a_real_model_after_a_real_step(tied):
    config = replace(SMALL, tie_word_embeddings=tied)
    model = Transformer(config)
    optimizer = Optimizer(model, TrainSettings(steps=1))
    tokens = torch.zeros(2, 8, dtype=torch.int64)
    next_token(model, Batch(tokens, tokens)).backward()
    optimizer.step(1.0)
    state = [tensor for name, tensor in optimizer.tensors().items() if not name.startswith("adamw.step")]
    found = memory(config, 8, Sharding())
    assert found.weights == sum(p.nbytes for p in model.parameters())
    assert found.gradients == sum(p.grad.nbytes for p in model.parameters())
    assert found.optimizer == sum(tensor.nbytes for tensor in state)


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        replace(SMALL, hidden_size=48, num_attention_heads=3, num_key_value_heads=3, intermediate_size=200),
    ],
)
def test_a_layer_keeps_what_autograd_keeps(config):
    def kept(layers, rows):
        shape = replace(config, num_hidden_layers=layers)
        return kept_by_autograd(shape, rows, 32, lambda model, tokens: model.hidden(tokens))

    # Differences leave out what is kept once: copies of weights, rotary tables, the last norm.
    a_layer = (kept(2, 3) - kept(2, 1)) - (kept(1, 3) - kept(1, 1))
    assert a_layer / (2 * 32) == pytest.approx(activation_bytes(config), rel=0.01)


def test_a_pass_keeps_within_a_quarter_of_the_estimate():
    config = replace(SMALL, vocab_size=64, num_hidden_layers=6)
    kept = kept_by_autograd(config, 4, 64, lambda model, tokens: model.hidden(tokens))
    found = memory(config, 64, Sharding(micro_rows=4))
    assert found.activations + found.working_copy == pytest.approx(kept, rel=0.25)


def test_without_fsdp_the_bfloat16_copies_are_those_that_autograd_keeps():
    def kept(rows):
        return kept_by_autograd(
            SMALL, rows, 8, lambda model, tokens: next_token(model, Batch(tokens, tokens))
        )

    at_no_rows = kept(1) - (kept(3) - kept(1)) / 2
    assert memory(SMALL, 8, Sharding()).working_copy == pytest.approx(at_no_rows, rel=0.03)


@pytest.mark.parametrize("name", LARGE)
def test_with_fsdp_two_units_are_gathered_and_one_has_a_whole_gradient(name):
    with torch.device("meta"):
        model = Transformer(SHAPES[name])
    units = (*model.model.layers, model.model.embed_tokens)
    largest = max(sum(p.numel() for p in unit.parameters() if p.ndim == 2) for unit in units)
    two_in_bfloat16, gradient = 2 * 2 * largest, 4 * largest
    assert memory(SHAPES[name], 64, Sharding(shards=8)).working_copy == two_in_bfloat16 + gradient
    cut = Sharding(shards=8, tensor_parallel=4)
    assert memory(SHAPES[name], 64, cut).working_copy == (two_in_bfloat16 + gradient) / 4


def test_recomputing_keeps_a_layers_input_and_no_more():
    def recomputed(model, tokens):
        x = model.model.embed_tokens(tokens)
        for block in model.model.layers:
            x = checkpoint(block, x, *model.tables(tokens, None), causal_attention, use_reentrant=True)
        return x

    def kept(layers, rows):
        return kept_by_autograd(replace(SMALL, num_hidden_layers=layers), rows, 32, recomputed)

    def counted(layers):
        shape = replace(SMALL, num_hidden_layers=layers)
        return memory(shape, 32, Sharding(micro_rows=2, recompute=True)).activations

    a_layer = (kept(3, 3) - kept(3, 1)) - (kept(2, 3) - kept(2, 1))
    assert a_layer > 0
    assert counted(3) - counted(2) == a_layer
    assert counted(1) - (counted(2) - counted(1)) == 2 * 32 * activation_bytes(SMALL)  # one layer at work


def test_logits_are_counted_for_every_position_that_the_objective_holds():
    config = replace(SMALL, vocab_size=8192)

    def kept(function):
        return kept_by_autograd(config, 2, 32, function)

    loss = kept(lambda model, tokens: next_token(model, Batch(tokens, tokens)))
    rest = kept(lambda model, tokens: model.hidden(tokens)) + 2 * config.vocab_size * config.hidden_size
    log_softmax = 4 * 2 * 32 * config.vocab_size  # what stays; as it is made there is more beside it
    assert loss - rest == pytest.approx(log_softmax, rel=0.02)
    assert log_softmax < memory(config, 32, Sharding(micro_rows=2)).logits <= 3 * log_softmax
    part = memory(config, 32, Sharding(micro_rows=2, logit_positions=16)).logits
    assert part == pytest.approx(memory(config, 32, Sharding(micro_rows=2)).logits / 4)


def test_muons_work_holds_whole_matrices_however_far_they_are_spread():
    big = LARGE["70b"]
    least = 8192 * 28_672 * (4 + 4)  # one float32 matrix and its bfloat16 iterates
    assert memory(big, 4096, Sharding(shards=4096)).update >= least
    one = memory(big, 4096, Sharding()).update
    assert one == 12 * 160 * 8192 * 28_672  # gate and up of 80 layers: one shape, one batch


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(["large", "1b", "70b"]),
    shards=st.integers(2, 256),
    tensor=st.sampled_from([1, 2, 4]),
    row=st.integers(16, 8192),
    rows=st.integers(1, 4),
    again=st.booleans(),
)
def test_memory_falls_with_sharding_and_rises_with_the_work(name, shards, tensor, row, rows, again):
    config = SHAPES[name]
    here = Sharding(shards=shards, tensor_parallel=tensor, micro_rows=rows, recompute=again)
    total = memory(config, row, here).total
    assert memory(config, row, replace(here, shards=2 * shards)).total < total
    assert memory(config, row, replace(here, tensor_parallel=2 * tensor)).total < total
    assert memory(config, row, replace(here, replicas=7)).total == total
    assert memory(config, 2 * row, here).total >= total
    assert memory(config, row, replace(here, micro_rows=2 * rows)).activations == pytest.approx(
        2 * memory(config, row, here).activations
    )
    less = memory(config, row, replace(here, recompute=True)).activations
    assert less < memory(config, row, replace(here, recompute=False)).activations


@pytest.mark.parametrize(
    ("name", "devices", "rows"), [("1b", 8, 1), ("1b", 8, 8), ("70b", 96, 1), ("70b", 1024, 2)]
)
def test_the_sharding_chosen_fits_and_nothing_smaller_does(name, devices, rows):
    config = SHAPES[name]
    found = smallest_sharding(config, 4096, H100, devices, rows)
    limit = USABLE * H100.memory
    assert found.devices == devices
    assert found.micro_rows == rows
    assert memory(config, 4096, found).total <= limit
    key = (found.recompute, found.tensor_parallel, found.shards)
    for again in (False, True):
        for tensor in (1, 2, 4, 8):
            for shards in range(1, devices // tensor + 1):
                if devices % (tensor * shards) == 0 and (again, tensor, shards) < key:
                    smaller = Sharding(
                        shards=shards, tensor_parallel=tensor, recompute=again, micro_rows=rows
                    )
                    assert memory(config, 4096, smaller).total > limit


def test_what_a_person_asks_of_recomputing_is_kept_to():
    assert smallest_sharding(SMALL, 64, H100, 2, recompute=True).recompute
    with pytest.raises(UsageError, match="does not fit"):
        smallest_sharding(LARGE["70b"], 4096, H100, 16, recompute=False)
    assert smallest_sharding(LARGE["70b"], 4096, H100, 32, recompute=True).devices == 32


def test_key_value_heads_bound_tensor_parallelism():
    narrow = replace(LARGE["70b"], num_key_value_heads=2)
    found = [smallest_sharding(narrow, 4096, H100, n).tensor_parallel for n in (64, 128, 1024)]
    assert max(found) <= 2


def test_what_fits_nowhere_is_refused_with_the_numbers():
    with pytest.raises(UsageError, match=r"8 × H100 SXM, each needs at least \d+\.\d GB of the 72\.0 GB"):
        smallest_sharding(LARGE["70b"], 4096, H100, 8)


@pytest.mark.parametrize("devices", [0, -1, 10**12])
def test_impossible_numbers_of_devices_are_refused(devices):
    with pytest.raises(UsageError, match="1 to 1,000,000 devices"):
        smallest_sharding(SMALL, 64, H100, devices)


@pytest.mark.parametrize(
    "changes",
    [
        {"tokens": 0.0},
        {"tokens": float("nan")},
        {"tokens": float("inf")},
        {"utilisation": 0.0},
        {"utilisation": 1.5},
        {"price": -1.0},
        {"row_tokens": 0},
    ],
)
def test_numbers_that_make_no_run_are_refused(changes):
    given_ = {"tokens": 1e9, "row_tokens": 64, "utilisation": 0.4, "price": 1.0, **changes}
    with pytest.raises(UsageError, match="A plan needs"):
        budget(SMALL, device=H100, sharding=Sharding(), **given_)


def test_time_and_cost_follow_tokens_devices_and_price():
    one = budget(SMALL, 1e9, 64, H100, Sharding(), utilisation=0.5, price=3.0)
    assert one.seconds == pytest.approx(1e9 * SMALL.flops_per_token(64) / (989e12 * 0.5))
    assert one.cost == pytest.approx(one.seconds / 3600 * 3)
    many = budget(SMALL, 2e9, 64, H100, Sharding(replicas=4, shards=2, micro_rows=3), 0.5, 3.0)
    assert many.seconds == pytest.approx(one.seconds * 2 / 8)
    assert many.cost == pytest.approx(one.cost * 2)
    assert many.pass_tokens == 8 * 3 * 64


def test_text_becomes_tokens_and_parameters_ask_for_twenty_each():
    assert tokens_in(10e12) == pytest.approx(2.38e12, rel=0.001)
    assert compute_optimal_tokens(70e9) == pytest.approx(1.4e12)  # Chinchilla: 70 B parameters, 1.4 T tokens
