"""The Transformer on torch: Qwen3 dense, unchanged, with Hugging Face's parameter names.

Reads top to bottom: norm, rotary positions, attention, feed-forward, block, model.
Shape letters: B batch, T time, D model width, H heads, K key-value heads, C head width, V vocabulary.
Sources: Qwen3 (arXiv 2505.09388); RMSNorm (1910.07467); rotary positions (2104.09864); grouped
key-value heads (2305.13245); SwiGLU (2002.05202).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from twofold.models.config import TransformerConfig

# attend(layer, q_BHTC, k_BKTC, v_BKTC) -> out_BHTC. Training attends within the row; cached inference
# puts keys and values into its memory first and attends to all of it.
Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]


class RMSNorm(nn.Module):
    """x / rms(x) · weight over the last dimension; the mean is taken in float32."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] -> [..., width], dtype kept."""
        x32 = x.float()
        x32 = x32 * torch.rsqrt(x32.square().mean(-1, keepdim=True) + self.eps)
        return (x32 * self.weight).to(x.dtype)


def rotary_tables(positions: Tensor, config: TransformerConfig) -> tuple[Tensor, Tensor]:
    """cos and sin for `positions` (any shape […]), each […, C] float32, the two halves equal."""
    half = torch.arange(0, config.head_dim, 2, dtype=torch.float32, device=positions.device)
    frequencies = config.rope_theta ** (-half / config.head_dim)
    angles = positions.float()[..., None] * frequencies
    angles = torch.cat((angles, angles), -1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn channel pairs (i, i + C/2) of x_BHTC by the position's angle; cos and sin broadcast to it."""
    first, second = x.chunk(2, -1)
    return x * cos.to(x.dtype) + torch.cat((-second, first), -1) * sin.to(x.dtype)


def causal_attention(layer: int, q_BHTC: Tensor, k_BKTC: Tensor, v_BKTC: Tensor) -> Tensor:
    """Each position attends to itself and what came before it in its row. Returns [B, H, T, C]."""
    del layer
    return F.scaled_dot_product_attention(
        q_BHTC, k_BKTC, v_BKTC, is_causal=True, enable_gqa=q_BHTC.shape[1] != k_BKTC.shape[1]
    )


class Attention(nn.Module):
    """Queries ask, keys answer, values are read: softmax(q·k / √C)·v per head, with per-head norms."""

    def __init__(self, config: TransformerConfig, layer: int) -> None:
        super().__init__()
        d, width = config.hidden_size, config.head_dim
        self.layer, self.width = layer, width
        self.q_proj = nn.Linear(d, config.num_attention_heads * width, bias=False)
        self.k_proj = nn.Linear(d, config.num_key_value_heads * width, bias=False)
        self.v_proj = nn.Linear(d, config.num_key_value_heads * width, bias=False)
        self.o_proj = nn.Linear(config.num_attention_heads * width, d, bias=False)
        self.q_norm = RMSNorm(width, config.rms_norm_eps)
        self.k_norm = RMSNorm(width, config.rms_norm_eps)

    def forward(self, x_BTD: Tensor, cos: Tensor, sin: Tensor, attend: Attend) -> Tensor:
        """[B, T, D] -> [B, T, D]."""
        B, T, _ = x_BTD.shape
        q_BHTC = self.q_norm(self.q_proj(x_BTD).view(B, T, -1, self.width)).transpose(1, 2)
        k_BKTC = self.k_norm(self.k_proj(x_BTD).view(B, T, -1, self.width)).transpose(1, 2)
        v_BKTC = self.v_proj(x_BTD).view(B, T, -1, self.width).transpose(1, 2)
        out_BHTC = attend(self.layer, rotate(q_BHTC, cos, sin), rotate(k_BKTC, cos, sin), v_BKTC)
        return self.o_proj(out_BHTC.transpose(1, 2).reshape(B, T, -1))


class FeedForward(nn.Module):
    """SwiGLU: down(silu(gate(x)) · up(x))."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        d, inner = config.hidden_size, config.intermediate_size
        self.gate_proj = nn.Linear(d, inner, bias=False)
        self.up_proj = nn.Linear(d, inner, bias=False)
        self.down_proj = nn.Linear(inner, d, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] -> [..., D]."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    """One layer: attention, then feed-forward, each after a norm and added to the stream."""

    def __init__(self, config: TransformerConfig, layer: int) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config, layer)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = FeedForward(config)

    def forward(self, x_BTD: Tensor, cos: Tensor, sin: Tensor, attend: Attend) -> Tensor:
        """[B, T, D] -> [B, T, D]."""
        x_BTD = x_BTD + self.self_attn(self.input_layernorm(x_BTD), cos, sin, attend)
        return x_BTD + self.mlp(self.post_attention_layernorm(x_BTD))


class Transformer(nn.Module):
    """Tokens in, next-token scores out. `state_dict()` is what `transformers` calls the weights."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.attend: Attend = causal_attention
        self.rotary: tuple[Tensor, Tensor] | None = None  # see `keep_rotary`
        self.model = nn.Module()
        self.model.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.model.layers = nn.ModuleList(Block(config, i) for i in range(config.num_hidden_layers))
        self.model.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        if not config.tie_word_embeddings:
            self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if not self.model.norm.weight.is_meta:  # else whoever gives it memory gives it weights
            self.initialize()

    @torch.no_grad()
    def initialize(self, generator: torch.Generator | None = None) -> None:
        """Take fresh weights."""
        for parameter, value in self.fresh(generator):
            parameter.copy_(value)

    def fresh(self, generator: torch.Generator | None = None) -> Iterator[tuple[nn.Parameter, Tensor]]:
        """Each parameter with a fresh value for it, float32 on the CPU: matrices of the trunk uniform with std
        1/√(inputs), the two that write into the stream zero (so that each block starts as the identity),
        embedding and output normal, norms one."""
        for name, parameter in self.named_parameters():
            value = torch.empty(parameter.shape)
            if parameter.ndim == 1:
                value.fill_(1.0)
            elif name.endswith(("o_proj.weight", "down_proj.weight")):
                value.zero_()
            elif "embed_tokens" in name or "lm_head" in name:
                value.normal_(std=0.02, generator=generator)
            else:
                bound = math.sqrt(3.0 / parameter.shape[1])
                value.uniform_(-bound, bound, generator=generator)
            yield parameter, value

    @property
    def output_weight(self) -> Tensor:
        """[V, D]: the embedding itself when tied."""
        return self.model.embed_tokens.weight if self.config.tie_word_embeddings else self.lm_head.weight

    def keep_rotary(self, length: int) -> None:
        """Keep the rotary tables of rows of up to `length` tokens, [length, C] each, for every later pass:
        a compiled step would otherwise work out a sine and a cosine for each channel of each head."""
        positions = torch.arange(length, device=self.output_weight.device)
        self.rotary = rotary_tables(positions, self.config)

    def tables(self, tokens_BT: Tensor, positions: Tensor | None) -> tuple[Tensor, Tensor]:
        """cos and sin that broadcast to [B, H, T, C]."""
        length = tokens_BT.shape[1]
        if positions is None:
            if self.rotary is not None and length <= len(self.rotary[0]):
                return self.rotary[0][:length], self.rotary[1][:length]
            positions = torch.arange(length, device=tokens_BT.device)
        cos, sin = rotary_tables(positions, self.config)
        if positions.ndim == 2:  # [B, T, C] -> [B, 1, T, C]: the same for every head
            cos, sin = cos[:, None], sin[:, None]
        return cos, sin

    def hidden(
        self, tokens_BT: Tensor, positions: Tensor | None = None, attend: Attend | None = None
    ) -> Tensor:
        """Final normed activations [B, T, D] of int tokens [B, T].

        `positions` ([T] or [B, T], default 0…T-1) set the rotary angles; `attend` replaces attention
        within the row (see `Attend`).
        """
        cos, sin = self.tables(tokens_BT, positions)
        x_BTD = self.model.embed_tokens(tokens_BT)
        for block in self.model.layers:
            x_BTD = block(x_BTD, cos, sin, attend or self.attend)
        return self.model.norm(x_BTD)

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., D] -> [..., V] unnormalised log-scores."""
        return F.linear(hidden, self.output_weight)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Int tokens [B, T] -> scores of each next token [B, T, V]."""
        return self.logits(self.hidden(tokens_BT))
