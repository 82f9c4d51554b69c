"""A model as a Hugging Face folder: written so that `transformers` opens it, read with every size checked.

The folder holds `config.json`, `model.safetensors`, the tokenizer's files and `generation_config.json`.
A folder from elsewhere is not trusted: its config is compared with the weights file before anything is
allocated, every tensor's name, shape and dtype with the config, and the vocabulary with the tokenizer.
Pickled weights are refused. Format: https://github.com/huggingface/safetensors (README, "Format").
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import safe_open
from safetensors.torch import save

from twofold.errors import FileError
from twofold.files import atomic_write, explained, write_json
from twofold.models.config import TransformerConfig
from twofold.models.tensor_names import OUTPUT, Stored, one_to_one, plain_name, stored_tensors
from twofold.models.transformer import Transformer
from twofold.models.weight_files import WEIGHTS, opened, read_bounded_json, read_header, weight_files

if TYPE_CHECKING:
    from twofold.tokens.tokenizer import Tokenizer

_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_FINGERPRINT = "twofold.tokenizer"  # in the weights' metadata: the tokenizer that they were trained with
_MOST_LAYERS = 1024  # the deepest models have some hundred
_PADDING = 1024  # vocabularies are padded for speed, never by this much


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
    weights = weights or model.state_dict()
    dtype = str(model.output_weight.dtype).removeprefix("torch.")
    special = save_use(folder, tokenizer, chat=chat)
    write_json(folder / "config.json", {**model.config.to_hf(), **special, "torch_dtype": dtype})
    weights = {name: tensor.detach().cpu() for name, tensor in weights.items()}
    stored = stored_tensors(model.config, weights)
    tensors = {tensor.name: tensor.join(weights).contiguous() for tensor in stored}
    # a tokenizer out of another kind of file is another one, with the same ids, once it is a tokenizer.json
    kept = tokenizer if tokenizer.is_own else type(tokenizer).load(folder)
    data = save(tensors, metadata={"format": "pt", _FINGERPRINT: kept.fingerprint})
    with atomic_write(folder / WEIGHTS, "wb") as file:
        file.write(data)


def save_use(folder: Path, tokenizer: Tokenizer, *, chat: bool) -> dict[str, int | None]:
    """Write how a model is used, the tokenizer and `generation_config.json`; the special tokens by their names."""
    end, stops = tokenizer.end_of_text, tokenizer.ends(chat=chat)
    bos, eos = next(iter(tokenizer.start_ids), end), next(iter(stops), None)
    special = {"bos_token_id": bos, "eos_token_id": eos, "pad_token_id": end}
    tokenizer.save(folder, chat=chat)
    ends = {"eos_token_id": list(stops) if len(stops) > 1 else eos}
    write_json(folder / "generation_config.json", {**special, **ends, "do_sample": True})
    return special


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
    path = folder / "config.json"
    with explained(path, "read"):
        if not folder.is_dir():
            raise FileError(f"{folder} is not a folder with a model.")
        if not path.is_file():
            raise FileError(f"{folder} holds no model: there is no config.json in it.")
    return TransformerConfig.from_hf(read_bounded_json(path), str(path))


def load_info(folder: str | Path, tokenizer: Tokenizer) -> ModelInfo:
    """Which tokens end an answer: those of `generation_config.json`, else of `config.json`, else what the
    tokenizer says; and the end of a text."""
    folder = Path(folder)
    stop_ids: list[int] = []
    for name in ("generation_config.json", "config.json"):
        with explained(folder / name, "read"):
            is_there = (folder / name).is_file()
        if is_there and not stop_ids:
            values = read_bounded_json(folder / name)
            found = values.get("eos_token_id") if isinstance(values, dict) else None
            for token in found if isinstance(found, list) else [found]:
                if token is None:
                    continue
                if type(token) is not int or not 0 <= token < 1 << 31:
                    raise FileError(
                        f"{folder / name}: eos_token_id = {str(found)[:80]!r} is not a token number."
                    )
                stop_ids.append(token)
    stop_ids += tokenizer.stop_ids[:1] if stop_ids else tokenizer.stop_ids
    return ModelInfo(folder, tuple(dict.fromkeys(stop_ids)), tokenizer.taught_chat(stop_ids))


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
    files = weight_files(Path(folder))
    size = sum(path.stat().st_size for path in files)
    if 2 * config.count_parameters() > size:  # before anything of the claimed size is made
        raise FileError(
            f"{folder}: config.json describes {config.count_parameters():,} parameters, and the weights "
            f"have {size:,} bytes, too few for that. One of the two is damaged or from another model."
        )
    found: dict[str, tuple[Path, str, tuple[int, ...]]] = {}
    for path in files:
        for name, entry in read_header(path).items():
            plain = plain_name(config, name)
            if plain is None:
                continue
            if plain in found:
                raise FileError(f"{path}: tensor {name!r} is also in {found[plain][0].name}.")
            if entry.dtype not in _DTYPES:
                raise FileError(f"{path}: {name} is of type {entry.dtype}; {', '.join(_DTYPES)} can be read.")
            found[plain] = (path, name, entry.shape)
    shapes = {plain: shape for plain, (_, _, shape) in found.items()}
    model = empty_transformer(config, shapes, str(folder), stored_tensors)
    ours = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    kept = {stored.name: stored for stored in stored_tensors(config, ours)}
    weights: dict[str, torch.Tensor] = {}
    for path in files:
        with opened(path, "pt") as file:
            for plain in (plain for plain in found if found[plain][0] == path):
                whole = file.get_tensor(found[plain][1])
                parts = kept[plain].split(whole, ours) if plain in kept else {plain: whole}
                for name, part in parts.items():
                    weights[name] = part.to(
                        device=device,
                        dtype=dtype or part.dtype,
                        copy=True,
                        memory_format=torch.contiguous_format,
                    )
    output = weights.pop(OUTPUT, None) if config.tie_word_embeddings else None
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
    config: TransformerConfig,
    shapes: dict[str, tuple[int, ...]],
    where: str,
    names: Callable[[TransformerConfig, Iterable[str]], list[Stored]] = one_to_one,
) -> Transformer:
    """A Transformer without memory (on the meta device), if tensors of these names and shapes fill it.

    `names`: how they hold its own, in the way of `tensor_names`. A tied output matrix may be there too, under its
    own name. Raises FileError, beginning with `where`.
    """
    with torch.device("meta"):
        first = names(config, Transformer(config.first_layer()).state_dict())
    in_layer = sum(stored.parts[0].startswith("model.layers.") for stored in first)
    others = sum(stored.name != OUTPUT for stored in first) - in_layer
    needed = in_layer * config.num_hidden_layers + others
    if len(shapes) < needed:  # before as many layers as the config claims are made
        raise FileError(
            f"{where}: the weights hold {len(shapes):,} tensors, and a model of "
            f"{config.num_hidden_layers:,} layers needs {needed:,}."
        )
    if config.num_hidden_layers > _MOST_LAYERS:  # each takes time to make
        raise FileError(
            f"{where} describes {config.num_hidden_layers:,} layers; models of at most {_MOST_LAYERS:,} open."
        )
    with torch.device("meta"):
        model = Transformer(config)
    ours = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    expected = {stored.name: stored.shape(ours) for stored in names(config, ours)}
    if config.tie_word_embeddings and OUTPUT in shapes:
        expected[OUTPUT] = ours["model.embed_tokens.weight"]
    for what, missing in (
        ("lack", sorted(expected.keys() - shapes.keys())),
        ("hold, unexpectedly,", sorted(shapes.keys() - expected.keys())),
    ):
        if missing:
            more = f" and {len(missing) - 3:,} more" if len(missing) > 3 else ""
            listed = ", ".join(ascii(name[:80]) for name in missing[:3])
            raise FileError(f"{where}: the weights {what} {listed}{more}.")
    for name, shape in shapes.items():
        if shape != expected[name]:
            raise FileError(
                f"{where}: {name} has the shape {list(shape)}, and the config asks for "
                f"{list(expected[name])}."
            )
    return model
