"""Adapters against PEFT: the same numbers, the same gradients, folders that open on either side."""

import copy
import sys
import warnings
from pathlib import Path

import numpy as np
import peft
import pytest
import torch

from twofold.models import lora
from twofold.models.adapter_files import read_adapter, save_adapter
from twofold.models.folder import load_config, load_weights
from twofold.models.lora import LoraSettings, attach, attached, merge
from twofold.training.objectives import Batch, next_token

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from families import ROWS, random_model

KINDS = {
    "lora": {},
    "rslora": {"rslora": True},
    "dora": {"dora": True},
    "rsdora": {"dora": True, "rslora": True},
}
JOINED = {"GPT-2": ("c_attn", "c_proj", "c_fc"), "Phi-3": ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")}
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")


@pytest.fixture(params=ROWS)
def theirs(request, tmp_path):
    """A random model of each family, and its folder."""
    model = random_model(request.param, np.random.default_rng([5, *request.param.encode()]))
    model.save_pretrained(tmp_path / "base")
    return request.param, model, tmp_path / "base"


def opened(folder):
    return load_weights(folder, load_config(folder))


def scores(model, tokens):
    with torch.no_grad():
        out = model(torch.tensor([tokens]))
    return (out if isinstance(out, torch.Tensor) else out.logits)[0]


def text(model):
    return torch.randint(
        0, model.config.vocab_size, (17,), generator=torch.Generator().manual_seed(1)
    ).tolist()


def with_peft(model, targets, **options):
    """The model with an adapter of PEFT's making that changes much."""
    torch.manual_seed(3)
    config = peft.LoraConfig(
        r=3, lora_alpha=5, target_modules=list(targets), task_type="CAUSAL_LM", **options
    )
    made = peft.get_peft_model(copy.deepcopy(model), config).eval()
    for name, parameter in made.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.3)
        if "magnitude" in name:
            parameter.data *= 1 + 0.5 * torch.rand_like(parameter)
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_of_peft_changes_the_model_as_peft_does(theirs, kind, tmp_path):
    row, model, folder = theirs
    wanted = KINDS[kind]
    options = {"use_rslora": wanted.get("rslora", False), "use_dora": wanted.get("dora", False)}
    made = with_peft(model, JOINED.get(row, lora.TARGETS), fan_in_fan_out=row == "GPT-2", **options)
    made.save_pretrained(tmp_path / "adapter")
    ours = opened(folder)
    adapter = read_adapter(tmp_path / "adapter", ours.config)
    tokens = text(model)
    plain = scores(ours, tokens)
    merge(ours, adapter)
    difference = (scores(ours, tokens) - scores(made, tokens)).abs().max()
    assert difference < 1e-4
    assert (scores(ours, tokens) - plain).abs().max() > 100 * difference


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_learned_here_opens_in_peft(theirs, kind, tmp_path):
    _, model, folder = theirs
    ours, settings = opened(folder), LoraSettings(rank=3, alpha=5, **KINDS[kind])
    attach(ours, settings, seed=1)
    tokens = text(model)
    assert torch.allclose(
        scores(ours, tokens), scores(model, tokens), atol=1e-4
    )  # it begins by changing nothing
    for name, parameter in ours.named_parameters():
        assert parameter.requires_grad == (".lora." in name)
        if name.endswith("lora.b"):
            parameter.data.normal_(std=0.3)
        if name.endswith("magnitude"):
            parameter.data *= 1 + 0.5 * torch.rand_like(parameter)
    save_adapter(tmp_path / "adapter", attached(ours), ours, settings, str(folder))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        again = peft.PeftModel.from_pretrained(copy.deepcopy(model), tmp_path / "adapter").eval()
    assert torch.allclose(scores(ours, tokens), scores(again, tokens), atol=1e-4)
    merged = opened(folder)
    merge(merged, read_adapter(tmp_path / "adapter", merged.config))
    assert torch.allclose(scores(ours, tokens), scores(merged, tokens), atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_gradients_are_those_of_peft(kind, dropout, tmp_path, monkeypatch):
    model = random_model("Qwen2", np.random.default_rng(2))  # with biases
    model.save_pretrained(tmp_path / "base")
    settings = LoraSettings(rank=3, alpha=5, dropout=dropout, **KINDS[kind])
    ours = opened(tmp_path / "base")
    attach(ours, settings, seed=1)
    for name, parameter in ours.named_parameters():
        if name.endswith("lora.b"):
            parameter.data.normal_(std=0.3)
    save_adapter(tmp_path / "adapter", attached(ours), ours, settings, None)
    theirs = peft.PeftModel.from_pretrained(model, tmp_path / "adapter", is_trainable=True)
    monkeypatch.setattr(
        torch.nn.functional, "dropout", lambda x, p, training=True, inplace=False: x * (x > -p / 3)
    )
    tokens = torch.tensor([text(model)])
    ours.train()
    theirs.train()
    ours(tokens).square().mean().backward()
    theirs(tokens).logits.square().mean().backward()
    found = {
        name: parameter.grad for name, parameter in theirs.named_parameters() if parameter.grad is not None
    }
    compared = 0
    for name, parameter in ours.named_parameters():
        if ".lora." not in name:
            assert parameter.grad is None
            continue
        stem, _, kind = name.partition(".lora.")
        theirs_name = {"a": "lora_A.default.weight", "b": "lora_B.default.weight"}.get(
            kind, "lora_magnitude_vector.default.weight"
        )
        expected = found.pop(f"base_model.model.{stem}.{theirs_name}")
        assert torch.allclose(
            parameter.grad, expected, rtol=1e-3, atol=1e-6 * float(expected.abs().max()) + 1e-9
        )
        compared += 1
    assert compared
    assert not found


# ---- Rows of tokens. ----
def with_rows(made):
    for name, parameter in made.named_parameters():
        if "trainable_tokens_delta" in name:
            parameter.data.normal_()
    return made


@pytest.mark.parametrize("both", [False, True], ids=["embedding", "and output"])
def test_learned_rows_of_tokens_are_those_of_peft(theirs, both, tmp_path):
    row, model, folder = theirs
    embedding = "wte" if row == "GPT-2" else "embed_tokens"
    ids = [5, 1, model.config.vocab_size - 1]
    asked = {embedding: ids, "lm_head": ids} if both else ids
    made = with_rows(
        with_peft(
            model,
            JOINED.get(row, lora.TARGETS),
            fan_in_fan_out=row == "GPT-2",
            trainable_token_indices=asked,
        )
    )
    made.save_pretrained(tmp_path / "theirs")
    ours, tokens = opened(folder), [*ids, *text(model)][:20]
    adapter = read_adapter(tmp_path / "theirs", ours.config)
    assert all(rows.ids == tuple(ids) for rows in adapter.rows.values())
    assert len(adapter.rows) == 1 + (both and not ours.config.tie_word_embeddings)
    merge(ours, adapter)
    expected = scores(made, tokens)
    assert (scores(ours, tokens) - expected).abs().max() <= 1e-4 * max(1, expected.abs().max())
    assert (expected - scores(model, tokens)).abs().max() > 0.1


def test_rows_that_are_learned_here_open_there(theirs, tmp_path):
    _, model, folder = theirs
    ours, ids = opened(folder), [7, 2, 3]
    settings = LoraSettings(rank=2)
    attach(ours, settings, tokens=ids)
    for parameter in ours.parameters():
        if parameter.requires_grad:
            parameter.data.normal_(std=0.3)
    expected = scores(ours, [*ids, *text(model)])
    (tmp_path / "ours").mkdir()
    save_adapter(tmp_path / "ours", attached(ours), ours, settings, str(folder))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        there = peft.PeftModel.from_pretrained(copy.deepcopy(model), tmp_path / "ours").eval()
    found = scores(there, [*ids, *text(model)])
    assert (found - expected).abs().max() <= 2e-4 * max(1, expected.abs().max())
    again = opened(folder)
    merge(again, read_adapter(tmp_path / "ours", again.config))
    assert (scores(again, [*ids, *text(model)]) - expected).abs().max() <= 1e-3 * max(1, expected.abs().max())


def test_the_gradient_of_a_row_is_that_of_the_whole_embeddings(theirs):
    _, model, folder = theirs
    whole, part, ids = opened(folder), opened(folder), [5, 9]
    tokens = [*ids, *text(model)]
    attach(part, LoraSettings(rank=2), tokens=ids)
    for one in (whole, part):
        batch = Batch(torch.tensor([tokens[:-1]]), torch.tensor([tokens[1:]]))
        next_token(one, batch).backward()
    expected = whole.model.embed_tokens.weight.grad[ids]
    assert torch.allclose(part.model.embed_tokens.rows.values.grad, expected, atol=1e-4, rtol=1e-3)
    assert part.model.embed_tokens.weight.grad is None
    if not whole.config.tie_word_embeddings:
        output = part.lm_head.rows.values.grad
        assert torch.allclose(output, whole.lm_head.weight.grad[ids], atol=1e-4, rtol=1e-3)
