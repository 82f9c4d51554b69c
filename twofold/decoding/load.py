"""Opening a model to talk with: what `twofold.load` is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

from twofold.decoding.session import LoadedModel
from twofold.errors import UsageError
from twofold.models.hub import local_path

Engine = Literal["torch", "c"]
Precision = Literal["float32", "bfloat16"]


def load(
    path: str | os.PathLike,
    *,
    device: str | None = None,
    engine: Engine = "torch",
    precision: Precision = "float32",
    context_length: int | None = None,
    adapter: str | os.PathLike | None = None,
    adapters: Mapping[str, str | os.PathLike] | None = None,
) -> LoadedModel:
    """Open a run folder, a Hugging Face folder, a `create` folder, a `.gguf`, an adapter beside its base, or a model of
    the hub by its id: `owner/name[@revision][:file.gguf]`, which is fetched when it is first used.

    device: "cpu", "cuda", …; default the GPU if there is one. engine "c" computes with run.c, which needs a C compiler:
    a `.gguf` (or that of a `create` folder), weights as they are stored, and the folders of qwen3 and qwen2.
    precision: of torch's weights, and of a folder's for run.c.
    context_length: how many tokens a sequence may have, at most as many as the model's positions allow, which is the
    default; a "longrope" model's is one original length, and for more all rows turn as its long ones do. adapter:
    the folder of an adapter to this model, or its id on the hub, which the model is changed by. adapters: the same
    of several, by names of yours: `model.adapters[name]` is the model as that one makes it, and all of them run in
    one engine. Adapters are for torch alone. Raises FileError and UsageError, saying what is amiss.
    """
    _check_one_of("engine", engine, get_args(Engine))
    _check_one_of("precision", precision, get_args(Precision))
    if adapter is not None:
        if adapters:
            raise UsageError("Give either adapter, one that is always used, or adapters, several by name.")
        adapters = {"": adapter}
    if engine == "c" and adapters:
        raise UsageError(
            "The C engine computes no adapters. Take engine torch, or make one model of base and adapter: "
            "twofold convert."
        )
    found = local_path(path)
    if engine == "c":
        model = _load_c(found, precision, context_length)
    else:
        model = _load_torch(found, device, precision, context_length, adapters or {})
    # the name of a folder in the hub's cache tells nothing
    model = model if found == Path(path) else replace(model, name=os.fspath(path))
    return model if adapter is None else model.adapters[""]


def _check_one_of(what: str, given: Any, known: tuple[str, ...]) -> None:
    if given not in known:
        raise UsageError(f"There is no {what} {given!r}. Choose one of: {', '.join(known)}.")


def _device(name: str | None) -> str:
    """The device of that name, by default the GPU if there is one."""
    import torch

    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        float(torch.zeros(1, device=name))  # "meta" has no numbers to give back
    except (RuntimeError, AssertionError, ImportError) as error:  # by what this torch was built for
        reason = str(error).splitlines()[0]
        raise UsageError(f"The device {name!r} cannot be used: {reason}") from None
    return name


def _load_torch(
    path: Path,
    device: str | None,
    precision: Precision,
    context_length: int | None,
    adapters: Mapping[str, str | os.PathLike],
) -> LoadedModel:
    import torch

    from twofold.models.adapter_files import read_adapter
    from twofold.models.load import adapter_use, load_model
    from twofold.models.torch_model import TorchLanguageModel

    device = _device(device)
    transformer, tokenizer, info = load_model(path, device=device, dtype=getattr(torch, precision))
    paths = {name: local_path(at) for name, at in adapters.items()}
    read = {name: read_adapter(at, transformer.config) for name, at in paths.items()}
    model = TorchLanguageModel(transformer, context_length=context_length, adapters=read)
    base = LoadedModel(model, tokenizer, info.stop_ids, info.chat, info.path.name or str(path))
    for name, at in paths.items():
        own, use = adapter_use(at, transformer.config, tokenizer, info)
        base.adapters[name] = LoadedModel(
            model, own, use.stop_ids, use.chat, at.name, adapter=name, base=base
        )
    return base


def _load_c(path: Path, precision: Precision, context_length: int | None) -> LoadedModel:
    import torch

    from twofold.models.c_model import CLanguageModel
    from twofold.models.from_gguf import read_ends, read_tokenizer
    from twofold.models.gguf import read_gguf
    from twofold.models.gguf_config import read_config
    from twofold.models.load import load_model

    if path.is_dir():
        found = [f for f in (path / "model.gguf", path / "two-files" / "model.gguf") if f.is_file()]
        path = found[0] if found else path
    if path.is_dir():
        transformer, tokenizer, info = load_model(path, dtype=getattr(torch, precision))
        stop_ids, chat, name = info.stop_ids, info.chat, info.path.name or str(path)
        model = CLanguageModel.live(transformer, context_length=context_length)
    else:
        file = read_gguf(path)
        tokenizer = read_tokenizer(file)
        (stop_ids, chat), name = read_ends(file, tokenizer), path.name
        model = CLanguageModel(path, read_config(file), context_length=context_length)
    torch.set_num_threads(1)  # it only chooses now, and its waiting threads would take the cores from run.c's
    return LoadedModel(model, tokenizer, stop_ids, chat, name)
