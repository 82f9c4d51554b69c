"""The Transformer on torch, of every family: Qwen3 dense unless the config says otherwise.

Reads top to bottom: norms, attention, feed-forward, block, model. A family chooses among a few parts
(`families.py`). The parameters have Hugging Face's names for Qwen3; where a family's files join, turn or call
them otherwise, `tensor_names.py` says how.
Shape letters: B batch, T time, D model width, H heads, K key-value heads, C head width, V vocabulary.
Sources: Qwen3 (arXiv 2505.09388); RMSNorm (1910.07467); rotary positions (2104.09864); grouped
key-value heads (2305.13245); SwiGLU (2002.05202); of the other families, see `families.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from twofold.errors import UsageError
from twofold.models.attention import Attend, causal_attention
from twofold.models.config import TransformerConfig
from twofold.models.rotary import depends_on_length, rotary_tables, rotate

_TANH_GELU = partial(F.gelu, approximate="tanh")
ACTIVATION_FUNCTIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu, "gelu": F.gelu, "gelu_new": _TANH_GELU, "gelu_pytorch_tanh": _TANH_GELU, "relu": F.relu,
}  # fmt: skip

# The norms of a block, by placement: before attention, after it, before the feed-forward, after it.
BLOCK_NORMS: Mapping[str, tuple[str | None, ...]] = {
    "before": ("input_layernorm", None, "post_attention_layernorm", None),
    "after": (None, "post_attention_layernorm", None, "post_feedforward_layernorm"),
    "both": (
        "input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm",
    ),
}  # fmt: skip


class RMSNorm(nn.Module):
    """x / rms(x) · weight over the last dimension; the mean is taken in float32. `plus_one`: times 1 + weight."""

    def __init__(self, width: int, eps: float, *, plus_one: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width) if plus_one else torch.ones(width))
        self.eps, self.plus_one = eps, plus_one

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] -> [..., width], dtype kept."""
        x32 = x.float()
        x32 = x32 * torch.rsqrt(x32.square().mean(-1, keepdim=True) + self.eps)
        return (x32 * (1 + self.weight.float() if self.plus_one else self.weight)).to(x.dtype)


def _norm(config: TransformerConfig, width: int) -> nn.Module:
    """The family's kind of norm."""
    if config.family.norm == "layer":
        return nn.LayerNorm(width, config.rms_norm_eps)
    return RMSNorm(width, config.rms_norm_eps, plus_one=config.family.norm == "rms_plus_one")


class Attention(nn.Module):
    """Queries ask, keys answer, values are read: softmax(q·k / √C)·v per head, in Qwen3 with per-head norms."""

    def __init__(self, config: TransformerConfig, layer: int) -> None:
        super().__init__()
        d, width, bias = config.hidden_size, config.head_dim, config.attention_bias
        queries, keys = config.num_attention_heads * width, config.num_key_value_heads * width
        self.layer, self.width, self.qk_norm = layer, width, config.family.qk_norm
        self.turns = config.turns(layer)
        self.q_proj = nn.Linear(d, queries, bias=bias)
        self.k_proj = nn.Linear(d, keys, bias=bias)
        self.v_proj = nn.Linear(d, keys, bias=bias)
        self.o_proj = nn.Linear(queries, d, bias=bias and config.family.output_bias)
        self.q_norm = self.k_norm = None
        if self.qk_norm is not None:
            whole = self.qk_norm == "whole"
            self.q_norm = _norm(config, queries if whole else width)
            self.k_norm = _norm(config, keys if whole else width)
        looks = {
            "window": config.window(layer),
            "softcap": config.attn_logit_softcapping,
            "scale": config.attention_scale,
        }
        self.looks = {name: value for name, value in looks.items() if value is not None}

    def forward(self, x_BTD: Tensor, cos: Tensor | None, sin: Tensor | None, attend: Attend) -> Tensor:
        """[B, T, D] -> [B, T, D]. No cos and sin where nothing turns by position."""
        B, T, _ = x_BTD.shape
        q_BHTC = self._heads(self.q_proj(x_BTD), self.q_norm)
        k_BKTC = self._heads(self.k_proj(x_BTD), self.k_norm)
        v_BKTC = self.v_proj(x_BTD).view(B, T, -1, self.width).transpose(1, 2)
        if self.turns:
            q_BHTC, k_BKTC = rotate(q_BHTC, cos, sin), rotate(k_BKTC, cos, sin)
        out_BHTC = attend(self.layer, q_BHTC, k_BKTC, v_BKTC, **self.looks)
        return self.o_proj(out_BHTC.transpose(1, 2).reshape(B, T, -1))

    def _heads(self, x_BTX: Tensor, norm: nn.Module | None) -> Tensor:
        """Queries or keys of all heads, normed and apart: [B, H, T, C]."""
        if self.qk_norm == "whole":
            x_BTX = norm(x_BTX)
        x_BTHC = x_BTX.view(*x_BTX.shape[:2], -1, self.width)
        return (norm(x_BTHC) if self.qk_norm == "head" else x_BTHC).transpose(1, 2)


class FeedForward(nn.Module):
    """down(act(gate(x)) · up(x)), SwiGLU in Qwen3; or without a gate down(act(up(x)))."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        d, inner, bias = config.hidden_size, config.intermediate_size, config.mlp_bias
        self.act, self.gated = ACTIVATION_FUNCTIONS[config.hidden_act], config.family.gated
        if self.gated:
            self.gate_proj = nn.Linear(d, inner, bias=bias)
        self.up_proj = nn.Linear(d, inner, bias=bias)
        self.down_proj = nn.Linear(inner, d, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] -> [..., D]."""
        if self.gated:
            return self.down_proj(self.act(self.gate_proj(x)) * self.up_proj(x))
        return self.down_proj(self.act(self.up_proj(x)))


class Block(nn.Module):
    """One layer: attention, then feed-forward, each with norms (before it in Qwen3) and added to the stream."""

    def __init__(self, config: TransformerConfig, layer: int) -> None:
        super().__init__()
        self.norms = BLOCK_NORMS[config.family.norm_placement]
        self.local = config.slides(layer) and config.rope_local_base_freq is not None
        for index, name in enumerate(self.norms):
            if name is not None:
                setattr(self, name, _norm(config, config.hidden_size))
            if index == 0:
                self.self_attn = Attention(config, layer)
        self.mlp = FeedForward(config)

    def forward(self, x_BTD: Tensor, cos: Tensor | None, sin: Tensor | None, attend: Attend) -> Tensor:
        """[B, T, D] -> [B, T, D]."""
        y_BTD = self.self_attn(self._normed(0, x_BTD), cos, sin, attend)
        x_BTD = x_BTD + self._normed(1, y_BTD)
        return x_BTD + self._normed(3, self.mlp(self._normed(2, x_BTD)))

    def _normed(self, index: int, x_BTD: Tensor) -> Tensor:
        name = self.norms[index]
        return x_BTD if name is None else getattr(self, name)(x_BTD)


class Transformer(nn.Module):
    """Tokens in, next-token scores out."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.attend: Attend = causal_attention
        self.rotary: dict[bool, tuple[Tensor, Tensor]] = {}  # see `keep_rotary`
        self.model = nn.Module()
        self.model.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        if config.family.learned_positions:
            self.model.embed_positions = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.model.layers = nn.ModuleList(Block(config, i) for i in range(config.num_hidden_layers))
        self.model.norm = _norm(config, config.hidden_size)
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
        1/√(inputs), embeddings and output normal, biases zero, norms such that they change nothing. The two
        matrices that write into the stream are zero, so that each block starts as the identity, unless norms
        come after them, which would make much of their first steps."""
        norm = 0.0 if self.config.family.norm == "rms_plus_one" else 1.0
        identity = self.config.family.norm_placement == "before"
        for name, parameter in self.named_parameters():
            value = torch.empty(parameter.shape)
            if parameter.ndim == 1:
                value.fill_(0.0 if name.endswith("bias") else norm)
            elif identity and name.endswith(("o_proj.weight", "down_proj.weight")):
                value.zero_()
            elif "embed_" in name or "lm_head" in name:
                value.normal_(std=0.02, generator=generator)
            else:
                bound = math.sqrt(3.0 / parameter.shape[1])
                value.uniform_(-bound, bound, generator=generator)
            yield parameter, value

    @property
    def output_weight(self) -> Tensor:
        """[V, D]: the embedding itself when tied."""
        holder = self.model.embed_tokens if self.config.tie_word_embeddings else self.lm_head
        rows = holder._modules.get("rows")  # of tokens that an adapter learns (`token_rows.py`)
        return holder.weight if rows is None else rows.within(holder.weight)

    def keep_rotary(self, length: int) -> None:
        """Keep the rotary tables of rows of up to `length` tokens, [length, rotary_dim] each, for every later
        pass: a compiled step would otherwise work out a sine and a cosine for each channel of each head."""
        self.rotary = {}
        if self.config.family.learned_positions or depends_on_length(self.config):
            return
        positions = torch.arange(length, device=self.output_weight.device)
        for local in (False, True) if self.config.rope_local_base_freq is not None else (False,):
            self.rotary[local] = rotary_tables(positions, self.config, local=local)

    def tables(
        self, tokens_BT: Tensor, positions: Tensor | None, *, local: bool = False
    ) -> tuple[Tensor | None, Tensor | None]:
        """cos and sin that broadcast to [B, H, T, C], None where no layer turns; `local`: see `rotary_tables`."""
        if self.config.family.learned_positions:
            return None, None
        length = tokens_BT.shape[1]
        if positions is None:
            if local in self.rotary and length <= len(self.rotary[local][0]):
                return self.rotary[local][0][:length], self.rotary[local][1][:length]
            positions = torch.arange(length, device=tokens_BT.device)
            cos, sin = rotary_tables(positions, self.config, local=local, length=length)
        else:
            cos, sin = rotary_tables(positions, self.config, local=local)
        if positions.ndim == 2:  # [B, T, C] -> [B, 1, T, C]: the same for every head
            cos, sin = cos[:, None], sin[:, None]
        return cos, sin

    def enter(self, x: Tensor, positions: Tensor | None = None) -> Tensor:
        """What enters the first block, from the tokens' embeddings […, T, D]; `positions` [T] or […, T]."""
        family = self.config.family
        if family.scaled_embeddings:  # by √D as it is in the weights' own precision
            x = x * torch.full((), self.config.hidden_size**0.5, dtype=x.dtype, device=x.device)
        if family.learned_positions:
            if positions is None:
                positions = torch.arange(x.shape[-2], device=x.device)
                if len(positions) > self.config.max_position_embeddings:
                    raise UsageError(
                        f"A row of {len(positions):,} tokens does not fit: this model has learned "
                        f"{self.config.max_position_embeddings:,} positions."
                    )
            x = x + self.model.embed_positions(positions)
        return x

    def hidden(
        self, tokens_BT: Tensor, positions: Tensor | None = None, attend: Attend | None = None
    ) -> Tensor:
        """Final normed activations [B, T, D] of int tokens [B, T].

        `positions` ([T] or [B, T], default 0…T-1) set the rotary angles; `attend` replaces attention
        within the row (see `Attend`).
        """
        x_BTD = self.enter(self.model.embed_tokens(tokens_BT), positions)
        tables = local = self.tables(tokens_BT, positions)
        if self.config.rope_local_base_freq is not None:
            local = self.tables(tokens_BT, positions, local=True)
        for block in self.model.layers:
            x_BTD = block(x_BTD, *(local if block.local else tables), attend or self.attend)
        return self.model.norm(x_BTD)

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., D] -> [..., V] unnormalised log-scores."""
        scores, cap = F.linear(hidden, self.output_weight), self.config.final_logit_softcapping
        return scores if cap is None else cap * (scores / cap).tanh()

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Int tokens [B, T] -> scores of each next token [B, T, V]."""
        return self.logits(self.hidden(tokens_BT))
