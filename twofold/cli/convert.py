"""`twofold convert`: a model from one kind of file to another, or to weights of fewer bits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from twofold.cli.terminal import counting, note, read_text
from twofold.models.recipes import Recipe

if TYPE_CHECKING:
    import numpy as np

_MOST_LISTED = 3


def convert(
    model: Path,
    /,
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"])],
    type: Recipe | None = None,
    imatrix: Path | None = None,
    calibrate: Path | None = None,
    name: str | None = None,
) -> None:
    """Turn a model into another kind of file, or into one of fewer bits a weight.

    An output that ends in .gguf becomes one: the kind of file that llama.cpp, LM Studio and Ollama open, with
    weights as --type says. Any other name becomes a Hugging Face folder, which transformers and vLLM open.

    MODEL is a run folder, a Hugging Face folder, what `twofold create` left, a .gguf, or a model of the hub.

    Fewer bits make the file smaller and answers worse: by next to nothing with q8_0 (8.5 bits), hardly with
    q6_k (6.6), a little with q4_k_m (about 5), more with q4_0 (4.5). `twofold eval --against` measures it.
    What matters most is kept best where the model is asked: --calibrate reads a text with it, and weighs
    each weight's error by what it was multiplied with.

    Parameters
    ----------
    output
        The .gguf or folder to write. It must not be there yet.
    type
        How weights are kept: q8_0 by default in a .gguf. A folder holds f32 (by default), f16 or bf16.
    imatrix
        An importance matrix from llama.cpp, a GGUF or of the form before, by which to choose scales.
    calibrate
        A text in UTF-8 to measure one by with the model itself. Some hundred kilobytes of what the model
        will be used for do.
    name
        The model's name, as other programs show it. By default its own, or the file's.
    """
    from twofold.errors import UsageError
    from twofold.models.convert import convert as write
    from twofold.models.importance import read_importance

    if imatrix is not None and calibrate is not None:
        raise UsageError("Give either --imatrix or --calibrate: both say what matters.")
    if (imatrix is not None or calibrate is not None) and output.suffix != ".gguf":
        raise UsageError("--imatrix and --calibrate are for an output that ends in .gguf.")
    if output.exists():  # before anything is measured
        raise UsageError(f"{output} is there already. Remove it, or give another name.")
    importance = None
    if imatrix is not None:
        importance = read_importance(imatrix)
    elif calibrate is not None:
        importance = _measured(model, calibrate)
    with counting("weights") as tell:
        done = write(model, output, type=type, importance=importance, name=name, progress=tell)
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(done.types.items()))
    print(
        f"{done.path}: {done.parameters:,} parameters in {done.bytes / 1e6:,.1f} MB, "
        f"{done.bits_per_weight:.2f} bits each ({kinds})"
    )
    if done.fallbacks:
        listed = ", ".join(f"{tensor} is {kind}" for tensor, kind in done.fallbacks[:_MOST_LISTED])
        more = len(done.fallbacks) - _MOST_LISTED
        print(
            f"Rows of {len(done.fallbacks)} tensors are not whole blocks of that type: {listed}"
            + (f", and {more} more." if more > 0 else ".")
        )
    for remark in done.notes:
        note(remark)


def _measured(model: Path, text: Path) -> dict[str, np.ndarray]:
    """How much each column matters, by a text."""
    from twofold.models.importance import measure_importance, rows_of_text
    from twofold.models.load import load_model

    content = read_text(str(text))
    transformer, tokenizer, _ = load_model(model)
    rows = rows_of_text(tokenizer, content, transformer.config.max_position_embeddings)
    total = sum(map(len, rows))
    with counting("tokens read") as tell:
        return measure_importance(transformer, rows, tell and (lambda done: tell(done, total)))
