"""A model as a Hugging Face folder: written so that `transformers` opens it, read with every size checked.

The folder holds `config.json`, `model.safetensors`, the tokenizer's files and `generation_config.json`.
A folder from elsewhere is not trusted: its config is compared with the weights file before anything is
allocated, every tensor's name, shape and dtype with the config, and the vocabulary with the tokenizer.
Pickled weights are refused. Format: https://github.com/huggingface/safetensors (README, "Format").
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from twofold.errors import FileError
from twofold.files import atomic_write, explained, read_json, write_json
from twofold.models.config import TransformerConfig
from twofold.models.transformer import Transformer

if TYPE_CHECKING:
    from twofold.tokens.tokenizer import Tokenizer

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_TENSORS_PER_LAYER = 11  # 4 projections, 2 head norms, 2 norms, 3 feed-forward matrices
_FINGERPRINT = "twofold.tokenizer"  # in the weights' metadata: the tokenizer that they were trained with
_PADDING = 1024  # vocabularies are padded for speed, never by this much
_JSON_LIMIT = 16 << 20  # bytes; a config is about 1 kB, the index of a 1,000-shard model about 2 MB


@dataclass(frozen=True)
class ModelInfo:
    """What a model's files say about its use. `path`: the folder or file itself; `stop_ids` end an answer;
    `chat`: it was taught conversations."""

    path: Path
    stop_ids: tuple[int, ...]
    chat: bool


def save_folder(
    folder: str | Path,
    model: Transformer,
    tokenizer: Tokenizer,
    *,
    chat: bool,
    weights: dict[str, torch.Tensor] | None = None,
) -> None:
    """Write `model` and `tokenizer` into `folder` (made if need be), the weights last.

    `weights` stand for the model's own where it holds only a part of them.

    Each file appears whole or not at all; for a folder that does so as one, call this inside
    `twofold.files.atomic_folder`. `chat`: an answer ends with <|im_end|>; otherwise with <|endoftext|>.
    Raises FileError when the files cannot be written or the tokenizer does not fit the model.
    """
    folder = Path(folder)
    check_vocabulary(tokenizer.vocab_size, model.config.vocab_size, str(folder))
    end, turn = tokenizer.end_of_text, tokenizer.im_end
    weights = weights or model.state_dict()
    dtype = str(model.output_weight.dtype).removeprefix("torch.")
    special = {"bos_token_id": end, "eos_token_id": turn if chat else end, "pad_token_id": end}
    stops = [turn, end] if chat else end
    tokenizer.save(folder, chat=chat)
    write_json(folder / "config.json", {**model.config.to_hf(), **special, "torch_dtype": dtype})
    write_json(folder / "generation_config.json", {**special, "eos_token_id": stops, "do_sample": True})
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    data = save(tensors, metadata={"format": "pt", _FINGERPRINT: tokenizer.fingerprint})
    with atomic_write(folder / WEIGHTS, "wb") as file:
        file.write(data)


def load_folder(
    folder: str | Path, *, dtype: torch.dtype | None = torch.float32, device: str | torch.device = "cpu"
) -> tuple[Transformer, Tokenizer]:
    """Open a Hugging Face folder. `dtype` None keeps the file's own. The weights are copies, not maps.

    Raises FileError, naming the file and the fault, for anything missing, damaged or not supported.
    """
    from twofold.tokens.tokenizer import Tokenizer

    folder = Path(folder)
    config = load_config(folder)
    tokenizer = Tokenizer.load(folder)
    check_vocabulary(tokenizer.vocab_size, config.vocab_size, str(folder))
    weights = load_weights(folder, config, dtype=dtype, device=device)
    _check_fingerprint(folder, tokenizer)
    return weights, tokenizer


def load_config(folder: str | Path) -> TransformerConfig:
    """The folder's `config.json`, checked. Raises FileError."""
    folder = Path(folder)
    if not folder.is_dir():
        raise FileError(f"{folder} is not a folder with a model.")
    path = folder / "config.json"
    if not path.is_file():
        raise FileError(f"{folder} holds no model: there is no config.json in it.")
    return TransformerConfig.from_hf(_read_bounded_json(path), str(path))


def load_info(folder: str | Path, tokenizer: Tokenizer) -> ModelInfo:
    """Which tokens end an answer: `generation_config.json`, else `config.json`, else <|endoftext|>."""
    folder = Path(folder)
    stop_ids: list[int] = []
    for name in ("generation_config.json", "config.json"):
        if not stop_ids and (folder / name).is_file():
            values = _read_bounded_json(folder / name)
            found = values.get("eos_token_id") if isinstance(values, dict) else None
            for token in found if isinstance(found, list) else [found]:
                if token is None:
                    continue
                if type(token) is not int or not 0 <= token < 1 << 31:
                    raise FileError(f"{folder / name}: eos_token_id = {found!r} is not a token number.")
                stop_ids.append(token)
    if tokenizer.end_of_text not in stop_ids:
        stop_ids.append(tokenizer.end_of_text)
    return ModelInfo(folder, tuple(dict.fromkeys(stop_ids)), tokenizer.im_end in stop_ids)


def check_vocabulary(tokens: int, rows: int, where: str) -> None:
    """Raise FileError unless a tokenizer of `tokens` entries can belong to a model of `rows` of them."""
    if tokens > rows or rows - tokens >= _PADDING:
        raise FileError(
            f"{where}: the tokenizer does not fit the model: it has {tokens:,} tokens and the model "
            f"{rows:,}. Take the tokenizer that the model was trained with."
        )


def _check_fingerprint(folder: Path, tokenizer: Tokenizer) -> None:
    """Raise FileError for another tokenizer of the same size; weights saved elsewhere do not say."""
    if not (folder / WEIGHTS).is_file():
        return
    with safe_open(folder / WEIGHTS, "pt") as file:
        expected = (file.metadata() or {}).get(_FINGERPRINT, tokenizer.fingerprint)
    if expected != tokenizer.fingerprint:
        raise FileError(
            f"{folder}: the tokenizer is not the one that the model was trained with, though it has as many "
            f"tokens. Put the model's own tokenizer.json back."
        )


def load_weights(
    folder: str | Path,
    config: TransformerConfig,
    *,
    dtype: torch.dtype | None = torch.float32,
    device: str | torch.device = "cpu",
) -> Transformer:
    """The Transformer of `config` with the folder's weights, each tensor checked before it is read."""
    files = _weight_files(Path(folder))
    size = sum(path.stat().st_size for path in files)
    if 2 * config.count_parameters() > size:  # before anything of the claimed size is made
        raise FileError(
            f"{folder}: config.json describes {config.count_parameters():,} parameters, and the weights "
            f"have {size:,} bytes, too few for that. One of the two is damaged or from another model."
        )
    found: dict[str, tuple[Path, tuple[int, ...], str]] = {}
    for path in files:
        with _opened(path) as file:
            for name in file.keys():  # noqa: SIM118 - not a dict
                if name in found:
                    raise FileError(f"{path}: tensor {name!r} is also in {found[name][0].name}.")
                part = file.get_slice(name)
                found[name] = (path, tuple(part.get_shape()), part.get_dtype())
    model = empty_transformer(config, {name: shape for name, (_, shape, _) in found.items()}, str(folder))
    for name, (path, _, kind) in found.items():
        if kind not in _DTYPES:
            raise FileError(f"{path}: {name} is of type {kind}; {', '.join(_DTYPES)} can be read.")
    weights: dict[str, torch.Tensor] = {}
    for path in files:
        with _opened(path) as file:
            for name in file.keys():  # noqa: SIM118
                tensor = file.get_tensor(name)
                weights[name] = tensor.to(device=device, dtype=dtype or tensor.dtype, copy=True)
    output = weights.pop("lm_head.weight", None) if config.tie_word_embeddings else None
    if output is not None and not torch.equal(output, weights["model.embed_tokens.weight"]):
        raise FileError(
            f"{folder}: config.json says that embedding and output are one matrix "
            f"(tie_word_embeddings), and the weights hold two different ones."
        )
    check_finite(weights, str(folder))
    model.load_state_dict(weights, assign=True)
    return model.eval()


def check_finite(weights: dict[str, torch.Tensor], where: str) -> None:
    """Raise FileError for weights that are no numbers: attention can pass over them, and nobody would see."""
    for name, weight in weights.items():
        if not weight.isfinite().all():
            raise FileError(
                f"{where}: {name} holds NaN or infinity. The file is damaged, or its training diverged; take an "
                f"earlier copy."
            )


def empty_transformer(
    config: TransformerConfig, shapes: dict[str, tuple[int, ...]], where: str
) -> Transformer:
    """A Transformer without memory (on the meta device), if tensors of these names and shapes fill it.

    A tied output matrix may be there too, under its own name. Raises FileError, beginning with `where`.
    """
    needed = _TENSORS_PER_LAYER * config.num_hidden_layers + 2
    if len(shapes) < needed:  # before as many layers as the config claims are made
        raise FileError(
            f"{where}: the weights hold {len(shapes):,} tensors, and a model of "
            f"{config.num_hidden_layers:,} layers needs {needed:,}."
        )
    with torch.device("meta"):
        model = Transformer(config)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    if config.tie_word_embeddings and "lm_head.weight" in shapes:
        expected["lm_head.weight"] = expected["model.embed_tokens.weight"]
    for what, names in (
        ("lack", sorted(expected.keys() - shapes.keys())),
        ("hold, unexpectedly,", sorted(shapes.keys() - expected.keys())),
    ):
        if names:
            more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
            listed = ", ".join(ascii(name[:80]) for name in names[:3])
            raise FileError(f"{where}: the weights {what} {listed}{more}.")
    for name, shape in shapes.items():
        if shape != expected[name]:
            raise FileError(
                f"{where}: {name} has the shape {list(shape)}, and the config asks for "
                f"{list(expected[name])}."
            )
    return model


def _weight_files(folder: Path) -> list[Path]:
    """The safetensors file, or the shards that the index names (plain names inside the folder only)."""
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if (folder / INDEX).is_file():
        values = _read_bounded_json(folder / INDEX)
        weight_map = values.get("weight_map") if isinstance(values, dict) else None
        if not isinstance(weight_map, dict) or not weight_map:
            raise FileError(f"{folder / INDEX} has no weight_map.")
        names = list(dict.fromkeys(map(str, weight_map.values())))
        for name in names:
            if not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,200}\.safetensors", name, re.ASCII):
                raise FileError(f"{folder / INDEX}: {name[:80]!a} is not the name of a shard.")
            if not (folder / name).is_file():
                raise FileError(f"{folder}: {name} is missing, and {INDEX} names it.")
        return [folder / name for name in names]
    pickled = [
        p.name for p in sorted(folder.iterdir()) if p.suffix in (".bin", ".pt", ".pth", ".pkl", ".ckpt")
    ]
    if pickled:
        raise FileError(
            f"{folder}: {pickled[0]} holds pickled weights, and a pickle can run any program when it is "
            f"opened. Only .safetensors is read; ask for the model in that form."
        )
    raise FileError(f"{folder} has a config.json but no {WEIGHTS}.")


def _opened(path: Path) -> Any:
    """An open safetensors file; the library checks the header's size, offsets and overlaps."""
    with explained(path, "read"):
        try:
            return safe_open(path, framework="pt")
        except SafetensorError as error:
            raise FileError(
                f"{path} is not a whole safetensors file ({error}). It is damaged or cut short; "
                f"copy it again."
            ) from error


def _read_bounded_json(path: Path) -> Any:
    with explained(path, "read"):
        if path.stat().st_size > _JSON_LIMIT:
            raise FileError(f"{path} has {path.stat().st_size:,} bytes; such a file has a few thousand.")
    return read_json(path)
