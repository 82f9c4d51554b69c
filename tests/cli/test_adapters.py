"""`twofold finetune --lora` and what comes of it, as a person meets it."""

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from twofold.__main__ import main
from twofold.models.config import TransformerConfig
from twofold.models.folder import save_folder
from twofold.models.load import load_model
from twofold.models.transformer import Transformer
from twofold.tokens.tokenizer import bytes_only


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a base, conversations, and an adapter `run`."""
    home = tmp_path_factory.mktemp("adapters")
    torch.manual_seed(0)
    config = TransformerConfig(
        vocab_size=320, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, max_position_embeddings=64,
    )  # fmt: skip
    save_folder(home / "base", Transformer(config), bytes_only(), chat=False)
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
    (home / "chat.jsonl").write_text((json.dumps({"messages": turns}) + "\n") * 20)
    assert tune(home, "run", "--lora", "2", "--lora-lr", "0.05") == 0
    return home


def tune(home, name, *options, model="base"):
    return main(
        ["finetune", str(home / model), "--chat", str(home / "chat.jsonl"), "-o", str(home / name), "--steps", "3",
         "--batch-rows", "2", *options]
    )  # fmt: skip


def said(capsys, *words):
    code = main([str(word) for word in words])
    return code, capsys.readouterr()


def test_a_run_holds_the_adapter_alone_and_is_used_like_a_model(home, capsys):
    assert not list((home / "run").glob("model*.safetensors"))
    code, out = said(capsys, "generate", home / "run", "one", "--max-tokens", 5, "--temperature", 0)
    assert code == 0
    beside = said(
        capsys,
        "generate",
        home / "base",
        "one",
        "--adapter",
        home / "run",
        "--max-tokens",
        5,
        "--temperature",
        0,
    )[1]
    assert beside.out == out.out
    code, out = said(capsys, "inspect", home / "run", "--quick")
    assert code == 0
    assert f"a LoRA adapter of {home / 'base'}" in out.out
    assert "rank 2, alpha 32" in out.out
    assert out.out.count("The adapter has") == 1
    assert "An adapter of rank 2 to a language model of" in (home / "run" / "report.html").read_text()
    rows = [json.loads(line) for line in (home / "run" / "metrics.jsonl").read_text().splitlines()]
    assert max(row.get("learning_rate", 0) for row in rows) == pytest.approx(0.05 / 7, rel=0.01)


@pytest.mark.parametrize("command", ["score", "eval", "choose"])
def test_what_weighs_texts_takes_an_adapter(command, home, capsys, tmp_path):
    (tmp_path / "text.txt").write_text("Hello. Hi. One more.")
    text = tmp_path / "text.txt"
    words = {"score": [text], "eval": ["--text", text], "choose": ["Hel", "lo.", "p me."]}[command]
    found = {
        name: said(capsys, command, *model, *words, "--json")
        for name, model in {
            "alone": [home / "run"], "beside": [home / "base", "--adapter", home / "run"], "base": [home / "base"],
        }.items()
    }  # fmt: skip
    assert [code for code, _ in found.values()] == [0, 0, 0]
    alone, beside, base = (json.loads(out.out) for _, out in found.values())
    assert beside == pytest.approx(alone)
    if command == "eval":
        assert beside.pop("stored_bytes") > base.pop("stored_bytes")
    assert beside != pytest.approx(base)


def test_a_context_can_be_set_where_a_text_is_scored(home, capsys, tmp_path):
    (tmp_path / "text.txt").write_text("A longer text. " * 10)
    command = ["score", home / "run", tmp_path / "text.txt", "--json"]
    long, short = (json.loads(said(capsys, *command, *more)[1].out) for more in ([], ["--context", 8]))
    assert long["tokens"] == short["tokens"]
    assert long["bits_per_byte"] != short["bits_per_byte"]


def test_convert_makes_one_model_of_the_two(home, capsys, tmp_path):
    assert said(capsys, "convert", home / "run", "-o", tmp_path / "one")[0] == 0
    assert (tmp_path / "one" / "model.safetensors").is_file()
    tokens = torch.arange(1, 20)[None]
    with torch.no_grad():
        assert torch.allclose(load_model(tmp_path / "one")[0](tokens), load_model(home / "run")[0](tokens))
    assert said(capsys, "export", home / "run", "-o", tmp_path / "two-files")[0] == 0
    assert (tmp_path / "two-files" / "model.gguf").is_file()


def test_a_gguf_takes_an_adapter(home, capsys):
    assert said(capsys, "convert", home / "base", "-o", home / "base.gguf", "--type", "q4_0")[0] == 0
    assert tune(home, "over-gguf", "--lora", "2", "--dora", model="base.gguf") == 0
    code, out = said(capsys, "inspect", home / "over-gguf", "--quick")
    assert code == 0
    assert "a DoRA adapter of" in out.out
    assert "base.gguf" in out.out
    assert said(capsys, "generate", home / "over-gguf", "one", "--max-tokens", 3)[0] == 0


def test_a_base_that_moved_is_told(home, capsys, tmp_path):
    (home / "base2").mkdir()
    for path in (home / "base").iterdir():
        (home / "base2" / path.name).write_bytes(path.read_bytes())
    assert tune(home, "lost", "--lora", "2", model="base2") == 0
    (home / "base2").rename(tmp_path / "moved")
    code, out = said(capsys, "generate", home / "lost", "one")
    assert code == 3
    assert "--adapter" in out.err
    assert "base2" in out.err
    code, _ = said(
        capsys, "generate", tmp_path / "moved", "one", "--adapter", home / "lost", "--max-tokens", 2
    )
    assert code == 0
    code, out = said(capsys, "inspect", home / "lost", "--quick")
    assert code == 0
    assert "The adapter has" in out.out


def test_two_processes_that_share_a_base_in_blocks_learn_the_same_adapter(home):
    assert main(["convert", str(home / "base"), "-o", str(home / "shared.gguf"), "--type", "q8_0"]) == 0
    options = ["--lora", "3", "--dora", "--precision", "float32", "--compile", "no"]
    assert tune(home, "one", *options, model="shared.gguf") == 0
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "twofold",
        "finetune", str(home / "shared.gguf"), "--chat", str(home / "chat.jsonl"), "-o", str(home / "two"),
        "--steps", "3", "--batch-rows", "2", "--shards", "2", *options,
    ]  # fmt: skip
    done = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stderr
    one, two = (load_file(home / name / "adapter_model.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        assert torch.allclose(tensor, two[name], atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dora"], "--lora 16"),
        (["--lora", "0"], "rank must be from 1"),
        (["--lora", "2", "--lora-targets", "q_proj", "wte"], "'wte' is none of the matrices"),
        (["--lora", "2", "--lora-dropout", "1"], "dropout must be from 0 to below 1"),
        (["--lora", "2", "--lora-alpha", "nan"], "alpha must be above 0"),
        (["--lora", "2", "--lora-lr", "-1"], "adapter_lr must be above 0"),
    ],
)
def test_wrong_settings_are_one_message(home, capsys, options, message):
    assert tune(home, "wrong", *options) == 2
    assert message in capsys.readouterr().err
    assert not (home / "wrong").exists()


def test_the_c_engine_says_that_it_has_none(home, capsys):
    code, out = said(capsys, "generate", home / "base", "x", "--adapter", home / "run", "--engine", "c")
    assert code == 2
    assert "twofold convert" in out.err
