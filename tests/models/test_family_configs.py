"""What the `config.json` of each family means: of known models, of `transformers`' own, and what is refused."""

import contextlib
import json
import math

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from twofold.errors import FileError, UsageError
from twofold.models.config import TransformerConfig
from twofold.models.families import FAMILIES
from twofold.models.folder import load_config, load_weights
from twofold.models.hf_config import FULL, SLIDING
from twofold.models.transformer import Transformer


def known(model_type, **changes):
    sizes = dict(
        vocab_size=97, hidden_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        head_dim=12, intermediate_size=40, max_position_embeddings=64, model_type=model_type,
    )  # fmt: skip
    if model_type == "gpt2":
        sizes["num_key_value_heads"] = 4
    return TransformerConfig(**{**sizes, **changes})


@pytest.mark.parametrize("model_type", FAMILIES)
def test_a_config_of_ours_comes_back_from_its_file_and_from_theirs(model_type):
    config = known(model_type)
    assert TransformerConfig.from_hf(config.to_hf()) == config
    assert hash(config) == hash(TransformerConfig.from_hf(json.loads(json.dumps(config.to_hf()))))
    theirs = transformers.AutoConfig.for_model(**config.to_hf(), pad_token_id=None)
    assert TransformerConfig.from_hf(theirs.to_dict()) == config
    with torch.device("meta"):
        made = transformers.AutoModelForCausalLM.from_config(theirs)
    assert type(made).__name__ == config.to_hf()["architectures"][0]


KINDS = {
    "linear": {"factor": 4.0},
    "dynamic": {"factor": 2.0},
    "yarn": {
        "factor": 4.0, "original_max_position_embeddings": 16, "beta_fast": 8.0, "mscale": 0.7, "mscale_all_dim": 1.2,
    },
    "llama3": {
        "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32,
    },
    "longrope": {"short_factor": [1.0] * 6, "long_factor": [2.0] * 6, "original_max_position_embeddings": 32},
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_the_two_ways_of_saying_positions_mean_the_same(kind):
    sizes = known("llama").to_hf()
    theta = sizes.pop("rope_theta")
    said = {"rope_type": kind, **KINDS[kind]}
    new = TransformerConfig.from_hf({**sizes, "rope_parameters": {**said, "rope_theta": theta}})
    old = TransformerConfig.from_hf({**sizes, "rope_theta": theta, "rope_scaling": said})
    older = TransformerConfig.from_hf(
        {**sizes, "rope_theta": theta, "rope_scaling": {"type": kind, **KINDS[kind]}}
    )
    assert new == old == older
    assert new.rope_scaling.rope_type == kind
    assert new.rope_theta == theta
    assert TransformerConfig.from_hf(new.to_hf()) == new


PUBLISHED = {  # parameters as published with the weights, and what the configs there say
    "gpt2": (124_439_808, dict(
        model_type="gpt2", n_embd=768, n_layer=12, n_head=12, n_positions=1024, vocab_size=50257,
    )),
    "llama-3.1-8b": (8_030_261_248, dict(
        model_type="llama", hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32,
        num_key_value_heads=8, vocab_size=128256, rope_theta=500000.0, max_position_embeddings=131072,
        rope_scaling=dict(
            factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=8192,
            rope_type="llama3",
        ), attention_bias=False, mlp_bias=False, pretraining_tp=1,
    )),
    "smollm2-135m": (134_515_008, dict(
        model_type="llama", hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
        num_key_value_heads=3, vocab_size=49152, tie_word_embeddings=True, rope_interleaved=False, rope_scaling=None,
    )),
    "mistral-7b": (7_241_732_096, dict(
        model_type="mistral", hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32,
        num_key_value_heads=8, vocab_size=32000, sliding_window=4096, head_dim=None,
    )),
    "qwen2.5-0.5b": (494_032_768, dict(
        model_type="qwen2", hidden_size=896, intermediate_size=4864, num_hidden_layers=24, num_attention_heads=14,
        num_key_value_heads=2, vocab_size=151936, tie_word_embeddings=True, use_sliding_window=False,
        sliding_window=32768, max_window_layers=24, use_mrope=False,
    )),
    "gemma-2b": (2_506_172_416, dict(
        model_type="gemma", hidden_size=2048, intermediate_size=16384, num_hidden_layers=18, num_attention_heads=8,
        num_key_value_heads=1, head_dim=256, vocab_size=256000, hidden_act="gelu", rope_theta=10000.0,
    )),
    "gemma-7b": (8_537_680_896, dict(
        model_type="gemma", hidden_size=3072, intermediate_size=24576, num_hidden_layers=28, num_attention_heads=16,
        num_key_value_heads=16, head_dim=256, vocab_size=256000, hidden_act="gelu_pytorch_tanh",
    )),
    "gemma-2-2b": (2_614_341_888, dict(
        model_type="gemma2", hidden_size=2304, intermediate_size=9216, num_hidden_layers=26, num_attention_heads=8,
        num_key_value_heads=4, head_dim=256, vocab_size=256000, hidden_act="gelu_pytorch_tanh",
    )),
    "gemma-3-1b": (999_885_952, dict(
        model_type="gemma3_text", hidden_size=1152, intermediate_size=6912, num_hidden_layers=26,
        num_attention_heads=4, num_key_value_heads=1, head_dim=256, vocab_size=262144, sliding_window=512,
        sliding_window_pattern=6, rope_theta=1000000, rope_local_base_freq=10000, rope_scaling=None,
        attn_logit_softcapping=None, final_logit_softcapping=None,
    )),
    "phi-3-mini": (3_821_079_552, dict(
        model_type="phi3", hidden_size=3072, intermediate_size=8192, num_hidden_layers=32, num_attention_heads=32,
        num_key_value_heads=32, vocab_size=32064, max_position_embeddings=131072, sliding_window=262144,
        original_max_position_embeddings=4096, attention_bias=False,
        rope_scaling=dict(type="longrope", short_factor=[1.0] * 48, long_factor=[2.0] * 48),
    )),
    "smollm3-3b": (3_075_098_624, dict(
        model_type="smollm3", hidden_size=2048, intermediate_size=11008, num_hidden_layers=36,
        num_attention_heads=16, num_key_value_heads=4, vocab_size=128256, use_sliding_window=False,
        no_rope_layer_interval=4,
    )),
    "olmo-2-7b": (7_298_617_344, dict(
        model_type="olmo2", hidden_size=4096, intermediate_size=11008, num_hidden_layers=32,
        num_attention_heads=32, num_key_value_heads=32, vocab_size=100352, rope_theta=500000,
    )),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_models_have_their_published_sizes(name):
    count, values = PUBLISHED[name]
    assert TransformerConfig.from_hf(values).count_parameters() == count


def test_a_sparse_wrapper_means_the_familys_own_sizes():
    text = dict(
        hidden_size=2560, intermediate_size=10240, num_hidden_layers=34, sliding_window=1024,
        rope_scaling={"factor": 8.0, "rope_type": "linear"}, model_type="gemma3_text",
    )  # fmt: skip
    config = TransformerConfig.from_hf({"model_type": "gemma3", "text_config": text, "vision_config": {}})
    assert config.count_parameters() == 3_880_263_168  # of Gemma 3 4B, without what sees
    assert [config.slides(layer) for layer in range(7)] == [True] * 5 + [False, True]
    assert (config.rope_scaling.factor, config.rope_local_base_freq) == (8.0, 10_000.0)


def test_flops_count_what_each_position_sees():
    types = (SLIDING, FULL, SLIDING)
    config = known("gemma2", num_hidden_layers=3, layer_types=types, sliding_window=5, head_dim=16)
    seen = sum(min(i + 1, 5) if kind == SLIDING else i + 1 for kind in types for i in range(400))
    exact = 6 * config.matmul_parameters() + 12 * config.num_attention_heads * 16 * seen / 400
    assert config.flops_per_token(400) == pytest.approx(exact, rel=0.01)


@pytest.mark.parametrize("model_type", FAMILIES)
def test_fresh_models_learn(model_type):
    torch.manual_seed(0)
    model = Transformer(known(model_type))
    tokens = torch.randint(0, 97, (8, 17))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(12):
        scores = model(tokens[:, :-1]).flatten(0, 1)
        losses.append(torch.nn.functional.cross_entropy(scores, tokens[:, 1:].flatten()))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert float(losses[0].detach()) == pytest.approx(math.log(97), rel=0.1)
    assert losses[-1] < 0.8 * losses[0]
    assert all(torch.isfinite(p).all() and p.grad.abs().max() > 0 for p in model.parameters())


REFUSED = [
    ("llama", {"model_type": "mixtral"}, "mixtral"),
    ("llama", {"model_type": ["llama"]}, "llama"),
    ("llama", {"rope_scaling": {"rope_type": "ntk", "factor": 2.0}}, "'ntk' are not supported"),
    ("llama", {"rope_scaling": {"rope_type": 3, "factor": 2.0}}, "'3' are not supported"),
    ("llama", {"rope_scaling": {"rope_type": "linear"}}, "need factor"),
    ("llama", {"rope_scaling": {"rope_type": "linear", "factor": float("nan")}}, "factor"),
    ("llama", {"rope_scaling": {"rope_type": "linear", "factor": -1.0}}, "factor"),
    ("llama", {"rope_scaling": {"rope_type": "linear", "factor": 10**400}}, "factor"),
    ("llama", {"rope_scaling": {"rope_type": "default", "mrope_section": [1]}}, "mrope_section"),
    ("llama", {"rope_scaling": {"rope_type": "linear", "factor": 2.0, "finetuned": True}}, "finetuned"),
    ("llama", {"rope_scaling": [1]}, "rope_scaling should be of type dict"),
    ("llama", {"rope_scaling": {"rope_type": "longrope", "short_factor": [1.0], "long_factor": [1.0]}}, "needs 6"),
    ("llama", {"rope_scaling": {"rope_type": "longrope", "short_factor": ["x"], "long_factor": [1.0]}}, "short_f"),
    ("llama", {"rope_scaling": {"rope_type": "llama3", "factor": 2.0}}, "need low_freq_factor"),
    ("llama", {"rope_theta": float("nan")}, "rope_theta"),
    ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
    ("llama", {"quantization_config": {"bits": 4}}, "quantization_config"),
    ("llama", {"hidden_act": "swiglu"}, "swiglu"),
    ("llama", {"sliding_window": 9}, "sliding_window = '9' is not supported for llama"),
    ("llama", {"rope_interleaved": True}, "rope_interleaved"),
    ("mistral", {"sliding_window": -4}, "sliding_window must be from 1"),
    ("mistral", {"sliding_window": 0}, "sliding_window must be from 1"),
    ("mistral", {"sliding_window": 4.5}, "sliding_window should be of type int"),
    ("mistral", {"layer_types": [SLIDING, FULL]}, "layer_types"),
    ("mistral", {"attention_bias": True}, "attention_bias"),
    ("qwen2", {"use_mrope": True}, "use_mrope"),
    ("qwen2", {"layer_types": [SLIDING, FULL], "use_sliding_window": False}, "no sliding_window"),
    ("qwen3", {"layer_types": [FULL, SLIDING] * 9, "use_sliding_window": True, "sliding_window": 4}, "18 layers"),
    ("qwen3", {"layer_types": [FULL, "chunked_attention"]}, "chunked_attention"),
    ("qwen3", {"layer_types": [FULL, 3]}, "'3'"),
    ("qwen3", {"layer_types": [[FULL]] * 2}, "layer_types should hold words"),
    ("llama", {"rope_scaling": {"type": ["linear"], "factor": 2.0}}, "not supported"),
    ("llama", {"model_type": "gemma3", "text_config": {"model_type": "llama"}}, "of type 'gemma3'"),
    ("qwen3", {"layer_types": 3}, "layer_types should be of type list"),
    ("qwen3", {"use_sliding_window": "yes"}, "use_sliding_window"),
    ("qwen3", {"rope_parameters": {FULL: {"rope_type": "default"}}}, FULL),
    ("smollm3", {"no_rope_layers": [1, 2]}, "no_rope_layers"),
    ("smollm3", {"no_rope_layers": [1]}, "for 1 layers"),
    ("smollm3", {"no_rope_layers": None, "no_rope_layer_interval": "4"}, "no_rope_layer_interval"),
    ("gemma2", {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
    ("gemma2", {"attn_logit_softcapping": float("inf")}, "attn_logit_softcapping"),
    ("gemma2", {"final_logit_softcapping": -1.0}, "final_logit_softcapping"),
    ("gemma2", {"query_pre_attn_scalar": 0}, "query_pre_attn_scalar"),
    ("gemma2", {"sliding_window": None, "layer_types": None}, "no sliding_window"),
    ("gemma3_text", {"model_type": "gemma3", "text_config": {"final_logit_softcapping": 3.0}}, "beside a part"),
    ("gemma3_text", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping"),
    ("gemma3_text", {"rope_parameters": {"rope_theta": 5.0}}, "rope_theta"),
    ("gemma3_text", {"rope_parameters": {SLIDING: {"rope_type": "linear", "factor": 2.0}}}, "not supported there"),
    ("gemma3_text", {"rope_local_base_freq": 0.5}, "rope_local_base_freq"),
    ("phi3", {"rope_scaling": {"type": "linear", "factor": 2.0}}, "have no linear"),
    ("phi3", {"partial_rotary_factor": 0.6}, "even part"),
    ("phi3", {"partial_rotary_factor": 1.5}, "even part"),
    ("phi3", {"partial_rotary_factor": float("nan")}, "even part"),
    ("olmo2", {"clip_qkv": 8.0}, "clip_qkv"),
    ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "inverse_layer_idx"),
    ("gpt2", {"scale_attn_weights": False}, "scale_attn_weights"),
    ("gpt2", {"add_cross_attention": True}, "add_cross_attention"),
    ("gpt2", {"n_embd": 50}, "as wide as"),
    ("gpt2", {"n_head": 0}, "from 1"),
    ("gpt2", {"n_layer": None}, "there is no 'n_layer'"),
]  # fmt: skip


@pytest.mark.parametrize(("model_type", "change", "word"), REFUSED)
def test_what_would_give_other_numbers_is_refused(model_type, change, word):
    with pytest.raises(FileError, match=word) as told:
        TransformerConfig.from_hf({**known(model_type).to_hf(), **change}, "model/config.json")
    assert str(told.value).startswith("model/config.json")
    assert len(str(told.value)) < 400


@pytest.mark.parametrize("model_type", ["llama4", "gemma3", "gemma3n", "qwen2_moe", "mixtral", "t5", None])
def test_families_that_are_not_there_are_named(model_type):
    with pytest.raises(FileError, match=rf"of type '{model_type}'; gemma, gemma2.*smollm3 open"):
        TransformerConfig.from_hf({**known("llama").to_hf(), "model_type": model_type})


ODD = st.sampled_from(
    [
        None, True, -1, 0, 1, 2, 3, 10**9, 2**61, 10**400, 0.0, -1.5, float("nan"), float("inf"), "", "x", "silu",
        [], [1], [SLIDING, FULL], [SLIDING] * 3, [None] * 2, [[1]] * 2, [{}] * 2, [1e300] * 6, {},
        {"rope_type": [1]}, {"rope_type": "yarn", "factor": 2.0}, {FULL: {}, SLIDING: 3},
        {"rope_type": "longrope", "short_factor": [1.0] * 6, "long_factor": [1.0] * 6},
    ]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(data=st.data(), model_type=st.sampled_from(sorted(FAMILIES)))
def test_an_odd_config_is_read_or_refused_and_nothing_else(data, model_type):
    values = known(model_type).to_hf()
    keys = [
        *values, "rope_parameters", "rope_scaling", "original_max_position_embeddings", "max_window_layers",
        "sliding_window_pattern", "no_rope_layer_interval", "use_sliding_window", "text_config", "layer_types",
    ]  # fmt: skip
    for key in data.draw(st.lists(st.sampled_from(keys), min_size=1, max_size=3)):
        values[key] = data.draw(ODD)
    with contextlib.suppress(FileError):
        config = TransformerConfig.from_hf(values)
        assert TransformerConfig.from_hf(config.to_hf()) == config
        assert config.count_parameters() > 0
        assert config.flops_per_token(16) > 0


@pytest.mark.parametrize("model_type", ["gemma2", "gemma3_text", "smollm3", "qwen3"])
def test_a_billion_layers_cost_nothing(model_type, tmp_path):
    values = {
        **known(model_type).to_hf(),
        "num_hidden_layers": 10**9,
        "use_sliding_window": True,
        "sliding_window": 8,
    }
    for name in ("layer_types", "no_rope_layers"):
        values.pop(name, None)
    (tmp_path / "config.json").write_text(json.dumps(values))
    save_file({"model.norm.weight": torch.zeros(4)}, tmp_path / "model.safetensors")
    with pytest.raises(FileError, match=r"too few|layers"):
        load_weights(tmp_path, load_config(tmp_path))


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        (dict(model_type="bert"), "bert"),
        (dict(attn_logit_softcapping=5.0), "attn_logit_softcapping is None in models of type qwen3"),
        (dict(mlp_bias=True), "mlp_bias is False"),
        (dict(model_type="qwen2", attention_bias=False), "attention_bias is True"),
        (dict(model_type="gpt2", num_key_value_heads=2), "grouped"),
    ],
)
def test_a_setting_that_a_family_lacks_is_refused(changes, word):
    with pytest.raises(UsageError, match=word):
        known(**{"model_type": "qwen3", **changes})
