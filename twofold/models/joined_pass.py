"""A Transformer's pass over tokens in memory, written out with few and large operations.

Small models spend their time in calling torch. So what is multiplied with the same input is joined, norms are a
few operations, and only attention looks at sequences. The pass computes what `Transformer.hidden` computes, of
every family; channels of queries and keys lie in another order here, pair by pair, which their products do not see.

Shape letters: N new tokens of a pass; D model width, H heads, K key-value heads, C head width, R channels of a
head that turn by position, F feed-forward width, L layers, P places in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from twofold.models.adapted_pass import Adapted
from twofold.models.paged_attention import Group, Look, answer_into, attend
from twofold.models.transformer import ACTIVATION_FUNCTIONS, Block, Transformer

_Norm = Callable[[int, Tensor], Tensor]  # (which of them, x) -> x


@dataclass(slots=True)
class _Layer:
    """One block's weights, and how it attends. Biases may be None. `norms`: numbers of those before and after
    attention and the feed-forward, None where there is none."""

    qkv: Tensor  # [(H+2K)·C, D]
    qkv_bias: Tensor | None
    out: Tensor  # [H·C, D]
    out_bias: Tensor | None
    up: Tensor  # [2·F, D], the gate first, or without one [F, D]
    up_bias: Tensor | None
    down: Tensor  # [F, D]
    down_bias: Tensor | None
    head_norms: tuple[Tensor, Tensor] | None  # of whole queries [H·C] and keys [K·C]
    norms: tuple[int | None, ...]
    turns: bool
    local: bool  # whether by the local layers' angles
    look: Look


class JoinedWeights:
    """A Transformer's weights as a pass uses them.

    The parameters become views of what they are joined to: no memory is held twice, and whoever trains them
    on in place changes both.
    """

    def __init__(self, transformer: Transformer) -> None:
        self.config = config = transformer.config
        family, blocks = config.family, transformer.model.layers
        norms = [getattr(b, name) for b in blocks for name in b.norms if name is not None]
        norms.append(transformer.model.norm)
        self._norms = _joined(norms).view(len(norms), -1)
        self._norm_biases = _joined(norms, "bias")
        if self._norm_biases is not None:
            self._norm_biases = self._norm_biases.view_as(self._norms)
        self._head_norms = None
        if family.qk_norm == "head":
            of_heads = [norm for b in blocks for norm in (b.self_attn.q_norm, b.self_attn.k_norm)]
            self._head_norms = _joined(of_heads).view(len(blocks), 2, -1)
        self.layers = [self._layer(layer, block) for layer, block in enumerate(blocks)]
        self.windows = list({layer.look.window for layer in self.layers})
        self.rotations = list({layer.local for layer in self.layers if layer.turns})
        device = self._norms.device
        self._kinds = torch.tensor(  # of each head: a query's (0) or a key's (1)
            [0] * config.num_attention_heads + [1] * config.num_key_value_heads, device=device
        )
        queries, keys = (
            heads * config.head_dim for heads in (config.num_attention_heads, config.num_key_value_heads)
        )
        widths = torch.tensor(
            [config.hidden_size, config.head_dim, queries, keys], dtype=torch.float32, device=device
        )
        self._floors = (widths * config.rms_norm_eps).sqrt().unbind()  # see `_rms_norms`
        self._parameters = list(transformer.model.parameters())
        self._lie = [parameter.data_ptr() for parameter in self._parameters]

    def _layer(self, layer: int, block: Block) -> _Layer:
        config, attention, mlp = self.config, block.self_attn, block.mlp
        projections = [attention.q_proj, attention.k_proj, attention.v_proj]
        ups = [mlp.gate_proj, mlp.up_proj] if config.family.gated else [mlp.up_proj]
        whole = None
        if config.family.qk_norm == "whole":
            whole = attention.q_norm.weight.detach(), attention.k_norm.weight.detach()
        there = [name is not None for name in block.norms]
        numbers = [layer * sum(there) + sum(there[:index]) for index in range(4)]
        return _Layer(
            _joined(projections),
            _joined(projections, "bias"),
            attention.o_proj.weight.detach().t(),
            _joined([attention.o_proj], "bias"),
            _joined(ups),
            _joined(ups, "bias"),
            mlp.down_proj.weight.detach().t(),
            _joined([mlp.down_proj], "bias"),
            whole,
            tuple(number if has else None for number, has in zip(numbers, there, strict=True)),
            attention.turns,
            block.local,
            Look(config.window(layer), config.attn_logit_softcapping, config.attention_scale),
        )

    def lie_where_they_did(self) -> bool:
        """Whether no parameter has been given other memory since."""
        return [parameter.data_ptr() for parameter in self._parameters] == self._lie

    def norms(self) -> _Norm:
        """(number, x_ND) -> x_ND, normed by the weights as they are now; the last is the model's norm."""
        config = self.config
        if self._norm_biases is None:
            scales = self._scale(self._norms) * config.hidden_size**0.5
            return _rms_norms(scales.unbind(), self._floors[0], self._norms.dtype)
        weights, biases = self._norms.unbind(), self._norm_biases.unbind()
        shape, eps = (config.hidden_size,), config.rms_norm_eps
        return lambda number, x_ND: F.layer_norm(x_ND, shape, weights[number], biases[number], eps)

    def head_norms(self) -> _Norm | None:
        """(layer, heads of queries and keys [N, H+K, C]) -> the same, normed, in float32; None: they are not."""
        config = self.config
        if config.family.qk_norm is None:
            return None
        if config.family.qk_norm == "head":
            scales = self._scale(self._head_norms) * config.head_dim**0.5
            return _rms_norms(scales.index_select(1, self._kinds).unbind(), self._floors[1])
        H, heads = config.num_attention_heads, zip(*(layer.head_norms for layer in self.layers), strict=True)
        queries, keys = (
            _rms_norms([self._scale(weight) * len(weight) ** 0.5 for weight in weights], floor)
            for weights, floor in zip(heads, self._floors[2:], strict=True)
        )
        return lambda layer, qk: torch.cat(
            (
                queries(layer, qk[:, :H].flatten(1)).view_as(qk[:, :H]),
                keys(layer, qk[:, H:].flatten(1)).view_as(qk[:, H:]),
            ),
            1,
        )

    def _scale(self, weight: Tensor) -> Tensor:
        return 1 + weight.float() if self.config.family.norm == "rms_plus_one" else weight.float()


def _joined(modules: list[nn.Module], kind: str = "weight") -> Tensor | None:
    """Their weights or biases below each other in one tensor, of which they become views; None where there are
    none."""
    tensors = [getattr(module, kind, None) for module in modules]
    if tensors[0] is None:
        return None
    if len(tensors) == 1:
        return tensors[0].detach()
    whole = torch.cat([tensor.detach() for tensor in tensors])
    for tensor, part in zip(tensors, whole.split([len(tensor) for tensor in tensors]), strict=True):
        tensor.data = part
    return whole


def _rms_norms(scales: Sequence[Tensor], floor: Tensor, dtype: torch.dtype | None = None) -> _Norm:
    """`RMSNorm`s in few operations, in float32 or from there into `dtype`: x / √(|x|² + D·eps) · scale, with
    scale = √D · weight and floor = √(D·eps)."""

    def normed(number: int, x: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        y = (x / torch.hypot(norm, floor)).mul_(scales[number])
        return y if dtype is None else y.to(dtype)

    return normed


def turned_by(turns: Tensor, position_N: Tensor) -> Tensor:
    """Of a table [positions, 1, R/2, 2] of cosines and sines, the complex number [N, 1, R/2] of each position."""
    return torch.view_as_complex(turns.index_select(0, position_N))


def hidden(
    transformer: Transformer,
    weights: JoinedWeights,
    rows_LP2KC: Tensor,
    page_size: int,
    groups: list[Group],
    token_N: Tensor,
    position_N: Tensor,
    place_N: Tensor,
    turns: dict[bool, Tensor],
    chosen: Tensor | None,
    adapted: Adapted | None = None,
    embed: Callable[[Tensor], None] | None = None,
) -> Tensor:
    """Final normed activations of the `chosen` tokens (None: all), remembering all keys and values in `rows`.

    `turns`: by which complex number each token turns each pair of channels, [N, 1, R/2], in local layers and in
    the others. `adapted`: those that adapters change; `embed` puts other embeddings [N, D] in some places. Tokens
    beyond the places are padding.
    """
    config, N, R = weights.config, place_N.shape[0], weights.config.rotary_dim
    H, K, C, inner = (
        config.num_attention_heads,
        config.num_key_value_heads,
        config.head_dim,
        config.intermediate_size,
    )
    act, gated = ACTIVATION_FUNCTIONS[config.hidden_act], config.family.gated
    norm, head_norm = weights.norms(), weights.head_norms()
    embedding = transformer.model.embed_tokens.weight
    x_ND = embedding.index_select(0, token_N)
    if embed is not None:
        embed(x_ND)
    x_ND = transformer.enter(x_ND, position_N)
    out_NHC = x_ND.new_zeros((x_ND.shape[0], H, C))
    out_ND = out_NHC.flatten(1)
    answer_into(groups, out_NHC)
    last = config.num_hidden_layers - 1
    for layer, (w, rows_P2KC) in enumerate(zip(weights.layers, rows_LP2KC.unbind(), strict=True)):
        before, after_attention, between, after = w.norms
        normed = x_ND if before is None else norm(before, x_ND)
        heads = F.linear(normed, w.qkv, w.qkv_bias)
        if adapted is not None:
            adapted.add(layer, "qkv", normed, w.qkv.t(), heads, False)
        heads = heads.view(-1, H + 2 * K, C)
        qk = place = heads[:, : H + K]
        if head_norm is not None:
            qk = head_norm(layer, qk)
        if w.turns:
            part = qk if R == C else qk[..., :R]
            if part.dtype is not torch.float32:
                part = part.float()
            part = part.view(-1, H + K, 2, R // 2)
            part = torch.view_as_real(torch.complex(*part.unbind(2)).mul_(turns[w.local])).flatten(2)
            qk = part if R == C else torch.cat((part, qk[..., R:]), 2)
        if qk is not place:
            place.copy_(qk)
        rows_P2KC.index_copy_(0, place_N, heads[:N, H:].view(N, 2, K, C))
        attend(groups, layer, heads[:, :H], rows_P2KC, page_size, w.look)
        if few := chosen is not None and layer == last:  # only keys and values of the others
            x_ND, out_ND = x_ND[chosen], out_ND[chosen]
        _add(
            x_ND,
            out_ND,
            w.out,
            w.out_bias,
            norm,
            after_attention,
            adapted and partial(adapted.add, layer, "out", chosen=few),
        )
        normed = x_ND if between is None else norm(between, x_ND)
        y = F.linear(normed, w.up, w.up_bias)
        if adapted is not None:
            adapted.add(layer, "up", normed, w.up.t(), y, few)
        if gated:
            gate, up = y.view(-1, 2, inner).unbind(1)
            y = act(gate).mul_(up)
        else:
            y = act(y)
        _add(
            x_ND,
            y,
            w.down,
            w.down_bias,
            norm,
            after,
            adapted and partial(adapted.add, layer, "down", chosen=few),
        )
    return norm(-1, x_ND)


def _add(
    x_ND: Tensor,
    y_NX: Tensor,
    matrix_XD: Tensor,
    bias: Tensor | None,
    norm: _Norm,
    number: int | None,
    change: Callable[..., None] | None,
) -> None:
    """Add y·matrix, `change`d by adapters, to the stream, through the norm of that number if there is one."""
    if number is None:
        x_ND.addmm_(y_NX, matrix_XD)
        if bias is not None:
            x_ND.add_(bias)
        y_ND = x_ND
    else:
        y_ND = y_NX @ matrix_XD if bias is None else torch.addmm(bias, y_NX, matrix_XD)
    if change is not None:
        change(y_NX, matrix_XD, y_ND)
    if number is not None:
        x_ND.add_(norm(number, y_ND))
