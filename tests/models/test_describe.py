"""What a model's files tell without its weights: counted against transformers and against published figures."""

import json
import struct

import numpy as np
import pytest
import torch

from twofold.cli.facts import facts_from
from twofold.errors import FileError
from twofold.models.describe import describe, find_folder
from twofold.models.gguf import write_gguf
from twofold.models.quantize import TensorType

# config.json of published models, as far as sizes go, and the parameters that their authors or the hub tell.
PUBLISHED = {
    "Llama-2-70B": ({
        "model_type": "llama", "vocab_size": 32_000, "hidden_size": 8192, "num_hidden_layers": 80,
        "num_attention_heads": 64, "num_key_value_heads": 8, "intermediate_size": 28_672,
    }, 68_976_648_192),
    "Llama-3-8B": ({
        "model_type": "llama", "vocab_size": 128_256, "hidden_size": 4096, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14_336,
    }, 8_030_261_248),
    "GPT-2": ({
        "model_type": "gpt2", "vocab_size": 50_257, "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024,
    }, 124_439_808),
    "Qwen3-0.6B": ({
        "model_type": "qwen3", "vocab_size": 151_936, "hidden_size": 1024, "num_hidden_layers": 28,
        "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 3072,
        "tie_word_embeddings": True,
    }, 596_049_920),
    "Mistral-7B": ({
        "model_type": "mistral", "vocab_size": 32_000, "hidden_size": 4096, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14_336, "sliding_window": 4096,
    }, 7_241_732_096),
    "Gemma-2-2B": ({
        "model_type": "gemma2", "vocab_size": 256_000, "hidden_size": 2304, "num_hidden_layers": 26,
        "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "intermediate_size": 9216,
        "sliding_window": 4096,
    }, 2_614_341_888),
}  # fmt: skip

SMALL = dict(
    vocab_size=96, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
    intermediate_size=48, max_position_embeddings=64, bos_token_id=0, eos_token_id=0, pad_token_id=0,
)  # fmt: skip
GPT2 = dict(vocab_size=96, n_embd=32, n_layer=3, n_head=4, n_positions=64, bos_token_id=0, eos_token_id=0)
FAMILIES = {
    "llama": SMALL, "mistral": SMALL, "qwen2": SMALL, "qwen3": SMALL | {"head_dim": 16}, "phi3": SMALL,
    "gemma2": SMALL | {"head_dim": 16}, "gemma3_text": SMALL | {"head_dim": 16}, "olmo2": SMALL, "smollm3": SMALL,
    "gpt2": GPT2,
}  # fmt: skip
FOREIGN = {
    "falcon": dict(
        vocab_size=96, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, multi_query=True
    ),
    "gpt_neox": SMALL,
    "bloom": dict(vocab_size=96, hidden_size=32, n_layer=2, n_head=4),
    "opt": SMALL | {"word_embed_proj_dim": 32, "ffn_dim": 48},
    "mixtral": SMALL | {"num_local_experts": 4, "num_experts_per_tok": 2},
    "starcoder2": SMALL,
    "stablelm": SMALL,
    "glm4": SMALL | {"head_dim": 8},
    "cohere": SMALL,
    "granite": SMALL,
}


def written(tmp_path, values):
    """A config.json with those values."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


def theirs(family, values, device="meta"):
    """The model of transformers, without weights."""
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device(device):
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **values))


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_models_have_the_parameters_that_are_published(name, tmp_path):
    values, parameters = PUBLISHED[name]
    found = describe(written(tmp_path, values))
    assert sum(found.parameters.values()) == parameters
    assert found.kind == "a shape without weights"
    assert not found.notes + found.faults


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_a_family_that_opens_has_the_parameters_of_transformers(family, tied, tmp_path):
    model = theirs(family, FAMILIES[family] | {"tie_word_embeddings": tied})
    model.config.save_pretrained(tmp_path)
    found = describe(tmp_path / "config.json")
    assert sum(found.parameters.values()) == model.num_parameters()
    assert found.config is not None


@pytest.mark.parametrize("family", [*FOREIGN, "llama", "gpt2"])
def test_a_folder_of_any_family_is_counted_from_its_headers(family, tmp_path):
    model = theirs(family, (FOREIGN | FAMILIES)[family], "cpu")
    model.save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    if family not in FOREIGN:  # under a name that is not known
        written(tmp_path, values | {"model_type": "new"})
    found = describe(tmp_path)
    assert sum(found.parameters.values()) == model.num_parameters()
    assert "other" not in found.parameters
    assert found.config is None
    assert "does not open here" in found.notes[0]
    assert found.sizes["layers"] == model.config.num_hidden_layers
    assert found.sizes["width"] == 32
    assert sum(found.stored.values()) == 4 * model.num_parameters()
    if family != "bloom":  # which says no context
        assert len(found.shape.layers) == model.config.num_hidden_layers


def test_experts_are_told_and_only_some_of_them_are_used(tmp_path):
    values = FOREIGN["mixtral"]
    theirs("mixtral", values, "cpu").save_pretrained(tmp_path)
    found = describe(tmp_path)
    assert found.parameters["experts"] == 3 * 4 * 3 * 32 * 48
    assert found.shape.used == found.shape.matrices - found.parameters["experts"] // 2


def test_masks_of_old_files_and_a_second_output_matrix_are_no_parameters(tmp_path):
    from safetensors.torch import save_file

    weights = {
        "h.0.attn.bias": torch.ones(1, 1, 8, 8), "h.0.attn.masked_bias": torch.ones(()),
        "h.0.attn.c_attn.bias": torch.ones(6), "h.0.attn.rotary_emb.inv_freq": torch.ones(4),
        "wte.weight": torch.ones(4, 2), "lm_head.weight": torch.ones(4, 2),
    }  # fmt: skip
    save_file(weights, tmp_path / "model.safetensors")
    written(tmp_path, {"model_type": "new", "tie_word_embeddings": True})
    assert describe(tmp_path).parameters == {"biases": 6, "embedding": 8}


def test_quantized_weights_do_not_change_the_count(tmp_path):
    values, parameters = PUBLISHED["Llama-3-8B"]
    found = describe(written(tmp_path, values | {"quantization_config": {"quant_method": "gptq", "bits": 4}}))
    assert sum(found.parameters.values()) == parameters
    assert found.sizes["quantization"] == "gptq"
    assert "quantization_config" in found.notes[0]


@pytest.fixture
def saved(tmp_path):
    """A folder with a model that opens."""
    theirs("llama", SMALL, "cpu").save_pretrained(tmp_path)
    return tmp_path


def test_a_whole_folder_has_no_faults(saved):
    assert not describe(saved).faults


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_weights_that_are_cut_short_are_a_fault(saved, kept):
    path = saved / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    assert "not a whole safetensors file" in describe(saved).faults[0]


def test_a_header_that_claims_more_than_is_there_costs_nothing(saved):
    header = json.dumps({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}).encode()
    (saved / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    assert "not a whole safetensors file" in describe(saved).faults[0]
    (saved / "model.safetensors").write_bytes(struct.pack("<Q", 1 << 60))
    assert "not a whole safetensors file" in describe(saved).faults[0]


def test_a_missing_shard_and_missing_tensors_are_faults(saved):
    index = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}
    (saved / "model.safetensors.index.json").write_text(json.dumps(index))
    (saved / "model.safetensors").rename(saved / "model-2.safetensors")
    index["weight_map"]["a"] = "model-1.safetensors"
    (saved / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "model-1.safetensors is missing" in describe(saved).faults[0]
    index["weight_map"]["a"] = "model-2.safetensors"
    (saved / "model.safetensors.index.json").write_text(json.dumps(index))
    assert not describe(saved).faults
    values = json.loads((saved / "config.json").read_text())
    written(saved, values | {"num_hidden_layers": 5})
    assert "a part of them is missing" in describe(saved).faults[0]


def test_a_folder_without_weights_or_with_pickles_says_so(saved):
    (saved / "model.safetensors").unlink()
    assert describe(saved).notes == ("It has no weights.",)
    (saved / "pytorch_model.bin").write_bytes(b"x")
    assert "pickled (pytorch_model.bin)" in describe(saved).notes[0]


@pytest.mark.parametrize(
    "values",
    [
        [], "x", None, {"model_type": 5}, {"model_type": "new", "num_hidden_layers": 10**9, "hidden_size": -1},
        {"model_type": "new", "num_hidden_layers": 2, "hidden_size": 8, "num_attention_heads": 0, "vocab_size": 4},
        {"model_type": "new", "hidden_size": [1], "layer_types": "x", "sliding_window": 2, "n_ctx": True},
        {"model_type": "new", "text_config": {"text_config": 1}},
        SMALL | {"model_type": "llama", "num_hidden_layers": 1 << 59},
        SMALL | {"model_type": "llama", "num_attention_heads": 0},
    ],
)  # fmt: skip
def test_a_config_that_makes_no_sense_is_a_message_or_a_note(values, tmp_path):
    try:
        told = describe(written(tmp_path, values)).notes
    except FileError as error:
        told = (str(error),)
    assert str(tmp_path) in told[0]


def foreign_gguf(path, **metadata):
    """A GGUF of a family that does not open, with per-layer heads."""
    tensors = [
        ("token_embd.weight", TensorType.Q8_0, np.ones((64, 32), np.float32), (64, 32)),
        *(
            (f"blk.{n}.{name}.weight", TensorType.F16, np.ones((32, 32), np.float32), (32, 32))
            for n in range(2)
            for name in ("attn_q", "ffn_up")
        ),
        ("output_norm.weight", TensorType.F32, np.ones(32, np.float32), (32,)),
    ]
    about = {
        "general.architecture": "new", "new.block_count": 2, "new.embedding_length": 32,
        "new.attention.head_count": np.array([4, 2], np.int32), "new.attention.head_count_kv": 1,
        "new.attention.key_length": 8, "new.context_length": 128, "tokenizer.ggml.tokens": ["a"] * 64,
    }  # fmt: skip
    write_gguf(path, about | metadata, tensors)
    return path


def test_a_gguf_of_any_family_is_told(tmp_path):
    found = describe(foreign_gguf(tmp_path / "x.gguf"))
    assert found.family == "new"
    assert found.parameters == {"embedding": 2048, "attention": 2048, "feed_forward": 2048, "norms": 32}
    assert found.stored == {"Q8_0": 64 * 34, "F16": 4096 * 2, "F32": 128}
    assert [layer.heads for layer in found.shape.layers] == [4, 2]
    assert found.shape.matrices == 2048 * 3
    assert found.config is None


@pytest.mark.parametrize("value", [0, -1, "x", 1 << 31, np.zeros(0, np.int32), np.array([-1, 2], np.int32)])
def test_a_gguf_with_sizes_that_make_no_sense_has_no_costs(tmp_path, value):
    found = describe(foreign_gguf(tmp_path / "x.gguf", **{"new.block_count": value}))
    assert found.shape is None


@pytest.mark.parametrize("value", [[128, 256], [0, 0], [-3], [1, 1 << 40]])
@pytest.mark.parametrize("key", ["context_length", "embedding_length", "block_count", "attention.head_count"])
def test_a_gguf_whose_sizes_are_lists_is_told(key, value, tmp_path):
    path = foreign_gguf(tmp_path / "x.gguf", **{f"new.{key}": np.array(value, np.int64)})
    facts = facts_from(describe(path))
    assert facts.shape.get("layers") in (2, None)
    if key == "context_length":
        assert "context" not in facts.shape


def test_what_holds_no_model_names_what_it_has_below(tmp_path):
    (tmp_path / "a").mkdir()
    foreign_gguf(tmp_path / "a" / "x.gguf")
    with pytest.raises(FileError, match=r"a/x\.gguf"):
        find_folder(tmp_path)
    with pytest.raises(FileError, match="Cannot read"):
        describe(tmp_path / "none")
