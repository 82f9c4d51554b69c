"""The Transformer against `transformers`' Qwen3, weights carried across by name alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode
from transformers import Qwen3Config, Qwen3ForCausalLM

from twofold.errors import FileError, UsageError
from twofold.models.config import TransformerConfig
from twofold.models.transformer import Transformer


def small_config(**changes):
    sizes = dict(
        vocab_size=97, hidden_size=48, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
        head_dim=16, intermediate_size=80, tie_word_embeddings=False, max_position_embeddings=128,
    )  # fmt: skip
    return TransformerConfig(**{**sizes, **changes})


def randomized(config, seed):
    torch.manual_seed(seed)
    model = Transformer(config)
    for parameter in model.parameters():
        parameter.data.normal_(std=0.2).add_(parameter.ndim == 1)
    return model


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    kv_heads=st.sampled_from([1, 2, 4]),
    tied=st.booleans(),
    theta=st.sampled_from([1e4, 1e6]),
    length=st.integers(1, 40),
)
def test_logits_equal_transformers(seed, kv_heads, tied, theta, length):
    config = small_config(num_key_value_heads=kv_heads, tie_word_embeddings=tied, rope_theta=theta)
    ours = randomized(config, seed)
    theirs = Qwen3ForCausalLM(Qwen3Config(**config.to_hf()))
    missing, unexpected = theirs.load_state_dict(ours.state_dict(), strict=False)
    assert not unexpected
    assert missing == (["lm_head.weight"] if tied else [])
    theirs.tie_weights()
    theirs.eval()
    tokens = torch.randint(0, config.vocab_size, (2, length))
    with torch.no_grad():
        expected = theirs(tokens).logits
        assert (ours(tokens) - expected).abs().max() <= 1e-4


def test_parameter_counts_match_the_module():
    for tied in (False, True):
        config = small_config(tie_word_embeddings=tied)
        assert config.count_parameters() == sum(p.numel() for p in Transformer(config).parameters())


def plain_attention(layer, q, k, v):
    """The formula, in matrix products that torch's counter sees."""
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    future = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    return scores.masked_fill(future, float("-inf")).softmax(-1) @ v


def test_flops_match_torchs_own_counter():
    """The counter sees whole attention matrices; ours counts the causal half that is needed."""
    config = small_config()
    model = Transformer(config)
    model.attend = plain_attention
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros((2, 32), dtype=torch.long)).sum().backward()
    causal_half = 6 * 3 * 4 * 16 * 32
    assert counter.get_total_flops() == pytest.approx(
        64 * (config.flops_per_token(32) + causal_half), rel=0.01
    )


def test_attention_equals_the_formula():
    model = randomized(small_config(), 3)
    tokens = torch.randint(0, 97, (2, 33))
    with torch.no_grad():
        fast = model(tokens)
        model.attend = plain_attention
        assert (fast - model(tokens)).abs().max() <= 1e-4


def test_a_row_never_sees_its_future():
    model = randomized(small_config(), 0)
    tokens = torch.randint(0, 97, (1, 20))
    changed = tokens.clone()
    changed[0, 12:] = (changed[0, 12:] + 1) % 97
    with torch.no_grad():
        assert torch.equal(model(tokens)[0, :12], model(changed)[0, :12])


def test_config_round_trips_through_the_hub_form():
    config = small_config(rope_theta=5e5)
    assert TransformerConfig.from_hf(config.to_hf()) == config
    assert TransformerConfig.from_hf(Qwen3Config(**config.to_hf()).to_dict()) == config


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"model_type": "bert"}, "bert"),
        ({"hidden_size": "48"}, "hidden_size"),
        ({"hidden_size": -1}, "hidden_size"),
        ({"num_key_value_heads": 3}, "multiple"),
        ({"rope_parameters": {"rope_type": "ntk"}}, "Rotary"),
        ({"vocab_size": True}, "vocab_size"),
        ({"attention_bias": "yes"}, "attention_bias"),
    ],
)
def test_a_bad_config_file_is_named(change, word):
    with pytest.raises(FileError, match=word):
        TransformerConfig.from_hf({**small_config().to_hf(), **change})


def test_impossible_sizes_are_refused():
    with pytest.raises(UsageError, match="head_dim"):
        small_config(head_dim=15)
