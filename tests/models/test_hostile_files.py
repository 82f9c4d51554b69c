"""Files from strangers: what opens one opens it, or refuses it by name, whatever it holds; and never runs it.

A bounded part of `benchmarks/hostile_files.py`, which tries millions, and attacks that are worth a name.
"""

import base64
import gzip
import json
import os
import pickle
import re
import struct
import sys
import warnings
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from twofold.errors import FileError, TwofoldError
from twofold.models.describe import describe
from twofold.models.gguf import read_gguf, write_gguf
from twofold.models.importance import read_importance
from twofold.models.inventory import in_folders
from twofold.models.load import load_model
from twofold.models.quantize import TensorType
from twofold.tokens.tokenizer import Tokenizer
from twofold.twofiles import run

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import hostile_kinds as kinds
import hostile_samples as samples
from hostile_mutations import place

CASES = {"folder": 12, "gguf-model": 12, "pickles": 15, "ranks": 4, "run.py": 12}  # of each kind; else 60
linux = pytest.mark.skipif(sys.platform != "linux", reason="holes, pipes and devices")


@linux
@pytest.mark.parametrize("kind", kinds.KINDS)
def test_what_is_damaged_opens_or_is_refused_by_name(kind, tmp_path):
    outcomes = {}
    for seed in range(CASES.get(kind, 60)):
        outcomes[seed] = kinds.try_case(kind, seed, tmp_path, tmp_path / "canary")
    assert {seed: outcome.fault for seed, outcome in outcomes.items() if outcome.fault} == {}
    assert not all(outcome.opened for outcome in outcomes.values())


def test_a_case_is_the_same_files_again():
    once, again = (kinds.make_case("tokenizer.json", 3, "x") for _ in range(2))
    assert once == again
    assert once != kinds.make_case("tokenizer.json", 4, "x")


def careless(path):
    return pickle.loads(path.read_bytes())


def silent(path):
    raise FileError("It is damaged.")


def steering(path):
    raise run.Problem(f"{path}: \x1b[2J")


def warning(path):
    warnings.warn("hm", stacklevel=1)


@linux
@pytest.mark.parametrize(
    ("door", "fault"),
    [
        (careless, "it made the canary"),
        (silent, "names no file"),
        (steering, "a terminal would obey"),
        (warning, "UserWarning: hm"),
        (lambda path: {}["x"], "KeyError"),
        (lambda path: sys.exit(1), "SystemExit"),
        (lambda path: bytearray(800 << 20), " MB"),
    ],
    ids=["careless", "silent", "steering", "warning", "error", "exit", "greedy"],
)
def test_a_door_that_should_not_stand_is_found(door, fault, tmp_path, monkeypatch):
    bomb = kinds.mutations.pickle_bombs(str(tmp_path / "canary"))[2]
    kind = kinds.Kind("test", lambda: [{"x": bomb}], {}, (door,), "x", slow=60)
    monkeypatch.setitem(kinds.KINDS, "test", kind)
    monkeypatch.setattr(kinds, "make_case", lambda *_: {"x": bomb})
    monkeypatch.setattr(kinds, "MOST_MEMORY", 100 << 20)  # what tests before left may be used again
    assert fault in kinds.try_case("test", 0, tmp_path, tmp_path / "canary").fault


# ---- attacks with a name ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files():
    """Of a whole small model's folder."""
    return samples.folder_of(samples.config_of("llama"), samples.pieces_tokenizer())


def put(folder, files, **changes):
    """A folder of these files, with others in the place of some (None: none)."""
    for name, content in {**files, **changes}.items():
        if content is not None:
            place(folder / name, content)
    return folder


def of_config(files, **changes):
    return json.dumps({**json.loads(files["config.json"]), **changes}).encode()


def test_the_folder_opens(files, tmp_path):
    kinds.open_model(put(tmp_path, files))


WEIGHTS = "model.safetensors"
FOLDERS = {
    "pickled weights": ({WEIGHTS: None, "pytorch_model.bin": b"\x80\x04."}, "pytorch_model.bin holds pickled weights"),
    "a pickle called safetensors": ({WEIGHTS: pickle.dumps(bytes(1 << 20))}, "not a whole safetensors file"),
    "no weights": ({WEIGHTS: None}, "no model.safetensors"),
    "empty weights": ({WEIGHTS: b""}, "0 bytes, too few"),
    "a header of a terabyte": ({WEIGHTS: struct.pack("<Q", 1 << 40) + bytes(1 << 20)}, "1,099,511,627,776 bytes"),
    "nesting": ({"config.json": b"[" * 100_000}, "config.json is not valid JSON"),
    "five million objects": ({"config.json": b"[" + b"{}," * 5_000_000 + b"0]"}, "holds more than 3,145,728 values"),
    "a long list of ends": ({"generation_config.json": b'{"eos_token_id": [%s"x"]}' % (b"7, " * 9999)}, "not a token"),
    "a model type that steers": ({"config.json": b'{"model_type": "\\u001b[2J"}'}, r"type '\\x1b\[2J'"),
}  # fmt: skip


@pytest.mark.parametrize("attack", FOLDERS)
def test_hostile_folders_are_refused(attack, files, tmp_path):
    changes, message = FOLDERS[attack]
    with pytest.raises(FileError, match=message) as refused:
        load_model(put(tmp_path, files, **changes))
    assert str(tmp_path) in str(refused.value)
    assert len(str(refused.value)) < 1000


@pytest.mark.parametrize(
    "shard",
    [
        "../model-1.safetensors",
        "/etc/passwd",
        "a/b.safetensors",
        "model-1.bin",
        "",
        ".",
        "x.safetensors\0",
        7,
    ],
)
def test_an_index_that_leads_elsewhere_is_refused(shard, files, tmp_path):
    index = json.dumps({"weight_map": {"lm_head.weight": shard}}).encode()
    put(tmp_path, files, **{WEIGHTS: None, "model.safetensors.index.json": index})
    with pytest.raises(FileError, match=r"index\.json: .* is not the name of a shard"):
        load_model(tmp_path)


def test_as_many_layers_as_tensors_can_be_named_are_not_made(files, tmp_path):
    from safetensors.numpy import save

    held = {f"t{i}": np.zeros(1, np.float32) for i in range(20_000)} | {"big": np.zeros(10**6, np.float32)}
    thin = dict(hidden_size=2, num_attention_heads=1, num_key_value_heads=1, head_dim=2, intermediate_size=1)
    config = of_config(files, num_hidden_layers=2000, **thin)
    put(tmp_path, files, **{WEIGHTS: save(held), "config.json": config})
    with pytest.raises(FileError, match="2,000 layers; models of at most 1,024 open"):
        load_model(tmp_path)


@linux
@pytest.mark.parametrize("what", ["a pipe", "a folder", "itself", "/dev/zero", "a" * 300])
@pytest.mark.parametrize("name", ["config.json", WEIGHTS, "tokenizer.model", "generation_config.json"])
def test_what_is_no_file_is_not_waited_for(name, what, files, tmp_path):
    put(tmp_path, files, **{name: None})
    if what == "a pipe":
        os.mkfifo(tmp_path / name)
    elif what == "a folder":
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).symlink_to(name if what == "itself" else what)
    for door in (describe, lambda folder: list(in_folders([folder]))):
        with suppress(FileError):  # some faults are told in a description
            door(tmp_path)
    if name.startswith("generation") and len(what) < 300:  # such a file is not needed
        kinds.open_model(tmp_path)
    else:
        with pytest.raises(FileError, match=re.escape(str(tmp_path))):
            load_model(tmp_path)
    if name.endswith(".json"):
        with pytest.raises(FileError, match=name):
            describe(tmp_path / name)


@linux
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (struct.pack("<IIQ", 9, 8, 1 << 30), "1,073,741,824 items"),
        (struct.pack("<IIQ", 9, 9, 1 << 30), "1,073,741,824 items"),
        (struct.pack("<IIQ", 9, 10, 1 << 36), "first 134,217,728 bytes"),
        (struct.pack("<IQ", 8, 1 << 38), "first 134,217,728 bytes"),
        (struct.pack("<IIQ", 9, 8, 2) + struct.pack("<QQ", 0, 1 << 38), "beyond byte 134,217,728"),
    ],
    ids=["texts", "arrays", "numbers", "a text", "texts, one of them long"],
)
def test_a_file_of_holes_takes_no_memory(value, message, tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"a" + value)
    os.truncate(path, 1 << 40)
    with pytest.raises(FileError, match=message):
        read_gguf(path)
    with pytest.raises(run.Problem, match=r"too (much|long)"):
        run.File(str(path))


@linux
def test_run_py_waits_for_no_pipe_and_names_the_file(tmp_path):
    os.mkfifo(tmp_path / "model.gguf")
    with pytest.raises(run.Problem, match=r"cannot open .*model\.gguf: it is no file"):
        run.File(str(tmp_path / "model.gguf"))


def test_a_family_that_is_a_list_is_no_family(tmp_path):
    write_gguf(tmp_path / "m.gguf", {"general.architecture": np.array([1, 2])}, [])
    with pytest.raises(FileError, match=r"family '\[1 2\]'"):
        load_model(tmp_path / "m.gguf")


@pytest.mark.parametrize("count", [1e-40, np.nan, -1, np.inf, 0.5])
def test_an_importance_of_an_impossible_count_is_refused(count, tmp_path):
    sums = np.full((1, 32), 1e38, np.float32).tobytes()
    tensors = [
        ("m.in_sum2", TensorType.F32, sums, (1, 32)),
        ("m.counts", TensorType.F32, struct.pack("<f", count), (1, 1)),
    ]
    write_gguf(tmp_path / "i.gguf", {}, tensors)
    with pytest.raises(FileError, match="no sum of squares"):
        read_importance(tmp_path / "i.gguf")


# ---- tokenizers ------------------------------------------------------------------------------------------


def refused(folder, name, data):
    """What is said of a tokenizer's file."""
    (folder / name).write_bytes(data if isinstance(data, bytes) else json.dumps(data).encode())
    with pytest.raises(TwofoldError) as caught:
        kinds.use_tokenizer(Tokenizer.load(folder / name))
    assert name in str(caught.value)
    return str(caught.value)


def nested(depth):
    value = 0
    for _ in range(depth):
        value = [value]
    return value


def template(sequence):
    single = [{"Sequence": {"id": sequence, "type_id": 0}}]
    return {"type": "TemplateProcessing", "single": single, "pair": [], "special_tokens": {}}


def replacing(table):
    return {"normalizer": {"type": "Precompiled", "precompiled_charsmap": table}}


TABLE = samples.character_map()
TOKENIZERS = {
    "values in values": ({"x": nested(500)}, "more than 32 deep"),
    "a second text": ({"post_processor": template("B")}, "a second text"),
    "no table": ({"normalizer": {"type": "Precompiled"}}, "not base64"),
    "an empty table": (replacing(""), "its size is wrong"),
    "a table with padding": (replacing(base64.b64encode(TABLE).decode() + "===="), "not base64"),
    "a table of no text": (replacing(base64.b64encode(TABLE[:-2] + b"\xff\0").decode()), "not UTF-8"),
}  # fmt: skip


@pytest.mark.parametrize("attack", TOKENIZERS)
def test_hostile_tokenizers_are_refused_and_nothing_is_printed(attack, tmp_path, capfd):
    changes, message = TOKENIZERS[attack]
    assert message in refused(tmp_path, "tokenizer.json", {**samples.byte_level(), **changes})
    assert capfd.readouterr() == ("", "")


def test_words_that_take_the_square_of_their_length_are_refused(tmp_path):
    content = next(each for each in samples.tokenizer_jsons() if each["model"]["type"] == "WordPiece")
    content["model"]["max_input_chars_per_word"] = 10**9
    assert "1,000 are the most" in refused(tmp_path, "tokenizer.json", content)


def test_pieces_that_are_tried_at_every_place_are_short(tmp_path):
    content = next(each for each in samples.tokenizer_jsons() if each["model"]["type"] == "Unigram")
    content["model"]["vocab"].append(["a" * 257, -1.0])
    assert "more than 256 characters" in refused(tmp_path, "tokenizer.json", content)


@pytest.mark.parametrize("kind", samples.Kind)
def test_long_pieces_are_refused(kind, tmp_path):
    model = samples.piece_model(samples.Model.BPE)
    longer = replace(model, pieces=(*model.pieces, samples.Piece("a" * 100_000, -1.0, kind)))
    message = refused(tmp_path, "tokenizer.model", samples.write_model(longer))
    assert "256 characters" in message or kind is samples.Kind.BYTE


def test_names_too_many_to_look_for_are_refused(tmp_path):
    content = samples.byte_level()
    flags = content["added_tokens"][0]
    content["added_tokens"] += [{**flags, "id": 21 + i, "content": f"<|{i:0250}|>"} for i in range(5000)]
    assert "all together more than 1,048,576" in refused(tmp_path, "tokenizer.json", content)


def test_names_within_names_are_found(tmp_path):
    content = samples.byte_level()
    flags = content["added_tokens"][0]
    content["added_tokens"] += [{**flags, "id": 19 + i, "content": "a" * i} for i in range(2, 257)]
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    tokenizer = Tokenizer.load(tmp_path)
    first = tokenizer.vocab_size - 255  # "aa"
    assert tokenizer.encode_named("a" * 256 + "b" + "aaa")[::2] == [first + 254, first + 1]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("r50k_base.tiktoken.gz", b"\n" * (5 << 20), "more lines than any vocabulary"),
        ("tokenizer.json.gz", b"[" * (5 << 20), "holds more than 3,145,728 values"),
        ("tokenizer.json.gz", b'"' + b"a" * (140 << 20), "too large for a tokenizer"),
        ("vocab.json.gz", b"[[0]]", "an object was expected"),
        ("tokenizer.model", b"\x61" * (20 << 20), "more than 1,114,112 fields"),
    ],
    ids=["lines", "lists", "a text", "no object", "fields"],
)
def test_packed_files_that_are_enormous_are_refused(name, data, message, tmp_path):
    (tmp_path / "merges.txt").write_text("a b\n")
    assert message in refused(tmp_path, name, gzip.compress(data, 1))


def test_a_million_merges_of_nothing_are_refused(tmp_path):
    (tmp_path / "vocab.json").write_text("{}")
    assert "too many for merges" in refused(tmp_path, "merges.txt", b"\n" * (5 << 20))


def test_ranks_far_too_long_to_be_merges_still_encode(tmp_path):
    tokens = [*(bytes([byte]) for byte in range(256)), *(b"a" * size for size in range(2, 1200))]
    lines = [b"%s %d\n" % (base64.b64encode(token), rank) for rank, token in enumerate(tokens)]
    (tmp_path / "r50k_base.tiktoken").write_bytes(b"".join(lines))
    tokenizer = Tokenizer.load(tmp_path / "r50k_base.tiktoken")
    assert tokenizer.encode("aaab") == [257, ord("b")]
    with pytest.raises(FileError, match="too long to be written as merges"):
        tokenizer.save(tmp_path)


def test_what_an_adapter_says_of_itself_does_not_steer_a_terminal(tmp_path):
    files = next(samples.adapters())
    for folder in ("adapter", "base"):
        (tmp_path / folder).mkdir()
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    path = tmp_path / "adapter" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"r": "\x1b[31m", "target_modules": ["a\x7f"]}))
    note = describe(tmp_path / "adapter").notes[0]
    assert note.isprintable()
    assert r"\x1b[31m" in note
    assert r"a\x7f" in note


def test_an_adapter_of_what_is_no_model_is_named(tmp_path):
    (tmp_path / "adapter").mkdir()
    (tmp_path / "words.txt").write_text("words")
    config = {"peft_type": "LORA", "base_model_name_or_path": str(tmp_path / "words.txt")}
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(config))
    (tmp_path / "adapter" / "adapter_model.safetensors").write_bytes(save({"x": np.ones(1)}))
    with pytest.raises(FileError, match=r"adapter is an adapter of .*words\.txt, which does not open"):
        describe(tmp_path / "adapter")
