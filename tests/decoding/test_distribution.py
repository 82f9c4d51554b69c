"""The chain: its order, rows that do not mind their neighbours, impossible rows; the draw against frequencies."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import MinPLogitsWarper, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from twofold.decoding import distribution as d
from twofold.decoding.distribution import Row
from twofold.decoding.sampling import Sampling
from twofold.errors import TwofoldError


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
    row = Row(Sampling(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p))
    ours = d.adjust(raw, [row] * 3)
    assert torch.equal(ours.isinf(), expected.isinf())
    assert torch.allclose(ours, expected, atol=1e-5)


HISTORY = tuple(np.random.default_rng(0).integers(0, 40, 60).tolist())
KINDS = [
    Sampling(),
    Sampling(temperature=0),
    Sampling(temperature=0, repetition_penalty=3.0, banned=[1, 2, 3]),
    Sampling(top_k=3, temperature=2),
    Sampling(top_p=0.5, min_p=0.3, top_k=9),
    Sampling(typical_p=0.6, epsilon_cutoff=0.02),
    Sampling(eta_cutoff=0.3, top_n_sigma=1.0, dynamic_temperature=0.5),
    Sampling(xtc_probability=0.5, xtc_threshold=0.05, temperature=1),
    Sampling(xtc_probability=1, xtc_threshold=0.05, temperature=1, compat="llama.cpp"),
    Sampling(mirostat=1, mirostat_tau=2),
    Sampling(mirostat=2, mirostat_tau=2, top_k=5),
    Sampling(mirostat=2, mirostat_tau=1, top_k=5, compat="llama.cpp", repetition_penalty=2),
    Sampling(repetition_penalty=1.5, repetition_window=20, frequency_penalty=1, presence_penalty=-0.5),
    Sampling(no_repeat_ngram=1, temperature=1),
    Sampling(dry_multiplier=2, dry_allowed_length=1, dry_breakers=[5], bias={3: 4.0, 7: -9}),
    Sampling(allowed=range(0, 40, 3), bad_words=[[0], [HISTORY[-1], 3]], min_tokens=1000, compat="mlx"),
    Sampling(top_p=0.7, top_k=4, temperature=0.4, compat="transformers"),
]
rows_ = st.builds(
    Row,
    st.sampled_from(KINDS),
    prompt=st.integers(0, 60).map(lambda n: HISTORY[:n]),
    chosen=st.integers(0, 60).map(lambda n: HISTORY[n:]),
    allowed=st.one_of(st.none(), st.integers(0, 99).map(lambda n: np.random.default_rng(n).random(40) < 0.5)),
    stop_ids=st.sampled_from([frozenset(), frozenset({0, 6})]),
)


@settings(max_examples=150, deadline=None)
@given(rows=st.lists(rows_, min_size=1, max_size=6), seed=st.integers(0, 2**31), uniform=st.floats(0, 0.999))
def test_what_a_row_says_does_not_depend_on_its_neighbours(rows, seed, uniform):
    raw = scores(seed, rows=len(rows))
    before = raw.clone()
    uniforms = [(uniform + i * 0.137) % 1 for i in range(len(rows))]
    together = d.adjust(raw, rows, uniforms=uniforms)
    chosen = d.choose(raw, rows, uniforms).tolist()
    for i, row in enumerate(rows):
        alone = d.adjust(raw[i : i + 1], [row], uniforms=[uniforms[i]])
        assert torch.equal(together[i], alone[0])
        assert chosen[i] == int(d.choose(raw[i : i + 1], [row], [uniforms[i]])[0])
    assert torch.equal(raw, before)


@settings(max_examples=150, deadline=None)
@given(row=rows_, seed=st.integers(0, 2**31), uniform=st.floats(0, 0.999))
def test_only_kept_tokens_are_chosen_and_some_are_kept_if_any_are_allowed(row, seed, uniform):
    raw = scores(seed, rows=1)
    kept = d.adjust(raw, [row], uniforms=[uniform])[0] > float("-inf")
    possible = d.adjust(raw, [row], search=True)[0] > float("-inf")
    token = int(d.choose(raw, [row], [uniform])[0])
    assert kept.any() == possible.any()
    assert not (kept & ~possible).any()
    assert kept[token] if possible.any() else token == -2
    if row.settings.temperature == 0 and possible.any():
        assert kept.sum() == 1


def test_a_row_that_bans_leave_nothing_is_told():
    raw = scores(1, rows=3)
    rows = [Row(Sampling()), Row(Sampling(), allowed=np.zeros(40, bool)), Row(Sampling(banned=range(40)))]
    for temperature in (0, 1):
        own = [Row(replace(row.settings, temperature=temperature), allowed=row.allowed) for row in rows]
        tokens = d.choose(raw, own, [0.5] * 3).tolist()
        assert tokens[0] >= 0
        assert tokens[1:] == [-2, -2]
    with pytest.raises(TwofoldError, match="allowed, banned"):
        d.check(-2)


def test_a_mask_shorter_than_the_scores_allows_nothing_beyond_its_end():
    row = Row(Sampling(temperature=0), allowed=np.ones(5, bool))
    kept = d.adjust(scores(1, rows=1), [row], search=True)[0]
    assert (kept > float("-inf")).nonzero()[:, 0].tolist() == [0, 1, 2, 3, 4]


def test_a_search_adds_up_log_probabilities_without_cuts_or_a_temperature():
    raw = scores(3, rows=2)
    plain = Row(Sampling(temperature=0.1, top_k=2, xtc_probability=1))
    banned = Row(Sampling(banned=[4], repetition_penalty=2), prompt=[7])
    found = d.adjust(raw, [plain, banned], search=True)
    logs = raw.log_softmax(-1)
    assert torch.equal(found[0], logs[0])
    assert found[1, 4] == float("-inf")
    assert found[1, 7] == logs[1, 7] * 2
    assert torch.equal(found[1, 8:], logs[1, 8:])


STAGES = {
    "temperature", "dynamic_temperature", "top_n_sigma", "top_k", "top_p", "min_p", "typical", "epsilon", "eta",
    "xtc", "mirostat", "bias", "repetition", "counts", "dry", "bans", "allowed", "mask",
}  # fmt: skip


@pytest.mark.parametrize(
    ("compat", "order"),
    [
        ("llama.cpp", ["repetition", "counts", "dry", "top_n_sigma", "top_k", "typical", "top_p", "min_p", "xtc",
                       "temperature"]),
        ("transformers", ["bias", "repetition", "bans", "temperature", "top_k", "top_p", "min_p", "typical",
                          "epsilon", "eta"]),
        ("mlx", ["bias", "repetition", "counts", "top_p", "min_p", "xtc", "top_k", "temperature"]),
    ],
)  # fmt: skip
def test_a_neighbours_stages_come_in_its_order(compat, order):
    at = [d.ORDERS[compat].index(stage) for stage in order]
    assert at == sorted(at)


@pytest.mark.parametrize("compat", d.ORDERS)
def test_every_order_has_every_stage_once(compat):
    assert sorted(d.ORDERS[compat]) == sorted(STAGES)
    assert d.ORDERS[compat][-1] == "mirostat"


def test_the_order_decides_what_is_kept():
    raw = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()

    def kept(**settings):
        found = d.adjust(raw, [Row(Sampling(**settings))], uniforms=[0.0])[0]
        return (found > float("-inf")).nonzero()[:, 0].tolist()

    # a high temperature first makes the nucleus wide; last, it only flattens what is left
    assert (
        kept(temperature=100, top_p=0.7)
        == kept(temperature=100, top_p=0.7, compat="transformers")
        == [0, 1, 2]
    )
    assert kept(temperature=100, top_p=0.7, compat="llama.cpp") == [0, 1]
    assert kept(temperature=100, top_p=0.7, compat="mlx") == [0, 1]
    # the best two after the top choices are excluded, or the other way round
    xtc = {"temperature": 1, "top_k": 2, "xtc_probability": 1, "xtc_threshold": 0.2}
    assert kept(**xtc) == kept(**xtc, compat="llama.cpp") == [1]
    assert kept(**xtc, compat="mlx") == [1, 2]


def test_temperature_scales_what_a_late_temperature_left():
    raw = scores(8, rows=1)
    late = d.adjust(raw, [Row(Sampling(temperature=0.5, top_k=4, compat="llama.cpp"))])
    assert torch.equal(late, d.adjust(raw, [Row(Sampling(temperature=0.5, top_k=4))]))


def test_one_uniform_serves_for_the_coin_and_the_draw():
    raw = torch.tensor([[0.6, 0.3, 0.1]]).log()
    row = Row(Sampling(temperature=1, xtc_probability=0.4, xtc_threshold=0.2))
    count = 20_000
    uniforms = ((np.arange(count) + 0.5) / count).tolist()
    tokens = d.choose(raw.expand(count, -1), [row] * count, uniforms)
    found = torch.bincount(tokens, minlength=3) / count
    expected = 0.6 * raw[0].exp() + 0.4 * torch.tensor([0, 0.75, 0.25])
    assert torch.allclose(found, expected, atol=1e-3)
    coins = [(u, 0.39) for u in uniforms]
    assert int(d.choose(raw.expand(count, -1), [row] * count, coins).min()) == 1


def test_without_uniforms_xtc_does_nothing():
    raw = scores(1, rows=1)
    row = Row(Sampling(temperature=1, xtc_probability=1, xtc_threshold=0.01))
    assert torch.equal(d.adjust(raw, [row]), raw)
    assert not torch.equal(d.adjust(raw, [row], uniforms=[0.5]), raw)


def test_mirostat_brings_the_surprise_to_what_was_wanted():
    raw = torch.randn(1, 500, generator=torch.Generator().manual_seed(0)) * 2
    for version in (1, 2):
        row = Row(Sampling(temperature=1, mirostat=version, mirostat_tau=3.0))
        uniforms = np.random.default_rng(version).random(400)
        surprises = []
        for uniform in uniforms.tolist():
            token = d.choose(raw, [row], [uniform])
            log = float(d.log_probabilities(d.adjust(raw, [row]), token))
            surprises.append(-log / np.log(2))
            row.mirostat = d.update_mirostat(row.settings, row.mirostat, log)
        assert abs(np.mean(surprises[50:]) - 3) < 0.25


def test_the_filters_leave_their_input_alone():
    raw = scores(2)
    before = raw.clone()
    d.choose(raw, [Row(Sampling(top_k=2, top_p=0.5, min_p=0.1))] * 3, [0.5] * 3)
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
    greedy = Row(Sampling(temperature=0, top_k=5))
    assert d.choose(raw, [greedy] * 3, [0.1, 0.5, 0.99]).tolist() == raw.argmax(-1).tolist()
    mixed = d.choose(raw, [greedy, Row(Sampling(temperature=9)), greedy], [0.99] * 3)
    assert mixed[[0, 2]].tolist() == raw.argmax(-1)[[0, 2]].tolist()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("temperature", [0, 1])
def test_scores_that_are_not_numbers_are_told(value, temperature):
    raw = scores(5)
    raw[1, 7] = value
    tokens = d.choose(raw, [Row(Sampling(temperature=temperature))] * 3, [0.5] * 3).tolist()
    assert tokens[1] == -1
    assert d.check(tokens[0]) >= 0
    assert d.check(tokens[2]) >= 0
    with pytest.raises(TwofoldError, match="not numbers"):
        d.check(tokens[1])


def test_no_possible_token_is_told():
    assert d.choose(torch.full((1, 4), float("-inf")), [Row(Sampling())], [0.5]).tolist() == [-1]


def test_log_probabilities_are_the_models_own():
    raw = scores(6)
    tokens = torch.tensor([0, 5, 39])
    expected = raw.log_softmax(-1)[torch.arange(3), tokens]
    assert torch.allclose(d.log_probabilities(raw, tokens), expected, atol=1e-6)


def test_numpy_scores_are_taken():
    assert d.as_scores(np.zeros((2, 3), np.float32)).shape == (2, 3)


@pytest.mark.parametrize("temperature", [1e-320, 1e-45, 1e-38, 1e-20])
def test_a_temperature_next_to_0_takes_the_best(temperature):
    raw = scores(3, spread=30)
    chosen = d.choose(raw, [Row(Sampling(temperature=temperature, top_p=0.9))] * 3, [0.0, 0.5, 1 - 1e-12])
    assert torch.equal(chosen, raw.argmax(-1))
