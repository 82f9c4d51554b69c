"""Bias, penalties, bans and masks against `transformers`' processors, and DRY against a naive twin."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    MinNewTokensLengthLogitsProcessor,
    NoBadWordsLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
)

from twofold.decoding.distribution import Row, adjust
from twofold.decoding.penalties import repetitions
from twofold.decoding.sampling import Sampling

WIDTH = 12
NEVER = float("-inf")
tokens_ = st.lists(st.integers(0, WIDTH - 1), max_size=40)
seeds = st.integers(0, 2**31)


def scores(seed, rows=1):
    return torch.randn(rows, WIDTH, generator=torch.Generator().manual_seed(seed)) * 3


def ours(raw, prompt, chosen, *, stop_ids=(), **own):
    row = Row(Sampling(temperature=1, **own), prompt, chosen, stop_ids=frozenset(stop_ids))
    return adjust(raw, [row])


def agree(found, expected):
    assert torch.equal(found == NEVER, expected == NEVER)
    assert torch.allclose(found, expected, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(seed=seeds, prompt=tokens_, chosen=tokens_, penalty=st.floats(0.1, 9))
def test_repetition_counts_prompt_and_answer_as_in_transformers(seed, prompt, chosen, penalty):
    raw = scores(seed)
    ids = torch.tensor([prompt + chosen], dtype=torch.long)
    agree(
        ours(raw, prompt, chosen, repetition_penalty=penalty),
        RepetitionPenaltyLogitsProcessor(penalty)(ids, raw),
    )


@settings(max_examples=60, deadline=None)
@given(seed=seeds, prompt=tokens_, chosen=tokens_, window=st.integers(1, 50))
def test_a_repetition_window_forgets_older_tokens(seed, prompt, chosen, window):
    raw = scores(seed)
    newest = (prompt + chosen)[-window:]
    found = ours(raw, prompt, chosen, repetition_penalty=2.0, repetition_window=window)
    agree(found, ours(raw, [], newest, repetition_penalty=2.0))


@settings(max_examples=60, deadline=None)
@given(
    seed=seeds, prompt=tokens_, chosen=tokens_, frequency=st.floats(-2, 2), presence=st.floats(-2, 2)
)  # fmt: skip
def test_frequency_and_presence_count_the_answer_only(seed, prompt, chosen, frequency, presence):
    raw = scores(seed)
    expected = raw.clone()
    for token in range(WIDTH):
        expected[0, token] -= chosen.count(token) * frequency + (token in chosen) * presence
    agree(ours(raw, prompt, chosen, frequency_penalty=frequency, presence_penalty=presence), expected)


@settings(max_examples=100, deadline=None)
@given(seed=seeds, prompt=tokens_, chosen=tokens_, size=st.integers(1, 5))
def test_no_ngram_comes_twice_as_in_transformers(seed, prompt, chosen, size):
    raw = scores(seed)
    ids = torch.tensor([prompt + chosen], dtype=torch.long)
    agree(ours(raw, prompt, chosen, no_repeat_ngram=size), NoRepeatNGramLogitsProcessor(size)(ids, raw))


@settings(max_examples=100, deadline=None)
@given(
    seed=seeds,
    prompt=tokens_,
    chosen=tokens_,
    words=st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=4), min_size=1, max_size=6),
)
def test_bad_words_are_never_completed_as_in_transformers(seed, prompt, chosen, words):
    raw = scores(seed)
    small = [[token % 4 for token in part] for part in (prompt, chosen)]
    ids = torch.tensor([small[0] + small[1]], dtype=torch.long)
    agree(ours(raw, *small, bad_words=words), NoBadWordsLogitsProcessor(words)(ids, raw))


@settings(max_examples=60, deadline=None)
@given(seed=seeds, prompt=tokens_, chosen=tokens_, least=st.integers(0, 40))
def test_no_stop_token_comes_before_the_least_length_as_in_transformers(seed, prompt, chosen, least):
    raw = scores(seed)
    ids = torch.tensor([prompt + chosen], dtype=torch.long)
    expected = MinNewTokensLengthLogitsProcessor(len(prompt), least, [3, 8])(ids, raw)
    agree(ours(raw, prompt, chosen, stop_ids=(3, 8), min_tokens=least), expected)


@settings(max_examples=40, deadline=None)
@given(seed=seeds, bias=st.dictionaries(st.integers(0, WIDTH - 1), st.floats(-20, 20), min_size=1))
def test_bias_is_added_as_in_transformers(seed, bias):
    raw = scores(seed)
    expected = SequenceBiasLogitsProcessor({(token,): number for token, number in bias.items()})
    agree(ours(raw, [], [], bias=bias), expected(torch.zeros(1, 0, dtype=torch.long), raw))


@settings(max_examples=40, deadline=None)
@given(
    seed=seeds,
    banned=st.sets(st.integers(0, WIDTH + 5)),
    allowed=st.sets(st.integers(0, WIDTH + 5), min_size=1),
    mask=st.lists(st.booleans(), min_size=WIDTH, max_size=WIDTH),
)
def test_only_tokens_that_all_rules_allow_are_left(seed, banned, allowed, mask):
    raw = scores(seed)
    row = Row(Sampling(temperature=1, banned=banned, allowed=allowed), allowed=np.array(mask))
    left = [token not in banned and token in allowed and mask[token] for token in range(WIDTH)]
    agree(adjust(raw, [row]), raw.masked_fill(~torch.tensor([left]), NEVER))


def test_tokens_outside_the_vocabulary_are_passed_over():
    raw = scores(0)
    own = Sampling(
        temperature=1, repetition_penalty=2, frequency_penalty=1, dry_multiplier=1, dry_allowed_length=1,
        no_repeat_ngram=2, bias={99: 5}, banned=[99], bad_words=[[99]], min_tokens=9,
    )  # fmt: skip
    row = Row(own, [99, 98, 99], [98, 99], stop_ids=frozenset({97}))
    assert torch.equal(adjust(raw, [row]), raw)


def test_penalties_come_before_bans_and_after_bias():
    raw = torch.zeros(1, 3)
    row = Row(
        Sampling(temperature=1, bias={0: 4, 1: -4}, repetition_penalty=2, presence_penalty=1), [0, 1], [0]
    )
    assert adjust(raw, [row]).tolist() == [[1.0, -8.0, 0.0]]


def dry_twin(raw, history, own):
    """DRY as one would say it: for each earlier place, how far it agrees with the end, counted by hand."""
    window = history[-own.dry_window :] if own.dry_window else history
    longest = {}
    for end in range(len(window) - 1):
        same = 0
        while (
            same <= end
            and window[end - same] == window[-1 - same]
            and window[end - same] not in own.dry_breakers
        ):
            same += 1
        token = window[end + 1]
        if same >= own.dry_allowed_length and token not in own.dry_breakers:
            longest[token] = max(longest.get(token, 0), same)
    expected = raw.double().clone()
    for token, same in longest.items():
        expected[0, token] -= own.dry_multiplier * own.dry_base ** (same - own.dry_allowed_length)
    return expected.float()


@settings(max_examples=200, deadline=None)
@given(
    seed=seeds,
    kinds=st.integers(1, 4),
    history=st.lists(st.integers(0, 3), max_size=60),
    multiplier=st.floats(0.1, 2),
    base=st.floats(1, 1.5),
    allowed=st.integers(1, 4),
    window=st.one_of(st.none(), st.integers(1, 70)),
    breakers=st.sets(st.integers(0, 3), max_size=2),
)
def test_dry_equals_a_count_by_hand(seed, kinds, history, multiplier, base, allowed, window, breakers):
    raw = scores(seed)
    history = [token % kinds for token in history]
    own = Sampling(
        temperature=1, dry_multiplier=multiplier, dry_base=base, dry_allowed_length=allowed, dry_window=window,
        dry_breakers=breakers,
    )  # fmt: skip
    found = adjust(raw, [Row(own, history[:7], history[7:])])
    assert torch.allclose(found, dry_twin(raw, history, own), rtol=1e-4, atol=1e-4)


def test_a_long_repetition_costs_no_more_than_a_number_can_hold():
    history = [1, 2] * 500
    found = ours(scores(0), [], history, dry_multiplier=0.8)
    assert found.isfinite().all()
    assert found[0, 1] < -1e29
    assert found.argmax() != 1
    lengths = repetitions(np.array(history), Sampling(dry_multiplier=0.8))[1]
    assert max(lengths) < 2 + math.log(1e31) / math.log(1.75) + 2


@pytest.mark.parametrize("kind", [tuple, list, np.array])
def test_histories_may_be_lists_or_arrays(kind):
    raw = scores(1)
    assert torch.equal(
        ours(
            raw, kind([1, 2, 3]), kind([1, 2]), repetition_penalty=2, no_repeat_ngram=3, frequency_penalty=1
        ),
        ours(raw, [1, 2, 3], [1, 2], repetition_penalty=2, no_repeat_ngram=3, frequency_penalty=1),
    )
