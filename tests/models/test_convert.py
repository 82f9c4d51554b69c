"""From one kind of file to another: what transformers opens at the end, and what is left when it stops midway."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from twofold.errors import FileError, UsageError
from twofold.models.config import TransformerConfig
from twofold.models.convert import convert, load_contents
from twofold.models.folder import save_folder
from twofold.models.gguf import read_gguf, write_gguf
from twofold.models.load import load_model
from twofold.models.quantize import TensorType, dequantize, quantize
from twofold.models.recipes import RECIPES
from twofold.models.transformer import Transformer
from twofold.tokens.tokenizer import bytes_only

IDS = [5, 80, 3, 200, 7, 66, 90]
KINDS = ("qwen3", "llama", "gpt2", "gemma2", "phi3")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Hugging Face folders of tiny models, by family."""
    root = tmp_path_factory.mktemp("folders")
    for kind in KINDS:
        own = {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, "sliding_window": 32,
               "layer_types": ("sliding_attention", "full_attention"), "query_pre_attn_scalar": 32}  # fmt: skip
        config = TransformerConfig(
            vocab_size=320, hidden_size=128, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=4 if kind == "gpt2" else 2, head_dim=32, intermediate_size=256,
            max_position_embeddings=64, model_type=kind, tie_word_embeddings=kind in ("gpt2", "gemma2"),
            **(own if kind == "gemma2" else {}),
        )  # fmt: skip
        torch.manual_seed(0)
        model = Transformer(config)
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.data.normal_(0, 0.1)
        save_folder(root / kind, model, bytes_only(320), chat=True)
    return root


def logits(model) -> np.ndarray:
    with torch.no_grad():
        out = model(torch.tensor([IDS]))
    return (out if isinstance(out, torch.Tensor) else out.logits)[0].float().numpy()


@pytest.mark.parametrize("kind", KINDS)
def test_a_gguf_of_a_folder_is_a_folder_again_for_transformers(kind, folders, tmp_path):
    convert(folders / kind, tmp_path / "m.gguf", type="f32")
    convert(tmp_path / "m.gguf", tmp_path / "again")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "again", dtype=torch.float32).eval()
    expected = logits(load_model(folders / kind)[0])
    np.testing.assert_allclose(logits(theirs), expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    model, tokenizer, info = load_model(tmp_path / "again")
    assert model.config == load_model(folders / kind)[0].config
    assert tokenizer.fingerprint == bytes_only(320).fingerprint
    assert info.chat


@pytest.mark.parametrize("recipe", RECIPES)
def test_weights_are_those_of_the_encoding(recipe, folders, tmp_path):
    done = convert(folders / "llama", tmp_path / "m.gguf", type=recipe)
    model, again = load_model(folders / "llama")[0], load_model(tmp_path / "m.gguf")[0]
    file = read_gguf(tmp_path / "m.gguf")
    kinds = [TensorType(tensor.type).name for tensor in file.tensors.values()]
    assert done.types == {kind: kinds.count(kind) for kind in kinds}
    assert done.bytes == (tmp_path / "m.gguf").stat().st_size
    assert done.parameters == model.config.count_parameters()
    weight = model.state_dict()["model.layers.1.mlp.up_proj.weight"].numpy()  # its rows stay in their order
    kind = file.tensors["blk.1.ffn_up.weight"].type
    np.testing.assert_array_equal(
        again.state_dict()["model.layers.1.mlp.up_proj.weight"].numpy(),
        dequantize(quantize(weight, kind), kind),
    )
    if recipe in ("q4_k_m", "q5_k_m", "q6_k"):  # hidden_size 128 is half a block of those
        assert ("blk.1.ffn_up.weight", TensorType(kind).name) in done.fallbacks
        assert file.tensors["blk.1.ffn_down.weight"].type in (12, 13, 14)
    else:
        assert done.fallbacks == (
            () if not recipe.startswith("q") or recipe == "q8_0" else done.fallbacks[:1]
        )


def test_one_gguf_becomes_another_and_keeps_what_it_says_of_its_origin(folders, tmp_path):
    convert(folders / "llama", tmp_path / "a.gguf", type="f16", name="Pond")
    file = read_gguf(tmp_path / "a.gguf")
    tensors = [(t.name, TensorType(t.type), t.raw, t.shape) for t in file.tensors.values()]
    about = {"general.license": "apache-2.0", "general.alignment": 32, "general.tags": ["a", "b"]}
    write_gguf(tmp_path / "b.gguf", file.metadata | about, tensors)
    convert(tmp_path / "b.gguf", tmp_path / "c.gguf", type="q8_0")
    found = read_gguf(tmp_path / "c.gguf").metadata
    assert found["general.name"] == "Pond"
    assert found["general.license"] == "apache-2.0"
    assert found["general.tags"] == ["a", "b"]
    assert found["general.file_type"] == 7
    assert "general.alignment" not in found


def test_the_bytes_are_the_same_each_time(folders, tmp_path):
    for name in "ab":
        convert(folders / "llama", tmp_path / f"{name}.gguf", type="q4_k_m", name="x")
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()


@pytest.mark.parametrize(("type", "dtype"), [("f16", "float16"), ("bf16", "bfloat16")])
def test_a_folder_of_half_the_size(type, dtype, folders, tmp_path):
    done = convert(folders / "llama", tmp_path / "half", type=type)
    assert json.loads((tmp_path / "half/config.json").read_text())["torch_dtype"] == dtype
    assert 15.9 < done.bits_per_weight < 17
    expected = logits(load_model(folders / "llama")[0])
    assert np.abs(logits(load_model(tmp_path / "half")[0]) - expected).max() < 0.05 * np.abs(expected).max()


def test_an_importance_changes_what_it_weighs_and_nothing_else(folders, tmp_path):
    importance = {
        "blk.0.ffn_up.weight": np.linspace(0.01, 1, 128, dtype=np.float32) ** 2,
        "other": np.ones(3),
    }
    convert(folders / "llama", tmp_path / "a.gguf", type="q4_1", name="x")
    convert(folders / "llama", tmp_path / "b.gguf", type="q4_1", name="x", importance=importance)
    a, b = (read_gguf(tmp_path / f"{name}.gguf").tensors for name in "ab")
    changed = [name for name in a if not np.array_equal(a[name].raw, b[name].raw)]
    assert changed == ["blk.0.ffn_up.weight"]
    weight = load_contents(folders / "llama").weights["model.layers.0.mlp.up_proj.weight"]
    errors = [
        (importance["blk.0.ffn_up.weight"] * np.square(side["blk.0.ffn_up.weight"].float32() - weight)).sum()
        for side in (a, b)
    ]
    assert errors[1] < errors[0]


def test_progress_counts_all_weights(folders, tmp_path):
    told = []
    done = convert(folders / "gpt2", tmp_path / "m.gguf", progress=lambda *pair: told.append(pair))
    assert told[-1] == (done.parameters, done.parameters)
    assert [one for one, _ in told] == sorted(one for one, _ in told)


def test_weights_of_a_gguf_are_decoded_one_by_one(folders, tmp_path, monkeypatch):
    convert(folders / "llama", tmp_path / "m.gguf", type="q8_0")
    contents, asked = load_contents(tmp_path / "m.gguf"), []
    real = type(contents.weights).__getitem__
    monkeypatch.setattr(
        type(contents.weights), "__getitem__", lambda self, name: asked.append(name) or real(self, name)
    )
    assert contents.shapes["model.norm.weight"] == (128,)
    assert len(contents.weights) == 21
    assert not asked
    assert contents.weights["model.norm.weight"].shape == (128,)
    assert asked == ["model.norm.weight"]


@pytest.mark.parametrize(
    ("output", "options", "message"),
    [
        ("m.gguf", {"type": "q9"}, "There is no type 'q9'"),
        ("folder", {"type": "q8_0"}, "ends in .gguf"),
        ("folder", {"importance": {"a": np.ones(1)}}, "importance"),
        ("m.gguf", {"importance": {"a": np.ones(1)}}, "names none"),
        (
            "m.gguf",
            {"importance": {"blk.0.ffn_up.weight": np.ones(64)}},
            "has 64 columns there, and 128 here",
        ),
        ("m.gguf", {"importance": {"blk.0.ffn_up.weight": -np.ones(128)}}, "at least 0"),
    ],
)
def test_what_cannot_be_is_told_and_leaves_nothing(output, options, message, folders, tmp_path):
    with pytest.raises(UsageError, match=message):
        convert(folders / "llama", tmp_path / output, **options)
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_not_written_over(folders, tmp_path):
    (tmp_path / "m.gguf").write_text("mine")
    (tmp_path / "folder").mkdir()
    for name in ("m.gguf", "folder"):
        with pytest.raises(UsageError, match="there already"):
            convert(folders / "llama", tmp_path / name)
    assert (tmp_path / "m.gguf").read_text() == "mine"


def test_a_conversion_that_is_stopped_leaves_nothing(folders, tmp_path, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(folders / "llama", tmp_path / "m.gguf", progress=stop)
    monkeypatch.setattr("twofold.models.folder.save_folder", stop)
    with pytest.raises(KeyboardInterrupt):
        convert(folders / "llama", tmp_path / "folder")
    assert not list(tmp_path.iterdir())


def test_weights_too_large_for_the_type_are_refused(folders, tmp_path):
    model, tokenizer, _ = load_model(folders / "llama")
    model.model.layers[0].mlp.up_proj.weight.data[0, 0] = 1e6
    save_folder(tmp_path / "large", model, tokenizer, chat=False)
    for output in ("m.gguf", "folder"):
        with pytest.raises(UsageError, match="largest f16"):
            convert(tmp_path / "large", tmp_path / output, type="f16")
        assert not (tmp_path / output).exists()


def test_what_is_no_model_is_told(tmp_path):
    with pytest.raises(FileError, match="no model"):
        convert(tmp_path / "nothing", tmp_path / "m.gguf")
