"""`twofold convert` and `twofold eval`, as a person uses them."""

import json

import pytest
import torch

from twofold.cli.app import run
from twofold.errors import DataError, FileError, UsageError
from twofold.models.config import TransformerConfig
from twofold.models.folder import save_folder
from twofold.models.gguf import read_gguf
from twofold.models.transformer import Transformer
from twofold.tokens.tokenizer import bytes_only

TEXT = "The baker's cat sleeps by the oven. 村 Grüße, " * 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("model")
    config = TransformerConfig(
        vocab_size=320, hidden_size=64, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
        head_dim=32, intermediate_size=64, max_position_embeddings=64,
    )  # fmt: skip
    torch.manual_seed(0)
    model = Transformer(config)
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.2) if parameter.ndim == 2 else None
    save_folder(root / "model", model, bytes_only(320), chat=False)
    (root / "book.txt").write_text(TEXT, encoding="utf-8")
    (root / "empty.txt").touch()
    (root / "bad.txt").write_bytes(b"\xff\xfe")
    return root


def test_a_model_is_converted_and_measured_against_itself(folder, tmp_path, capsys):
    model, small, book = str(folder / "model"), str(tmp_path / "small.gguf"), str(folder / "book.txt")
    assert run(["convert", model, "-o", small, "--type", "q4_0"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{small}: ")
    assert "Q4_0" in out
    assert "token_embd.weight is Q8_0" in out  # 64 columns are no block of Q6_K
    assert run(["eval", small, "--text", book, "--against", model]) == 0
    out = capsys.readouterr().out
    assert "bits per byte" in out
    assert "nats per token apart" in out
    assert run(["eval", small, "--text", book, "--against", model, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["divergence"] > 0
    assert 0 < found["agreement"] <= 1
    assert found["stored_bytes"] < found["other_stored_bytes"]
    assert run(["eval", model, "--text", book, "--json"]) == 0
    alone = json.loads(capsys.readouterr().out)
    assert "divergence" not in alone
    assert alone["bits_per_byte"] == pytest.approx(found["other_bits_per_byte"])
    assert run(["convert", small, "-o", str(tmp_path / "again")]) == 0
    assert (tmp_path / "again" / "config.json").is_file()


def test_a_text_can_say_what_matters(folder, tmp_path, capsys):
    model, book = str(folder / "model"), str(folder / "book.txt")
    for name, more in (("a", []), ("b", ["--calibrate", book])):
        run(["convert", model, "-o", str(tmp_path / f"{name}.gguf"), "--type", "q4_1", "--name", "x", *more])
    a, b = (read_gguf(tmp_path / f"{name}.gguf").tensors for name in "ab")
    changed = {name.split(".")[-2] for name in a if a[name].raw.tobytes() != b[name].raw.tobytes()}
    assert changed == {"attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"}
    capsys.readouterr()


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (["convert", "MODEL", "-o", "OUT.gguf", "--type", "q3_k"], UsageError, "q4_k_m"),
        (["convert", "MODEL", "-o", "OUT", "--type", "q8_0"], UsageError, "ends in .gguf"),
        (["convert", "MODEL", "-o", "OUT", "--calibrate", "BOOK"], UsageError, "ends in .gguf"),
        (
            ["convert", "MODEL", "-o", "OUT.gguf", "--calibrate", "BOOK", "--imatrix", "BOOK"],
            UsageError,
            "either",
        ),
        (["convert", "MODEL", "-o", "OUT.gguf", "--imatrix", "BOOK"], FileError, "no imatrix"),
        (["convert", "MODEL", "-o", "OUT.gguf", "--imatrix", "NONE"], FileError, "no such file"),
        (["convert", "MODEL", "-o", "OUT.gguf", "--calibrate", "EMPTY"], DataError, "empty"),
        (["convert", "MODEL", "-o", "BOOK"], UsageError, "there already"),
        (["convert", "NONE", "-o", "OUT.gguf"], FileError, "no model"),
        (["eval", "MODEL", "--text", "NONE"], FileError, "no such file"),
        (["eval", "MODEL", "--text", "EMPTY"], DataError, "empty"),
        (["eval", "MODEL", "--text", "BAD"], DataError, "UTF-8: byte 0"),
        (["eval", "NONE", "--text", "BOOK"], FileError, "no model"),
    ],
)
def test_faults_are_told(words, error, message, folder, tmp_path):
    places = {
        "MODEL": folder / "model", "BOOK": folder / "book.txt", "EMPTY": folder / "empty.txt",
        "BAD": folder / "bad.txt", "NONE": folder / "none", "OUT": tmp_path / "out", "OUT.gguf": tmp_path / "out.gguf",
    }  # fmt: skip
    with pytest.raises(error, match=message):
        run([str(places.get(word, word)) for word in words])
    assert not list(tmp_path.iterdir())
