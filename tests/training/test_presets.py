"""Which size is chosen for the time there is."""

import pytest
import torch

from twofold.training import presets
from twofold.training.presets import TOKENS_PER_PARAMETER, plan, tokens_per_second
from twofold.training.shapes import PRESETS

CPU = torch.device("cpu")


@pytest.fixture
def speed(monkeypatch):
    """A machine that does so many operations a second, whatever the shape; what it was asked for."""
    asked = []

    def of(flops):
        def measured(shape, device, precision):
            asked.append(shape)
            return flops / shape.config().flops_per_token(shape.row_tokens)

        monkeypatch.setattr(presets, "tokens_per_second", measured)
        return asked

    return of


@pytest.mark.parametrize("flops", [1e9, 1e11, 1e13, 1e16])
@pytest.mark.parametrize("minutes", [1, 10, 300])
def test_the_largest_size_that_sees_enough_tokens_is_chosen(speed, flops, minutes):
    asked = speed(flops)
    found = plan(minutes, CPU, torch.float32)
    fits = {}
    for name, shape in PRESETS.items():
        config = shape.config()
        tokens = 60 * minutes * flops / config.flops_per_token(shape.row_tokens)
        fits[name] = tokens >= TOKENS_PER_PARAMETER * config.matmul_parameters()
    wanted = [name for name in PRESETS if fits[name]]
    assert found.preset == (wanted[-1] if wanted else "nano")
    assert found.flops == pytest.approx(flops, rel=1e-3)
    assert len(asked) <= len(wanted) + 1  # none is tried that is larger than the first too large one
    assert 8 <= found.batch_rows <= 64
    assert found.batch_rows.bit_count() == 1


def test_a_vocabulary_is_no_larger_than_the_text_has_use_for(speed):
    asked = speed(1e11)
    assert plan(10, CPU, torch.float32, "mini").vocab_size == PRESETS["mini"].vocab_size
    found = plan(10, CPU, torch.float32, "mini", most_tokens=2048)
    assert found.vocab_size == found.shape.vocab_size == asked[-1].vocab_size == 2048
    assert found.shape.layers == PRESETS["mini"].layers
    assert plan(10, CPU, torch.float32, "nano", most_tokens=1 << 20).vocab_size == PRESETS["nano"].vocab_size


def test_more_processes_read_more_and_share_the_rows(speed):
    speed(1e11)
    one, three = (plan(10, CPU, torch.float32, "micro", processes) for processes in (1, 3))
    assert three.preset == one.preset == "micro"
    assert three.tokens == pytest.approx(3 * one.tokens, rel=1e-3)
    assert three.batch_rows % 3 == 0


def test_a_speed_is_measured_once_and_leaves_the_dice_alone():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    found = tokens_per_second(PRESETS["nano"], CPU, torch.float32)
    assert torch.equal(torch.rand(3), expected)
    assert 10 < found < 1e7
    hits = tokens_per_second.cache_info().hits
    assert tokens_per_second(PRESETS["nano"], CPU, torch.float32) == found
    assert tokens_per_second.cache_info().hits == hits + 1


@pytest.mark.parametrize("name", PRESETS)
def test_rows_are_whole_blocks(name):
    """Else what is exported falls back to types twice as large."""
    config = PRESETS[name].config()
    for row in (config.hidden_size, config.intermediate_size, config.num_attention_heads * config.head_dim):
        assert row % 32 == 0
