"""Models of the Hugging Face hub, fetched when they are first used.

The files (`hub_files.py` says which) lie in the hub's own cache, so that nothing is there twice, and a model that
other programs fetched is found. Where the hub cannot be reached, or is not to be (HF_HUB_OFFLINE), what the cache
holds whole is used.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from twofold.errors import FileError, UsageError
from twofold.files import explained
from twofold.hub import cache_folder, is_offline, is_unknown, library, reason, refusal
from twofold.models.hub_files import HubModel, choose_files, has_tokenizer, parse_model
from twofold.models.weight_files import (
    ADAPTER,
    INDEX,
    Entry,
    read_bounded_json,
    shard_names,
    weight_files,
)

_COMMIT = re.compile(r"[0-9a-f]{40}")
_SPARE = 64 << 20  # bytes to leave free on the disk


@dataclass(frozen=True)
class Listing:
    """A repository at one commit: the size of each file in bytes by its name, None where the hub does not say."""

    commit: str
    sizes: Mapping[str, int | None]


def local_path(model: str | os.PathLike) -> Path:
    """Where `model` lies here: its own path, or the fetched folder or .gguf where it is the id of a hub model.

    Raises FileError where the hub does not have it, or it cannot be fetched and the cache does not hold it."""
    found = parse_model(model)
    return Path(model) if found is None else fetch(found)


def fetch(model: HubModel) -> Path:
    """The folder of a model's files, or its .gguf file, after fetching what the hub's cache lacks of it."""
    repository = cached_repository(model)
    if model.revision and _COMMIT.fullmatch(model.revision):  # a commit never changes
        folder = repository / "snapshots" / model.revision
        if _lacks(folder, model) is None:
            return _opened(folder, model)
    try:
        listing = _ask(model)
    except Exception as error:  # each release raises others for "offline": OSError, httpx, requests
        return _cached(model, error)
    files = choose_files(listing.sizes, model)
    weights, small = [files.weights], [*files.description]
    if files.weights == INDEX:
        small.append(INDEX)
    if small:
        folder = _download(model, listing, small)
    if files.weights == INDEX:
        weights = shard_names(read_bounded_json(folder / INDEX), f"{model}: {INDEX}")
        if missing := [name for name in weights if name not in listing.sizes]:
            raise FileError(
                f"{model} is not whole on the hub: {INDEX} names {missing[0]}, which is not there."
            )
    _announce(model, listing, weights)
    folder = _download(model, listing, weights)
    if fault := _lacks(folder, model):
        raise FileError(f"{model} cannot be used: {fault}")
    return _opened(folder, model)


@dataclass(frozen=True)
class Glance:
    """What can be known of a model before its weights are here: the folder of what describes it, the bytes of its
    weights, and its tensors where they were asked for. Without `entries` and `weight_bytes` it is all here."""

    path: Path
    weight_bytes: int | None = None
    entries: dict[str, Entry] | None = None


def glance(model: HubModel, *, headers: bool = False) -> Glance:
    """Fetch only what describes a model, and nothing where the cache holds it whole; `headers`: read from the hub what
    tensors there are. Raises FileError for a GGUF, which describes itself, and so must be here."""
    try:
        listing = _ask(model)
    except Exception as error:
        return Glance(_cached(model, error))
    folder = cached_repository(model) / "snapshots" / listing.commit
    if _lacks(folder, model) is None:
        return Glance(_opened(folder, model))
    files = choose_files(listing.sizes, model)
    if files.weights.endswith(".gguf"):
        size = listing.sizes[files.weights]
        raise FileError(
            f"{files.weights} of {model} has {'unknown' if size is None else f'{size:,}'} bytes and is not here, and "
            f"only the file itself tells what is in it. Fetch it: twofold models get {model}"
        )
    index = [INDEX] if files.weights == INDEX else []
    folder = _download(model, listing, [*files.description, *index])
    names = shard_names(read_bounded_json(folder / INDEX), f"{model}: {INDEX}") if index else [files.weights]
    size = sum(listing.sizes.get(name) or 0 for name in names)
    return Glance(folder, size, _headers(model, listing, names) if headers else None)


def _headers(model: HubModel, listing: Listing, names: list[str]) -> dict[str, Entry]:
    """The tensors of safetensors files on the hub; only their headers are fetched."""
    api, found = _library(model).HfApi(), {}
    for name in names:
        try:
            header = api.parse_safetensors_file_metadata(model.repository, name, revision=listing.commit)
            found |= {key: Entry(tuple(each.shape), each.dtype) for key, each in header.tensors.items()}
        except Exception as error:
            raise refusal(error, "model", model.repository, model.revision) or FileError(
                f"The header of {name} of {model} cannot be read ({reason(error)})."
            ) from error
    return found


def cached_repository(model: HubModel) -> Path:
    """Where the hub's cache has, or would have, the repository."""
    _library(model)
    return cache_folder() / f"models--{model.repository.replace('/', '--')}"


def _ask(model: HubModel) -> Listing:
    """Raises whatever the library raises."""
    info = _library(model).HfApi().model_info(model.repository, revision=model.revision, files_metadata=True)
    if not isinstance(info.sha, str) or not _COMMIT.fullmatch(info.sha):
        raise ValueError("it names no commit of this repository")
    return Listing(info.sha, {file.rfilename: file.size for file in info.siblings or ()})


def _library(model: HubModel) -> ModuleType:
    try:
        return library("")
    except UsageError as error:
        raise FileError(
            f"There is no file or folder {model} here. If it is a model of the Hugging Face hub: huggingface_hub "
            "fetches it. Install that: pip install 'twofold[hub]'."
        ) from error


def _announce(model: HubModel, listing: Listing, names: list[str]) -> None:
    """Say how many bytes are about to be fetched. Raises FileError where the disk has no room for them."""
    repository = cached_repository(model)
    absent = [name for name in names if not (repository / "snapshots" / listing.commit / name).is_file()]
    if not absent:
        return
    needed = sum(listing.sizes[name] or 0 for name in absent)
    above = next(path for path in (repository, *repository.parents) if path.is_dir())
    free = shutil.disk_usage(above).free
    if needed + _SPARE > free:
        raise FileError(
            f"{model} does not fit on the disk: {needed:,} bytes are to be fetched, and {free:,} are free in {above}. "
            "Remove models (`twofold models`), or set HF_HOME to a folder on another disk."
        )
    count = "1 file" if len(absent) == 1 else f"{len(absent)} files"
    print(f"Fetching {model}: {needed:,} bytes in {count}, to {repository}.", file=sys.stderr, flush=True)


def _download(model: HubModel, listing: Listing, names: list[str]) -> Path:
    """Fetch files of a repository, those that the cache lacks; the folder they are in."""
    repository = cached_repository(model)
    folder = repository / "snapshots" / listing.commit
    if _revisions(repository, model.revision)[:1] != [folder] or not all(
        (folder / n).is_file() for n in names
    ):
        hub = _library(model)
        try:
            folder = Path(
                hub.snapshot_download(model.repository, revision=model.revision, allow_patterns=names)
            )
        except Exception as error:
            raise refusal(error, "model", model.repository, model.revision) or FileError(
                f"Fetching {model} failed: {reason(error)}. Run the same command again; it goes on where it was."
            ) from error
    for name in names:
        with explained(folder / name, "read"):
            length = (folder / name).stat().st_size
        if listing.sizes[name] not in (None, length):
            raise FileError(
                f"{folder / name} has {length:,} bytes, and {listing.sizes[name]:,} on the hub. Remove the model "
                f"(`twofold models remove {model.repository}`), and fetch it again."
            )
    return folder


def _cached(model: HubModel, error: Exception) -> Path:
    """The model as the cache has it, where the hub does not hand it out."""
    repository = cached_repository(model)
    told = refusal(error, "model", model.repository, model.revision)
    why = str(told) if told else f"The hub cannot be reached ({reason(error)})."
    faults = []
    for folder in _revisions(repository, model.revision):
        fault = _lacks(folder, model)
        if fault is None:
            if faults or not is_offline():
                print(f"{why} So {model} is used as it is here: {folder}.", file=sys.stderr, flush=True)
            return _opened(folder, model)
        faults.append(fault)
    have = (
        f"What {repository} has of it is not whole: {faults[0]}"
        if faults
        else f"It is not in {repository.parent}."
    )
    if told:
        here = f"There is no file or folder {model} here. " if is_unknown(error) else ""
        raise FileError(here + str(told)) from error
    raise FileError(
        f"{model} is no file or folder here, and it cannot be fetched. {why} {have} Where there is a network, and "
        f"without HF_HUB_OFFLINE, the same command fetches it; so does: {_by_hand(model)}"
    ) from error


def _by_hand(model: HubModel) -> str:
    """The command that fetches the model with the hub's own program."""
    revision = f" --revision {model.revision}" if model.revision else ""
    wanted = (
        f"'*{model.file}*'" if model.file else "'*.json' '*.txt' '*.jinja' '*.model' 'model*.safetensors'"
    )
    return f"hf download {model.repository}{revision} --include {wanted}"


def _revisions(repository: Path, revision: str | None) -> list[Path]:
    """The snapshots that a revision may mean, the likeliest first; without one also older ones, newest first."""
    found: list[Path] = []
    if revision and _COMMIT.fullmatch(revision):
        found = [repository / "snapshots" / revision]
    else:
        try:
            commit = (repository / "refs" / (revision or "main")).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            commit = ""
        if _COMMIT.fullmatch(commit):
            found = [repository / "snapshots" / commit]
    if revision is None:
        others = [path for path in (repository / "snapshots").glob("*") if _COMMIT.fullmatch(path.name)]
        found += sorted(set(others) - set(found), key=lambda path: -path.stat().st_mtime)
    return [path for path in found if path.is_dir()]


def _lacks(folder: Path, model: HubModel) -> str | None:
    """What a snapshot lacks of the model, as a sentence; None where it is whole."""
    if not folder.is_dir():
        return f"{folder} is not there."
    try:
        weights = choose_files(_names(folder), model).weights
        if weights == ADAPTER or weights.endswith(".gguf"):
            return None
        weight_files(folder)
    except FileError as error:
        return str(error)
    return None if has_tokenizer(_names(folder)) else f"{folder} has no tokenizer."


def _opened(folder: Path, model: HubModel) -> Path:
    """What of a whole snapshot is opened: the folder, or a .gguf in it."""
    weights = choose_files(_names(folder), model).weights
    return folder / weights if weights.endswith(".gguf") else folder


def _names(folder: Path) -> list[str]:
    """The files of a snapshot that are there; one whose bytes did not arrive is a link to nothing."""
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
