"""How a command opens its MODEL: what all that read with one have in common."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    from twofold.decoding.session import LoadedModel

Model = Annotated[
    Path,
    Parameter(
        help="A run folder, a Hugging Face folder, what `twofold create` left, a .gguf file, or a model of the hub "
        "(owner/name)."
    ),
]


@Parameter(name="*")
@dataclass(frozen=True)
class Opening:
    """With what it is opened."""

    adapter: Path | None = None
    """A LoRA adapter of that model, in PEFT's format. One that knows where its model is can also be given alone, as
    MODEL."""
    context: int | None = None
    """The most tokens of a sequence; default as many as the model's positions allow (with longrope positions: as many
    as one set of speeds is for)."""
    engine: Literal["torch", "c"] = "torch"
    """torch, or c: run.c, faster on a CPU; for a .gguf, with its weights as stored, and folders of qwen3 and qwen2."""

    def load(self, model: Path) -> LoadedModel:
        """The model, opened so."""
        from twofold.decoding.load import load

        return load(model, engine=self.engine, context_length=self.context, adapter=self.adapter)


PLAIN = Opening()
