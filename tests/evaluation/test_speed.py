"""Speeds are measured with a clock that the model itself moves, so that what comes out is known."""

import shutil

import pytest
import torch

from twofold.evaluation import speed
from twofold.models.c_library import COMPILERS
from twofold.models.config import TransformerConfig
from twofold.models.cost import Rates, Shape, prefill_flops
from twofold.models.memory import PagedMemory


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now


class Fake:
    """A language model that does nothing, in the time that `seconds(asks, held)` says."""

    def __init__(self, clock, seconds, context=512):
        self.clock, self.seconds, self.context_length, self.vocab_size = clock, seconds, context, 64
        self.asked = []

    def new_memory(self, pages=None):
        return PagedMemory(pages=pages)

    def scores(self, memory, asks):
        self.asked.append([len(ask.tokens) for ask in asks])
        held = [memory.length(ask.sequence) for ask in asks]
        with memory.append([(ask.sequence, len(ask.tokens)) for ask in asks]):
            pass
        self.clock.now += self.seconds(asks, held)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(speed, "time", clock)
    return clock


def tokens_of(asks):
    return sum(len(ask.tokens) for ask in asks)


def test_a_prompt_and_the_tokens_after_it_are_timed_apart(clock):
    model = Fake(clock, lambda asks, held: 0.001 * tokens_of(asks) + 0.01 * (tokens_of(asks) == len(asks)))
    found, length = speed.measure(model, 100, 4)
    assert length == 100
    assert found.prefill == pytest.approx(1000)
    assert found.decode == pytest.approx(1 / 0.011)
    assert found.together == pytest.approx(4 / 0.014)
    assert max(map(len, model.asked)) == 4
    assert found.together > speed.measure(model, 100, 1)[0].decode


def test_texts_stand_at_the_length_of_the_prompt(clock):
    model = Fake(clock, lambda asks, held: max(0.001, 0.001 * max(held)))
    found, length = speed.measure(model, 60, 2)
    assert 1 / found.decode == pytest.approx(0.001 * length)


def test_a_slow_model_is_measured_with_a_shorter_prompt(clock):
    model = Fake(clock, lambda asks, held: 0.1 * tokens_of(asks))
    found, length = speed.measure(model, 400, 2, seconds=6)
    assert 16 <= length < 40
    assert found.prefill == pytest.approx(10)
    assert clock.now < 60
    slowest = Fake(clock, lambda asks, held: 100.0 * tokens_of(asks))
    assert speed.measure(slowest, 400, 1)[1] == 16


def test_a_prompt_fits_the_context(clock):
    model = Fake(clock, lambda asks, held: 0.01, context=32)
    assert speed.measure(model, 4096, 1)[1] == 31


def test_rates_are_those_by_which_the_model_spends_its_time(clock):
    config = TransformerConfig(
        vocab_size=64, hidden_size=32, num_hidden_layers=4, num_attention_heads=2, num_key_value_heads=2, head_dim=16,
        intermediate_size=64, max_position_embeddings=512,
    )  # fmt: skip
    shape, layer, token = Shape.of(config), 1e-3, 1e-5

    def small(asks, held):
        return speed._MANY * (layer + token * (tokens_of(asks) - 1) * 40 / 39)

    def large(asks, held):
        if tokens_of(asks) > len(asks):
            return prefill_flops(shape, tokens_of(asks)) / 1e8 + 4 * (layer + tokens_of(asks) * token)
        return shape.matrices * 4 / (1e6 if len(asks) == 1 else 5e5) + 4 * layer

    models = iter([Fake(clock, small), Fake(clock, large)])
    rates = speed._rates(models, config, 40, 8, 4.0)
    assert rates.layer == pytest.approx(layer)
    assert rates.token == pytest.approx(token)
    assert rates.multiplies == pytest.approx(1e8)
    assert dict(rates.reads) == pytest.approx({1: 1e6, 8: 5e5})


@pytest.fixture
def small(monkeypatch):
    """Probes that take no time; what they tell means nothing."""
    monkeypatch.setattr(speed, "CACHES", 1)
    monkeypatch.setattr(speed, "TRY", 0.001)
    monkeypatch.setattr(speed, "PROBE_TOKENS", 16)
    for rates in (speed.torch_rates, speed.c_rates):
        rates.cache_clear()
    yield
    for rates in (speed.torch_rates, speed.c_rates):
        rates.cache_clear()


@pytest.mark.parametrize("batch", [1, 3])
def test_this_machine_is_measured_through_torch(small, batch):
    rates = speed.torch_rates(torch.float32, "cpu", batch)
    assert isinstance(rates, Rates)
    assert set(rates.reads) == {1, batch}
    assert min(rates.multiplies, rates.layer, *rates.reads.values()) > 0


@pytest.mark.skipif(not any(map(shutil.which, COMPILERS)), reason="there is no C compiler here")
@pytest.mark.parametrize("recipe", ["f32", "q8_0", "q4_0"])
def test_this_machine_is_measured_through_run_c(small, recipe):
    rates = speed.c_rates(recipe, 2)
    assert set(rates.reads) == {1, 2}
    assert min(rates.multiplies, *rates.reads.values()) > 0


def test_free_memory_is_told():
    assert 1 << 20 < speed.free_memory("cpu") < 1 << 60
