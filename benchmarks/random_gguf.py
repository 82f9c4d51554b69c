"""Random Qwen3-shaped models as GGUF files, for benchmarks of speed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from twofold.models.config import TransformerConfig
from twofold.models.gguf import write_gguf
from twofold.models.quantize import BLOCKS, TYPE_NAMES, row_bytes
from twofold.tokens.vocabulary import BYTE_TO_LETTER

# width, layers, heads, key-value heads, head width, feed-forward width, vocabulary
SHAPES = {
    "5M": (256, 5, 4, 2, 64, 768, 4096),
    "30M": (512, 8, 8, 4, 64, 1536, 8192),
    "125M": (768, 12, 12, 4, 64, 2304, 32768),
    "0.6B": (1024, 28, 16, 8, 128, 3072, 151936),
}
TYPES = ("F32", "F16", "BF16", "Q8_0", "Q4_0")
STD = 0.02  # of the weights
NUMBERS = {name: number for number, name in TYPE_NAMES.items()}


def bits_per_weight(kind: str) -> float:
    """In a file."""
    weights, size = BLOCKS[NUMBERS[kind]]
    return 8 * size / weights


def config_of(size: str) -> TransformerConfig:
    d, layers, heads, kv_heads, head, inner, vocabulary = SHAPES[size]
    return TransformerConfig(
        vocab_size=vocabulary, hidden_size=d, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=kv_heads, head_dim=head, intermediate_size=inner, max_position_embeddings=4096,
        rope_theta=1e6,
    )  # fmt: skip


def raw_weights(kind: str, shape: tuple[int, int], dice: np.random.Generator) -> np.ndarray:
    """Random weights of standard deviation `STD`, as they stand in a file."""
    number = {name: number for number, name in TYPE_NAMES.items()}[kind]
    if kind in ("F32", "F16", "BF16"):
        weights = dice.standard_normal(shape, np.float32) * np.float32(STD)
        if kind == "BF16":
            return (weights.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)
        return weights.astype(np.float16 if kind == "F16" else np.float32).view(np.uint8)
    blocks = dice.integers(
        0, 256, (shape[0], row_bytes(number, shape[1]) // BLOCKS[number][1], BLOCKS[number][1]), np.uint8
    )
    spread = {"Q8_0": 73.9, "Q4_0": 4.6}[kind]  # of codes that are all alike likely
    blocks[..., :2] = np.array([STD / spread], np.float16).view(np.uint8)
    return blocks.reshape(shape[0], -1)


def write_model(path: Path, size: str, kind: str) -> None:
    """A GGUF of random weights, with a tokenizer of bytes and of names that nobody uses."""
    d, layers, heads, kv_heads, head, inner, vocabulary = SHAPES[size]
    dice = np.random.default_rng(0)
    number = {name: number for number, name in TYPE_NAMES.items()}[kind]
    letters = [BYTE_TO_LETTER[byte] for byte in range(256)]
    tokens = [*letters, "<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokens += [f"<unused{i}>" for i in range(vocabulary - len(tokens) - 1)] + [letters[0] + letters[1]]
    types = np.ones(vocabulary, np.int32)
    types[256:259] = 3
    about = {
        "context_length": 4096, "embedding_length": d, "block_count": layers, "feed_forward_length": inner,
        "attention.head_count": heads, "attention.head_count_kv": kv_heads, "attention.key_length": head,
        "attention.value_length": head, "rope.freq_base": 1e6, "attention.layer_norm_rms_epsilon": 1e-6,
    }  # fmt: skip
    metadata = {"general.architecture": "qwen3", **{f"qwen3.{key}": value for key, value in about.items()}}
    metadata |= {
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "qwen2", "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": types, "tokenizer.ggml.merges": [f"{letters[0]} {letters[1]}"],
        "tokenizer.ggml.eos_token_id": 256, "tokenizer.ggml.bos_token_id": 256, "tokenizer.ggml.add_bos_token": True,
    }  # fmt: skip
    tensors: list = []

    def matrix(name: str, rows: int, width: int) -> None:
        tensors.append(
            (f"{name}.weight", number, lambda: raw_weights(kind, (rows, width), dice), (rows, width))
        )

    def norm(name: str, width: int) -> None:
        tensors.append((f"{name}.weight", 0, np.ones(width, np.float32), (width,)))

    matrix("token_embd", vocabulary, d)
    norm("output_norm", d)
    for layer in (f"blk.{i}." for i in range(layers)):
        for name, rows, width in (
            ("attn_q", heads * head, d), ("attn_k", kv_heads * head, d), ("attn_v", kv_heads * head, d),
            ("attn_output", d, heads * head), ("ffn_gate", inner, d), ("ffn_up", inner, d), ("ffn_down", d, inner),
        ):  # fmt: skip
            matrix(layer + name, rows, width)
        for name, width in (("attn_norm", d), ("ffn_norm", d), ("attn_q_norm", head), ("attn_k_norm", head)):
            norm(layer + name, width)
    write_gguf(path, metadata, tensors)
