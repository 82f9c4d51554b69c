"""How well a model predicts a text, and how far it has moved from another with the same tokenizer.

Bits per byte tells what a change of weights (rounding them to four bits, say) costs on a text that both find
about as hard; the divergence KL(other || model) tells how much of what the other would have said is lost, token by
token, and sees a difference long before the text does. Each token is looked at once, with up to a context before
it, in windows as `LoadedModel.score` reads them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from twofold.decoding.session import LoadedModel
from twofold.errors import UsageError
from twofold.tokens.codec import whole

if TYPE_CHECKING:
    from twofold.tokens.tokenizer import Tokenizer


@dataclass(frozen=True)
class Evaluation:
    """Of one model on one text, and against another model if there was one.

    `divergence`: mean KL(other || model) in nats per token, `divergence_error` its standard error (of tokens as
    if they were drawn one by one), `agreement`: the share of tokens before which both would choose the same.
    """

    tokens: int
    bytes: int
    bits_per_byte: float
    other_bits_per_byte: float | None = None
    divergence: float | None = None
    divergence_error: float | None = None
    agreement: float | None = None


def evaluate(
    model: LoadedModel,
    text: str,
    *,
    against: LoadedModel | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Read `text` with a model, and beside it with another. `progress(done, all)` counts tokens.

    Two models read windows of the shorter context. Raises UsageError for an empty text, and for models whose
    tokenizers differ.
    """
    tokens = model.tokenizer.encode(text)
    size = len(whole(text).encode())
    if not size:
        raise UsageError("There is no text to evaluate by.")
    if against is not None and not _same_tokens(model.tokenizer, against.tokenizer, text, tokens):
        raise UsageError(
            f"{model.name} and {against.name} cut text into other tokens, so their predictions cannot be "
            f"compared token by token. Bits per byte can: evaluate each by itself."
        )
    if len(tokens) < 2 and not model.start(""):
        raise UsageError("The text is one token, and nothing stands before it to predict it by.")
    told = progress or (lambda done, total: None)
    if against is None:
        total, done = 0.0, 0
        for scores, following in model.scored(tokens):
            total += float(scores.double().log_softmax(-1).gather(1, following[:, None]).sum())
            done += len(following)
            told(done, len(tokens))
        return Evaluation(done, size, _bits(total, size))
    return _compare(model, against, tokens, size, told)


def _same_tokens(one: Tokenizer, other: Tokenizer, text: str, tokens: list[int]) -> bool:
    """Whether both mean the same by every number, and cut the text into `tokens`."""
    if one.fingerprint == other.fingerprint:
        return True
    count = min(one.vocab_size, other.vocab_size)  # a file may name rows that are no tokens
    if any(one.token_bytes(token) != other.token_bytes(token) for token in range(count)):
        return False
    return other.encode(text) == tokens and other.encode("", start=True) == one.encode("", start=True)


def _compare(
    model: LoadedModel,
    against: LoadedModel,
    tokens: list[int],
    size: int,
    told: Callable[[int, int], None],
) -> Evaluation:
    import torch

    context = min(model.model.context_length, against.model.context_length)
    both = zip(model.scored(tokens, context=context), against.scored(tokens, context=context), strict=True)
    ours = theirs = 0.0
    same, divergences = 0, []
    for (scores, following), (other_scores, _) in both:
        # matrices may be rounded up by rows that are no tokens: what both have is compared
        width = min(scores.shape[1], other_scores.shape[1])
        q = scores.double().log_softmax(-1)[:, :width]
        p = other_scores.to(q.device).double().log_softmax(-1)[:, :width]
        chosen = following[:, None]
        ours += float(q.gather(1, chosen).sum())
        theirs += float(p.gather(1, chosen).sum())
        same += int((q.argmax(-1) == p.argmax(-1)).sum())
        divergences.append((p.exp() * (p - q)).sum(-1).cpu())
        told(sum(map(len, divergences)), len(tokens))
    each = torch.cat(divergences)
    error = float(each.std()) / math.sqrt(len(each)) if len(each) > 1 else 0.0
    return Evaluation(
        len(each),
        size,
        _bits(ours, size),
        _bits(theirs, size),
        max(0.0, float(each.mean())),
        error,
        same / len(each),
    )


def _bits(log_probability: float, size: int) -> float:
    return -log_probability / math.log(2) / size


def stored_bytes(path: str | Path, adapter: str | Path | None = None) -> int:
    """Bytes of the file or files in which a model that opens keeps its weights; of an adapter, its own and those of the
    model that it belongs to. `adapter`: one beside it. Raises FileError."""
    from twofold.models.adapter_config import base_of, is_adapter
    from twofold.models.hub import local_path
    from twofold.models.load import find_folder
    from twofold.models.weight_files import ADAPTER, weight_files

    path = local_path(path)
    if path.is_dir() and is_adapter(path):
        files, more = [path / ADAPTER], stored_bytes(base_of(path))
    else:
        files, more = [path] if path.is_file() else weight_files(find_folder(path)), 0
    if adapter is not None:
        files = [*files, local_path(adapter) / ADAPTER]
    return more + sum(file.stat().st_size for file in files)
