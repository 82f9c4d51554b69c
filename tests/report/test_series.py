import math
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from twofold.report.quantities import duration, number, percent, short, size, value_of
from twofold.report.series import domain, log_ticks, points_of, smoothed, thin, ticks

numbers = st.floats(-1e6, 1e6)


@given(st.lists(numbers, min_size=1, max_size=3000), st.booleans())
def test_thinning_keeps_ends_lowest_and_highest_within_the_limit(values, log_x):
    points = [(float(i + 1), y) for i, y in enumerate(values)]
    few = thin(points, 60, log_x=log_x)
    assert len(few) <= 60
    assert set(few) <= set(points)
    assert few == sorted(few)
    assert (few[0], few[-1]) == (points[0], points[-1])
    assert min(y for _, y in few) == min(values)
    assert max(y for _, y in few) == max(values)


def test_points_are_finite_in_order_and_a_repeated_step_counts_once():
    rows = [
        {"step": 2, "loss": 2.0},
        {"step": 1, "loss": 9.0},
        {"step": 1, "loss": 3.0},
        {"step": 3, "loss": math.nan},
        {"step": 4, "loss": "x"},
        {"step": 5, "loss": True},
        {"step": 6, "loss": 10**400},
        {"step": None, "loss": 1.0},
        {"loss": 1.0},
    ]
    assert points_of(rows, "loss") == [(1.0, 3.0), (2.0, 2.0)]


def test_smoothing_leaves_a_constant_and_averages_noise_away():
    flat = [(float(i), 5.0) for i in range(1000)]
    assert smoothed(flat) == flat
    noisy = [(float(i), 5.0 + (-1) ** i) for i in range(1000)]
    assert all(abs(y - 5) < 0.2 for _, y in smoothed(noisy)[100:])


def test_smoothing_follows_a_steep_start_without_lag():
    steep = [(float(i), 100 / (1 + i)) for i in range(1500)]
    assert smoothed(steep)[0] == steep[0]
    assert all(abs(a[1] - b[1]) < 0.15 * a[1] for a, b in zip(steep, smoothed(steep), strict=True))


@given(numbers, st.floats(1e-3, 1e6), st.integers(2, 8))
@example(1.0, 400_401.0, 2)  # the first step that comes to mind passes over all of it
def test_ticks_are_round_evenly_spaced_and_inside(low, width, about):
    high = low + width
    found = ticks(low, high, about)
    assert 1 <= len(found) <= 2 * about + 2
    assert all(low - width * 1e-6 <= t <= high + width * 1e-6 for t in found)
    gaps = [b - a for a, b in pairwise(found)]
    assert all(gap == pytest.approx(gaps[0], rel=1e-3) for gap in gaps)
    if gaps:
        lead = gaps[0] / 10 ** math.floor(math.log10(gaps[0] * 1.0001))
        assert min(abs(lead - m) for m in (1, 2, 5, 10)) < 0.02


def test_log_ticks_are_powers_of_ten_with_more_between_when_few():
    assert log_ticks(1, 5000) == [1, 10, 100, 1000]
    assert log_ticks(3, 60) == [5, 10, 20, 50]


def test_the_drawn_range_holds_all_but_absurd_outliers():
    losses = [8.0 / (1 + i / 50) for i in range(1000)]
    assert domain(losses) == (min(losses), max(losses))
    low, high = domain([*losses, 1e30])
    assert low == min(losses)
    assert high < 1000
    low, high = domain([2.0, 2.0])
    assert low < 2 < high


@pytest.mark.parametrize(
    ("made", "wanted"),
    [
        (size(812), "812 bytes"),
        (size(39_600_000), "39.6 MB"),
        (duration(0.44), "0.4 s"),
        (duration(725), "12 min 5 s"),
        (duration(7200), "2 h"),
        (duration(3 * 3600 + 20 * 60 + 10), "3 h 20 min"),
        (percent(0.84), "84 %"),
        (percent(0.0041), "0.4 %"),
        (percent(0), "0 %"),
        (number(0.00001), "10⁻⁵"),
        (number(-3.5e-7), "−3.5 × 10⁻⁷"),
        (number(1.50), "1.5"),
        (number(math.nan), "not a number"),
        (short(5_772_800), "5.77 M"),
        (short(1234), "1,234"),
        (value_of("held_out.bytes", 1_945_821), "1.95 MB (1,945,821 bytes)"),
        (value_of("bits_per_byte", 1234.5), "1,234"),
        (value_of("seed", 12345), "12345"),
        (value_of("resume", None), "not set"),
        (value_of("finished", True), "yes"),
        (value_of("x", 10**400), "a very large number"),
        (value_of("betas", [0.9, 0.95]), "0.9, 0.95"),
    ],
)
def test_quantities_read_as_people_write_them(made, wanted):
    assert made == wanted
