"""Models of every family as GGUF: read back as they were, and opened by llama.cpp, which gives the same scores."""

import time
from contextlib import suppress
from dataclasses import replace

import gguf
import numpy as np
import pytest
import torch
import xllamacpp

from twofold.errors import FileError, UsageError
from twofold.models.config import TransformerConfig
from twofold.models.families import FAMILIES
from twofold.models.from_gguf import Contents, open_gguf
from twofold.models.gguf import read_gguf, write_gguf
from twofold.models.gguf_config import ARCHITECTURES
from twofold.models.gguf_names import from_file, to_file
from twofold.models.load import load_model
from twofold.models.quantize import TensorType
from twofold.models.rope import RopeScaling
from twofold.models.to_gguf import plan
from twofold.models.transformer import Transformer
from twofold.tokens.tokenizer import bytes_only

SLIDING, FULL = "sliding_attention", "full_attention"
OWN = {  # what tiny models of a family differ in
    "gpt2": {"num_key_value_heads": 4},
    "mistral": {"sliding_window": 512},
    "smollm3": {"num_hidden_layers": 4, "no_rope_layers": (1, 1, 1, 0)},
    "gemma2": {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, "sliding_window": 32,
               "layer_types": (SLIDING, FULL), "query_pre_attn_scalar": 32},
    "gemma3_text": {"sliding_window": 32, "layer_types": (SLIDING, SLIDING), "query_pre_attn_scalar": 32,
                    "rope_local_base_freq": 10_000.0, "rope_theta": 1e6},
}  # fmt: skip
TIED = ("gpt2", "qwen3", "gemma", "gemma2", "gemma3_text")
VOCABULARY = 320
LLAMA3 = RopeScaling(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                     original_max_position_embeddings=8192)  # fmt: skip
YARN = RopeScaling(rope_type="yarn", factor=4.0, original_max_position_embeddings=64)
LONG = RopeScaling(rope_type="longrope", original_max_position_embeddings=256,
                   short_factor=tuple(1 + i / 8 for i in range(12)), long_factor=(2.0,) * 12)  # fmt: skip


def config_of(kind: str, **more) -> TransformerConfig:
    shape = dict(
        vocab_size=VOCABULARY, hidden_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        head_dim=32, intermediate_size=192, max_position_embeddings=128, model_type=kind,
        tie_word_embeddings=kind in TIED,
    )  # fmt: skip
    return TransformerConfig(**{**shape, **OWN.get(kind, {}), **more})


def contents_of(config: TransformerConfig) -> Contents:
    """A model of random weights, large enough that scores are far apart, and norms that are not all one."""
    model, tokenizer = Transformer(config), bytes_only(VOCABULARY)
    torch.manual_seed(0)
    plus_one = config.family.norm == "rms_plus_one"
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.data.normal_(0, 0.3)
        elif parameter.ndim == 1:
            parameter.data.uniform_(-0.3, 0.3) if plus_one else parameter.data.uniform_(0.5, 1.5)
        else:
            parameter.data.normal_(0, 0.08)
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    return Contents(config, weights, tokenizer, (tokenizer.end_of_text,), False)


def written(path, contents: Contents, recipe: str = "f32"):
    planned = plan(contents, recipe, name="tiny")
    write_gguf(path, planned.metadata, planned.entries())
    return path, planned


def llama_cpp_differs(path, ids_of_rows, context: int = 128) -> tuple[float, int]:
    """(how far llama.cpp's log-probabilities of the next token are from ours, at most; of how many rows)."""
    model, _, _ = load_model(path)
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx, params.n_parallel, params.warmup, params.verbosity = context, 1, False, -1
    params.cpuparams.n_threads = 1
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    # Its flash attention rounds to float16.
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    server, most, compared = xllamacpp.Server(params), 0.0, 0
    for ids in ids_of_rows:
        answer = server.handle_completions(
            {"prompt": ids, "max_tokens": 1, "temperature": 0.0, "cache_prompt": False, "n_probs": VOCABULARY}
        )
        told = answer["choices"][0]["logprobs"]
        if told is None:  # it tells no scores where half a character comes next
            continue
        with torch.no_grad():
            own = model(torch.tensor([ids]))[0, -1].double().log_softmax(-1)
        found = told["content"][0]["top_logprobs"]
        assert len(found) == VOCABULARY
        most = max(most, *(abs(one["logprob"] - float(own[one["id"]])) for one in found))
        compared += 1
    return most, compared


def random_rows(lengths=(1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 100, 110)):
    dice = np.random.default_rng(0)
    return [dice.integers(32, 127, length).tolist() for length in lengths]


# ---- Names. ----
@pytest.mark.parametrize("kind", FAMILIES)
def test_names_are_llama_cpps_both_ways(kind):
    config = config_of(kind)
    if config.family.output_bias and "attention_bias" in config.family.settings:
        config = replace(config, attention_bias=True)
    architecture = {name: number for number, name in gguf.MODEL_ARCH_NAMES.items()}[ARCHITECTURES[kind]]
    names = gguf.get_tensor_name_map(architecture, config.num_hidden_layers)
    shapes = {name: tensor.shape for name, tensor in Transformer(config).state_dict().items()}
    held = list(to_file(config, shapes))
    for one in held:
        assert from_file(config, one.name) == one
        for part in one.parts:
            stem, _, suffix = part.rpartition(".")
            if len(one.parts) == 1 and not part.startswith("model.embed_positions"):
                assert names.get_name(stem) == one.name.removesuffix(f".{suffix}"), part
    assert sorted(part for one in held for part in one.parts) == sorted(shapes)
    known = {names.get_name(name) for name in ("wpe", "h.0.attn.c_attn", "model.layers.0.self_attn.qkv_proj")}
    for one in held:
        if one.name in ("position_embd.weight", "blk.0.attn_qkv.weight"):
            assert one.name.removesuffix(".weight") in known


def test_rows_of_queries_and_keys_are_put_side_by_side_and_apart_again():
    config = config_of("llama", num_attention_heads=2, num_key_value_heads=1, head_dim=4)
    held = from_file(config, "blk.0.attn_q.weight")
    ours = {held.parts[0]: np.arange(8, dtype=np.float32)[:, None]}
    assert held.join(ours)[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


# ---- Read back. ----
VARIANTS = [
    *((kind, {}) for kind in FAMILIES),
    ("llama", {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
    ("llama", {"rope_scaling": RopeScaling(rope_type="linear", factor=4.0)}),
    ("llama", {"rope_scaling": LLAMA3}),
    ("llama", {"rope_scaling": YARN}),
    ("mistral", {"sliding_window": 64}),
    ("qwen2", {"sliding_window": 64, "layer_types": (FULL, SLIDING)}),
    ("qwen3", {"rope_scaling": replace(YARN, attention_factor=1.25, beta_fast=16.0)}),
    ("qwen3", {"head_dim": 16, "attention_bias": True}),
    ("phi3", {"partial_rotary_factor": 0.75, "rope_scaling": LONG, "max_position_embeddings": 256}),
    ("phi3", {"sliding_window": 64}),
    ("gemma2", {"query_pre_attn_scalar": 24, "layer_types": (FULL, SLIDING)}),
    ("gemma3_text", {"sliding_window": None, "layer_types": None}),
    ("gemma3_text", {"rope_scaling": RopeScaling(rope_type="linear", factor=8.0), "num_hidden_layers": 6,
                     "layer_types": (*(SLIDING,) * 5, FULL)}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "more"), VARIANTS, ids=str)
def test_a_model_is_read_back_as_it_was(kind, more, tmp_path):
    contents = contents_of(config_of(kind, **more))
    path, _ = written(tmp_path / "m.gguf", contents)
    found = open_gguf(path)
    assert found.config == contents.config
    assert found.tokenizer.fingerprint == contents.tokenizer.fingerprint
    weights = {
        name: weight
        for name, weight in contents.weights.items()
        if not (name == "lm_head.weight" and contents.config.tie_word_embeddings)
    }
    assert found.weights.keys() == weights.keys()
    for name, weight in weights.items():
        atol = 1e-6 if contents.config.family.norm == "rms_plus_one" and name.endswith("norm.weight") else 0
        np.testing.assert_allclose(found.weights[name], weight, rtol=0, atol=atol, err_msg=name)
    model, _, _ = load_model(path)
    assert model.config == contents.config


def test_a_table_that_no_rule_gives_is_kept_as_a_table(tmp_path):
    own = replace(LLAMA3, factor=3.0, low_freq_factor=1.5, original_max_position_embeddings=256)
    path, _ = written(tmp_path / "m.gguf", contents_of(config_of("llama", rope_scaling=own)))
    found = open_gguf(path).config.rope_scaling
    assert found.rope_type == "longrope"
    assert (
        found.short_factor
        == found.long_factor
        == pytest.approx(read_gguf(path).tensors["rope_freqs.weight"].float32().tolist())
    )
    assert found.scale(128) == 1


def test_a_window_that_is_never_full_makes_llama_of_mistral_no_more(tmp_path):
    assert (
        open_gguf(written(tmp_path / "a.gguf", contents_of(config_of("mistral")))[0]).config.model_type
        == "mistral"
    )
    contents = contents_of(config_of("mistral", sliding_window=None))
    assert open_gguf(written(tmp_path / "b.gguf", contents)[0]).config.model_type == "llama"


# ---- llama.cpp. ----
@pytest.mark.parametrize(
    ("kind", "more", "most"),
    [
        *((kind, {}, 2e-3 if kind.startswith(("gemma", "gpt2")) else 5e-5) for kind in FAMILIES),
        ("llama", {"attention_bias": True, "mlp_bias": True, "num_key_value_heads": 4}, 5e-5),
        ("llama", {"rope_scaling": RopeScaling(rope_type="linear", factor=4.0)}, 5e-5),
        ("llama", {"rope_scaling": replace(LLAMA3, original_max_position_embeddings=64)}, 5e-5),
        ("llama", {"rope_scaling": YARN}, 5e-5),
        ("qwen3", {"rope_scaling": replace(YARN, attention_factor=1.25, beta_fast=16.0)}, 5e-5),
        ("qwen3", {"head_dim": 16}, 5e-5),
        ("phi3", {"partial_rotary_factor": 0.75, "rope_scaling": LONG, "max_position_embeddings": 256}, 5e-5),
        ("gemma2", {"layer_types": (FULL, SLIDING)}, 2e-3),
        ("gemma3_text", {"sliding_window": None, "layer_types": None}, 2e-3),
        ("gemma3_text", {"rope_scaling": RopeScaling(rope_type="linear", factor=8.0), "num_hidden_layers": 6,
                         "layer_types": (*(SLIDING,) * 5, FULL)}, 2e-3),
    ],
    ids=str,
)  # fmt: skip
def test_llama_cpp_gives_our_scores(kind, more, most, tmp_path):
    """Its GELU looks numbers up in a table of float16."""
    path, planned = written(tmp_path / "m.gguf", contents_of(config_of(kind, **more)))
    assert not planned.notes
    found, compared = llama_cpp_differs(path, random_rows())
    assert compared >= 4
    assert found < most


@pytest.mark.parametrize(
    ("recipe", "most"),
    [("f16", 2e-2), ("bf16", 0.1), ("q8_0", 0.3), ("q6_k", 0.3), ("q5_k_m", 0.3), ("q5_1", 0.3), ("q5_0", 0.3),
     ("q4_k_m", 0.3), ("q4_1", 0.3), ("q4_0", 0.3)],
)  # fmt: skip
def test_llama_cpp_opens_every_type(recipe, most, tmp_path):
    """It rounds what is multiplied with rounded weights; scores range over several nats here."""
    config = config_of("llama", hidden_size=256, head_dim=64, intermediate_size=512)
    found, compared = llama_cpp_differs(
        written(tmp_path / "m.gguf", contents_of(config), recipe)[0], random_rows()
    )
    assert compared >= 4
    assert found < most


@pytest.mark.parametrize(
    ("kind", "more", "note"),
    [
        ("mistral", {"sliding_window": 64}, "last 64 tokens"),
        ("qwen2", {"sliding_window": 64, "layer_types": (FULL, SLIDING)}, "last 64 tokens"),
        ("gemma2", {"query_pre_attn_scalar": 24}, "query_pre_attn_scalar"),
        ("qwen3", {"attention_bias": True}, "biases"),
        ("qwen2", {"head_dim": 16}, "hidden_size"),
        ("phi3", {"rope_scaling": replace(LONG, short_factor=(1.0,) * 16, long_factor=(2.0,) * 16,
                                          original_max_position_embeddings=64)}, "length of its context"),
    ],
    ids=str,
)  # fmt: skip
def test_what_llama_cpp_computes_otherwise_is_told(kind, more, note, tmp_path):
    contents = contents_of(config_of(kind, **more))
    path, planned = written(tmp_path / "m.gguf", contents)
    assert len(planned.notes) == 1
    assert note in planned.notes[0]
    assert open_gguf(path).config == contents.config  # we compute what was meant


@pytest.mark.parametrize(
    ("kind", "more", "message"),
    [
        ("gpt2", {"hidden_act": "gelu"}, "activation"),
        ("gemma2", {"final_logit_softcapping": None}, "final_logit_softcapping"),
        ("smollm3", {"no_rope_layers": (1, 0, 1, 0)}, "every 4th"),
        ("qwen3", {"rope_scaling": RopeScaling(rope_type="dynamic", factor=2.0)}, "dynamic"),
        ("qwen3", {"rope_scaling": LLAMA3}, "llama3"),
        ("qwen3", {"rope_scaling": replace(YARN, truncate=False)}, "yarn"),
    ],
    ids=str,
)
def test_what_a_gguf_cannot_say_is_refused(kind, more, message):
    with pytest.raises(UsageError, match=message):
        plan(contents_of(config_of(kind, **more)), "f32", name="x")


def test_the_activation_by_its_other_name_is_the_same():
    assert plan(contents_of(config_of("gpt2", hidden_act="gelu_pytorch_tanh")), "f32", name="x")


# ---- Settings that cannot be. ----
STRANGE = [0, -1, 3, 2**31, 2**63, 2**64 - 1, 0.0, -1.0, 1e-30, 3e38, np.float32("nan"), np.float64(1e300), True, "x",
           [], [7, 7], np.array([True, False]), np.array([2**63], np.uint64), ["a"]]  # fmt: skip


@pytest.mark.parametrize("kind", ["llama", "gpt2", "phi3", "gemma3_text"])
def test_strange_settings_are_a_message_or_harmless(kind, tmp_path):
    more = {"llama": {"rope_scaling": YARN}, "phi3": {"rope_scaling": LONG}}.get(kind, {})
    more |= {"partial_rotary_factor": 0.75} if kind == "phi3" else {}
    path, _ = written(tmp_path / "m.gguf", contents_of(config_of(kind, hidden_size=128, **more)))
    file, start = read_gguf(path), time.process_time()
    tensors = [(t.name, TensorType(t.type), t.raw, t.shape) for t in file.tensors.values()]
    keys = [key for key in file.metadata if key.startswith(ARCHITECTURES[kind])]
    assert len(keys) >= 8
    for key in keys:
        for value in STRANGE:
            write_gguf(tmp_path / "x.gguf", file.metadata | {key: value}, tensors)
            with suppress(FileError):
                load_model(tmp_path / "x.gguf")
    assert time.process_time() - start < 60


@pytest.mark.parametrize("shape", [(0,), (3,), (1, 12), (12, 1)])
def test_tables_of_another_size_are_refused(shape, tmp_path):
    contents = contents_of(config_of("llama", rope_scaling=LLAMA3))
    planned = plan(contents, "f32", name="x")
    entries = [entry for entry in planned.entries() if entry[0] != "rope_freqs.weight"]
    table = ("rope_freqs.weight", TensorType.F32, np.ones(shape, np.float32), shape)
    if 0 in shape:
        with pytest.raises(UsageError):
            write_gguf(tmp_path / "x.gguf", planned.metadata, [*entries, table])
        return
    write_gguf(tmp_path / "x.gguf", planned.metadata, [*entries, table])
    with pytest.raises(FileError, match="rope_freqs"):
        load_model(tmp_path / "x.gguf")


@pytest.mark.parametrize("rows", [1, 2, 127, 129, 254])
def test_joined_tensors_of_other_sizes_are_refused(rows, tmp_path):
    planned = plan(contents_of(config_of("gpt2")), "f32", name="x")
    entries = [entry for entry in planned.entries() if entry[0] != "blk.0.attn_qkv.weight"]
    other = ("blk.0.attn_qkv.weight", TensorType.F32, np.ones((rows, 128), np.float32), (rows, 128))
    write_gguf(tmp_path / "x.gguf", planned.metadata, [*entries, other])
    with pytest.raises(FileError, match="attn_qkv"):
        load_model(tmp_path / "x.gguf")
