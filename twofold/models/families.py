"""What the model families differ in: the parts of a Transformer, the keys of `config.json`, the tensors' names.

One `Transformer` is all of them; a family chooses among its parts. A family's `config.json` calls some settings
by other names (`names`), means something by a key that is not there (`defaults`), and has settings that others
lack (`settings`). Sources: the papers at each family; defaults and names as transformers 5 has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

ACTIVATIONS = ("silu", "gelu", "gelu_new", "gelu_pytorch_tanh", "relu")  # the third is the fourth

# Settings that not every family has, each with the value that changes nothing.
OPTIONAL: Mapping[str, Any] = {
    "attention_bias": False,
    "mlp_bias": False,
    "sliding_window": None,
    "layer_types": None,
    "no_rope_layers": None,
    "query_pre_attn_scalar": None,
    "attn_logit_softcapping": None,
    "final_logit_softcapping": None,
    "partial_rotary_factor": 1.0,
    "rope_local_base_freq": None,
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Family:
    """One family. The defaults of these fields are Llama's, from which the others differ in a few."""

    architecture: str  # the class that transformers opens it as

    # The parts of its Transformer.
    norm: Literal["rms", "rms_plus_one", "layer"] = "rms"  # by weight; by 1 + weight; LayerNorm with bias
    norm_placement: Literal["before", "after", "both"] = "before"  # of each part, within its residual branch
    qk_norm: Literal["head", "whole"] | None = (
        None  # of queries and keys: none, per head, of all heads together
    )
    gated: bool = True  # down(act(gate(x)) · up(x)), or down(act(up(x)))
    output_bias: bool = True  # whether attention_bias also gives the output projection one
    learned_positions: bool = False  # a second embedding, instead of rotary positions
    scaled_embeddings: bool = False  # by √hidden_size

    # What its config.json says.
    settings: tuple[str, ...] = ()  # those of OPTIONAL that it has
    names: Mapping[str, str] = field(default_factory=dict)  # ours -> the key, where they differ
    defaults: Mapping[str, Any] = field(default_factory=dict)  # what a missing key means, by our names
    only: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)  # keys that change more than we support
    rope_types: tuple[str, ...] | None = None  # of stretched rotary positions; None: all

    # What its files call its tensors (`tensor_names.py`).
    root: str = ""  # before all names but the output's, where others may leave it away
    wrapper: str = ""  # before all names, where the model is part of a larger one
    prefixes: Mapping[str, str] = field(default_factory=dict)  # beginnings of names: ours -> theirs
    joined: Mapping[str, tuple[str, ...]] = field(
        default_factory=dict
    )  # in a layer: theirs -> ours, by outputs
    transposed: tuple[str, ...] = ()  # theirs that hold [inputs, outputs]
    ignored: str = r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq"  # a pattern: buffers of old files


_GPT2 = Family(  # Radford et al. 2019, "Language Models are Unsupervised Multitask Learners"
    architecture="GPT2LMHeadModel",
    norm="layer",
    gated=False,
    learned_positions=True,
    names={
        "max_position_embeddings": "n_positions",
        "hidden_size": "n_embd",
        "num_hidden_layers": "n_layer",
        "num_attention_heads": "n_head",
        "intermediate_size": "n_inner",
        "hidden_act": "activation_function",
        "rms_norm_eps": "layer_norm_epsilon",
    },
    defaults={
        "attention_bias": True,
        "mlp_bias": True,
        "hidden_act": "gelu_new",
        "max_position_embeddings": 1024,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": True,
    },
    only={
        "scale_attn_weights": (True,),
        "scale_attn_by_inverse_layer_idx": (False,),
        "add_cross_attention": (False,),
    },
    root="transformer.",
    prefixes={
        "model.embed_tokens": "transformer.wte",
        "model.embed_positions": "transformer.wpe",
        "model.norm": "transformer.ln_f",
        "model.layers": "transformer.h",
    },
    joined={
        "attn.c_attn": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        "attn.c_proj": ("self_attn.o_proj",),
        "mlp.c_fc": ("mlp.up_proj",),
        "mlp.c_proj": ("mlp.down_proj",),
        "ln_1": ("input_layernorm",),
        "ln_2": ("post_attention_layernorm",),
    },
    transposed=("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"),
    ignored=r"transformer\.h\.\d+\.attn\.(masked_)?bias",
)

_GEMMA: dict[str, Any] = dict(
    norm="rms_plus_one",
    norm_placement="both",
    scaled_embeddings=True,
    names={"hidden_act": "hidden_activation"},
    only={"use_bidirectional_attention": (None, False)},
)
_GEMMA_DEFAULTS = {
    "hidden_act": "gelu_pytorch_tanh",
    "head_dim": 256,
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
    "tie_word_embeddings": True,
}

FAMILIES: Mapping[str, Family] = {
    "gpt2": _GPT2,
    "llama": Family(  # arXiv 2302.13971, 2307.09288, 2407.21783; SmolLM and SmolLM2 too
        architecture="LlamaForCausalLM",
        settings=("attention_bias", "mlp_bias"),
        defaults={"max_position_embeddings": 2048},
        only={"rope_interleaved": (None, False)},
    ),
    "mistral": Family(  # arXiv 2310.06825
        architecture="MistralForCausalLM",
        settings=("sliding_window",),
        defaults={"max_position_embeddings": 131_072, "sliding_window": 4096},
    ),
    "qwen2": Family(  # arXiv 2407.10671, 2412.15115
        architecture="Qwen2ForCausalLM",
        output_bias=False,
        settings=("sliding_window", "layer_types"),
        defaults={"max_position_embeddings": 32_768, "attention_bias": True, "sliding_window": 4096},
        only={"use_mrope": (None, False)},
    ),
    "qwen3": Family(  # arXiv 2505.09388
        architecture="Qwen3ForCausalLM",
        qk_norm="head",
        settings=("attention_bias", "sliding_window", "layer_types"),
        defaults={"max_position_embeddings": 32_768, "head_dim": 128, "sliding_window": 4096},
    ),
    "smollm3": Family(  # huggingface.co/blog/smollm3; some layers without positions (arXiv 2501.18795)
        architecture="SmolLM3ForCausalLM",
        settings=("attention_bias", "mlp_bias", "sliding_window", "layer_types", "no_rope_layers"),
        defaults={
            "max_position_embeddings": 32_768,
            "rope_theta": 2_000_000.0,
            "tie_word_embeddings": True,
        },
    ),
    "phi3": Family(  # arXiv 2404.14219
        architecture="Phi3ForCausalLM",
        settings=("sliding_window", "partial_rotary_factor"),
        defaults={"max_position_embeddings": 4096, "rms_norm_eps": 1e-5},
        rope_types=("longrope",),
        joined={
            "self_attn.qkv_proj": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
            "mlp.gate_up_proj": ("mlp.gate_proj", "mlp.up_proj"),
        },
    ),
    "olmo2": Family(  # arXiv 2501.00656
        architecture="Olmo2ForCausalLM",
        norm_placement="after",
        qk_norm="whole",
        settings=("attention_bias",),
        defaults={"max_position_embeddings": 2048, "rms_norm_eps": 1e-5},
        only={"clip_qkv": (None,)},
    ),
    "gemma": Family(  # arXiv 2403.08295
        architecture="GemmaForCausalLM",
        norm="rms_plus_one",
        scaled_embeddings=True,
        settings=("attention_bias",),
        defaults={
            "hidden_act": "gelu_pytorch_tanh", "head_dim": 256, "max_position_embeddings": 8192,
            "tie_word_embeddings": True,
        },
        only={"use_bidirectional_attention": (None, False)},
    ),
    "gemma2": Family(  # arXiv 2408.00118
        architecture="Gemma2ForCausalLM",
        settings=(
            "attention_bias", "sliding_window", "layer_types", "query_pre_attn_scalar", "attn_logit_softcapping",
            "final_logit_softcapping",
        ),
        defaults={
            **_GEMMA_DEFAULTS, "max_position_embeddings": 8192, "attn_logit_softcapping": 50.0,
            "final_logit_softcapping": 30.0,
        },
        **_GEMMA,
    ),
    "gemma3_text": Family(  # arXiv 2503.19786; also the text part of its models that see
        architecture="Gemma3ForCausalLM",
        qk_norm="head",
        settings=(
            "attention_bias", "sliding_window", "layer_types", "query_pre_attn_scalar", "final_logit_softcapping",
            "rope_local_base_freq",
        ),
        defaults={  # the text part of a `gemma3` says only in what it differs from these
            **_GEMMA_DEFAULTS, "max_position_embeddings": 131_072, "rope_theta": 1_000_000.0,
            "rope_local_base_freq": 10_000.0, "vocab_size": 262_208, "hidden_size": 2304,
            "intermediate_size": 9216, "num_hidden_layers": 26, "num_attention_heads": 8,
            "num_key_value_heads": 4,
        },
        wrapper="language_model.",
        ignored=r"(vision_tower|multi_modal_projector)\..*",
        **_GEMMA,
    ),
}  # fmt: skip
