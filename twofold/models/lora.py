"""Low-rank adapters: W + s·B·A in the place of a matrix W that stays as it is.

LoRA learns A [r, inputs] and B [outputs, r] of a small rank r beside each matrix, scaled by s = alpha / r, or in
rsLoRA by alpha / √r. DoRA also learns each output's length m, and takes only directions from the sum:
m·(W + s·B·A) / |W + s·B·A|, of whose denominator no gradient is taken. B begins as 0, so that an adapter begins by
changing nothing.
Sources: LoRA (arXiv 2106.09685), section 4.1; rsLoRA (2312.03732), theorem 3.2; DoRA (2402.09353), equations 5
and 11.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from twofold.errors import UsageError
from twofold.models.token_rows import Rows, attach_rows, attached_rows
from twofold.models.transformer import Transformer

SHORTEST = 1e-12  # length of an output in DoRA: one whose weights are all 0 stays 0
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, kw_only=True)
class LoraSettings:
    """What an adapter learns. `targets`: which of each layer's matrices it changes, those of TARGETS that there
    are; `alpha`: how strongly; `dropout`: the share of its inputs left out in training."""

    rank: int = 16
    alpha: float = 32.0
    rslora: bool = False
    dora: bool = False
    dropout: float = 0.0
    targets: tuple[str, ...] = TARGETS

    def __post_init__(self) -> None:
        """Raise UsageError naming the setting that cannot be."""
        if not 1 <= self.rank <= 1 << 16:
            raise UsageError(f"An adapter's rank must be from 1 to 65536, and is {self.rank}.")
        if not 0 < self.alpha < math.inf:
            raise UsageError(f"An adapter's alpha must be above 0, and is {self.alpha}.")
        if not 0 <= self.dropout < 1:
            raise UsageError(f"An adapter's dropout must be from 0 to below 1, and is {self.dropout}.")
        if unknown := [name for name in self.targets if name not in TARGETS]:
            raise UsageError(f"{unknown[0]!r} is none of the matrices of a layer: {', '.join(TARGETS)}.")
        if not self.targets:
            raise UsageError(f"An adapter must change some matrices of each layer: {', '.join(TARGETS)}.")

    @property
    def scale(self) -> float:
        """s, by which B·A is multiplied."""
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)


@dataclass(frozen=True)
class LowRank:
    """A change of one matrix W [outputs, inputs]: A [r, inputs], B [outputs, r], s, and DoRA's m [outputs]."""

    a: Tensor
    b: Tensor
    scale: float
    magnitude: Tensor | None = None

    def changed(self, weight: Tensor) -> Tensor:
        """W as it is with the change, in W's dtype; computed in float32."""
        whole = self._sum(weight)
        if self.magnitude is not None:
            whole = whole * self.gain(weight)[:, None]
        return whole.to(weight.dtype)

    def gain(self, weight: Tensor) -> Tensor:
        """By what DoRA multiplies each output of W + s·B·A, [outputs] float32."""
        return self.magnitude.float() / self._sum(weight).norm(dim=1).clamp_min(SHORTEST)

    def _sum(self, weight: Tensor) -> Tensor:
        return weight.float() + self.scale * (self.b.float() @ self.a.float())


@dataclass(frozen=True)
class Adapter:
    """Changes by the matrix's name ("model.layers.0.self_attn.q_proj"). `replaced`: tensors that stand whole in the
    place of the base's; `rows`: those of tokens, in the embedding and the output matrix, by its name. `base`: where the
    model that it belongs to was, if known."""

    changes: Mapping[str, LowRank]
    replaced: Mapping[str, Tensor] = field(default_factory=dict)
    base: str | None = None
    rows: Mapping[str, Rows] = field(default_factory=dict)


def join(changes: Sequence[LowRank | None], outputs: Sequence[int]) -> tuple[Tensor, Tensor]:
    """A and B of the change of matrices, with so many outputs each, that lie below each other; None: no change.

    Their A below each other and their B as a block diagonal, or one A where they share it.
    """
    some = [change for change in changes if change is not None]
    if all(change.a is some[0].a or torch.equal(change.a, some[0].a) for change in some):
        none = [some[0].b.new_zeros(rows, len(some[0].a)) for rows in outputs]
        return some[0].a, torch.cat([n if c is None else c.b for c, n in zip(changes, none, strict=True)])
    b = [
        some[0].b.new_zeros(rows, 0) if change is None else change.b
        for change, rows in zip(changes, outputs, strict=True)
    ]
    return torch.cat([change.a for change in some]), torch.block_diag(*b)


class Lora(nn.Module):
    """An adapter beside one linear layer, being trained."""

    def __init__(self, linear: nn.Module, settings: LoraSettings, generator: torch.Generator) -> None:
        super().__init__()
        outputs, inputs, device = linear.out_features, linear.in_features, linear.weight.device
        bound = inputs**-0.5
        a = torch.empty(settings.rank, inputs).uniform_(-bound, bound, generator=generator)
        self.a = nn.Parameter(a.to(device))
        self.b = nn.Parameter(torch.zeros(outputs, settings.rank, device=device))
        self.scale, self.dropout = settings.scale, settings.dropout
        self.magnitude = None
        if settings.dora:
            length = linear.weight.detach().float().norm(dim=1)
            self.magnitude = nn.Parameter(length)
            self.register_buffer("squares", length.square(), persistent=False)

    def forward(self, x: Tensor, y: Tensor, linear: nn.Module) -> Tensor:
        """y [..., outputs], what the layer makes of x [..., inputs], as it is with the change."""
        drops = self.training and self.dropout > 0
        kept = F.dropout(x, self.dropout) if drops else x
        inner = F.linear(kept, self.a)
        if self.magnitude is None:  # in one product, which adds and scales too
            rows, inner = y.flatten(0, -2), inner.flatten(0, -2)
            return torch.addmm(rows, inner, self.b.t(), alpha=self.scale).view_as(y)
        change = self.scale * F.linear(inner, self.b)
        gain = self.magnitude / self.length(linear)
        own = y if linear.bias is None else y - linear.bias
        if drops:  # DoRA's whole change is of what is kept
            own = F.linear(kept, linear.weight)
        return y + ((gain - 1) * own + gain * change).to(y.dtype)

    @torch.no_grad()
    def length(self, linear: nn.Module) -> Tensor:
        """|W + s·B·A| of each output, from |W|² and two small products, without making the sum."""
        a, b = self.a.float(), self.b.float()
        with torch.autocast(a.device.type, enabled=False):
            both = (b * F.linear(a, linear.weight.float()).t()).sum(1)
            own = ((b @ (a @ a.t())) * b).sum(1)
        squares = self.squares + 2 * self.scale * both + self.scale**2 * own
        return squares.clamp_min(0).sqrt().clamp_min(SHORTEST)


def linears(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The matrices of all layers that an adapter may change, by name."""
    for name, module in model.named_modules():
        if name.rpartition(".")[2] in TARGETS:
            yield name, module


def attach(model: Transformer, settings: LoraSettings, seed: int = 0, tokens: Sequence[int] = ()) -> None:
    """Freeze `model` and put an adapter beside each target; it alone is learned from now on, and the rows of `tokens`.

    Raises UsageError where the model has none of the targets.
    """
    targets = [
        (name, linear) for name, linear in linears(model) if name.rpartition(".")[2] in settings.targets
    ]
    if not targets:
        raise UsageError(f"This model has none of the matrices {', '.join(settings.targets)}.")
    model.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for _, linear in targets:
        linear.lora = Lora(linear, settings, generator)
        linear.register_forward_hook(_through)
    if tokens:
        attach_rows(model, tokens)


def _through(linear: nn.Module, inputs: tuple[Any, ...], y: Tensor) -> Tensor:
    return linear.lora(inputs[0], y, linear)


def attached(model: Transformer, tensors: Mapping[str, Tensor] | None = None) -> Adapter:
    """The adapter beside `model` as it stands; `tensors`, by their names in it, stand for its own."""
    held = dict(model.named_parameters()) if tensors is None else tensors
    changes = {}
    for name, linear in linears(model):
        if hasattr(linear, "lora"):
            a, b, m = (held.get(f"{name}.lora.{part}") for part in ("a", "b", "magnitude"))
            changes[name] = LowRank(a.detach(), b.detach(), linear.lora.scale, m if m is None else m.detach())
    return Adapter(changes, rows=attached_rows(model, held))


@torch.no_grad()
def merge(model: Transformer, adapter: Adapter) -> None:
    """Put the changes into the model's own matrices, in place, each computed in float32."""
    parameters = dict(model.named_parameters())
    for name, change in adapter.changes.items():
        weight = parameters[f"{name}.weight"]
        weight.copy_(change.changed(weight))
    for name, tensor in adapter.replaced.items():
        parameters[name].copy_(tensor)
    for name, rows in adapter.rows.items():
        parameters[f"{name}.weight"][list(rows.ids)] = rows.values.to(parameters[f"{name}.weight"])
