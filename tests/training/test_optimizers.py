"""Muon and AdamW against torch's own, and the property that defines Muon."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from twofold.errors import FileError
from twofold.training.optimizers import Muon, Optimizer, group_parameters, orthogonalize
from twofold.training.settings import TrainSettings
from twofold.training.slices import read_parts, write_parts


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), rows=st.integers(2, 48), columns=st.integers(2, 48))
def test_orthogonalizing_keeps_singular_vectors_and_levels_singular_values(seed, rows, columns):
    torch.manual_seed(seed)
    rank = min(rows, columns)
    left = torch.linalg.qr(torch.randn(rows, rank, dtype=torch.float64))[0]
    right = torch.linalg.qr(torch.randn(columns, rank, dtype=torch.float64))[0]
    values = torch.rand(rank, dtype=torch.float64) * 0.8 + 0.2
    found = orthogonalize(((left * values) @ right.T).float()[None])[0].double()
    core = left.T @ found @ right  # diagonal when the singular vectors are kept
    assert (core - core.diag().diag()).abs().max() < 1e-3
    assert core.diag().min() > 0.6
    assert core.diag().max() < 1.3


@pytest.mark.parametrize("shape", [(24, 48), (48, 24), (40, 200), (40, 41), (1, 7), (7, 1)])
@pytest.mark.parametrize("iterations", [1, 2, 3, 5])
def test_wide_matrices_go_the_short_way_to_the_same_result(shape, iterations):
    torch.manual_seed(0)
    left, _, right = torch.linalg.svd(torch.randn(3, *shape, dtype=torch.float64), full_matrices=False)
    fading = torch.logspace(0, -4, left.shape[-1], dtype=torch.float64)  # as gradients are
    matrices = (left * fading) @ right
    matrices[1] = 0
    exact = orthogonalize(matrices, torch.float64, iterations)
    found = orthogonalize(matrices.float(), torch.float32, iterations).double()
    assert (found - exact).norm() < 1e-3 * exact.norm()
    assert not found[1].any()


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_muon_equals_torchs_up_to_its_bfloat16(precision):
    torch.manual_seed(0)
    shapes = {"a": (16, 48), "b": (48, 16), "c": (16, 48)}
    ours = {name: torch.randn(shape).requires_grad_() for name, shape in shapes.items()}
    theirs = [p.detach().clone().requires_grad_() for p in ours.values()]
    muon = Muon(ours, 0.95, precision)
    reference = torch.optim.Muon(theirs, lr=0.02, weight_decay=0.1, momentum=0.95)
    for _ in range(6):
        for mine, other in zip(ours.values(), theirs, strict=True):
            mine.grad = torch.randn_like(mine)
            other.grad = mine.grad.clone()
        muon.step(0.02, 0.1)
        reference.step()
    for mine, other in zip(ours.values(), theirs, strict=True):
        moved = (mine - other).norm() / (0.02 * 6 * mine.shape[0] ** 0.5)
        assert moved < 0.02


def test_the_rest_is_torchs_adamw(make_model):
    settings_ = TrainSettings(steps=1, weight_decay=0.1, embedding_lr=0.01, norm_lr=0.003)
    model, twin = make_model(), make_model()
    optimizer = Optimizer(model, settings_)
    groups = group_parameters(twin.named_parameters())
    options = {"betas": (settings_.beta1, settings_.beta2), "eps": 1e-10}
    reference = torch.optim.AdamW(
        [
            {"params": list(groups["embeddings"].values()), "lr": 0.005, "weight_decay": 0.1},
            {"params": list(groups["norms"].values()), "lr": 0.0015, "weight_decay": 0.0},
        ],
        **options,
    )
    for _ in range(4):
        for mine, other in zip(model.parameters(), twin.parameters(), strict=True):
            mine.grad = torch.randn_like(mine)
            other.grad = mine.grad.clone()
        optimizer.step(0.5)
        reference.step()
    for kind in ("embeddings", "norms"):
        for name, other in groups[kind].items():
            assert torch.allclose(model.get_parameter(name), other, atol=1e-6)


@pytest.mark.parametrize("tied", [True, False])
def test_every_parameter_is_in_exactly_one_group(make_model, tied):
    model = make_model(tie_word_embeddings=tied)
    groups = group_parameters(model.named_parameters())
    names = [name for group in groups.values() for name in group]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())
    assert len(groups["matrices"]) == 2 * 7
    assert len(groups["embeddings"]) == (1 if tied else 2)


def test_state_goes_round_and_a_strangers_is_refused(make_model, tmp_path):
    settings_ = TrainSettings(steps=1)
    model = make_model()
    optimizer = Optimizer(model, settings_)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step(1.0)
    saved, file = optimizer.tensors(), tmp_path / "optimizer.safetensors"
    write_parts(file, saved)
    fresh = Optimizer(make_model(), settings_)
    read_parts([file], fresh.tensors())
    assert all(torch.equal(fresh.tensors()[name], tensor) for name, tensor in saved.items())
    with pytest.raises(FileError, match="another shape"):
        read_parts([file], Optimizer(make_model(hidden_size=64), settings_).tensors())
