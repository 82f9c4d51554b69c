"""The stages against llama.cpp's own samplers, called through the library that `xllamacpp` brings.

The functions called are llama.cpp's own and may change with it, and a call in a wrong form can do anything:
so they are only called in the version whose forms are written down here.
"""

import ctypes
from importlib import metadata

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from twofold.decoding.distribution import Row, adjust, log_probabilities, update_mirostat
from twofold.decoding.sampling import Sampling

xllamacpp = pytest.importorskip("xllamacpp")
VERSION = "2026.10.11549"
WIDTH = 40
seeds = st.integers(0, 2**31)


class Token(ctypes.Structure):
    _fields_ = [("id", ctypes.c_int32), ("logit", ctypes.c_float), ("p", ctypes.c_float)]


class Tokens(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.POINTER(Token)),
        ("size", ctypes.c_size_t),
        ("selected", ctypes.c_int64),
        ("sorted", ctypes.c_bool),
    ]


f, i, u, z = ctypes.c_float, ctypes.c_int32, ctypes.c_uint32, ctypes.c_size_t
SIGNATURES = {
    "top_k": (i,), "top_p": (f, z), "min_p": (f, z), "typical": (f, z), "temp": (f,), "temp_ext": (f, f, f),
    "xtc": (f, f, z, u), "top_n_sigma": (f,), "mirostat": (i, u, f, f, i), "mirostat_v2": (u, f, f),
    "penalties": (i, i, f, f, f), "dry": (ctypes.c_void_p, f, f, i, i, ctypes.c_void_p, z),
}  # fmt: skip


@pytest.fixture(scope="module")
def library():
    if metadata.version("xllamacpp") != VERSION:
        pytest.skip(f"the forms of llama.cpp's functions are those of xllamacpp {VERSION}")
    library = ctypes.CDLL(xllamacpp.xllamacpp.__file__)
    if not hasattr(library, "llama_sampler_apply"):
        pytest.skip("this xllamacpp does not show llama.cpp's functions")
    for name, types in SIGNATURES.items():
        function = getattr(library, f"llama_sampler_init_{name}")
        function.restype, function.argtypes = ctypes.c_void_p, types
    library.llama_sampler_apply.argtypes = [ctypes.c_void_p, ctypes.POINTER(Tokens)]
    library.llama_sampler_accept.argtypes = [ctypes.c_void_p, i]
    library.llama_sampler_free.argtypes = [ctypes.c_void_p]
    return library


class Chain:
    """Samplers of llama.cpp, one after the other."""

    def __init__(self, library, *samplers):
        self.library = library
        self.samplers = [
            getattr(library, f"llama_sampler_init_{name}")(*values) for name, *values in samplers
        ]

    def accept(self, tokens):
        for token in tokens:
            for sampler in self.samplers:
                self.library.llama_sampler_accept(sampler, token)

    def __call__(self, scores_V):
        """(log-probabilities [V] of what is left, the token chosen if one of them chooses)"""
        data = (Token * len(scores_V))(*((at, float(score), 0.0) for at, score in enumerate(scores_V)))
        array = Tokens(data, len(scores_V), -1, False)
        for sampler in self.samplers:
            self.library.llama_sampler_apply(sampler, ctypes.byref(array))
        left = torch.full((len(scores_V),), float("-inf"))
        for at in range(array.size):
            left[array.data[at].id] = array.data[at].logit
        return left.log_softmax(-1), array.data[array.selected].id if array.selected >= 0 else None

    def close(self):
        for sampler in self.samplers:
            self.library.llama_sampler_free(sampler)


def scores(seed, width=WIDTH):
    generator = torch.Generator().manual_seed(seed)
    spread = 10 ** (torch.rand(1, generator=generator) * 1.2 - 0.3)
    return torch.randn(1, width, generator=generator) * spread


def near(value):
    """As llama.cpp sees it: a number in 32 bits."""
    return float(np.float32(value))


CASES = {
    "top_k": (st.integers(1, 40), lambda x: [("top_k", x)], lambda x: {"top_k": x}),
    "top_p": (st.floats(0.05, 0.95), lambda x: [("top_p", x, 1)], lambda x: {"top_p": x}),
    "min_p": (st.floats(0.01, 0.9), lambda x: [("min_p", x, 1)], lambda x: {"min_p": x}),
    "typical": (st.floats(0.05, 0.95), lambda x: [("typical", x, 1)], lambda x: {"typical_p": x}),
    "top_n_sigma": (st.floats(0.1, 3), lambda x: [("top_n_sigma", x)], lambda x: {"top_n_sigma": x}),
    "xtc": (
        st.floats(0.01, 0.5),
        lambda x: [("xtc", 1.0, x, 1, 0)],
        lambda x: {"xtc_probability": 1, "xtc_threshold": x},
    ),
    "dynamic temperature": (
        st.floats(0.1, 2),
        lambda x: [("top_k", 30), ("temp_ext", 1.0, x, 1.5)],
        lambda x: {"top_k": 30, "dynamic_temperature": x, "dynamic_temperature_exponent": 1.5},
    ),
    # without typical: after top-n-sigma theirs computes with NaN (0 · log 0)
    "the chain": (
        st.floats(0.3, 0.8),
        lambda x: [
            ("top_n_sigma", 3.0), ("top_k", 20), ("top_p", 0.96, 1), ("min_p", 0.01, 1),
            ("xtc", 1.0, 0.15, 1, 0), ("temp_ext", x, 0.0, 1.0),
        ],
        lambda x: {
            "top_n_sigma": 3.0, "top_k": 20, "top_p": 0.96, "min_p": 0.01,
            "xtc_probability": 1, "xtc_threshold": 0.15, "temperature": x,
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_is_left_is_what_llama_cpp_leaves(library, name):
    values, theirs, ours = CASES[name]

    @settings(max_examples=80, deadline=None)
    @given(seed=seeds, value=values.map(near if name != "top_k" else int))
    def equal(seed, value):
        raw = scores(seed)
        chain = Chain(library, *theirs(value))
        expected, _ = chain(raw[0])
        chain.close()
        row = Row(Sampling(**{"temperature": 1, "compat": "llama.cpp"} | ours(value)))
        found = adjust(raw, [row], uniforms=[0.0])[0].log_softmax(-1)
        assert torch.equal(found.isinf(), expected.isinf())
        assert torch.allclose(found.exp(), expected.exp(), atol=1e-4)

    equal()


@settings(max_examples=80, deadline=None)
@given(
    seed=seeds,
    history=st.lists(st.integers(0, 3), max_size=50),
    repeat=st.floats(0.5, 2).map(near),
    frequency=st.floats(-1, 1).map(near),
    presence=st.floats(-1, 1).map(near),
)
def test_penalties_are_those_of_llama_cpp_on_an_answer(library, seed, history, repeat, frequency, presence):
    raw = scores(seed)
    chain = Chain(library, ("penalties", WIDTH, 64, repeat, frequency, presence))
    chain.accept(history)
    expected, _ = chain(raw[0])
    chain.close()
    own = Sampling(
        temperature=1, repetition_penalty=repeat, frequency_penalty=frequency, presence_penalty=presence
    )
    found = adjust(raw, [Row(own, [], history)])[0].log_softmax(-1)
    assert torch.allclose(found, expected, atol=1e-4)


@settings(max_examples=150, deadline=None)
@given(
    seed=seeds,
    kinds=st.integers(1, 4),
    history=st.lists(st.integers(0, 3), max_size=60),
    multiplier=st.floats(0.1, 2).map(near),
    base=st.floats(1, 1.5).map(near),
    allowed=st.integers(1, 4),
    window=st.integers(1, 70),
)
def test_dry_is_that_of_llama_cpp(library, seed, kinds, history, multiplier, base, allowed, window):
    raw = scores(seed)
    history = [token % kinds for token in history]
    chain = Chain(library, ("dry", None, multiplier, base, allowed, window, None, 0))
    chain.accept(history)
    expected, _ = chain(raw[0])
    chain.close()
    own = Sampling(
        temperature=1, dry_multiplier=multiplier, dry_base=base, dry_allowed_length=allowed, dry_window=window
    )
    found = adjust(raw, [Row(own, history[:9], history[9:])])[0].log_softmax(-1)
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-3)


def wanted_by_mirostat(scores, mu):
    """k of the paper (arXiv 2007.14966, equation 2 and section 4), which has no upper bound, from the best 100."""
    best = scores.double().log_softmax(-1).sort(descending=True).values[:100].numpy()
    t, b = np.log(np.arange(2, 101) / np.arange(1, 100)), best[:-1] - best[1:]
    s = (t * b).sum() / (t * t).sum()
    with np.errstate(over="ignore"):
        return (2.0**mu * (s - 1) / (1 - len(scores) ** -(s - 1))) ** (1 / s)


@settings(max_examples=60, deadline=None)
@given(seed=seeds, version=st.sampled_from([1, 2]), tau=st.floats(0.5, 5).map(near))
def test_mirostat_keeps_what_llama_cpp_keeps_token_after_token(library, seed, version, tau):
    width, eta = 200, near(0.3)
    names = {1: ("mirostat", width, seed, tau, eta, 100), 2: ("mirostat_v2", seed, tau, eta)}
    chain = Chain(library, ("temp", 0.75), names[version])
    row = Row(
        Sampling(temperature=0.75, mirostat=version, mirostat_tau=tau, mirostat_eta=eta, compat="llama.cpp")
    )
    for step in range(6):
        raw = scores(seed + step, width)
        if version == 1 and wanted_by_mirostat(raw[0] / 0.75, row.mirostat or 2 * tau) >= 2**31:
            break  # they make an int of it, and in C that can become anything
        expected, token = chain(raw[0])
        kept = adjust(raw, [row])
        found = kept[0].log_softmax(-1)
        # one token on the edge may fall to either side: what they call mu is in 32 bits
        assert (found.isinf() != expected.isinf()).sum() <= 1
        log = float(log_probabilities(kept, torch.tensor([token]))[0])
        if not np.isfinite(log):
            break
        row.mirostat = update_mirostat(row.settings, row.mirostat, log)
    chain.close()
