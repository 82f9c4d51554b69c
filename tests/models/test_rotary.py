"""Rotary positions against `transformers`, with the numbers of known models."""

import numpy as np
import pytest
import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from twofold.models.config import TransformerConfig
from twofold.models.rotary import rotary_tables

RNG = np.random.default_rng(0)
KNOWN = {  # width of a head, base, longest row, stretching
    "plain": (128, 10_000.0, 4096, {"rope_type": "default"}),
    "linear, as Gemma 3": (256, 1e6, 131_072, {"rope_type": "linear", "factor": 8.0}),
    "dynamic": (128, 10_000.0, 4096, {"rope_type": "dynamic", "factor": 2.0}),
    "llama3": (128, 5e5, 131_072, {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }),
    "llama3, factor 32": (64, 5e5, 131_072, {
        "rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }),
    "yarn, as Qwen": (128, 1e6, 131_072, {
        "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32_768,
    }),
    "yarn, no factor": (64, 10_000.0, 32_768, {
        "rope_type": "yarn", "factor": None, "original_max_position_embeddings": 4096,
    }),
    "yarn, not truncated": (64, 150_000.0, 131_072, {
        "rope_type": "yarn", "factor": 32.0, "original_max_position_embeddings": 4096, "truncate": False,
        "beta_fast": 32.0, "beta_slow": 1.0,
    }),
    "yarn, mscale": (64, 10_000.0, 163_840, {
        "rope_type": "yarn", "factor": 40.0, "original_max_position_embeddings": 4096, "mscale": 1.0,
        "mscale_all_dim": 0.7,
    }),
    "longrope, as Phi-3": (96, 10_000.0, 131_072, {
        "rope_type": "longrope", "original_max_position_embeddings": 4096,
        "short_factor": RNG.uniform(1, 3, 48).tolist(), "long_factor": RNG.uniform(1, 60, 48).tolist(),
    }),
}  # fmt: skip


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("length", [40, 4096, 4097, 9000])
def test_tables_equal_transformers(name, length):
    width, theta, longest, said = KNOWN[name]
    config = LlamaConfig(
        vocab_size=320, hidden_size=2 * width, num_attention_heads=2, num_hidden_layers=1, intermediate_size=8,
        max_position_embeddings=longest, rope_parameters={**said, "rope_theta": theta},
    )  # fmt: skip
    positions = torch.cat((torch.arange(20), torch.tensor([length - 1])))
    theirs = LlamaRotaryEmbedding(config)(torch.zeros(1), positions[None])
    ours = rotary_tables(positions, TransformerConfig.from_hf(config.to_dict()))
    for mine, other in zip(ours, theirs, strict=True):
        # a float32 angle of `length` is off by half a last place, as its frequency is
        assert (mine[:20] - other[0, :20]).abs().max() <= 1e-5
        assert (mine[20] - other[0, 20]).abs().max() <= 1e-6 + length * 3e-7
