"""Loss and attention against `transformers`, torch's own kernel and numerical gradients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import Qwen3Config, Qwen3ForCausalLM

from twofold.models.transformer import causal_attention
from twofold.training.attention import BLOCK, LONGEST, CpuAttention, FusedAttention, flexible
from twofold.training.batches import split_batch
from twofold.training.objectives import IGNORE, Batch, next_token


def random_batch(vocab, rows=4, length=20, seed=0):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randint(0, vocab, (rows, length), generator=generator)
    targets = torch.randint(0, vocab, (rows, length), generator=generator)
    targets[torch.rand(targets.shape, generator=generator) < 0.3] = IGNORE
    return Batch(inputs, targets)


def test_loss_and_gradients_equal_transformers(make_model):
    model = make_model()
    for p in model.parameters():
        p.data.normal_(std=0.2).add_(p.ndim == 1)
    theirs = Qwen3ForCausalLM(Qwen3Config(**model.config.to_hf()))
    theirs.load_state_dict(model.state_dict(), strict=False)
    theirs.tie_weights()
    batch = random_batch(model.config.vocab_size)
    model.attend = CpuAttention(20, torch.float32)
    model.keep_rotary(20)
    loss = next_token(model, batch) / batch.count()
    loss.backward()
    logits = theirs(batch.inputs).logits
    expected = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), batch.targets.flatten(), ignore_index=IGNORE
    )
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for name, parameter in theirs.named_parameters():
        if name != "lm_head.weight":
            assert torch.allclose(model.get_parameter(name).grad, parameter.grad, atol=1e-4), name


@settings(max_examples=25, deadline=None)
@given(
    kv=st.sampled_from([1, 2]),
    groups=st.sampled_from([1, 2, 3]),
    length=st.integers(1, 40) | st.integers(BLOCK - 1, 2 * BLOCK + 1) | st.just(LONGEST),
    seed=st.integers(0, 1000),
)
def test_training_attention_equals_torchs_kernel_forward_and_backward(kv, groups, length, seed):
    generator = torch.Generator().manual_seed(seed)

    def tensor(heads):
        return torch.randn(2, heads, length, 8, generator=generator, dtype=torch.float64).requires_grad_()

    ours = [tensor(kv * groups), tensor(kv), tensor(kv)]
    theirs = [x.detach().clone().requires_grad_() for x in ours]
    out, expected = CpuAttention(length, torch.float64)(0, *ours), causal_attention(0, *theirs)
    assert torch.allclose(out, expected, atol=1e-10)
    weights = torch.randn(out.shape, generator=generator, dtype=torch.float64)
    (out * weights).sum().backward()
    (expected * weights).sum().backward()
    for mine, other in zip(ours, theirs, strict=True):
        assert torch.allclose(mine.grad, other.grad, atol=1e-9)


def test_training_attention_passes_numerical_gradients():
    torch.manual_seed(0)
    q = torch.randn(1, 4, 5, 4, dtype=torch.float64, requires_grad=True)
    k, v = (torch.randn(1, 2, 5, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(lambda *x: CpuAttention(5, torch.float64)(0, *x), (q, k, v))


def test_training_attention_works_under_bfloat16_autocast(make_model):
    model = make_model()
    batch = random_batch(model.config.vocab_size)
    plain = next_token(model, batch).item()
    model.attend = CpuAttention(20, torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = next_token(model, batch)
    loss.backward()
    assert loss.item() == pytest.approx(plain, rel=0.01)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize("kind", ["kept", "fused", "too long to keep"])
def test_documents_in_a_row_do_not_see_each_other(kind, make_model):
    model = make_model()
    for p in model.parameters():
        p.data.normal_(std=0.2).add_(p.ndim == 1)
    theirs = Qwen3ForCausalLM(Qwen3Config(**model.config.to_hf()))
    theirs.load_state_dict(model.state_dict(), strict=False)
    theirs.tie_weights()
    batch = random_batch(model.config.vocab_size)
    ends = [[20], [7, 20], [1, 2, 13, 20], [19, 20]]  # of the documents in each row
    parts = torch.stack([torch.bucketize(torch.arange(20), torch.tensor(row), right=True) for row in ends])
    if kind != "fused":
        model.attend = CpuAttention(20 if kind == "kept" else 8, torch.float32)
    next_token(model, Batch(batch.inputs, batch.targets, parts)).backward()
    expected = torch.zeros(())
    for row, last in enumerate(ends):
        for start, end in zip([0, *last], last, strict=False):
            logits = theirs(batch.inputs[row : row + 1, start:end]).logits[0]
            expected += torch.nn.functional.cross_entropy(
                logits, batch.targets[row, start:end], ignore_index=IGNORE, reduction="sum"
            )
    expected.backward()
    for name, parameter in theirs.named_parameters():
        if name != "lm_head.weight":
            assert torch.allclose(model.get_parameter(name).grad, parameter.grad, atol=2e-4, rtol=1e-4), name


def test_flexible_attention_is_the_fused_one():
    torch.manual_seed(0)
    q = torch.randn(2, 4, 200, 16)
    k, v = (torch.randn(2, 2, 200, 16) for _ in range(2))
    parts = torch.randint(0, 2, (2, 200)).cumsum(1) // 30
    with pytest.warns(UserWarning, match="unfused"):
        out = flexible(q, k, v, parts)
    assert torch.allclose(out, FusedAttention(parts)(0, q, k, v), atol=1e-5)


def test_micro_batches_cover_the_batch():
    batch = random_batch(50, rows=7)
    batch = Batch(batch.inputs, batch.targets, torch.arange(140).view(7, 20))
    parts = list(split_batch(batch, 3))
    assert [len(part.inputs) for part in parts] == [3, 3, 1]
    assert sum(part.count() for part in parts) == batch.count()
    assert torch.equal(torch.cat([part.targets for part in parts]), batch.targets)
    assert torch.equal(torch.cat([part.parts for part in parts]), batch.parts)


@pytest.mark.parametrize(
    ("model_type", "more"),
    [
        (
            "gemma2",
            {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0, "query_pre_attn_scalar": 9},
        ),
        ("mistral", {}),
    ],
)
@pytest.mark.parametrize("on_cpu", [True, False])
def test_windows_and_caps_stay_within_the_documents_of_a_row(make_model, on_cpu, model_type, more):
    """A packed row costs what its documents cost alone."""
    model = make_model(model_type=model_type, sliding_window=4, **more)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    row = torch.randint(0, model.config.vocab_size, (1, 18))
    if on_cpu:
        model.attend = CpuAttention(17, torch.float32)
    parts = torch.tensor([[0] * 10 + [1] * 7])
    targets = row[:, 1:].clone()
    targets[0, 9] = IGNORE
    together = next_token(model, Batch(row[:, :-1], targets, parts))
    alone = next_token(model, Batch(row[:, :9], row[:, 1:10])) + next_token(
        model, Batch(row[:, 10:17], row[:, 11:18])
    )
    assert together.item() == pytest.approx(alone.item(), rel=1e-5)
    together.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
