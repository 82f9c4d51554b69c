"""Cuts against `transformers`' warpers, and against naive NumPy twins of what only llama.cpp has (float64)."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    EpsilonLogitsWarper,
    EtaLogitsWarper,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from twofold.decoding import truncation as t

NEVER = float("-inf")
seeds = st.integers(0, 2**31)
shares = st.floats(0.01, 0.99)


def scores(seed, rows=2, width=50):
    """Float64, in which no two implementations round a token to different sides of a limit."""
    generator = torch.Generator().manual_seed(seed)
    spread = 10 ** (torch.rand(rows, 1, generator=generator, dtype=torch.float64) * 1.5 - 0.5)
    raw = torch.randn(rows, width, generator=generator, dtype=torch.float64) * spread
    raw[-1, : seed % (width - 1)] = NEVER  # what an earlier stage has cut off
    return raw


@pytest.mark.parametrize(
    ("cut", "warper", "values"),
    [
        (t.scale, TemperatureLogitsWarper, st.floats(0.05, 5)),
        (t.keep_top_k, TopKLogitsWarper, st.integers(1, 60)),
        (t.keep_top_p, TopPLogitsWarper, shares),
        (t.keep_min_p, MinPLogitsWarper, shares),
        (t.keep_typical, TypicalLogitsWarper, shares),
        (t.keep_epsilon, EpsilonLogitsWarper, shares.map(lambda x: x**3)),
        (t.keep_eta, EtaLogitsWarper, shares.map(lambda x: x**3)),
    ],
    ids=["temperature", "top_k", "top_p", "min_p", "typical", "epsilon", "eta"],
)
def test_a_cut_keeps_what_transformers_keeps(cut, warper, values):
    @settings(max_examples=120, deadline=None)
    @given(seed=seeds, value=values)
    def equal(seed, value):
        raw = scores(seed)
        expected = warper(value)(None, raw)
        found = cut(raw, [value] * 2)
        assert torch.equal(found == NEVER, expected == NEVER)
        assert torch.allclose(found, expected)

    equal()


def softmax(row):
    weights = np.exp(row - row.max())
    return weights / weights.sum()


def kept(found):
    return [set(row.nonzero()[:, 0].tolist()) for row in found > NEVER]


def possible(row):
    return [token for token in range(len(row)) if row[token] > NEVER]


@settings(max_examples=100, deadline=None)
@given(seed=seeds, sigmas=st.floats(0.01, 4))
def test_top_n_sigma_equals_its_twin(seed, sigmas):
    raw = scores(seed)
    for row, found in zip(raw.numpy(), kept(t.keep_top_n_sigma(raw, [sigmas] * 2)), strict=True):
        finite = row[possible(row)]
        least = finite.max() - sigmas * finite.std()
        assert found == {token for token in possible(row) if row[token] >= least}


@settings(max_examples=100, deadline=None)
@given(seed=seeds, threshold=st.floats(0.001, 0.5))
def test_xtc_equals_its_twin(seed, threshold):
    raw = scores(seed)
    for row, found in zip(raw.numpy(), kept(t.exclude_top(raw, [threshold] * 2)), strict=True):
        p = softmax(row)
        best_first = sorted(possible(row), key=lambda token: -p[token])
        top = [token for token in best_first if p[token] >= threshold]
        assert found == set(best_first) - set(top[:-1])


@settings(max_examples=100, deadline=None)
@given(seed=seeds, temperature=st.floats(0.1, 3), spread=st.floats(0.01, 3), exponent=st.floats(0.1, 3))
def test_dynamic_temperature_equals_its_twin(seed, temperature, spread, exponent):
    raw = scores(seed)
    found = t.scale_dynamically(raw, [(temperature, spread, exponent)] * 2)
    for row, ours in zip(raw.numpy(), found.numpy(), strict=True):
        p = softmax(row)[possible(row)]
        unsure = -(p[p > 0] * np.log(p[p > 0])).sum() / np.log(len(p)) if len(p) > 1 else 0.0
        low, high = max(0.0, temperature - spread), temperature + spread
        assert np.allclose(ours, row / max(low + (high - low) * unsure**exponent, 1e-30), rtol=1e-6)


def mirostat_k(row, mu):
    p = np.sort(softmax(row)[possible(row)])[::-1][:100]
    p = p[p > 0]
    if len(p) < 2:
        return 1
    i = np.arange(1, len(p))
    steps, falls = np.log((i + 1) / i), np.log(p[:-1] / p[1:])
    s = (steps @ falls) / (steps @ steps)
    excess = s - 1
    with np.errstate(over="ignore"):
        return max(1, int(min((excess * 2**mu / (1 - len(row) ** -excess)) ** (1 / s), len(row))))


@settings(max_examples=100, deadline=None)
@given(seed=seeds, mu=st.floats(-2, 12))
def test_mirostat_1_equals_its_twin(seed, mu):
    raw = scores(seed, width=150)
    for row, found in zip(raw.numpy(), kept(t.keep_mirostat_1(raw, [mu] * 2)), strict=True):
        best_first = sorted(possible(row), key=lambda token: -row[token])
        assert found == set(best_first[: mirostat_k(row, mu)])


@settings(max_examples=100, deadline=None)
@given(seed=seeds, mu=st.floats(-2, 12))
def test_mirostat_2_equals_its_twin(seed, mu):
    raw = scores(seed)
    for row, found in zip(raw.numpy(), kept(t.keep_mirostat_2(raw, [mu] * 2)), strict=True):
        with np.errstate(divide="ignore"):
            surprise = -np.log2(softmax(row))
        within = {token for token in possible(row) if surprise[token] <= mu}
        assert found == (within or {int(row.argmax())})


CUTS = {
    t.keep_top_k: st.integers(1, 50),
    t.keep_top_p: st.floats(1e-9, 1),
    t.keep_min_p: st.floats(0, 1),
    t.keep_typical: st.floats(1e-9, 1),
    t.keep_epsilon: shares,
    t.keep_eta: shares,
    t.keep_top_n_sigma: st.floats(1e-9, 9),
    t.exclude_top: st.floats(1e-6, 0.5),
    t.keep_mirostat_1: st.floats(-50, 50),
    t.keep_mirostat_2: st.floats(-50, 50),
}


@pytest.mark.parametrize("cut", CUTS, ids=lambda cut: cut.__name__)
@pytest.mark.parametrize("kind", ["random", "alike", "one left"])
def test_a_cut_leaves_something_and_rows_without_it_as_they_were(cut, kind):
    @settings(max_examples=60, deadline=None)
    @given(seed=seeds, value=CUTS[cut])
    def holds(seed, value):
        raw = scores(seed, rows=3, width=20).float()
        if kind == "alike":
            raw[:] = 1.25
        if kind == "one left":
            raw[:, 0], raw[:, 1:] = 0.5, NEVER
        before = raw.clone()
        found = cut(raw, [value, None, value])
        assert (found > NEVER).any(-1).all()
        assert torch.equal(found[1], raw[1])
        assert torch.equal(found[found > NEVER], raw[found > NEVER])
        assert torch.equal(found[:1], cut(raw[:1], [value]))
        assert torch.equal(raw, before)

    holds()


def test_tokens_of_equal_scores_stay_or_go_together():
    raw = torch.tensor([[2.0, 1.0, 1.0, 0.0]])
    assert kept(t.keep_top_k(raw, [2])) == [{0, 1, 2}]
    assert kept(t.exclude_top(raw, [0.15])) == [{1, 2, 3}]


def test_a_row_of_one_temperature_is_not_touched():
    raw = scores(1)
    assert t.scale(raw, [0, 1]) is raw
    assert t.keep_top_k(raw, [50, None]) is raw
    assert t.keep_top_p(raw, [1, None]) is raw
    assert t.keep_min_p(raw, [0, None]) is raw


def test_mirostat_1_needs_no_more_than_the_logarithm_of_the_vocabulary_to_keep_all():
    raw = torch.zeros(1, 64)
    assert len(kept(t.keep_mirostat_1(raw, [math.log2(64) + 0.1]))[0]) == 64
