"""Settings: what cannot be is refused by name; collections become tuples, so that settings can be compared."""

import pickle
import subprocess
import sys

import pytest

from twofold.decoding.sampling import Sampling
from twofold.errors import UsageError

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    "bad",
    [
        *({"temperature": x} for x in (-1, NAN, INF, "warm")),
        *({"top_k": x} for x in (0, 1.5)),
        *({"top_p": x} for x in (0, 1.5)),
        {"min_p": -0.1},
        *({"seed": x} for x in (-1, 0.5)),
        *({"dynamic_temperature": x} for x in (-1, INF)),
        *({"dynamic_temperature_exponent": x} for x in (-1, NAN)),
        *({"typical_p": x} for x in (0, 1.1)),
        *({"epsilon_cutoff": x} for x in (0, 1)),
        *({"eta_cutoff": x} for x in (0, 1)),
        *({"top_n_sigma": x} for x in (0, -1, INF)),
        *({"xtc_probability": x} for x in (-0.1, 1.1)),
        *({"xtc_threshold": x} for x in (0, 0.6)),
        *({"mirostat": x} for x in (0, 3)),
        *({"mirostat_tau": x} for x in (-1, INF)),
        *({"mirostat_eta": x} for x in (-1, NAN)),
        *({"repetition_penalty": x} for x in (0, -1, NAN)),
        {"repetition_window": 0},
        *({"frequency_penalty": x} for x in (INF, NAN)),
        *({"presence_penalty": x} for x in (-1e9, NAN)),
        {"no_repeat_ngram": 0},
        *({"dry_multiplier": x} for x in (-1, INF)),
        *({"dry_base": x} for x in (0.5, INF)),
        {"dry_allowed_length": 0},
        {"dry_window": 0},
        *({"dry_breakers": x} for x in ([-1], ["\n"], 3)),
        *({"bias": x} for x in ({-1: 1.0}, {1: INF}, {1: "more"}, 5)),
        *({"banned": x} for x in ([-1], [1.5], 7)),
        *({"allowed": x} for x in ([], [-1])),
        *({"bad_words": x} for x in ([[]], [3], [[-1]])),
        {"min_tokens": -1},
        {"compat": "vllm"},
    ],
    ids=str,
)
def test_impossible_settings_are_named(bad):
    with pytest.raises(UsageError, match=f"^{next(iter(bad))} must be "):
        Sampling(**bad)


def test_collections_in_any_form_make_equal_settings_with_equal_hashes():
    one = Sampling(
        bias={5: 1, 2: -1.0}, banned=[3, 1, 3], allowed={4, 2}, bad_words=[[2, 1]], dry_breakers=[9, 8]
    )
    two = Sampling(
        bias=[(2, -1), (5, 1.0)], banned=(1, 3), allowed=(2, 4), bad_words=((2, 1),), dry_breakers=(8, 9)
    )
    assert one == two
    assert hash(one) == hash(two)
    assert pickle.loads(pickle.dumps(one)) == one


def test_settings_that_do_nothing_are_no_stage():
    idle = Sampling(
        temperature=1, top_p=1, min_p=0, typical_p=1, dynamic_temperature=0, xtc_probability=0,
        repetition_penalty=1, frequency_penalty=0, presence_penalty=0, dry_multiplier=0, min_tokens=0,
    )  # fmt: skip
    assert idle.stages == frozenset()


@pytest.mark.parametrize(
    "history", [{"repetition_penalty": 2}, {"dry_multiplier": 1}, {"no_repeat_ngram": 3}, {"min_tokens": 1}]
)
def test_plain_settings_need_no_history(history):
    assert Sampling(temperature=0.5, top_k=40, top_p=0.9, min_p=0.1, seed=3, compat="mlx").is_plain
    assert Sampling(temperature=0, typical_p=0.5).is_plain
    assert not Sampling(**history).is_plain
    assert not Sampling(temperature=0, **history).is_plain


def test_the_settings_need_no_torch():
    code = "import sys, twofold.decoding.sampling as s; s.Sampling(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
