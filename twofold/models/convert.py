"""From any model that opens to a `.gguf` of any type, or to a Hugging Face folder: `twofold convert`.

Weights go through one at a time on the way into a GGUF; from one GGUF to another, memory never holds the model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from twofold.errors import UsageError
from twofold.files import atomic_folder, explained
from twofold.models.from_gguf import Contents, open_gguf
from twofold.models.gguf import write_gguf
from twofold.models.gguf_names import to_file
from twofold.models.hub import local_path
from twofold.models.recipes import check_recipe
from twofold.models.to_gguf import Plan, plan

Progress = Callable[[int, int], None]  # weights written so far, and of how many
_FOLDER_TYPES = ("f32", "f16", "bf16")


@dataclass(frozen=True)
class Converted:
    """What was written. `types`: how many tensors of each; `fallbacks`: (tensor, type taken) where rows do not
    fit the recipe's own; `notes`: what llama.cpp will compute otherwise, in sentences."""

    path: Path
    parameters: int
    bytes: int  # of the .gguf, or of the folder's weights
    types: dict[str, int]
    fallbacks: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def bits_per_weight(self) -> float:
        """Of the file, with all that is in it."""
        return 8 * self.bytes / self.parameters


def load_contents(path: str | Path) -> Contents:
    """All of the model at `path` that a file of it holds; of a `.gguf`, weights stay there. Raises FileError."""
    path = local_path(path)
    with explained(path, "read"):
        is_gguf = path.is_file() and path.suffix == ".gguf"
    if is_gguf:
        return open_gguf(path)
    from twofold.models.load import load_model

    model, tokenizer, info = load_model(path)
    weights = {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}
    return Contents(model.config, weights, tokenizer, info.stop_ids, info.chat)


def convert(
    model: str | Path | Contents,
    output: str | Path,
    *,
    type: str | None = None,
    importance: Mapping[str, np.ndarray] | None = None,
    name: str | None = None,
    progress: Progress | None = None,
) -> Converted:
    """Write `model` (whatever `load_model` opens, or its contents) to `output`, which must not be there yet.

    An output that ends in .gguf is a GGUF by a recipe (`recipes.py`; default "q8_0"); any other is a Hugging Face
    folder of f32 (the default), f16 or bf16. `importance`: see `importance.py`. `name`: what other programs show
    (default: the model's own, else the file's). Raises UsageError for what cannot be, FileError for files.
    """
    output = Path(output)
    with explained(output, "write"):
        if output.exists():
            raise UsageError(f"{output} is there already. Remove it, or give another name.")
    if output.suffix != ".gguf":
        if isinstance(model, Contents) or importance is not None:
            raise UsageError("A Hugging Face folder is made from a model's path, without an importance.")
        return _to_folder(model, output, type or "f32")
    check_recipe(type or "q8_0")
    contents = model if isinstance(model, Contents) else load_contents(model)
    name = name or str(contents.about.get("general.name") or output.stem)
    if importance is not None:
        check_importance(contents, importance)
    planned = plan(contents, type or "q8_0", name=name, importance=importance)
    write_gguf(output, planned.metadata, _told(planned, progress))
    types: dict[str, int] = {}
    for tensor in planned.tensors:
        types[tensor.type.name] = types.get(tensor.type.name, 0) + 1
    return Converted(
        output,
        contents.config.count_parameters(),
        output.stat().st_size,
        types,
        tuple((tensor.name, tensor.type.name) for tensor in planned.tensors if tensor.type != tensor.wanted),
        tuple(planned.notes),
    )


def check_importance(contents: Contents, importance: Mapping[str, np.ndarray]) -> None:
    """Raise UsageError for an importance that is of another model."""
    widths = {
        held.name: held.shape(contents.shapes)[-1] for held in to_file(contents.config, contents.shapes)
    }
    for matrix, squares in importance.items():
        if matrix in widths and len(squares) != widths[matrix]:
            raise UsageError(
                f"The importance is of another model: {matrix} has {len(squares):,} columns there, and "
                f"{widths[matrix]:,} here."
            )
    if not importance.keys() & widths.keys():
        raise UsageError("The importance is of another model: it names none of this one's matrices.")


def _told(planned: Plan, progress: Progress | None) -> list:
    """The entries, each of which tells of itself once it is encoded."""
    if progress is None:
        return planned.entries()
    total = sum(math.prod(tensor.shape) for tensor in planned.tensors)
    done = 0

    def telling(encode: Callable[[], np.ndarray], size: int) -> Callable[[], np.ndarray]:
        def encoded() -> np.ndarray:
            nonlocal done
            data = encode()
            done += size
            progress(done, total)
            return data

        return encoded

    return [
        (name, kind, telling(encode, math.prod(shape)), shape)
        for name, kind, encode, shape in planned.entries()
    ]


def _to_folder(model: str | Path, output: Path, type: str) -> Converted:
    if type not in _FOLDER_TYPES:
        raise UsageError(
            f"A Hugging Face folder holds {', '.join(_FOLDER_TYPES)}; {type} is for an output that ends in .gguf."
        )
    import torch

    from twofold.models.folder import save_folder
    from twofold.models.load import load_model

    dtype = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}[type]
    transformer, tokenizer, info = load_model(model)
    transformer = transformer.to(dtype)
    if any(not weight.isfinite().all() for weight in transformer.state_dict().values()):
        raise UsageError(f"Some weights exceed {torch.finfo(dtype).max:g}, the largest {type}; take f32.")
    with atomic_folder(output) as folder:
        save_folder(folder, transformer, tokenizer, chat=info.chat)
    size = sum(path.stat().st_size for path in output.glob("*.safetensors"))
    kinds = {type.upper(): len(transformer.state_dict())}
    return Converted(output, transformer.config.count_parameters(), size, kinds)
