import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold.errors import FileError
from twofold.report import Report, RunRecord, ScoreCell, load_report, save_report


def test_a_report_survives_the_way_to_json_and_back(report, tmp_path):
    save_report(tmp_path / "report.json", report)
    assert load_report(tmp_path / "report.json").to_json() == report.to_json()
    again = Report.from_json(json.loads(json.dumps(report.to_json())))
    assert again.scores == report.scores
    assert again.samples == report.samples
    assert again.runs[0].metrics == report.runs[0].metrics


def test_numbers_that_are_not_finite_become_null():
    run = RunRecord(metrics=({"step": 1, "loss": math.nan}, {"step": 2, "loss": math.inf}))
    plain = Report(title="t", runs=(run,)).to_json()
    assert [row["loss"] for row in plain["runs"][0]["metrics"]] == [None, None]
    json.dumps(plain, allow_nan=False)


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ([], "report"),
        ({}, "report"),
        ({"title": 3}, "report.title"),
        ({"title": "t", "runs": {}}, "report.runs"),
        ({"title": "t", "runs": [{"metrics": [1]}]}, r"report.runs\[0\].metrics\[0\]"),
        ({"title": "t", "timeline": [{"name": "x"}]}, r"report.timeline\[0\]"),
        ({"title": "t", "compression": {"text_bytes": 10**400}}, "text_bytes"),
        ({"title": "t", "compression": {"text_bytes": True}}, "text_bytes"),
    ],
)
def test_a_damaged_record_is_refused_with_its_place(value, place):
    with pytest.raises(FileError, match=place):
        Report.from_json(value)


def test_parts_of_a_later_version_are_passed_over():
    assert Report.from_json({"title": "t", "unheard of": 1}) == Report(title="t")


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_interval_ends_solve_the_equation_that_wilson_stated(pair):
    # The ends are the shares p at which the measured share lies exactly z standard errors away.
    right, n = pair
    z = 1.959963984540054
    share = right / n
    low, high = ScoreCell(right, n).interval()
    assert 0 <= low <= share + 1e-12
    assert share - 1e-12 <= high <= 1
    for end in (low, high):
        assert (share - end) ** 2 == pytest.approx(z * z * end * (1 - end) / n, abs=1e-9)


def test_interval_agrees_with_published_values():
    # Newcombe 1998, Statistics in Medicine 17, table I, method 3: 81/263, 15/148, 0/20, 1/29
    for right, n, low, high in [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ]:
        assert ScoreCell(right, n).interval() == pytest.approx((low, high), abs=5e-5)


def test_nothing_asked_says_nothing():
    assert ScoreCell(0, 0).fraction is None
    assert ScoreCell(0, 0).interval() == (0, 1)
