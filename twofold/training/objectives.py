"""What a step minimises. An objective is a function `(model, batch) -> loss summed over its targets`;
it is all that differs between pretraining, fine-tuning and the methods to come.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from twofold.models.transformer import Transformer
from twofold.training.attention import within

IGNORE = -100  # a target that counts for nothing


@dataclass(frozen=True)
class Batch:
    """`inputs` and `targets`, int64 [B, T]: a target is the token after its input, or IGNORE. `parts`, int64
    [B, T], numbers the documents of each row, which do not see each other; None where a row is one document."""

    inputs: Tensor
    targets: Tensor
    parts: Tensor | None = None

    def count(self) -> int:
        """How many targets count."""
        return int((self.targets != IGNORE).sum())

    def each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """All of its tensors changed alike."""
        tensors = (self.inputs, self.targets, self.parts)
        return Batch(*(tensor if tensor is None else change(tensor) for tensor in tensors))

    def to(self, device: torch.device) -> Batch:
        """The same batch there."""
        return self.each(lambda tensor: tensor.to(device, non_blocking=True))

    def padded(self, multiple: int) -> Batch:
        """Rows of a multiple of `multiple` places; the new ones, at the end, count for nothing."""
        room = -self.inputs.shape[1] % multiple
        if not room:
            return self
        wider = self.each(lambda tensor: F.pad(tensor, (0, room)))
        return replace(wider, targets=F.pad(self.targets, (0, room), value=IGNORE))


Objective = Callable[[Transformer, Batch], Tensor]


def next_token(model: Transformer, batch: Batch) -> Tensor:
    """Negative log-probability, in nats, summed over the targets that count.

    Pretraining and supervised fine-tuning both: they differ in which targets count.
    """
    attend = None if batch.parts is None else within(model.attend, batch.parts)
    hidden = model.hidden(batch.inputs, attend=attend)
    if hasattr(hidden, "full_tensor"):
        from twofold.training.tensor_parallel import divided_cross_entropy

        return divided_cross_entropy(hidden, model.output_weight, batch.targets, IGNORE)
    hidden = hidden.flatten(0, 1)
    if model.config.final_logit_softcapping is not None:
        scores = model.logits(hidden).float()
        return F.cross_entropy(scores, batch.targets.flatten(), ignore_index=IGNORE, reduction="sum")
    return F.linear_cross_entropy(
        hidden,
        model.output_weight.to(hidden.dtype),
        batch.targets.flatten(),
        ignore_index=IGNORE,
        reduction="sum",
    )
