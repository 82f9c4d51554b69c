"""Rows of a frozen embedding and output matrix that an adapter learns: those of tokens that its model has never met.

The end of a turn is such a token for a base model: without a row of its own it cannot be told from all the others that
were never met, and what changes the layers alone does not learn to write it. PEFT calls them trainable tokens
(`peft/tuners/trainable_tokens`), and keeps the rows themselves, not their change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

EMBEDDING, OUTPUT = "model.embed_tokens", "lm_head"


@dataclass(frozen=True)
class Rows:
    """`values` [n, D] in the place of the rows `ids` of a matrix."""

    ids: tuple[int, ...]
    values: Tensor


class TokenRows(nn.Module):
    """Such rows, being trained, beside a matrix [V, D] that is not."""

    def __init__(self, weight: Tensor, ids: Sequence[int]) -> None:
        super().__init__()
        index = torch.tensor(list(ids), device=weight.device)
        place = torch.full((len(weight),), -1, device=weight.device)
        place[index] = torch.arange(len(index), device=weight.device)
        self.values = nn.Parameter(weight.detach()[index].float())
        self.register_buffer("ids", index, persistent=False)
        self.register_buffer("place", place, persistent=False)

    def look_up(self, tokens: Tensor, x: Tensor) -> Tensor:
        """The embeddings x [..., D] of `tokens` [...], with the learned rows in their places."""
        at = self.place[tokens]
        return torch.where((at >= 0)[..., None], self.values[at.clamp_min(0)].to(x.dtype), x)

    def within(self, weight: Tensor) -> Tensor:
        """The whole matrix with the learned rows in their places."""
        return weight.index_copy(0, self.ids, self.values.to(weight.dtype))


def attach_rows(model: Any, ids: Sequence[int]) -> None:
    """Have the rows `ids` of a frozen Transformer's embedding learned, and of its output matrix if that is another."""
    embedding = model.get_submodule(EMBEDDING)
    embedding.rows = TokenRows(embedding.weight, ids)
    embedding.register_forward_hook(lambda module, inputs, x: module.rows.look_up(inputs[0], x))
    if not model.config.tie_word_embeddings:
        model.lm_head.rows = TokenRows(model.lm_head.weight, ids)


def attached_rows(model: Any, tensors: Mapping[str, Tensor]) -> dict[str, Rows]:
    """The rows that are learned beside `model`, by the matrix's name, out of its `tensors`."""
    found = {}
    for name in (EMBEDDING, OUTPUT):
        if (values := tensors.get(f"{name}.rows.values")) is not None:
            ids = model.get_submodule(name).rows.ids
            found[name] = Rows(tuple(ids.tolist()), values.detach())
    return found
