"""An adapter as a folder in the format of PEFT, which opens what is written here, and whose folders open here.

`adapter_config.json` says how strong the changes are, `adapter_model.safetensors` holds A and B of each matrix under
the family's own names. Where a family's files join matrices of ours, so do its adapters: read, the rows of B are
divided; written, A are put below each other and B side by side, which is the same change with a larger rank.
A folder from elsewhere is not trusted: whatever the config asks that is not understood is refused by name, and every
tensor's name, shape and type is held against the model's.
Source: PEFT (`peft/tuners/lora/config.py`, `peft/utils/save_and_load.py`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save
from torch import Tensor

from twofold.errors import FileError
from twofold.files import atomic_write, write_json
from twofold.models.adapter_config import CONFIG, read_config, scale_of, tokens_of
from twofold.models.lora import Adapter, LoraSettings, LowRank, join
from twofold.models.tensor_names import Stored, plain_name, stored_tensors
from twofold.models.token_rows import EMBEDDING, OUTPUT, Rows
from twofold.models.weight_files import ADAPTER as WEIGHTS
from twofold.models.weight_files import opened

if TYPE_CHECKING:
    from twofold.models.config import TransformerConfig
    from twofold.models.transformer import Transformer

_BEFORE = "base_model.model."
_ROWS = "token_adapter.trainable_tokens_delta"
_KINDS = {
    "lora_A.weight": "a",
    "lora_B.weight": "b",
    "lora_magnitude_vector": "m",
    "lora_magnitude_vector.weight": "m",
    _ROWS: "rows",
}
_DTYPES = {"F32", "F16", "BF16"}


def read_adapter(folder: str | Path, config: TransformerConfig) -> Adapter:
    """The adapter in `folder`, for a model of `config`. Raises FileError, naming the file and the fault."""
    folder = Path(folder)
    if not (folder / CONFIG).is_file():
        raise FileError(f"{folder} holds no adapter: there is no {CONFIG} in it.")
    settings, path = read_config(folder), folder / WEIGHTS
    if not path.is_file():
        pickled = " Its .bin is a pickle, which can run any program and is not opened." * any(
            folder.glob("*.bin")
        )
        raise FileError(f"{folder} has an {CONFIG} but no {WEIGHTS}.{pickled}")
    shapes = _shapes(config)
    stored = {tensor.name.removesuffix(".weight"): tensor for tensor in stored_tensors(config, shapes)}
    parts, replaced = _tensors(path, config, stored, shapes)
    with_rows = {stem: parts.pop(stem) for stem in list(parts) if "rows" in parts[stem]}
    rows = _rows(with_rows, stored, config, settings, path)
    changes: dict[str, LowRank] = {}
    for stem, found in parts.items():
        changes.update(_changes(stem, found, stored[stem], shapes, settings, path))
    if not changes and not replaced and not rows:
        raise FileError(f"{path} changes nothing: there is no tensor in it.")
    base = settings.get("base_model_name_or_path")
    return Adapter(changes, replaced, base if isinstance(base, str) else None, rows)


def save_adapter(
    folder: str | Path, adapter: Adapter, model: Transformer, settings: LoraSettings, base: str | None
) -> None:
    """Write `adapter` into `folder`, the weights last; `base`: where its model is, a path or the hub's name.

    `settings` are those it was made with, and `model` the one it changes. Raises FileError when the files cannot be
    written.
    """
    folder, config = Path(folder), model.config
    tensors: dict[str, Tensor] = {}
    ranks: dict[str, int] = {}
    all_stored = stored_tensors(config, _shapes(config))
    for stored in all_stored:
        stems = [part.removesuffix(".weight") for part in stored.parts]
        if not any(stem in adapter.changes for stem in stems):
            continue
        whole = _joined([adapter.changes.get(stem) for stem in stems], stems, model)
        stem = stored.name.removesuffix(".weight")
        ranks[stem] = len(whole.a)
        tensors[f"{_BEFORE}{stem}.lora_A.weight"] = whole.a
        tensors[f"{_BEFORE}{stem}.lora_B.weight"] = whole.b
        if whole.magnitude is not None:
            tensors[f"{_BEFORE}{stem}.lora_magnitude_vector"] = whole.magnitude
    tokens: dict[str, list[int]] = {}
    for stored in all_stored:
        if rows := adapter.rows.get(stored.parts[0].removesuffix(".weight")):
            stem = stored.name.removesuffix(".weight")
            tokens[stem.rpartition(".")[2]] = list(rows.ids)
            tensors[f"{_BEFORE}{stem}.{_ROWS}"] = rows.values
    unchanged = [tensor.name.removesuffix(".weight") for tensor in all_stored]
    unchanged = [stem for stem in unchanged if stem not in ranks]
    named = {_target(stem, unchanged): rank for stem, rank in ranks.items()}
    others = {name: rank for name, rank in named.items() if rank != settings.rank}
    alpha = settings.scale * (math.sqrt(settings.rank) if settings.rslora else settings.rank)
    write_json(
        folder / CONFIG,
        {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": base,
            "inference_mode": True,
            "r": settings.rank,
            "lora_alpha": alpha,
            "lora_dropout": settings.dropout,
            "use_rslora": settings.rslora,
            "use_dora": settings.dora,
            "bias": "none",
            "fan_in_fan_out": bool(config.family.transposed),
            "target_modules": sorted(named),
            "trainable_token_indices": tokens or None,
            "rank_pattern": others,
            "alpha_pattern": {
                name: settings.scale * (math.sqrt(rank) if settings.rslora else rank)
                for name, rank in others.items()
            },
        },
    )
    data = save(
        {name: tensor.float().cpu().contiguous() for name, tensor in tensors.items()}, {"format": "pt"}
    )
    with atomic_write(folder / WEIGHTS, "wb") as file:
        file.write(data)


def _target(stem: str, unchanged: list[str]) -> str:
    """The shortest end of a module's name that none of the `unchanged` have."""
    words = stem.split(".")
    ends = (".".join(words[-count:]) for count in range(1, len(words)))
    return next(
        (end for end in ends if not any(f".{other}".endswith(f".{end}") for other in unchanged)), stem
    )


def _shapes(config: TransformerConfig) -> dict[str, tuple[int, ...]]:
    """The shapes of our tensors of such a model."""
    from twofold.models.transformer import Transformer

    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in Transformer(config).state_dict().items()}


def _tensors(
    path: Path, config: TransformerConfig, stored: Mapping[str, Stored], shapes: Mapping[str, tuple[int, ...]]
) -> tuple[dict[str, dict[str, Tensor]], dict[str, Tensor]]:
    """The file's tensors: A, B and m of each matrix by its stem, and those of ours that it replaces."""
    parts: dict[str, dict[str, Tensor]] = {}
    replaced: dict[str, Tensor] = {}
    with opened(path, "pt") as file:
        for name in file.keys():  # noqa: SIM118 - not a dict
            part = file.get_slice(name)
            if part.get_dtype() not in _DTYPES:
                raise FileError(
                    f"{path}: {name[:80]!a} is of type {part.get_dtype()}; {', '.join(_DTYPES)} open."
                )
            match = re.fullmatch(
                rf"base_model\.model\.(.{{1,200}}?)\.(lora_.{{1,40}}|weight|bias|{re.escape(_ROWS)})", name
            )
            stem = match and plain_name(config, f"{match[1]}.weight")
            stem = stem and stem.removesuffix(".weight")
            kind = match and _KINDS.get(match[2])
            if stem in stored and kind:
                if kind in parts.setdefault(stem, {}):
                    raise FileError(f"{path}: {name[:80]!a} is there twice.")
                parts[stem][kind] = file.get_tensor(name).float()
            elif stem and match[2] in ("weight", "bias") and "base_layer" not in match[1]:
                own = stored.get(stem if match[2] == "weight" else f"{stem}.{match[2]}")
                if own is None or tuple(part.get_shape()) != own.shape(shapes):
                    raise FileError(
                        f"{path}: {name[:80]!a} is none of this model's tensors, or of another shape."
                    )
                replaced.update(own.split(file.get_tensor(name).float(), shapes))
            elif not (
                match and match[1].endswith(".base_layer")
            ):  # a copy of the base's own, beside its change
                raise FileError(
                    f"{path}: {name[:80]!a} is no part of an adapter of a {config.model_type} model."
                )
    for name, tensor in (
        *((f"{s}.{k}", t) for s, p in parts.items() for k, t in p.items()),
        *replaced.items(),
    ):
        if not tensor.isfinite().all():
            raise FileError(f"{path}: {name} holds NaN or infinity; it is damaged, or its training diverged.")
    if config.tie_word_embeddings and "model.embed_tokens.weight" in replaced:
        raise FileError(
            f"{path} replaces the embedding alone, and in this model it is the output matrix as well."
        )
    return parts, replaced


def _rows(
    found: Mapping[str, Mapping[str, Tensor]],
    stored: Mapping[str, Stored],
    config: TransformerConfig,
    settings: Mapping[str, Any],
    path: Path,
) -> dict[str, Rows]:
    """The rows of tokens that the adapter learned, by our name of their matrix."""
    names = {one.parts[0].removesuffix(".weight"): stem for stem, one in stored.items()}
    last = names[EMBEDDING].rpartition(".")[2]
    rows = {}
    for ours in (EMBEDDING, OUTPUT):
        stem = names.get(ours)
        if stem is None:  # the output is the embedding
            continue
        ids = tokens_of(stem.rpartition(".")[2], last, settings, path, config.vocab_size)
        tensors = found.get(stem, {})
        values = tensors.get("rows")
        if not ids and values is None:
            continue
        if values is None or tensors.keys() != {"rows"} or values.shape != (len(ids), config.hidden_size):
            raise FileError(
                f"{path}: the rows of {stem} do not fit what trainable_token_indices says: {len(ids):,} tokens."
            )
        rows[ours] = Rows(ids, values)
    if strange := found.keys() - {names.get(EMBEDDING), names.get(OUTPUT)}:
        raise FileError(f"{path}: {min(strange)[:80]!a} has no rows of tokens.")
    return rows


def _changes(
    stem: str,
    found: Mapping[str, Tensor],
    stored: Stored,
    shapes: Mapping[str, tuple[int, ...]],
    settings: Mapping[str, Any],
    path: Path,
) -> dict[str, LowRank]:
    """The changes of our matrices that one of the family's is made of."""
    rows = [shapes[part][0] for part in stored.parts]
    inputs = shapes[stored.parts[0]][-1]
    a, b, m = (found.get(kind) for kind in "abm")
    if len(shapes[stored.parts[0]]) != 2 or stem.endswith(("embed_tokens", "wte", "wpe")):
        raise FileError(f"{path}: {stem} is no matrix of a layer, and cannot have a low-rank change here.")
    fits = a is not None and b is not None and a.ndim == b.ndim == 2 and len(a) == b.shape[1] > 0
    if not fits or a.shape[1] != inputs or len(b) != sum(rows):
        have = ", ".join(
            f"{kind} {list(t.shape)}" for kind, t in zip("ABm", (a, b, m), strict=True) if t is not None
        )
        raise FileError(
            f"{path}: the change of {stem} has {have}, and needs A [r, {inputs}] and B [{sum(rows)}, r]. It belongs to "
            f"another model."
        )
    if (m is not None) != settings.get("use_dora", False) or (m is not None and m.shape != (sum(rows),)):
        raise FileError(
            f"{path}: {stem} must have a lora_magnitude_vector [{sum(rows)}] if use_dora is set, else none."
        )
    scale = scale_of(stem, len(a), settings, path)
    magnitudes = [None] * len(rows) if m is None else m.split(rows)
    return {
        part.removesuffix(".weight"): LowRank(a, rows_of_b, scale, magnitude)
        for part, rows_of_b, magnitude in zip(stored.parts, b.split(rows), magnitudes, strict=True)
    }


def _joined(changes: list[LowRank | None], stems: list[str], model: Transformer) -> LowRank:
    """The changes of several matrices that lie below each other, None for none, as one of the whole."""
    some = next(change for change in changes if change is not None)
    matrices = [model.get_submodule(stem) for stem in stems]
    a, b = join(changes, [matrix.out_features for matrix in matrices])
    magnitude = None
    if some.magnitude is not None:
        magnitude = torch.cat(
            [
                matrix.weight.detach().float().norm(dim=1) if change is None else change.magnitude
                for change, matrix in zip(changes, matrices, strict=True)
            ]
        )
    return LowRank(a, b, some.scale, magnitude)
