"""Models of the hub: which files are fetched, from a hub on this computer, and what is told where it cannot be."""

import json
import os
import subprocess
import sys

import pytest

import twofold
from twofold.errors import FileError
from twofold.models.hub import fetch, local_path
from twofold.models.hub_files import HubModel, choose_files, parse_model

INDEX = "model.safetensors.index.json"
SMALL = {"config.json": b"{}", "tokenizer.json": b"{}"}
MODEL = {**SMALL, "model.safetensors": b"w" * 1000}
SHARDS = {
    **SMALL,
    INDEX: json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}).encode(),
    "model-1.safetensors": b"1",
    "model-2.safetensors": b"22",
}
BESIDE = {
    "README.md": b"x", "pytorch_model.bin": b"pickle", "modeling_x.py": b"print(1)", "onnx/model.safetensors": b"x",
    "consolidated.safetensors": b"x", "training_args.bin": b"pickle", "x.tiktoken": b"x", "chat_template.jinja": b"x",
}  # fmt: skip


def names(folder):
    """What lies in a fetched folder."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("owner/name", ("owner/name", None, "")),
        ("owner/na.me-1@v1.0", ("owner/na.me-1", "v1.0", "")),
        ("owner/name@refs/pr/1:Q4_K_M", ("owner/name", "refs/pr/1", "Q4_K_M")),
        ("owner/name:sub/file-q4_0.gguf", ("owner/name", None, "sub/file-q4_0.gguf")),
        ("hf://owner/name", ("owner/name", None, "")),
    ],
)
def test_an_id_has_a_repository_a_revision_and_a_file(text, parts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert parse_model(text) == HubModel(*parts)
    assert str(HubModel(*parts)) == text.removeprefix("hf://")


@pytest.mark.parametrize(
    "text",
    [
        "name",
        "a/b/c",
        "/a/b",
        "./a/b",
        "../a",
        "a/..",
        "a/b:../c",
        "a/b@../c",
        "a/b:",
        "a b/c",
        "a/b?",
        "",
        "~/a",
        "hf://a",
    ],
)
def test_what_is_no_id_is_a_path(text):
    assert parse_model(text) is None


def test_local_paths_win(tmp_path, monkeypatch, hub):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner").mkdir()
    hub.publish("owner/name", MODEL)
    assert local_path("owner/name") == tmp_path.cwd().__class__("owner/name")
    assert not hub.asked
    assert local_path("hf://owner/name").name == 40 * "a"


@pytest.mark.parametrize("files", [MODEL, SHARDS], ids=["one file", "shards"])
def test_only_what_a_model_is_read_from_is_fetched(hub, files, capfd):
    hub.publish("owner/name", files | BESIDE)
    folder = fetch(HubModel("owner/name"))
    assert names(folder) == sorted([*files, "x.tiktoken", "chat_template.jinja"])
    assert all((folder / name).read_bytes() == data for name, data in files.items())
    weights = {name: data for name, data in files.items() if name.endswith(".safetensors")}
    count = "1 file" if len(weights) == 1 else "2 files"
    assert (
        f"Fetching owner/name: {sum(map(len, weights.values())):,} bytes in {count}" in capfd.readouterr().err
    )
    fetched = [path for path in hub.asked if "/resolve/" in path]
    assert not [path for path in fetched if path.endswith((".bin", ".py", ".md"))]
    hub.asked.clear()
    assert fetch(HubModel("owner/name")) == folder
    assert len(hub.asked) == 1  # whether there is a newer one
    assert capfd.readouterr().err == ""


def test_an_adapter_is_fetched_like_a_model(hub):
    adapter = {"adapter_config.json": b"{}", "adapter_model.safetensors": b"w" * 9}
    hub.publish("owner/name", adapter | {"README.md": b"x", "training_args.bin": b"x", "optimizer.pt": b"x"})
    assert names(fetch(HubModel("owner/name"))) == sorted(adapter)
    hub.publish("owner/merged", adapter | MODEL)  # beside a whole model it is not what is meant
    assert "adapter_model.safetensors" not in names(fetch(HubModel("owner/merged")))


def test_a_gguf_is_chosen_by_its_name_or_its_kind(hub):
    ggufs = {f"x-{kind}.gguf": kind.encode() for kind in ("Q4_K", "Q4_K_M", "IQ4_K_M", "Q8_0")}
    hub.publish("owner/name", ggufs | MODEL | {"mmproj-Q8_0.gguf": b"x"})
    assert fetch(HubModel("owner/name", None, "Q8_0")).read_bytes() == b"Q8_0"
    assert fetch(HubModel("owner/name", None, "q4_k_m")).read_bytes() == b"Q4_K_M"
    found = fetch(HubModel("owner/name", None, "x-Q4_K.gguf"))
    assert found.read_bytes() == b"Q4_K"
    assert names(found.parent) == ["x-Q4_K.gguf", "x-Q4_K_M.gguf", "x-Q8_0.gguf"]
    assert sorted(MODEL) == [name for name in names(fetch(HubModel("owner/name"))) if "gguf" not in name]


def test_a_repository_with_one_gguf_alone_is_that_one(hub):
    hub.publish("owner/name", {"sub/x.gguf": b"gguf", "config.json": b"{}"})
    assert fetch(HubModel("owner/name")).read_bytes() == b"gguf"


@pytest.mark.parametrize(
    ("files", "file", "said"),
    [
        (
            ["pytorch_model.bin", "config.json"],
            "",
            r"only pickled weights \(pytorch_model\.bin\).*run any program",
        ),
        (["a.gguf", "b.gguf"], "", r"2 GGUF files; name one.*a\.gguf, b\.gguf"),
        (["a.gguf"], "Q4_0", r"no GGUF file by the name 'Q4_0'.*It has: a\.gguf"),
        (["a-Q4_0.gguf", "b-Q4_0.gguf"], "Q4_0", r"2 GGUF files by the name 'Q4_0'"),
        (["a-Q4_0-00001-of-00002.gguf", "a-Q4_0-00002-of-00002.gguf"], "Q4_0", "one of several parts"),
        (["adapter_model.safetensors"], "", r"neither model\.safetensors nor.*adapter_model\.safetensors"),
        (["model.safetensors"], "", r"no config\.json"),
        (["../x.gguf", "/x.gguf", "a/../x.gguf", "a\\x.gguf", ".hidden.gguf"], "", r"nor a \.gguf file"),
        (["../x-Q4_0.gguf"], "Q4_0", "It has: none"),
        ([], "", "neither"),
    ],
)
def test_a_repository_without_a_model_to_read_says_what_it_has(files, file, said):
    with pytest.raises(FileError, match=said):
        choose_files(files, HubModel("owner/name", None, file))


def test_names_that_lead_out_of_the_repository_are_not_fetched(hub, tmp_path):
    tricks = {
        "../config.json": b"x",
        "../../merges.txt": b"x",
        "/etc/vocab.json": b"x",
        "..\\tokenizer.json": b"x",
    }
    hub.publish("owner/name", MODEL | tricks)
    assert names(fetch(HubModel("owner/name"))) == sorted(MODEL)
    assert not [path for path in hub.asked if ".." in path or "etc" in path]


@pytest.mark.parametrize(
    "name", ["../model.safetensors", "/etc/x.safetensors", "sub/x.safetensors", "x.bin", "a\\b.safetensors"]
)
def test_an_index_that_names_files_outside_is_refused(hub, name):
    hub.publish("owner/name", SHARDS | {INDEX: json.dumps({"weight_map": {"a": name}}).encode(), name: b"x"})
    with pytest.raises(FileError, match="is not the name of a shard"):
        fetch(HubModel("owner/name"))
    assert not [path for path in hub.asked if path.endswith(name)]


def test_an_index_that_names_what_is_not_there_is_told(hub):
    hub.publish("owner/name", {name: data for name, data in SHARDS.items() if name != "model-2.safetensors"})
    with pytest.raises(FileError, match=r"names model-2\.safetensors, which is not there"):
        fetch(HubModel("owner/name"))


def test_a_download_that_breaks_off_is_told_and_goes_on(hub, monkeypatch):
    from huggingface_hub import file_download

    monkeypatch.setattr(file_download.time, "sleep", lambda seconds: None)
    hub.publish("owner/name", MODEL | {"model.safetensors": bytes(range(250)) * 4})
    hub.cut["model.safetensors"] = 600
    with pytest.raises(FileError, match=r"Fetching owner/name failed: .*goes on where it was"):
        fetch(HubModel("owner/name"))
    hub.cut.clear()
    assert (fetch(HubModel("owner/name")) / "model.safetensors").read_bytes() == bytes(range(250)) * 4


def test_a_file_of_another_length_than_the_hub_says_is_refused(hub):
    hub.publish("owner/name", MODEL)
    folder = fetch(HubModel("owner/name"))
    (folder / "model.safetensors").resolve().write_bytes(b"short")
    with pytest.raises(FileError, match="has 5 bytes, and 1,000 on the hub"):
        fetch(HubModel("owner/name"))


def test_a_disk_without_room_is_told_before_anything_is_fetched(hub, monkeypatch):
    import shutil

    hub.publish("owner/name", MODEL)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 5, 5))
    with pytest.raises(FileError, match="1,000 bytes are to be fetched, and 5 are free"):
        fetch(HubModel("owner/name"))
    assert not [path for path in hub.asked if path.endswith("model.safetensors")]


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (
            404,
            "RepoNotFound",
            "There is no file or folder owner/name here. There is no model owner/name on the hub, or it is",
        ),
        (401, "RepoNotFound", "There is no model owner/name on the hub, or it is private"),
        (403, "GatedRepo", "accepted its terms: do so at http.*/owner/name, then log in"),
        (500, "", "cannot be fetched. The hub cannot be reached .*hf download owner/name"),
    ],
)
def test_a_hub_that_says_no_is_understood(hub, status, code, said):
    hub.refused["owner/name"] = (status, code)
    with pytest.raises(FileError, match=said):
        fetch(HubModel("owner/name"))


def test_terms_that_are_asked_for_at_the_files_are_understood(hub):
    hub.publish("owner/name", MODEL)
    answer = hub.answer

    def gated(request):
        if "/resolve/" in request.path:
            return hub.send(request, b"", 403, {"X-Error-Code": "GatedRepo"})
        return answer(request)

    hub.answer = gated
    with pytest.raises(FileError, match="accepted its terms"):
        fetch(HubModel("owner/name"))


def test_a_revision_that_is_not_there_is_told(hub):
    hub.publish("owner/name", MODEL)
    with pytest.raises(FileError, match="has no revision 'v9'"):
        fetch(HubModel("owner/name", "v9"))


def offline(monkeypatch):
    """As HF_HUB_OFFLINE=1 does."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def test_offline_the_cache_is_used(hub, monkeypatch, capfd):
    hub.publish("owner/name", SHARDS)
    folder = fetch(HubModel("owner/name"))
    hub.asked.clear()
    capfd.readouterr()
    offline(monkeypatch)
    assert fetch(HubModel("owner/name")) == folder
    assert fetch(HubModel("owner/name", 40 * "a")) == folder
    assert capfd.readouterr().err == ""  # it is what was asked for
    assert not hub.asked


def test_a_hub_that_went_away_leaves_the_cache(hub, capfd, monkeypatch):
    from huggingface_hub import constants

    hub.publish("owner/name", MODEL)
    folder = fetch(HubModel("owner/name"))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")  # where nobody listens
    assert fetch(HubModel("owner/name")) == folder
    assert "The hub cannot be reached" in capfd.readouterr().err


def test_a_newer_revision_that_is_not_whole_leaves_the_older_one(hub, monkeypatch, capfd):
    hub.publish("owner/name", SHARDS)
    older = fetch(HubModel("owner/name"))
    hub.publish("owner/name", SHARDS | {"model-2.safetensors": b"new"}, commit="b")
    assert (fetch(HubModel("owner/name")) / "model-2.safetensors").read_bytes() == b"new"
    (older.parent / (40 * "b") / "model-2.safetensors").unlink()
    offline(monkeypatch)
    capfd.readouterr()
    assert fetch(HubModel("owner/name")) == older
    assert "owner/name is used as it is here" in capfd.readouterr().err
    with pytest.raises(FileError, match=r"is not whole: .*model-2\.safetensors is missing"):
        fetch(HubModel("owner/name", "main"))


def test_offline_and_not_in_the_cache_says_what_was_looked_for(hub, monkeypatch, tmp_path):
    offline(monkeypatch)
    with pytest.raises(FileError) as told:
        fetch(HubModel("owner/name", "v1", "Q8_0"))
    for piece in (
        "no file or folder here",
        "HF_HUB_OFFLINE",
        str(tmp_path / "cache"),
        "hf download owner/name --revision v1",
    ):
        assert piece in str(told.value)


def test_without_the_library_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(FileError, match=r"no file or folder owner/name here.*twofold\[hub\]"):
        local_path("owner/name")


def test_three_lines_open_a_model_of_the_hub(hub, tmp_path):
    """In a process of its own, with the hub's own settings."""
    from twofold.models.config import TransformerConfig
    from twofold.models.folder import save_folder
    from twofold.models.transformer import Transformer
    from twofold.tokens.tokenizer import bytes_only

    tokenizer = bytes_only()
    config = TransformerConfig(
        vocab_size=tokenizer.vocab_size, hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, intermediate_size=32,
    )  # fmt: skip
    save_folder(tmp_path / "saved", Transformer(config), tokenizer, chat=False)
    hub.publish("owner/name", {path.name: path.read_bytes() for path in (tmp_path / "saved").iterdir()})
    on_disk = twofold.load(tmp_path / "saved").generate("a", max_tokens=8, temperature=0)
    lines = (
        "import twofold",
        "model = twofold.load('owner/name')",
        "print(ascii(model.generate('a', max_tokens=8, temperature=0)), model.name)",
    )
    settings = {"HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "home"), "TRANSFORMERS_OFFLINE": "0"}
    for offline in ("0", "1"):
        environment = os.environ | settings | {"HF_HUB_OFFLINE": offline}
        done = subprocess.run(
            [sys.executable, "-c", "\n".join(lines)],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.stdout == f"{on_disk!a} owner/name\n", done.stderr
    assert len(list((tmp_path / "home/hub/models--owner--name/snapshots").iterdir())) == 1
