"""What an adapter's `adapter_config.json` says: no tensor is read, no torch loaded.

Whatever it asks that is not understood is refused by name. Source: PEFT (`peft/tuners/lora/config.py`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twofold.errors import FileError
from twofold.models.weight_files import ADAPTER_CONFIG as CONFIG
from twofold.models.weight_files import read_bounded_json

# What a config may ask for that changes what the tensors mean, with the values at which it does not.
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "bias": ("none",),
    "lora_bias": (False,),
    "layer_replication": (None, []),
    "alora_invocation_tokens": (None, []),
    "target_parameters": (None, []),
    "use_qalora": (False,),
    "use_bdlora": (None, False),
    "arrow_config": (None,),
    "kasa_config": (None,),
    "monteclora_config": (None,),
    # others change the base as well
    "init_lora_weights": (True, False, None, "gaussian", "orthogonal", "eva"),
}


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter and no model."""
    return (folder / CONFIG).is_file() and not (folder / "config.json").is_file()


def base_of(folder: Path) -> str:
    """Where the model is that the adapter in `folder` belongs to: a path that exists, or what the config says.

    Raises FileError where it says nothing.
    """
    name = read_config(folder).get("base_model_name_or_path")
    if not isinstance(name, str) or not name:
        raise FileError(
            f"{folder / CONFIG} does not say which model the adapter belongs to: write its path there, as "
            f"base_model_name_or_path, or open that model and give the adapter beside it: --adapter {folder}."
        )
    beside = folder / name
    return str(beside) if not Path(name).exists() and beside.exists() else name


def read_config(folder: Path) -> dict[str, Any]:
    """What `adapter_config.json` says, checked as far as it does not depend on the tensors."""
    path = folder / CONFIG
    values = read_bounded_json(path)
    if not isinstance(values, dict):
        raise FileError(f"{path} should hold one JSON object.")
    if values.get("peft_type") != "LORA":
        kind = str(values.get("peft_type"))[:40]
        raise FileError(
            f"{path}: an adapter of type {kind!r} is not supported; LORA is (with rsLoRA and DoRA)."
        )
    for name, neutral in _NEUTRAL.items():
        value = values.get(name, neutral[0])
        if not any(type(value) is type(good) and value == good for good in neutral):
            raise FileError(f"{path}: {name} = {str(value)[:60]!r} is not supported.")
    for name in ("rank_pattern", "alpha_pattern"):
        patterns = values.get(name) or {}
        if not isinstance(patterns, dict) or not all(
            re.fullmatch(r"\^?[\w.]{1,200}", key) for key in patterns
        ):
            raise FileError(f"{path}: {name} must give numbers for plain names of modules.")
    for name in ("use_rslora", "use_dora"):
        if not isinstance(values.get(name, False), bool):
            raise FileError(f"{path}: {name} must be true or false.")
    return values


def tokens_of(
    module: str, embedding: str, settings: Mapping[str, Any], path: Path, vocab_size: int
) -> tuple[int, ...]:
    """The tokens whose rows of a module are learned; `embedding`: what the family calls its embedding."""
    asked = settings.get("trainable_token_indices")
    asked = asked if isinstance(asked, dict) else {embedding: asked or []}
    ids = asked.get(module, asked.get("embed_tokens", []) if module == embedding else [])
    if not isinstance(ids, list) or not all(type(i) is int and 0 <= i < vocab_size for i in ids):
        raise FileError(
            f"{path.parent / CONFIG}: trainable_token_indices must be tokens of the vocabulary's {vocab_size:,}."
        )
    if len(set(ids)) != len(ids):
        raise FileError(f"{path.parent / CONFIG}: trainable_token_indices names a token twice.")
    return tuple(ids)


def scale_of(stem: str, rank: int, settings: Mapping[str, Any], path: Path) -> float:
    """s of a matrix: its alpha, over the rank or its root."""
    alpha = settings.get("lora_alpha", 8)
    for key, value in (settings.get("alpha_pattern") or {}).items():
        own = key.removeprefix("^")
        if stem == own or (not key.startswith("^") and stem.endswith(f".{own}")):
            alpha = value
            break
    if type(alpha) not in (int, float) or not abs(alpha) < 1e9:
        raise FileError(
            f"{path.parent / CONFIG}: the alpha of {stem} is {str(alpha)[:40]!r}, and must be a number."
        )
    return alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank)
