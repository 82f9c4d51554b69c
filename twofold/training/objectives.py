"""What a step minimises. An objective is a function `(model, batch) -> loss summed over its targets`;
it is all that differs between pretraining, fine-tuning and the methods to come.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from twofold.models.transformer import Transformer

IGNORE = -100  # a target that counts for nothing


@dataclass(frozen=True)
class Batch:
    """`inputs` [B, T] and `targets` [B, T], int64; a target is the token after its input, or IGNORE."""

    inputs: Tensor
    targets: Tensor

    def count(self) -> int:
        """How many targets count."""
        return int((self.targets != IGNORE).sum())

    def to(self, device: torch.device) -> Batch:
        """The same batch there."""
        return Batch(self.inputs.to(device), self.targets.to(device))

    def padded(self, multiple: int) -> Batch:
        """Rows of a multiple of `multiple` places; the new ones, at the end, count for nothing."""
        room = -self.inputs.shape[1] % multiple
        if not room:
            return self
        return Batch(F.pad(self.inputs, (0, room)), F.pad(self.targets, (0, room), value=IGNORE))


Objective = Callable[[Transformer, Batch], Tensor]


def next_token(model: Transformer, batch: Batch) -> Tensor:
    """Negative log-probability, in nats, summed over the targets that count.

    Pretraining and supervised fine-tuning both: they differ in which targets count.
    """
    hidden = model.hidden(batch.inputs)
    if hasattr(hidden, "full_tensor"):
        from twofold.training.tensor_parallel import divided_cross_entropy

        return divided_cross_entropy(hidden, model.output_weight, batch.targets, IGNORE)
    hidden = hidden.flatten(0, 1)
    return F.linear_cross_entropy(
        hidden,
        model.output_weight.to(hidden.dtype),
        batch.targets.flatten(),
        ignore_index=IGNORE,
        reduction="sum",
    )
