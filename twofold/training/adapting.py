"""Training an adapter in the place of its model: what begins it, and what is left of it in the run folder."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from twofold.errors import UsageError
from twofold.models.adapter_files import save_adapter
from twofold.models.folder import save_folder, save_use
from twofold.models.lora import LoraSettings, attach, attached
from twofold.models.transformer import Transformer
from twofold.tokens.tokenizer import Tokenizer
from twofold.training.attention import within
from twofold.training.objectives import Batch
from twofold.training.parallel import Layout

if TYPE_CHECKING:
    from twofold.training.loop import Data
    from twofold.training.progress import Progress

_LOOK = 4  # rows of the first batch that are looked at


@dataclass(frozen=True)
class NewAdapter:
    """An adapter to be trained. `base`: where its model is, a path or the hub's name, as the adapter shall say it."""

    settings: LoraSettings
    base: str

    def attach(
        self,
        model: Transformer,
        layout: Layout,
        seed: int,
        tokenizer: Tokenizer,
        data: Data,
        progress: Progress,
    ) -> dict[str, Any]:
        """Freeze `model` and put the adapter beside it; what settings.json and run.json say of it. Special tokens of
        the data that the model never met have their rows learned too. Raises UsageError where that cannot be."""
        if layout.tensor > 1:
            raise UsageError("The matrices of a model with an adapter are not divided: leave --tensor out.")
        tokens = unlearned(model, tokenizer, data.batches.step(0))
        if tokens:
            names = ", ".join(tokenizer.pieces[token] for token in tokens[:4]) + ", …" * (len(tokens) > 4)
            progress.tell(f"the model never met {names}: their rows of the embedding are learned too")
        attach(model, self.settings, seed, tokens)
        return {"adapter": asdict(self.settings), "base": self.base, "tokens": list(tokens)}


@torch.no_grad()
def unlearned(model: Transformer, tokenizer: Tokenizer, batch: Batch) -> tuple[int, ...]:
    """The special tokens in `batch` where the model has never learned to write those that it should; else none.

    One that it met is far likelier in its place than chance would have it; one that it never met, far less.
    """
    batch = batch.each(lambda tensor: tensor[:_LOOK])
    special = [token for token in batch.inputs.unique().tolist() if not tokenizer.is_text(token)]
    known = torch.tensor(special, dtype=batch.targets.dtype)
    places = torch.isin(batch.targets, known)
    if not places.any():
        return ()
    attend = None if batch.parts is None else within(model.attend, batch.parts)
    device = model.model.embed_tokens.weight.device
    hidden = model.hidden(batch.inputs.to(device), attend=attend)[places.to(device)]
    nats = F.cross_entropy(model.logits(hidden).float(), batch.targets[places].to(device))
    return tuple(special) if nats > math.log(model.config.vocab_size) else ()


def learned(model: Transformer) -> dict[str, Tensor]:
    """What training changes of the model, by name: all of it, or the adapter beside it."""
    names = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    # of a model that is shared out, only the state dictionary holds each process's part at any time
    return {name: tensor.detach() for name, tensor in model.state_dict().items() if name in names}


def write_model(
    run: Path,
    model: Transformer,
    tokenizer: Tokenizer,
    weights: dict[str, Tensor],
    adapter: NewAdapter | None,
    *,
    chat: bool,
) -> None:
    """Leave in the run folder what was learned: the model, or the adapter alone. `weights`: those of `learned`, whole.

    Raises FileError when it cannot be written.
    """
    if adapter is None:
        save_folder(run, model, tokenizer, chat=chat, weights=weights)
    else:
        save_use(run, tokenizer, chat=chat)
        save_adapter(run, attached(model, weights), model, adapter.settings, adapter.base)
