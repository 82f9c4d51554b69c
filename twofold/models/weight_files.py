"""Which files of a Hugging Face folder hold its weights, and what their headers say; no weight is read here.

A folder from elsewhere is not trusted: shards are plain names inside the folder, a header's size, offsets and
overlaps are held against the bytes that are there, and pickled weights are refused.
Format: https://github.com/huggingface/safetensors (README, "Format").
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open

from twofold.errors import FileError
from twofold.files import explained, read_foreign_json

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
ADAPTER, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
_SHARD = re.compile(r"[A-Za-z0-9][\w.-]{0,200}\.safetensors", re.ASCII)
_LONGEST_NAME = 500  # characters of a tensor's name
_HEADER_LIMIT = 8 << 20  # bytes of a safetensors header; 10,000 tensors take 1 MB
_JSON_LIMIT = 16 << 20  # bytes; a config is about 1 kB, the index of a 1,000-shard model about 2 MB


class Entry(NamedTuple):
    """One tensor of a header. `dtype` is the file's name for it: "F32", "BF16", "I8", …"""

    shape: tuple[int, ...]
    dtype: str


def weight_files(folder: Path) -> list[Path]:
    """The safetensors file, or the shards that the index names. Raises FileError where one is missing."""
    with explained(folder, "read"):
        if (folder / WEIGHTS).is_file():
            return [folder / WEIGHTS]
        if (folder / INDEX).is_file():
            names = shard_names(read_bounded_json(folder / INDEX), str(folder / INDEX))
            for name in names:
                if not (folder / name).is_file():
                    raise FileError(f"{folder}: {name} is missing, and {INDEX} names it.")
            return [folder / name for name in names]
        pickled = pickles(path.name for path in sorted(folder.iterdir()))
    if pickled:
        raise FileError(
            f"{folder}: {pickled[0]} holds pickled weights, and a pickle can run any program when it is "
            f"opened. Only .safetensors is read; ask for the model in that form."
        )
    raise FileError(f"{folder} has a config.json but no {WEIGHTS}.")


def shard_names(index: Any, where: str) -> list[str]:
    """The files that an index's contents name, each once. Raises FileError for what is no plain name."""
    weight_map = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise FileError(f"{where} has no weight_map.")
    names = list(dict.fromkeys(map(str, weight_map.values())))
    for name in names:
        if not _SHARD.fullmatch(name):
            raise FileError(f"{where}: {name[:80]!a} is not the name of a shard.")
    return names


def pickles(names: Iterable[str]) -> list[str]:
    """Those of the names that are pickles by their endings."""
    return [name for name in names if name.lower().endswith(PICKLES)]


def read_header(path: Path) -> dict[str, Entry]:
    """The tensors of one safetensors file, by name. Raises FileError for a file that is not whole."""
    with opened(path, "np") as file:
        names = file.keys()
        if max(map(len, names), default=0) > _LONGEST_NAME:
            raise FileError(
                f"{path} is damaged: a tensor's name in it has more than {_LONGEST_NAME} characters."
            )
        parts = {name: file.get_slice(name) for name in names}
        return {name: Entry(tuple(part.get_shape()), part.get_dtype()) for name, part in parts.items()}


def opened(path: Path, framework: str) -> Any:
    """An open safetensors file ("pt" or "np"); the library checks the header's size, offsets and overlaps."""
    with explained(path, "read"):
        if path.exists() and not path.is_file():  # a pipe has no end
            raise FileError(f"{path} is not a file; a safetensors file was expected.")
        with open(path, "rb") as file:
            header = int.from_bytes(file.read(8), "little")
        if header > _HEADER_LIMIT:
            raise FileError(
                f"{path} is not a whole safetensors file: its header would have {header:,} bytes."
            )
        try:
            return safe_open(path, framework=framework)
        except SafetensorError as error:
            raise FileError(
                f"{path} is not a whole safetensors file ({str(error)[:300]}). It is damaged or cut short; "
                f"copy it again."
            ) from error
        except MemoryError:  # so the library says that it could not be mapped
            raise FileError(f"Cannot read {path}: there is not enough memory to map it.") from None


def read_bounded_json(path: Path) -> Any:
    """The contents of a JSON file that is as small as such files are. Raises FileError."""
    return read_foreign_json(path, _JSON_LIMIT)
