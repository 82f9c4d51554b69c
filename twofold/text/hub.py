"""Data sets of the Hugging Face hub: which files of a repository to read, fetched one at a time.

Only data files are read (Parquet, JSON lines, JSON, text); no script and no pickle of a repository is
ever run or opened. Offline (`HF_HUB_OFFLINE=1`, or no network) what is in the hub's cache is used.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from twofold.errors import FileError, UsageError
from twofold.hub import PREFIX, library, reason, refusal

_ADDRESS = re.compile(r"hf://(?:datasets/)?([\w.-]+/[\w.-]+?)((?:/[\w.@+=-]+)*)/?(?::([\w.-]+))?")
_DATA = re.compile(r".*\.(parquet|((jsonl|ndjson|json|txt)(\.gz|\.zst)?))", re.IGNORECASE)
_NOT_DATA = re.compile(
    r"(.*/)?(readme.*|license.*|dataset_infos?\.json|dataset_dict\.json|state\.json|requirements.*\.txt|\..*)",
    re.IGNORECASE,
)


class HubAddress(NamedTuple):
    """`hf://owner/name[/folder][:split]` in parts; "" where a part is not given."""

    repository: str
    folder: str
    split: str


def parse_address(address: str) -> HubAddress:
    """The parts of an `hf://` address; UsageError where it is none."""
    match = _ADDRESS.fullmatch(address)
    if match is None or ".." in address.split("/"):
        raise UsageError(
            f"{address} is no data set address. Write hf://owner/name, "
            "with /folder or :split behind it if wanted."
        )
    return HubAddress(match[1], match[2].strip("/"), match[3] or "")


def choose_files(names: list[str], address: HubAddress) -> list[str]:
    """The data files of a repository that an address means, sorted: those of its folder and its split;
    without a split those of "train", and all where no file is named so."""
    kept = [name for name in names if _DATA.fullmatch(name) and not _NOT_DATA.fullmatch(name)]
    kept = [name for name in kept if not any(part.startswith(".") for part in PurePosixPath(name).parts)]
    if address.folder:
        kept = [name for name in kept if name == address.folder or name.startswith(address.folder + "/")]
    if not kept:
        raise FileError(
            f"{_name(address)} holds no Parquet, JSON or text files that can be read. "
            "(Data sets made by a script are not run.)"
        )
    of_split = [name for name in kept if _is_of_split(name, address.split or "train")]
    if address.split and not of_split:
        raise FileError(
            f"{_name(address)} has no files of the split {address.split!r}; it has: {_some(kept)}."
        )
    return sorted(of_split or kept)


def hub_files(address: str) -> Iterator[tuple[str, Path]]:
    """Pairs (name to show, local path) of the files an address means; each is fetched when its turn comes.
    Raises FileError with what to do where the set or the network is not there."""
    hub = library(f"Reading {address}")
    parts = parse_address(address)
    try:
        names = hub.HfApi().list_repo_files(parts.repository, repo_type="dataset")
    except Exception as error:  # each release raises others for "offline": OSError, httpx, requests
        if told := refusal(error, "data set", parts.repository):
            raise told from error
        yield from _cached(parts, error)
        return
    for name in choose_files(names, parts):
        try:
            path = hub.hf_hub_download(parts.repository, name, repo_type="dataset")
        except Exception as error:
            told = refusal(error, "data set", parts.repository)
            raise told or FileError(f"Fetching {_name(parts)}/{name} failed: {reason(error)}.") from error
        yield f"{_name(parts)}/{name}", Path(path)


def _cached(parts: HubAddress, error: Exception) -> Iterator[tuple[str, Path]]:
    """The files in the hub's cache, where the hub cannot be asked."""
    import huggingface_hub as hub

    try:
        folder = Path(hub.snapshot_download(parts.repository, repo_type="dataset", local_files_only=True))
    except Exception:
        raise FileError(
            f"{_name(parts)} cannot be fetched: the hub cannot be reached ({reason(error)}), and the set is "
            "not in its cache. Try again with a network and without HF_HUB_OFFLINE, or name files instead."
        ) from error
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    for name in choose_files(names, parts):
        yield f"{_name(parts)}/{name}", folder / name


def _name(parts: HubAddress) -> str:
    return PREFIX + parts.repository


def _is_of_split(name: str, split: str) -> bool:
    return split.lower() in re.split(r"[/._-]", name.lower()) or name.lower().startswith(split.lower())


def _some(names: list[str]) -> str:
    return ", ".join(sorted(names)[:8]) + (", …" if len(names) > 8 else "")
