"""The schedule's shape, and settings that cannot be."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold.errors import UsageError
from twofold.training.settings import FINETUNING, REMEMBERED, TrainSettings, rate_share


@given(steps=st.integers(1, 5000), up=st.integers(0, 6000), down=st.floats(0, 1), final=st.floats(0, 1))
def test_the_rate_rises_stays_and_falls(steps, up, down, final):
    settings = TrainSettings(steps=steps, warmup_steps=up, warmdown=down, final_lr=final)
    rates = [rate_share(step, steps, settings) for step in range(steps)]
    assert all(0 <= rate <= 1 for rate in rates)
    top = rates.index(max(rates))
    assert all(a <= b + 1e-12 for a, b in pairwise(rates[: top + 1]))
    assert all(a >= b - 1e-12 for a, b in pairwise(rates[top:]))


def test_the_rate_ends_at_its_floor():
    settings = TrainSettings(steps=1000, warmdown=0.6, final_lr=0.05)
    assert rate_share(399, 1000, settings) == 1
    assert rate_share(1000, 1000, settings) == pytest.approx(0.05)
    assert rate_share(700, 1000, settings) == pytest.approx(0.05 + 0.95 * 0.5)


def test_before_it_falls_the_rate_does_not_depend_on_the_number_of_steps():
    """What lets a run on the clock change its mind."""
    settings = TrainSettings(minutes=1)
    assert all(rate_share(step, 1000, settings) == rate_share(step, 400, settings) for step in range(160))


@pytest.mark.parametrize("matrix_lr", [0.02, 0.005])
@pytest.mark.parametrize("steps", [40, 400, 20_000])
def test_an_epoch_leaves_the_same_of_a_weight_whatever_the_text(steps, matrix_lr):
    settings = TrainSettings(minutes=1, matrix_lr=matrix_lr).for_text(1 / steps)
    left = (1 - matrix_lr * settings.weight_decay) ** steps
    assert left == pytest.approx(math.exp(-1 / REMEMBERED), rel=0.15)


def test_no_weight_is_shrunk_to_nothing_by_a_text_of_one_step():
    settings = TrainSettings(steps=1, embedding_lr=0.1).for_text(3.0)
    assert 0 < settings.weight_decay * max(settings.matrix_lr, settings.embedding_lr) < 0.5


def test_a_decay_that_was_given_stays():
    assert TrainSettings(steps=1, weight_decay=0.0).for_text(0.1).weight_decay == 0
    assert TrainSettings(steps=1, **FINETUNING).for_text(0.1).weight_decay == 0


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({}, "how long"),
        ({"steps": 1, "minutes": 1}, "how long"),
        ({"steps": 0}, "steps"),
        ({"minutes": float("nan")}, "minutes"),
        ({"steps": 1, "matrix_lr": 0.0}, "matrix_lr"),
        ({"steps": 1, "weight_decay": -0.1}, "weight_decay"),
        ({"steps": 1, "warmdown": 1.1}, "warmdown"),
        ({"steps": 1, "final_lr": 2.0}, "final_lr"),
        ({"steps": 1, "batch_rows": 0}, "batch_rows"),
        ({"steps": 1, "seed": -1}, "seed"),
        ({"steps": 1, "seed": 2**63}, "seed"),
    ],
)
def test_what_cannot_be_is_named(change, word):
    with pytest.raises(UsageError, match=word):
        TrainSettings(**change)
