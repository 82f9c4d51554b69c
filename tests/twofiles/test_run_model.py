"""run.py's arithmetic, against transformers and against itself."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen3Config, Qwen3ForCausalLM

from twofold.models.from_gguf import open_gguf
from twofold.models.load import load_model
from twofold.twofiles import run

IDS = np.random.default_rng(0).integers(0, 440, 100)


def theirs(model, ids) -> np.ndarray:
    with torch.no_grad():
        return model(torch.tensor(np.asarray(ids))[None]).logits[0].numpy()


def ours(session: run.Session, pieces) -> np.ndarray:
    """Logits [T, V] of `pieces` of tokens, read one after another into one memory."""
    memory = run.Memory(session.model)
    vectors = [session.model.read([int(i) for i in piece], memory) for piece in pieces]
    assert memory.length == sum(map(len, pieces))
    return session.model.output.times(np.concatenate(vectors))


def assert_close(found, expected, tolerance=1e-4):
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("name", ["tied", "untied"])
def test_logits_equal_those_of_transformers(name, folders, opened):
    model = AutoModelForCausalLM.from_pretrained(folders / name)
    assert_close(ours(opened(name), [IDS]), theirs(model, IDS))


@pytest.mark.parametrize("name", ["tied", "untied"])
def test_logits_equal_those_of_our_own_transformer(name, folders, opened):
    model, _, _ = load_model(folders / name)
    with torch.no_grad():
        expected = model(torch.tensor(IDS)[None])[0].numpy()
    assert_close(ours(opened(name), [IDS]), expected)


@pytest.mark.parametrize("type", ["f16", "bf16", "q8_0"])
@pytest.mark.parametrize("name", ["tied", "untied"])
def test_quantised_logits_equal_transformers_with_the_same_weights(name, type, exported, opened):
    contents = open_gguf(exported(name, type) / "model.gguf")
    model = Qwen3ForCausalLM(Qwen3Config(**contents.config.to_hf())).eval()
    weights = {name: torch.from_numpy(weight) for name, weight in contents.weights.items()}
    missing = model.load_state_dict(weights, strict=False).missing_keys
    assert missing == (["lm_head.weight"] if name == "tied" else [])
    model.tie_weights()
    assert_close(ours(opened(name, type), [IDS]), theirs(model, IDS))


@pytest.mark.parametrize(
    "cuts", [list(range(1, 100)), [1, 2, 50], [99]], ids=["one by one", "uneven", "all but the last"]
)
def test_reading_in_pieces_equals_reading_at_once(cuts, opened):
    session = opened()
    assert_close(ours(session, np.split(IDS, cuts)), ours(session, [IDS]), 1e-5)


def test_long_prompts_are_read_in_pieces_of_512(opened, monkeypatch):
    session = opened("long")
    ids = np.random.default_rng(1).integers(0, 440, 1100).tolist()
    pieces, read_piece = [], run.Model.read_piece

    def counting(self, tokens, memory):
        pieces.append(len(tokens))
        return read_piece(self, tokens, memory)

    monkeypatch.setattr(run.Model, "read_piece", counting)
    found = ours(session, [ids])
    assert pieces == [512, 512, 76]
    whole = session.model.output.times(read_piece(session.model, ids, run.Memory(session.model)))
    assert_close(found, whole, 1e-5)


def test_attention_scores_stay_within_64_megabytes(opened, monkeypatch):
    session = opened("long")
    heads, sizes = session.model.heads, []

    def measuring(self, tokens, memory):
        memory.length += len(tokens)
        sizes.append(4 * heads * len(tokens) * memory.length)
        return np.zeros((len(tokens), 64), np.float32)

    monkeypatch.setattr(run.Model, "read_piece", measuring)
    session.model.read([1] * 60_000, run.Memory(session.model))
    assert max(sizes) <= 64 << 20
    assert len(sizes) > 60_000 // 512


def test_forgetting_is_setting_the_length_back(opened):
    session = opened()
    memory = run.Memory(session.model)
    session.model.read([1, 2, 3], memory)
    session.model.read([4, 5, 6, 7], memory)
    memory.length = 3
    found = session.model.output.times(session.model.read([8, 9], memory))
    assert_close(found, ours(session, [[1, 2, 3, 8, 9]])[3:], 1e-5)


@pytest.mark.parametrize("type", ["f32", "f16", "bf16", "q8_0"])
def test_weights_beyond_the_spare_memory_are_converted_at_each_use(type, opened, monkeypatch):
    kept = ours(opened("tied", type), [IDS])
    monkeypatch.setattr(run, "SPARE", 0)
    session = opened("tied", type)
    assert_close(ours(session, [IDS]), kept, 1e-6)
    cached = [m for m in session.file.tensors.values() if m.float32 is not None]
    assert all(m.label == "F32" for m in cached)


def test_f32_weights_are_used_where_they_lie_in_the_file(opened):
    session = opened()
    ours(session, [IDS])
    matrix = session.file.tensors["blk.0.attn_q.weight"].float32
    assert np.shares_memory(matrix, session.file.bytes)


def test_softmax_and_silu_do_not_overflow(opened):
    session = opened()
    session.model.layers[0]["attn_q_norm"] = session.model.layers[0]["attn_q_norm"] * 1e4
    session.model.layers[0]["ffn_norm"] = session.model.layers[0]["ffn_norm"] * 1e4
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        assert np.isfinite(ours(session, [IDS])).all()
