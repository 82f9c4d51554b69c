"""Muon for the trunk's matrices, AdamW for everything else, behind one `step`; what is frozen is left alone.

Muon replaces a matrix's gradient (with momentum) by the nearest semi-orthogonal matrix, found with five
Newton-Schulz iterations, in the precision of the run's matrix products; all matrices of one shape go
through them in one batch.
Sources: Jordan et al. 2024, "Muon" (kellerjordan.github.io/posts/muon); AdamW, arXiv 1711.05101.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from twofold.models.transformer import Transformer
from twofold.training.settings import TrainSettings, adapter_rate

_QUINTIC = (3.4445, -4.7750, 2.0315)  # steepest at zero among those that keep singular values near one


def orthogonalize(matrices: Tensor, precision: torch.dtype = torch.float32, iterations: int = 5) -> Tensor:
    """[N, R, C] -> [N, R, C]: singular vectors kept, singular values moved into about [0.7, 1.2]."""
    a, b, c = _QUINTIC
    x = matrices.to(precision)
    wide = x.shape[-2] <= x.shape[-1]
    x = x if wide else x.mT
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-7)
    if precision is torch.float32 and x.shape[-1] >= 2 * x.shape[-2]:
        x = _factor(x @ x.mT, iterations) @ x
    else:
        for _ in range(iterations):
            gram = x @ x.mT
            x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x if wide else x.mT).to(matrices.dtype)


def _factor(gram: Tensor, iterations: int) -> Tensor:
    """[N, R, R] x·xᵀ -> [N, R, R], what the iterations multiply x by. It and all that comes before it are
    polynomials of x·xᵀ, so they commute, and wide matrices are spared. Singular values come in squared here, for
    which bfloat16 has too few digits."""
    a, b, c = _QUINTIC
    whole = None
    for left in reversed(range(iterations)):
        step = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        step.diagonal(dim1=-2, dim2=-1).add_(a)
        whole = step if whole is None else step @ whole
        if left:
            gram = step @ gram @ step
    return whole


def orthogonalize_shared(matrices: Tensor, precision: torch.dtype) -> Tensor:
    """`orthogonalize` where many processes hold the matrices' rows: each gathers some whole matrices, does
    those, and gives the rows back."""
    if not hasattr(matrices, "full_tensor"):
        return orthogonalize(matrices, precision)
    from torch.distributed.tensor import DTensor, Shard

    mesh, layout = matrices.device_mesh, matrices.placements
    one_each = [Shard(0)] * mesh.ndim
    mine = matrices.redistribute(placements=one_each)
    done = orthogonalize(mine.to_local(), precision)
    shape, stride = matrices.shape, matrices.stride()
    done = DTensor.from_local(done, mesh, one_each, shape=shape, stride=stride)
    return done.redistribute(placements=layout)


class Muon:
    """Nesterov momentum, orthogonalised; the step is scaled by √max(1, rows / columns)."""

    def __init__(
        self, parameters: dict[str, Tensor], momentum: float, precision: torch.dtype = torch.float32
    ) -> None:
        self.momentum, self.precision = momentum, precision
        self.buffers = {name: torch.zeros_like(p) for name, p in parameters.items()}
        self.shapes: dict[torch.Size, tuple[list[Tensor], list[Tensor]]] = {}
        for name, parameter in parameters.items():
            alike, buffers = self.shapes.setdefault(parameter.shape, ([], []))
            alike.append(parameter)
            buffers.append(self.buffers[name])

    @torch.no_grad()
    def step(self, rate: float, decay: float) -> None:
        """One update at learning rate `rate`; weights first shrink by `rate · decay`."""
        for shape, (parameters, buffers) in self.shapes.items():
            gradients = [parameter.grad for parameter in parameters]
            torch._foreach_lerp_(buffers, gradients, 1 - self.momentum)
            updates = torch.stack(torch._foreach_lerp(gradients, buffers, self.momentum))
            updates = orthogonalize_shared(updates, self.precision)
            if decay:
                torch._foreach_mul_(parameters, 1 - rate * decay)
            scale = rate * math.sqrt(max(1.0, shape[0] / shape[1]))
            torch._foreach_sub_(parameters, list(updates), alpha=scale)


class Optimizer:
    """Both of them, for one model. `step(share)` uses each group's full rate times `share`; `precision` is
    that of the matrix products, float32 or bfloat16."""

    def __init__(
        self, model: Transformer, settings: TrainSettings, precision: torch.dtype = torch.float32
    ) -> None:
        self.settings, self.decay = settings, settings.weight_decay or 0.0
        groups = group_parameters(model.named_parameters())
        self.muon = Muon(groups["matrices"], settings.momentum, precision)
        rates = {
            "embeddings": settings.embedding_lr,
            "norms": settings.norm_lr,
            "adapters": adapter_rate(model.config.hidden_size, settings),
        }
        self.rate = settings.matrix_lr if groups["matrices"] else rates["adapters"]  # the one to tell of
        rates = {kind: rate for kind, rate in rates.items() if groups[kind]}
        self.names = {kind: list(groups[kind]) for kind in rates}
        self.adamw = torch.optim.AdamW(
            [
                {
                    "params": list(groups[kind].values()),
                    "full_lr": rate,
                    "weight_decay": self.decay if kind == "embeddings" else 0.0,
                }
                for kind, rate in rates.items()
            ],
            lr=1.0,
            betas=(settings.beta1, settings.beta2),
            eps=1e-10,
            fused=True,
        )

    def step(self, share: float) -> None:
        """One update from the gradients now on the parameters."""
        self.muon.step(self.settings.matrix_lr * share, self.decay)
        for group in self.adamw.param_groups:
            group["lr"] = group["full_lr"] * share
        self.adamw.step()

    def tensors(self) -> dict[str, Tensor]:
        """All that a resume needs, by name: the state itself, to be kept or to be filled."""
        found = {f"muon.{name}": buffer for name, buffer in self.muon.buffers.items()}
        for name, parameter in self._adamw_parameters():
            state = self.adamw.state[parameter]
            if not state:  # as AdamW makes it at its first step
                state["step"] = torch.zeros((), device=parameter.device)
                state |= {key: torch.zeros_like(parameter) for key in ("exp_avg", "exp_avg_sq")}
            found |= {f"adamw.{key}.{name}": value for key, value in state.items()}
        return found

    def _adamw_parameters(self) -> Iterable[tuple[str, Tensor]]:
        for kind, group in zip(self.names, self.adamw.param_groups, strict=True):
            yield from zip(self.names[kind], group["params"], strict=True)


def group_parameters(named: Iterable[tuple[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
    """Every parameter that is learned in exactly one group: "matrices" (the trunk's), "embeddings", "norms",
    "adapters"."""
    groups: dict[str, dict[str, Tensor]] = {"matrices": {}, "embeddings": {}, "norms": {}, "adapters": {}}
    for name, parameter in named:
        if not parameter.requires_grad:
            continue
        if ".lora." in name:
            kind = "adapters"
        elif parameter.ndim < 2:
            kind = "norms"
        elif "embed_" in name or "lm_head" in name:
            kind = "embeddings"
        else:
            kind = "matrices"
        groups[kind][name] = parameter
    return groups
