"""Sizes of model by name: the presets that a computer trains in minutes, and two for plans on paper."""

from __future__ import annotations

from dataclasses import dataclass

from twofold.models.config import TransformerConfig


@dataclass(frozen=True)
class Preset:
    """One size. `width` channels, `layers`, `heads` of 64 channels, `kv_heads`, vocabulary, row of tokens."""

    width: int
    layers: int
    heads: int
    kv_heads: int
    inner: int
    vocab_size: int
    row_tokens: int

    def config(self, vocab_size: int | None = None) -> TransformerConfig:
        """The model's shape; `vocab_size` is the tokenizer's, where that came out smaller."""
        return TransformerConfig(
            vocab_size=vocab_size or self.vocab_size,
            hidden_size=self.width,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            head_dim=64,
            intermediate_size=self.inner,
            max_position_embeddings=2 * self.row_tokens,
            tie_word_embeddings=True,
        )


PRESETS = {
    "nano": Preset(160, 2, 2, 1, 480, 4096, 256),
    "micro": Preset(256, 3, 4, 2, 768, 4096, 256),
    "mini": Preset(256, 8, 4, 2, 768, 4096, 256),
    "small": Preset(384, 8, 6, 2, 1152, 8192, 512),
    "medium": Preset(512, 10, 8, 4, 1536, 16384, 512),
    "large": Preset(768, 12, 12, 4, 2304, 32768, 1024),
}

# Too large for the presets, which `--minutes` chooses from. Heads of 128, vocabulary and rotary base as in
# Qwen3 (arXiv 2505.09388); the 70B's sizes are those of Llama 3 70B (arXiv 2407.21783, table 3).
LARGE = {
    "1b": TransformerConfig(
        vocab_size=151_936, hidden_size=2048, num_hidden_layers=16, num_attention_heads=16,
        num_key_value_heads=8, head_dim=128, intermediate_size=6144, max_position_embeddings=8192,
        tie_word_embeddings=True, rope_theta=1_000_000.0,
    ),
    "70b": TransformerConfig(
        vocab_size=151_936, hidden_size=8192, num_hidden_layers=80, num_attention_heads=64,
        num_key_value_heads=8, head_dim=128, intermediate_size=28_672, max_position_embeddings=8192,
        tie_word_embeddings=False, rope_theta=1_000_000.0,
    ),
}  # fmt: skip

SHAPES = {name: preset.config() for name, preset in PRESETS.items()} | LARGE
