"""The filters against `transformers`' logits warpers; the draw against counted frequencies."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import MinPLogitsWarper, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from twofold.decoding import distribution as d
from twofold.decoding.sampling import Sampling
from twofold.errors import TwofoldError, UsageError


def scores(seed, rows=3, width=40, spread=3.0):
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)) * spread


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    temperature=st.floats(0.05, 5),
    top_k=st.one_of(st.none(), st.integers(1, 60)),
    top_p=st.one_of(st.none(), st.floats(0.01, 0.999)),
    min_p=st.one_of(st.none(), st.floats(0.001, 0.999)),
)
def test_the_chain_equals_transformers_warpers(seed, temperature, top_k, top_p, min_p):
    raw = scores(seed)
    expected = TemperatureLogitsWarper(temperature)(None, raw)
    for warper, value in ((TopKLogitsWarper, top_k), (TopPLogitsWarper, top_p), (MinPLogitsWarper, min_p)):
        if value is not None:
            expected = warper(value)(None, expected)
    ours = d.scale(raw, [temperature] * 3)
    ours = d.keep_min_p(d.keep_top_p(d.keep_top_k(ours, [top_k] * 3), [top_p] * 3), [min_p] * 3)
    assert torch.equal(ours.isinf(), expected.isinf())
    assert torch.allclose(ours, expected, atol=1e-5)


def test_each_row_has_its_own_settings():
    raw = scores(1, rows=4)
    rows = [Sampling(), Sampling(top_k=3, temperature=2), Sampling(top_p=0.5), Sampling(min_p=0.3, top_k=9)]
    together = d.scale(raw, [s.temperature for s in rows])
    together = d.keep_top_k(together, [s.top_k for s in rows])
    together = d.keep_top_p(together, [s.top_p for s in rows])
    together = d.keep_min_p(together, [s.min_p for s in rows])
    for row, s in enumerate(rows):
        alone = d.scale(raw[row : row + 1], [s.temperature])
        alone = d.keep_min_p(d.keep_top_p(d.keep_top_k(alone, [s.top_k]), [s.top_p]), [s.min_p])
        assert torch.equal(together[row], alone[0])
    uniforms = [0.1, 0.7, 0.5, 0.9]
    together = d.choose(raw, rows, uniforms)
    for row, s in enumerate(rows):
        assert together[row] == d.choose(raw[row : row + 1], [s], [uniforms[row]])[0]


def test_the_filters_leave_their_input_alone():
    raw = scores(2)
    before = raw.clone()
    d.choose(raw, [Sampling(top_k=2, top_p=0.5, min_p=0.1)] * 3, [0.5] * 3)
    assert torch.equal(raw, before)


def test_draws_have_the_probabilities_of_the_scores():
    raw = scores(3, rows=1, width=6, spread=1)
    count = 60_000
    uniforms = np.random.default_rng(0).random(count)
    tokens = d.draw(raw.expand(count, -1), uniforms)
    found = torch.bincount(tokens, minlength=6) / count
    assert (found - raw[0].softmax(-1)).abs().max() < 0.01


@settings(max_examples=100, deadline=None)
@given(
    uniform=st.one_of(st.floats(0, 1, exclude_max=True), st.just(np.nextafter(1.0, 0))),
    banned=st.sets(st.integers(0, 9), max_size=9),
)
def test_an_impossible_token_is_never_drawn(uniform, banned):
    raw = torch.zeros(1, 10)
    raw[0, list(banned)] = float("-inf")
    assert int(d.draw(raw, [uniform])[0]) not in banned


def test_draws_keep_the_share_of_rare_tokens_in_a_large_vocabulary():
    raw = torch.zeros(1, 150_000)
    assert [int(d.draw(raw, [u])[0]) for u in (0.0, 0.5, 1 - 1e-9)] == [0, 75_000, 149_999]


def test_temperature_zero_takes_the_best_whatever_the_uniform():
    raw = scores(4)
    greedy = Sampling(temperature=0, top_k=5)
    assert d.choose(raw, [greedy] * 3, [0.1, 0.5, 0.99]).tolist() == raw.argmax(-1).tolist()
    mixed = d.choose(raw, [greedy, Sampling(temperature=9), greedy], [0.99] * 3)
    assert mixed[[0, 2]].tolist() == raw.argmax(-1)[[0, 2]].tolist()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("temperature", [0, 1])
def test_scores_that_are_not_numbers_are_told(value, temperature):
    raw = scores(5)
    raw[1, 7] = value
    tokens = d.choose(raw, [Sampling(temperature=temperature)] * 3, [0.5] * 3).tolist()
    assert tokens[1] == -1
    assert d.check(tokens[0]) >= 0
    assert d.check(tokens[2]) >= 0
    with pytest.raises(TwofoldError, match="not numbers"):
        d.check(tokens[1])


def test_no_possible_token_is_told():
    assert d.choose(torch.full((1, 4), float("-inf")), [Sampling()], [0.5]).tolist() == [-1]


def test_log_probabilities_are_the_models_own():
    raw = scores(6)
    tokens = torch.tensor([0, 5, 39])
    expected = raw.log_softmax(-1)[torch.arange(3), tokens]
    assert torch.allclose(d.log_probabilities(raw, tokens), expected, atol=1e-6)


def test_numpy_scores_are_taken():
    assert d.as_scores(np.zeros((2, 3), np.float32)).shape == (2, 3)


@pytest.mark.parametrize(
    "bad",
    [
        {"temperature": -1},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"top_k": 0},
        {"top_p": 0},
        {"top_p": 1.5},
        {"min_p": -0.1},
        {"seed": -1},
    ],
)
def test_impossible_settings_are_named(bad):
    with pytest.raises(UsageError, match=next(iter(bad))):
        Sampling(**bad)


@pytest.mark.parametrize("temperature", [1e-320, 1e-45, 1e-38, 1e-20])
def test_a_temperature_next_to_0_takes_the_best(temperature):
    raw = scores(3, spread=30)
    chosen = d.choose(raw, [Sampling(temperature=temperature, top_p=0.9)] * 3, [0.0, 0.5, 1 - 1e-12])
    assert torch.equal(chosen, raw.argmax(-1))
