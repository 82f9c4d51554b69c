"""How much each column of a matrix matters: the mean square of what it is multiplied with.

A weight's error counts with the square of its input, so scales are better sought with those squares as weights
(see `scale_search.py`). They are measured by running the model over a text, or read from llama.cpp's imatrix file,
which is a GGUF of two tensors a matrix: the sums of squares, and of how many tokens (`old_importance.py`: the form
before).
Source: llama.cpp (`tools/imatrix`).
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from twofold.errors import FileError, UsageError
from twofold.files import explained
from twofold.models.gguf import MAGIC, read_gguf
from twofold.models.gguf_names import to_file
from twofold.models.old_importance import read_old_importance
from twofold.models.quantize import TensorType

if TYPE_CHECKING:
    from twofold.models.transformer import Transformer
    from twofold.tokens.tokenizer import Tokenizer

_SUMS, _COUNTS = ".in_sum2", ".counts"
_ROW = 512  # tokens that are read at once; llama.cpp's chunks are as long


def read_importance(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """An imatrix, a GGUF or of the form before: mean squares, float32 [width], by llama.cpp's names of the tensors.

    Raises FileError.
    """
    with explained(path, "read"):
        if Path(path).is_file() and not _begins_as_gguf(path):
            return read_old_importance(Path(path))
    file = read_gguf(path)
    found = {}
    for name, tensor in file.tensors.items():
        if not name.endswith(_SUMS):
            continue
        matrix = name.removesuffix(_SUMS)
        counts = file.tensors.get(matrix + _COUNTS)
        single = math.prod(tensor.shape) == tensor.shape[-1]
        if counts is None or math.prod(counts.shape) != 1 or not single:
            raise FileError(f"{file.path}: {name!r} is not of one matrix, with one count beside it.")
        if tensor.type != TensorType.F32 or counts.type != TensorType.F32:
            raise FileError(f"{file.path}: {name!r} or its count is of a type other than F32.")
        sums, count = tensor.float32(), float(counts.float32().reshape(-1)[0])
        if not (np.isfinite(sums).all() and (sums >= 0).all() and (count == 0 or 1 <= count < 1e30)):
            raise FileError(f"{file.path}: {name!r} holds what is no sum of squares.")
        if count:  # else the matrix was never used
            found[matrix] = sums.reshape(-1) / np.float32(count)
    if not found:
        raise FileError(f"{file.path} is no imatrix: it holds no sums of squares (…{_SUMS}).")
    return found


def _begins_as_gguf(path: str | os.PathLike) -> bool:
    with open(path, "rb") as file:
        return file.read(len(MAGIC)) in (MAGIC, b"")


def rows_of_text(tokenizer: Tokenizer, text: str, context: int) -> list[list[int]]:
    """The tokens of a text in rows to measure by, none longer than `context`, each begun as all sequences are."""
    start, tokens = tokenizer.encode("", start=True), tokenizer.encode(text)
    room = max(1, min(_ROW, context) - len(start))
    return [[*start, *tokens[at : at + room]] for at in range(0, len(tokens), room)]


def measure_importance(
    model: Transformer, rows: Iterable[Sequence[int]], progress: Callable[[int], None] | None = None
) -> dict[str, np.ndarray]:
    """Mean squares of the inputs of each matrix over `rows` of tokens, float32 [width], by llama.cpp's names.

    progress: called with the number of tokens read so far. Raises UsageError for no tokens.
    """
    import torch
    from torch import nn

    sums: dict[str, torch.Tensor] = {}
    output = "model.embed_tokens.weight" if model.config.tie_word_embeddings else "lm_head.weight"
    count = 0

    def add(name: str, inputs: torch.Tensor) -> None:
        squares = inputs.detach().float().square().flatten(0, -2).sum(0, dtype=torch.float64).cpu()
        sums[name] = sums[name] + squares if name in sums else squares

    hooks = [
        module.register_forward_pre_hook(lambda _, inputs, name=f"{name}.weight": add(name, inputs[0]))
        for name, module in model.model.named_modules(prefix="model")
        if isinstance(module, nn.Linear)
    ]
    try:
        with torch.no_grad():
            for row in rows:
                tokens = torch.tensor([list(row)], device=model.output_weight.device)
                add(output, model.hidden(tokens))
                count += len(row)
                if progress is not None:
                    progress(count)
    finally:
        for hook in hooks:
            hook.remove()
    if not count:
        raise UsageError("There is no text to measure what matters by.")
    means = {name: (squares / count).float().numpy() for name, squares in sums.items()}
    # what is joined in the file has one input, so any of the parts says it
    return {held.name: means[held.parts[0]] for held in to_file(model.config, means)}
