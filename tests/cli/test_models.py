"""`twofold models`: what is here, and getting and removing models of a hub on this computer; and their cards."""

import json
import os
import sys

import pytest

from twofold.__main__ import main

CONFIG = {
    "model_type": "llama", "vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "intermediate_size": 48, "tie_word_embeddings": True, "max_position_embeddings": 64,
}  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The files of a model that opens, its tokenizer with them."""
    from twofold.models.config import TransformerConfig
    from twofold.models.folder import save_folder
    from twofold.models.transformer import Transformer
    from twofold.tokens.tokenizer import bytes_only

    tokenizer = bytes_only()
    folder = tmp_path_factory.mktemp("saved")
    model = Transformer(TransformerConfig.from_hf(CONFIG | {"vocab_size": tokenizer.vocab_size}))
    save_folder(folder, model, tokenizer, chat=False)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def gguf(folder):
    """The bytes of a GGUF."""
    import numpy as np

    from twofold.models.gguf import write_gguf
    from twofold.models.quantize import TensorType

    metadata = {"general.architecture": "new", "new.block_count": 1}
    tensors = [("token_embd.weight", TensorType.F32, np.ones((8, 32), np.float32), (8, 32))]
    write_gguf(folder / "x.gguf", metadata, tensors)
    return (folder / "x.gguf").read_bytes()


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty current folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def lines(capsys):
    """What was printed, as JSON."""
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def write(folder, files):
    """Put files into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)


def test_nothing_here_says_how_to_begin(here, hub, capsys):
    assert main(["models"]) == 0
    assert "twofold models get" in capsys.readouterr().out


def test_folders_and_the_cache_are_listed(here, hub, files, capsys):
    write(here / "demo" / "base", files | {"run.json": b"{}"})
    write(here / "demo" / "deep" / "copy", files)
    write(here / "other", {"config.json": b"{}"})
    hub.publish("owner/name", files)
    assert main(["models", "get", "owner/name"]) == 0
    capsys.readouterr()
    assert main(["models", "--json"]) == 0
    found = {model["name"]: model for model in lines(capsys)}
    assert {name: model["kind"] for name, model in found.items()} == {
        "owner/name": "hub", "demo/base": "run", "demo/deep/copy": "folder",
    }  # fmt: skip
    for model in found.values():
        assert model["family"] == "llama"
        assert model["parameters"] == found["owner/name"]["parameters"] > 0
        assert model["bytes"] >= sum(map(len, files.values()))
        assert model["used"] > 1e9
        assert not model["fault"]
    assert main(["models"]) == 0
    assert "demo/base" in capsys.readouterr().out
    assert main(["models", "show", "demo/base", "--quick", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "a run folder"


def test_links_and_hidden_folders_are_not_followed(here, hub, files, capsys):
    write(here / ".hidden", files)
    (here / "around").symlink_to(here)
    (here / "nothing.gguf").symlink_to(here / "none")
    os.mkfifo(here / "pipe.gguf")
    write(here / "a/b/c/d", files)
    assert main(["models", "--json"]) == 0
    assert not lines(capsys)


def test_what_is_not_whole_is_told(here, hub, files, capsys):
    write(here / "cut", files | {"model.safetensors": files["model.safetensors"][:100]})
    write(here / "bad", {"x.gguf": b"GGUF"})
    hub.publish("owner/name", files)
    assert main(["inspect", "owner/name", "--quick"]) == 0
    capsys.readouterr()
    assert main(["models", "--json"]) == 0
    faults = {model["name"]: model["fault"] for model in lines(capsys)}
    assert faults["owner/name"] == "only its description is here"
    assert "cut short" in faults["cut"]
    assert "damaged" in faults["bad/x.gguf"]


def test_names_in_a_listing_do_not_steer_the_terminal(here, hub, files, capsys):
    write(here / "a\x1b[31mred", files)
    assert main(["models"]) == 0
    assert main(["models", "--json"]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_a_folder_that_is_not_there_is_told(here, hub, capsys):
    assert main(["models", "nowhere"]) == 3
    assert "nowhere" in capsys.readouterr().err


def test_get_prints_the_path_alone(here, hub, files, capsys, tmp_path):
    hub.publish("owner/name", files | {"x-Q8_0.gguf": b"GGUF"})
    assert main(["models", "get", "owner/name"]) == 0
    out, err = capsys.readouterr()
    assert out == f"{tmp_path / 'cache/models--owner--name/snapshots' / (40 * 'a')}\n"
    assert "Fetching owner/name" in err
    assert main(["models", "get", "owner/name:Q8_0", "--json"]) == 0
    (told,) = lines(capsys)
    assert told["bytes"] == 4
    assert told["path"].endswith("/x-Q8_0.gguf")


def test_get_of_what_is_nowhere_is_told(here, hub, capsys):
    assert main(["models", "get", "owner/name"]) == 3
    assert "no model owner/name on the hub" in capsys.readouterr().err
    assert main(["models", "get", "name"]) == 3
    assert "neither a file or folder here" in capsys.readouterr().err


def test_removing_asks_and_removes_all_revisions(here, hub, files, capsys, monkeypatch, tmp_path):
    for commit in "ab":
        hub.publish("owner/name", files | {"merges.txt": commit.encode()}, commit)
        assert main(["models", "get", "owner/name"]) == 0
    hub.publish("owner/other", files, "a")  # of the same commit
    assert main(["models", "get", "owner/other"]) == 0
    capsys.readouterr()
    assert main(["models", "remove", "owner/name"]) == 2
    assert "add --yes" in capsys.readouterr().err
    for answer, code in (("\n", 2), ("y\n", 0)):
        monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
        monkeypatch.setattr(sys.stdin, "readline", lambda answer=answer: answer, raising=False)
        assert main(["models", "remove", "owner/name"]) == code
        assert (tmp_path / "cache/models--owner--name").exists() == (code == 2)
    assert "Removed owner/name" in capsys.readouterr().out
    assert main(["models", "--json"]) == 0
    assert [model["name"] for model in lines(capsys)] == ["owner/other"]


def test_one_revision_is_removed_by_its_name(here, hub, files, capsys):
    for commit in "ab":
        hub.publish("owner/name", files | {"merges.txt": commit.encode()}, commit)
        assert main(["models", "get", "owner/name"]) == 0
    capsys.readouterr()
    assert main(["models", "--json"]) == 0
    assert [model["name"] for model in lines(capsys)] == ["owner/name", f"owner/name@{40 * 'a'}"]
    assert main(["models", "remove", f"owner/name@{40 * 'a'}", "--yes", "--json"]) == 0
    assert lines(capsys) == [{"name": f"owner/name@{40 * 'a'}", "bytes": 1}]  # all else is the other's too
    assert main(["models", "--json"]) == 0
    assert [model["name"] for model in lines(capsys)] == ["owner/name"]


@pytest.mark.parametrize(
    ("model", "said", "code"),
    [
        ("here/model", "a file or folder of yours", 2),
        ("/", "a file or folder of yours", 2),
        (".", "a file or folder of yours", 2),
        ("../..", "a file or folder of yours", 2),
        ("name", "no name of a model on the hub", 2),
        ("owner/none", "is not in", 3),
        ("owner/../x", "no name of a model", 2),
        ("owner/name:x.gguf", "whole revisions are removed", 2),
    ],
)
def test_only_what_the_cache_holds_is_removed(here, hub, files, capsys, model, said, code):
    write(here / "here/model", files)
    assert main(["models", "remove", model, "--yes"]) == code
    assert said in capsys.readouterr().err
    assert (here / "here/model/config.json").exists()


def test_a_card_of_the_hub_fetches_no_weights(here, hub, files, capsys):
    hub.publish("owner/name", files)
    assert main(["inspect", "owner/name", "--quick", "--json"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert card["bytes"]["on the hub"] == len(files["model.safetensors"])
    assert card["kind"] == "a model of the hub, its weights not fetched yet"
    assert card["tokenizer"]["tokens"] == 320
    assert not [path for path in hub.asked if path.endswith("model.safetensors")]
    assert main(["models", "get", "owner/name"]) == 0
    capsys.readouterr()
    assert main(["inspect", "owner/name", "--quick", "--json"]) == 0
    whole = json.loads(capsys.readouterr().out)
    assert whole["parameters"] == card["parameters"]
    assert whole["bytes"]["on disk"] == len(files["model.safetensors"])


def test_a_card_of_a_family_that_is_not_known_reads_headers_on_the_hub(here, hub, files, capsys):
    config = json.loads(files["config.json"]) | {"model_type": "new"}
    hub.publish("owner/name", files | {"config.json": json.dumps(config).encode()})
    assert main(["inspect", "owner/name", "--quick", "--json"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert card["shape"]["family"] == "new"
    assert sum(card["parameters"].values()) * 4 == pytest.approx(len(files["model.safetensors"]), rel=0.1)
    assert "does not open here" in card["notes"][0]
    assert card["memory"]["bytes"]["F32"]["keys_values"] == 64 * 2 * 2 * 16 * 4


def test_a_gguf_of_the_hub_must_be_here_to_be_told_of(here, hub, capsys, tmp_path):
    data = gguf(tmp_path)
    hub.publish("owner/name", {"x-Q8_0.gguf": data})
    assert main(["inspect", "owner/name:Q8_0", "--quick"]) == 3
    assert f"has {len(data):,} bytes and is not here" in capsys.readouterr().err
    assert main(["models", "get", "owner/name:Q8_0"]) == 0
    assert main(["inspect", "owner/name:Q8_0", "--quick"]) == 0
    assert "a GGUF file" in capsys.readouterr().out


def test_other_commands_take_a_name_of_the_hub(here, hub, files, capsys):
    hub.publish("owner/name", files)
    (here / "text.txt").write_text("some text")
    assert main(["score", "owner/name", "text.txt", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bytes"] == 9
    assert main(["generate", "owner/name", "a", "--max-tokens", "2"]) == 0


def test_a_tokenizer_of_the_hub_is_taken_without_the_weights(here, hub, files, capsys):
    hub.publish("owner/name", files)
    assert main(["tokens", "ab", "--tokenizer", "owner/name", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 2
    assert not [path for path in hub.asked if path.endswith("model.safetensors")]
