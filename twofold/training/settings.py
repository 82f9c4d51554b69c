"""Every knob of a training run, with its default. `None` means "decide for me"."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from twofold.errors import UsageError

REMEMBERED = 0.4  # epochs after which an update of a matrix has shrunk to 1/e (docs/recipe.md)
MOST_SHRINKING = 0.2  # of a weight in one step, for a text of hardly more than a step


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """One run of the training loop.

    Exactly one of `steps` and `minutes` says how long it goes on. With `minutes`, the number of steps
    is set from the measured speed while the learning rate is still constant, and written down; the
    same number given as `steps` then reaches the same weights.
    """

    steps: int | None = None  # optimizer steps
    minutes: float | None = None  # wall time for the whole run
    batch_rows: int = 16  # rows a step
    micro_rows: int | None = None  # rows a forward pass; smaller saves memory. None: all of them
    row_tokens: int = 256  # targets a row
    matrix_lr: float = 0.02  # Muon, for the trunk's matrices
    embedding_lr: float = 0.01  # AdamW, for the embedding and output matrices
    norm_lr: float = 0.01  # AdamW, for the norms' weights
    adapter_lr: float | None = None  # AdamW, for an adapter; None: by the model's width, see `adapter_rate`
    weight_decay: float | None = None  # decoupled, on matrices, following the schedule; None: see `for_text`
    momentum: float = 0.95  # Muon's
    beta1: float = 0.8  # AdamW's
    beta2: float = 0.95
    clip: float = 1.0  # largest norm of the gradient
    warmup_steps: int = 20  # over which the rate rises
    warmdown: float = 0.6  # share of the run, at its end, over which the rate falls
    final_lr: float = 0.05  # the last rate, as a share of the full one
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # auto: what this machine measures faster
    compile: Literal["auto", "yes", "no"] = (
        "auto"  # torch.compile the step; auto: where it is tried and faster
    )
    seed: int = 0
    evaluations: int = 10  # looks at held-out text during the run, besides the full one at its end
    evaluation_tokens: int = 32_768  # held-out tokens for each of those looks
    checkpoint_seconds: float = 60.0  # time between checkpoints
    checkpoint_steps: int | None = None  # steps between checkpoints, instead of time
    log_steps: int = 10  # steps between rows of metrics.jsonl

    def __post_init__(self) -> None:
        """Raise UsageError naming the setting that cannot be."""
        if (self.steps is None) == (self.minutes is None):
            raise UsageError("Say how long to train: give either steps or minutes.")
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise UsageError(f"{field.name} must be a finite number, and is {value}.")
        for name in ("steps", "batch_rows", "micro_rows", "row_tokens", "log_steps", "checkpoint_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} must be at least 1, and is {value}.")
        for name in (
            "minutes",
            "clip",
            "checkpoint_seconds",
            "matrix_lr",
            "embedding_lr",
            "norm_lr",
            "adapter_lr",
        ):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UsageError(f"{name} must be above 0, and is {value}.")
        for name in ("warmdown", "final_lr", "momentum", "beta1", "beta2"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name} must lie between 0 and 1, and is {getattr(self, name)}.")
        if not 0 <= self.seed < 2**63:
            raise UsageError(f"seed must be from 0 to 2**63 - 1, and is {self.seed}.")
        if (self.weight_decay or 0) < 0 or self.evaluations < 0 or self.evaluation_tokens < 1:
            raise UsageError(
                "weight_decay and evaluations cannot be negative; evaluation_tokens is 1 or more."
            )

    def for_text(self, epochs_a_step: float) -> TrainSettings:
        """These settings with the decay of the weights decided, by how soon the text comes again: next to none while
        it is new, much where it is short.

        Weights are a moving average of their updates over 1 / (rate · decay) steps, which should be the same share of
        an epoch whatever the text. Source: Wang and Aitchison 2024 (arXiv 2405.13698).
        """
        if self.weight_decay is not None:
            return self
        most = MOST_SHRINKING / max(self.matrix_lr, self.embedding_lr)
        return replace(self, weight_decay=min(epochs_a_step / (self.matrix_lr * REMEMBERED), most))

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary for `settings.json`."""
        return asdict(self)


# What fine-tuning does differently. The embedding moves little: at higher rates it is pushed away from every
# token that the conversations do not use, and the model can no longer say what it knows (docs/log.md).
FINETUNING = {
    "matrix_lr": 0.006, "embedding_lr": 0.0005, "norm_lr": 0.0005, "weight_decay": 0.0, "warmdown": 0.8
}  # fmt: skip
FINETUNING_STEPS = 150  # at the least: fewer do not teach the form of a conversation
FINETUNING_EPOCHS = 3  # more teach the conversations' own facts by heart, and cost what pretraining taught


def adapter_rate(width: int, settings: TrainSettings) -> float:
    """The learning rate of an adapter to a model of this width.

    Unless given, ten times what is usual for such a model itself, and less for wider ones. Source: Schulman et al.
    2025, "LoRA Without Regret" (thinkingmachines.ai/blog/lora), on Llama models with alpha 32.
    """
    return settings.adapter_lr or 5e-4 * (2000 / width) ** 0.78


def rate_share(step: int, steps: int, settings: TrainSettings) -> float:
    """The learning rate at `step` of `steps` as a share of the full one: up, level, down (a trapezoid).

    Before the warm-down it does not depend on `steps`, which may therefore still change there.
    Source: Hägele et al. 2024 (arXiv 2405.18392).
    """
    left = steps - step
    down = settings.warmdown * steps
    share = min(1.0, (step + 1) / (settings.warmup_steps + 1))
    if left < down:
        share = min(share, settings.final_lr + (1 - settings.final_lr) * left / down)
    return share
