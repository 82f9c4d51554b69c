"""Opening a model to talk with: what `twofold.load` is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from twofold.decoding.session import LoadedModel
from twofold.errors import UsageError

Engine = Literal["torch", "c"]


def load(path: str | os.PathLike, *, device: str | None = None, engine: Engine = "torch") -> LoadedModel:
    """Open a run folder, a Hugging Face folder, a `create` folder or a `.gguf`.

    device: "cpu", "cuda", …; default the GPU if there is one. engine "c" computes a `.gguf` (or that of a
    `create` folder) with run.c, weights as they are stored; it needs a C compiler. Raises FileError, saying
    what is amiss.
    """
    if engine == "c":
        return _load_c(Path(path))
    import torch

    from twofold.models.load import load_model
    from twofold.models.torch_model import TorchLanguageModel

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    transformer, tokenizer, info = load_model(os.fspath(path), device=device)
    return LoadedModel(
        TorchLanguageModel(transformer), tokenizer, info.stop_ids, info.chat, info.path.name or str(path)
    )


def _load_c(path: Path) -> LoadedModel:
    import torch

    from twofold.models.c_model import CLanguageModel
    from twofold.models.config import TransformerConfig
    from twofold.models.from_gguf import read_config, read_ends, read_tokenizer
    from twofold.models.gguf import read_gguf

    if path.is_dir():
        found = [f for f in (path / "model.gguf", path / "two-files" / "model.gguf") if f.is_file()]
        if not found:
            raise UsageError(
                f"{path} holds no model.gguf, which the C engine computes. Make one: twofold export {path} -o two-files"
            )
        path = found[0]
    file = read_gguf(path)
    tokenizer = read_tokenizer(file)
    stop_ids, chat = read_ends(file, tokenizer)
    config = TransformerConfig.from_hf(read_config(file), str(path))
    torch.set_num_threads(1)  # it only chooses now, and its waiting threads would take the cores from run.c's
    return LoadedModel(CLanguageModel(path, config), tokenizer, stop_ids, chat, path.name)
