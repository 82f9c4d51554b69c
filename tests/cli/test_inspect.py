"""`twofold inspect` says what a model is, and says it of any GGUF file without loading the weights."""

import json

import numpy as np
import pytest

from twofold.__main__ import main
from twofold.cli.inspect import facts_of
from twofold.models.gguf import write_gguf
from twofold.models.quantize import TensorType


def weights(*shape):
    """(data, shape) of a tensor of ones."""
    return np.ones(shape, np.float32), shape


@pytest.fixture
def gguf_file(tmp_path):
    path = tmp_path / "model.gguf"
    metadata = {
        "general.architecture": "qwen3",
        "general.name": "A \x1b[31mred\x1b[0m name",
        "qwen3.block_count": 1,
        "qwen3.embedding_length": 32,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": ["a", "b", "c"],
    }
    tensors = [
        ("token_embd.weight", TensorType.Q8_0, *weights(64, 32)),
        ("blk.0.attn_q.weight", TensorType.F16, *weights(32, 32)),
        ("blk.0.ffn_up.weight", TensorType.F16, *weights(64, 32)),
        ("output_norm.weight", TensorType.F32, *weights(32)),
    ]
    write_gguf(path, metadata, tensors)
    return path


@pytest.fixture
def model_folder(tmp_path):
    from twofold.models.config import TransformerConfig
    from twofold.models.folder import save_folder
    from twofold.models.transformer import Transformer
    from twofold.text.world import Village, VillageSettings
    from twofold.tokens.train import train_tokenizer

    village = Village(VillageSettings(villagers=8))
    tokenizer = train_tokenizer([document.text for document in village.documents(20_000)], 320)
    config = TransformerConfig(
        vocab_size=tokenizer.vocab_size, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, intermediate_size=64,
    )  # fmt: skip
    model = Transformer(config)
    save_folder(tmp_path / "run", model, tokenizer, chat=True)
    return tmp_path / "run", model, tokenizer


def test_a_gguf_file_is_told_by_its_parts_and_precisions(gguf_file):
    facts = facts_of(gguf_file)
    assert facts.parameters == {"embedding": 2048, "attention": 1024, "feed_forward": 2048, "norms": 32}
    assert facts.bytes["in Q8_0"] == 64 * 34
    assert facts.bytes["in F16"] == (1024 + 2048) * 2
    assert facts.bytes["in F32"] == 32 * 4
    assert facts.bytes["on disk"] == gguf_file.stat().st_size
    assert facts.shape["layers"] == 1
    assert facts.tokenizer["tokens"] == 3


def test_names_from_a_file_do_not_steer_the_terminal(gguf_file, capsys):
    assert main(["inspect", str(gguf_file)]) == 0
    out = capsys.readouterr().out
    assert "red" in out
    assert "\x1b" not in out


def test_json_is_json(gguf_file, capsys):
    assert main(["inspect", str(gguf_file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["parameters"]["embedding"] == 2048


def test_a_folder_is_told_with_the_counts_that_torch_has(model_folder, capsys):
    folder, model, tokenizer = model_folder
    facts = facts_of(folder)
    assert sum(facts.parameters.values()) == sum(p.numel() for p in model.parameters())
    assert facts.bytes["F32"] == 4 * sum(p.numel() for p in model.parameters())
    assert facts.bytes["on disk"] == (folder / "model.safetensors").stat().st_size
    assert facts.tokenizer["tokens"] == tokenizer.vocab_size
    assert facts.kind == "a Hugging Face folder"
    assert main(["inspect", str(folder)]) == 0
    out = capsys.readouterr().out
    for heading in ("Shape", "Parameters", "Bytes", "Tokenizer"):
        assert heading in out


def test_a_run_folder_also_tells_of_its_training(model_folder):
    folder, *_ = model_folder
    run = {"result": {"bits_per_byte": 1.25, "steps": 100}, "environment": {"python": "3.11"}}
    (folder / "run.json").write_text(json.dumps(run), encoding="utf-8")
    facts = facts_of(folder)
    assert facts.kind == "a run folder"
    assert facts.training == {"bits_per_byte": 1.25, "steps": 100, "environment.python": "3.11"}


def test_what_create_left_opens_as_its_assistant(model_folder, tmp_path):
    folder, *_ = model_folder
    (tmp_path / "demo").mkdir()
    folder.rename(tmp_path / "demo" / "base")
    assert facts_of(tmp_path / "demo").path == str(tmp_path / "demo" / "base")


@pytest.mark.parametrize("content", [b"", b"GGUF", b"GGUF\x03\0\0\0" + b"\xff" * 16, b"not a model at all"])
def test_what_is_no_model_is_refused_with_a_message(tmp_path, content, capsys):
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    assert main(["inspect", str(path)]) == 3
    err = capsys.readouterr().err
    assert str(path) in err
    assert "fault in Twofold" not in err


def test_a_missing_model_is_named(tmp_path, capsys):
    assert main(["inspect", str(tmp_path / "none")]) == 3
    assert str(tmp_path / "none") in capsys.readouterr().err


def test_the_folder_above_a_model_is_told_where_the_model_is(gguf_file, capsys):
    assert main(["inspect", str(gguf_file.parent)]) == 3
    assert str(gguf_file) in capsys.readouterr().err


def test_a_damaged_run_record_is_a_message(model_folder, capsys):
    folder, *_ = model_folder
    (folder / "run.json").write_text("{", encoding="utf-8")
    assert main(["inspect", str(folder)]) == 3
    assert "run.json" in capsys.readouterr().err
