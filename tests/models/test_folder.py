"""Folders that `transformers` opens, and folders that nobody should."""

import contextlib
import json
import shutil
import struct

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from twofold.errors import FileError
from twofold.models.config import TransformerConfig
from twofold.models.folder import load_folder, load_info, load_weights, save_folder
from twofold.models.load import load_model
from twofold.models.transformer import Transformer
from twofold.tokens.patterns import RANK_FILES, RankFile
from twofold.tokens.rank_codec import RankCodec
from twofold.tokens.special import Config, roles_of
from twofold.tokens.tokenizer import Tokenizer, bytes_only

TOKENIZER = bytes_only()


def transformer(**changes):
    sizes = dict(
        vocab_size=TOKENIZER.vocab_size, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, intermediate_size=24, max_position_embeddings=64,
    )  # fmt: skip
    model = Transformer(TransformerConfig(**{**sizes, **changes}))
    for parameter in model.parameters():
        parameter.data.normal_(std=0.2).add_(parameter.ndim == 1)
    return model


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "whole"
    save_folder(folder, transformer(), TOKENIZER, chat=True)
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "model")


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("chat", [True, False])
def test_transformers_opens_the_folder_with_equal_logits(tmp_path, tied, chat):
    ours = transformer(tie_word_embeddings=tied)
    save_folder(tmp_path, ours, TOKENIZER, chat=chat)
    tokens = torch.randint(0, ours.config.vocab_size, (2, 20))
    theirs, report = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert theirs.dtype == torch.float32
    with torch.no_grad():
        assert (theirs(tokens).logits - ours(tokens)).abs().max() <= 1e-4
    end, turn = TOKENIZER.end_of_text, TOKENIZER.im_end
    generation = GenerationConfig.from_pretrained(tmp_path)
    assert generation.eos_token_id == ([turn, end] if chat else end)
    assert (generation.bos_token_id, generation.pad_token_id) == (end, end)
    assert load_info(tmp_path, TOKENIZER).stop_ids == ((turn, end) if chat else (end,))
    assert load_info(tmp_path, TOKENIZER).chat == chat
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer("Ada, 3!")["input_ids"] == TOKENIZER.encode("Ada, 3!", start=True)
    assert tokenizer.eos_token_id == (turn if chat else end)


def test_a_folder_comes_back_bit_for_bit(tmp_path):
    ours = transformer()
    save_folder(tmp_path, ours, TOKENIZER, chat=False)
    model, tokenizer = load_folder(tmp_path)
    assert model.config == ours.config
    assert not model.training
    assert tokenizer.fingerprint == TOKENIZER.fingerprint
    for name, tensor in ours.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor)


def test_a_folder_that_transformers_wrote_opens(tmp_path, folder):
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    shutil.copytree(folder, tmp_path / "again", ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    theirs.save_pretrained(tmp_path / "again")
    model, _ = load_folder(tmp_path / "again", dtype=None)
    assert model.output_weight.dtype == torch.bfloat16
    assert torch.equal(model.output_weight, theirs.get_output_embeddings().weight)
    model, _ = load_folder(tmp_path / "again")
    assert model.output_weight.dtype == torch.float32


def test_the_weights_may_be_replaced_while_the_model_is_open(folder):
    model, _ = load_folder(folder)
    before = model.output_weight.clone()
    (folder / "model.safetensors").write_bytes(b"")
    assert torch.equal(model.output_weight, before)


def test_shards_open_too(folder):
    weights = load_file(folder / "model.safetensors")
    names = sorted(weights)
    files = {name: f"model-0000{1 + (i % 2)}-of-00002.safetensors" for i, name in enumerate(names)}
    for file in set(files.values()):
        save_file({n: weights[n] for n in names if files[n] == file}, folder / file, {"format": "pt"})
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    model, _ = load_folder(folder)
    assert torch.equal(model.output_weight, weights["model.embed_tokens.weight"])
    (folder / files[names[0]]).unlink()
    with pytest.raises(FileError, match="is missing, and model"):
        load_folder(folder)


def test_a_tensor_in_two_shards_is_told(folder):
    weights = load_file(folder / "model.safetensors")
    norm = weights["model.norm.weight"]
    (folder / "model.safetensors").rename(folder / "a.safetensors")
    save_file({"model.norm.weight": norm.clone()}, folder / "b.safetensors", {"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}})
    )
    with pytest.raises(FileError, match=r"model\.norm\.weight' is also in a\.safetensors"):
        load_folder(folder)


def test_joined_tensors_of_another_shape_are_told(tmp_path):
    ours = transformer(model_type="phi3", tie_word_embeddings=False)
    save_folder(tmp_path, ours, TOKENIZER, chat=False)
    weights = load_file(tmp_path / "model.safetensors")
    name = "model.layers.1.self_attn.qkv_proj.weight"
    save_file({**weights, name: weights[name][1:].clone()}, tmp_path / "model.safetensors")
    with pytest.raises(
        FileError, match=r"qkv_proj.weight has the shape \[31, 16\], and .* asks for \[32, 16\]"
    ):
        load_folder(tmp_path)
    del weights[name]
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(FileError, match=r"hold 14 tensors, and a model of 2 layers needs 14|lack .*qkv_proj"):
        load_folder(tmp_path)


@pytest.mark.parametrize(
    "name", ["../model.safetensors", "/etc/passwd", "a/b.safetensors", "..\\x.safetensors", "x.bin", 3, ""]
)
def test_a_shard_outside_the_folder_is_refused(folder, name):
    (folder / "model.safetensors").rename(folder.parent / "model.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": name}}))
    with pytest.raises(FileError, match="not the name of a shard"):
        load_folder(folder)


@pytest.mark.parametrize("index", ["[]", "{}", '{"weight_map": {}}', '{"weight_map": 3}', "{", ""])
def test_an_index_that_makes_no_sense_is_refused(folder, index):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(index)
    with pytest.raises(FileError, match="index"):
        load_folder(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.ckpt"])
def test_pickled_weights_are_refused_with_the_reason(folder, name):
    (folder / "model.safetensors").rename(folder / name)
    with pytest.raises(FileError, match=rf"{name} .* any program"):
        load_folder(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(FileError, match=name):
        load_folder(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"vocab_size": 10**12}, "320 tokens and the model 1,000,000,000,000"),
        ({"num_hidden_layers": 10**9}, "too few"),
        ({"hidden_size": 2**60}, "too few"),
        ({"intermediate_size": 25}, r"mlp.* has the shape \[.*24.*\].* asks for \[.*25.*\]"),
        ({"num_hidden_layers": 1}, "unexpectedly"),
        ({"num_hidden_layers": 3}, "24 tensors, .* 3 layers needs 35"),
        ({"tie_word_embeddings": False}, "lm_head"),
        ({"vocab_size": 100}, r"the tokenizer does not fit the model: it has 320 tokens and the model 100"),
        ({"vocab_size": 320 + 1024}, "320 tokens and the model 1,344"),
        ({"max_position_embeddings": -5}, "max_position_embeddings"),
        ({"hidden_size": 10**400}, "hidden_size must be from 1"),
        ({"rope_theta": 10**400}, "rope_theta should be of type float"),
        ({"eos_token_id": "x"}, None),
    ],
)
def test_a_config_that_does_not_fit_is_told(folder, change, words):
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**values, **change}))
    if words is None:
        load_folder(folder)
        return
    with pytest.raises(FileError, match=words):
        load_folder(folder)


def test_another_tokenizer_of_the_same_size_is_told(folder):
    text = (folder / "tokenizer.json").read_text()
    values = json.loads(text)
    vocabulary = values["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    (folder / "tokenizer.json").write_text(json.dumps(values))
    with pytest.raises(FileError, match="not the one that the model was trained with"):
        load_folder(folder)
    (folder / "tokenizer.json").write_text(text)
    load_folder(folder)


def test_few_parameters_in_many_layers_are_not_built(folder):
    """Sizes that pass the comparison of bytes, and would still make a million modules."""
    values = json.loads((folder / "config.json").read_text())
    thin = dict(hidden_size=1, num_attention_heads=1, num_key_value_heads=1, head_dim=2, intermediate_size=1)
    (folder / "config.json").write_text(json.dumps({**values, **thin, "num_hidden_layers": 1_000_000}))
    tensors = {f"t{i}": torch.zeros(1) for i in range(10)} | {"big": torch.zeros(12_000_000)}
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(FileError, match="11 tensors"):
        load_folder(folder)


@pytest.mark.parametrize("value", ["x", 1.5, [True], -1, [2**40], {}])
def test_a_stop_token_that_is_no_number_is_told(folder, value):
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": value}))
    with pytest.raises(FileError, match=r"generation_config\.json: eos_token_id"):
        load_model(folder)


@pytest.mark.parametrize("content", ["[]", "3", "{}", '{"model_type": "llama"}', "\x00", '"' * 9])
def test_a_config_that_is_none_is_told(folder, content):
    (folder / "config.json").write_text(content)
    with pytest.raises(FileError, match=r"config\.json"):
        load_folder(folder)


def test_tensors_of_another_type_or_too_many_are_refused(folder):
    weights = load_file(folder / "model.safetensors")
    norm = weights["model.norm.weight"]
    save_file({**weights, "model.norm.weight": norm.long()}, folder / "model.safetensors")
    with pytest.raises(FileError, match=r"model\.norm\.weight is of type I64"):
        load_folder(folder)
    save_file({**weights, "extra\x1b[2J": norm.clone()}, folder / "model.safetensors")
    with pytest.raises(FileError, match=r"extra\\x1b"):
        load_folder(folder)
    output = weights["model.embed_tokens.weight"]
    save_file({**weights, "lm_head.weight": output.clone()}, folder / "model.safetensors")
    load_folder(folder)
    save_file({**weights, "lm_head.weight": output + 1}, folder / "model.safetensors")
    with pytest.raises(FileError, match="one matrix"):
        load_folder(folder)


CONFIG = transformer().config


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_weights_open_or_are_refused_and_nothing_else(whole, tmp_path, data):
    """Cut anywhere, bytes flipped in the header, the header's size lying, offsets moved."""
    good = (whole / "model.safetensors").read_bytes()
    header_size = struct.unpack("<Q", good[:8])[0]
    kind = data.draw(st.sampled_from(["cut", "flip", "size", "offsets", "grow"]))
    if kind == "cut":
        bad = good[: data.draw(st.integers(0, len(good) - 1))]
    elif kind == "grow":
        bad = good + data.draw(st.binary(min_size=1, max_size=40))
    elif kind == "size":
        size = data.draw(st.one_of(st.integers(0, 2**64 - 1), st.integers(0, 2 * header_size)))
        bad = struct.pack("<Q", size) + good[8:]
    elif kind == "flip":
        at = data.draw(st.integers(0, 8 + header_size - 1))
        bad = good[:at] + data.draw(st.binary(min_size=1, max_size=3)) + good[at:][1:]
    else:
        header = json.loads(good[8 : 8 + header_size])
        name = data.draw(st.sampled_from(sorted(set(header) - {"__metadata__"})))
        moved = data.draw(st.lists(st.integers(-(2**65), 2**65), min_size=2, max_size=2))
        field = data.draw(st.sampled_from(["data_offsets", "shape"]))
        header[name][field] = moved
        text = json.dumps(header).encode()
        bad = struct.pack("<Q", len(text)) + text + good[8 + header_size :]
    (tmp_path / "model.safetensors").write_bytes(bad)
    with contextlib.suppress(FileError):
        load_weights(tmp_path, CONFIG)
        assert kind == "flip"  # only a flip may leave a file whole: a changed blank, for example


def test_a_pipe_or_a_folder_in_place_of_weights_is_refused(folder):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").mkdir()
    with pytest.raises(FileError, match="safetensors"):
        load_folder(folder)


def test_a_model_in_a_read_only_place_is_told(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="Cannot write"):
        save_folder(tmp_path / "file" / "model", transformer(), TOKENIZER, chat=False)


def test_a_tokenizer_that_does_not_fit_is_not_saved(tmp_path):
    with pytest.raises(FileError, match="320 tokens and the model 64"):
        save_folder(tmp_path, transformer(vocab_size=64), TOKENIZER, chat=False)
    assert not list(tmp_path.iterdir())


def test_a_create_folder_opens_as_its_assistant(tmp_path):
    for stage in ("base", "assistant"):
        save_folder(tmp_path / stage, transformer(), TOKENIZER, chat=stage == "assistant")
        _, _, info = load_model(tmp_path)
        assert info.path == tmp_path / stage
    (tmp_path / "assistant" / "config.json").unlink()
    assert load_model(tmp_path)[2].path == tmp_path / "base"


def test_a_create_folder_that_is_not_finished_is_told(tmp_path):
    (tmp_path / "base").mkdir()
    with pytest.raises(FileError, match="no finished model yet"):
        load_model(tmp_path)


def test_the_folder_above_a_model_names_the_model_below(folder):
    with pytest.raises(FileError, match=f"one in {folder}"):
        load_model(folder.parent)


def test_what_is_not_there_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileError, match="hub"):
        load_model("Qwen/Qwen3-0.6B")
    with pytest.raises(FileError, match="There is no model"):
        load_model(tmp_path / "nothing")
    (tmp_path / "weights.bin").write_bytes(b"x")
    with pytest.raises(FileError, match="not a model"):
        load_model(tmp_path / "weights.bin")
    with pytest.raises(FileError, match="Cannot read"):
        load_model("x" * 5000)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(folder, value):
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.0.self_attn.k_proj.weight"][0, 0] = value
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(FileError, match=r"k_proj\.weight holds NaN or infinity"):
        load_folder(folder)


def test_a_tokenizer_out_of_rank_files_comes_back_with_the_folder(tmp_path):
    ranks = {bytes([byte]): byte for byte in range(256)}
    cut = RANK_FILES["o200k_base"]
    special = {name: 256 + place for place, name in enumerate(cut.special)}
    tokenizer = Tokenizer.of(
        RankCodec(ranks, RankFile(cut.pattern, special), "it"), roles_of(special, Config())
    )
    config = TransformerConfig(
        vocab_size=tokenizer.vocab_size, hidden_size=16, num_hidden_layers=1, num_attention_heads=1,
        num_key_value_heads=1, head_dim=16, intermediate_size=16,
    )  # fmt: skip
    save_folder(tmp_path, Transformer(config), tokenizer, chat=False)
    assert load_folder(tmp_path)[1].encode("Hello  there") == tokenizer.encode("Hello  there")
