"""Which models are here: in the hub's cache, and in folders. Only descriptions are read, and only so many."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from twofold.errors import FileError, UsageError
from twofold.files import explained
from twofold.hub import cache_folder, library
from twofold.models.describe import describe
from twofold.models.hub_files import HubModel, choose_files, gguf_files

DEPTH = 3  # folders within folders: demo/two-files/model.gguf
MOST_FOLDERS = 20_000


@dataclass(frozen=True)
class Listed:
    """One model. `name`: what to give as MODEL; `kind`: hub, run, folder or GGUF; `used`: seconds since 1970, as far as
    the file system tells; `fault`: why it cannot be used."""

    name: str
    kind: str
    path: Path
    bytes: int
    used: float
    family: str = ""
    parameters: int | None = None
    fault: str = ""


def in_folders(folders: Iterable[Path]) -> Iterator[Listed]:
    """The models in these folders and those within them, links not followed. Raises FileError for what is none."""
    for folder in folders:
        with explained(folder, "read"):
            if not folder.is_dir():
                raise FileError(f"{folder} is not a folder to look for models in.")
        seen = 0
        for place, below, files in os.walk(folder):
            path, seen = Path(place), seen + 1
            deep = len(path.relative_to(folder).parts) >= DEPTH or seen > MOST_FOLDERS
            below[:] = [] if deep else sorted(name for name in below if not name.startswith("."))
            # no pipe, no link to nothing
            files = sorted(name for name in files if os.path.isfile(path / name))
            if "config.json" in files and any(name.endswith(".safetensors") for name in files):
                kind = "run" if "run.json" in files else "folder"
                yield _listed(str(path), kind, path, [path / name for name in files])
            for name in files:
                if name.endswith(".gguf"):
                    yield _listed(str(path / name), "GGUF", path / name, [path / name])


def in_cache() -> Iterator[Listed]:
    """The models in the hub's cache, the newest revision of each first. Nothing without huggingface_hub."""
    try:
        info = _scan()
    except UsageError:
        return
    for repository in sorted(info.repos if info else (), key=lambda found: found.repo_id):
        if repository.repo_type != "model":
            continue
        revisions = sorted(
            repository.revisions, key=lambda found: ("main" not in found.refs, -found.last_modified)
        )
        for place, revision in enumerate(revisions):
            model = HubModel(repository.repo_id, revision.commit_hash if place else None)
            yield from _in_snapshot(model, revision)


def removal(model: HubModel) -> Any:
    """How the hub's library would remove a model from its cache, all of its revisions or the one named:
    `.expected_freed_size` bytes, and `.execute()` does it. Raises FileError where the cache does not hold it."""
    if model.file:
        raise UsageError(
            f"In the hub's cache whole revisions are removed, not {model.file} alone: give {model.repository}."
        )
    info = _scan()
    repositories = [
        found
        for found in (info.repos if info else ())
        if found.repo_type == "model" and found.repo_id == model.repository
    ]
    hashes = [
        revision.commit_hash
        for found in repositories
        for revision in found.revisions
        if model.revision is None or model.revision == revision.commit_hash or model.revision in revision.refs
    ]
    if not hashes:
        raise FileError(f"{model} is not in {cache_folder()}. `twofold models` lists what is.")
    return replace(info, repos=frozenset(repositories)).delete_revisions(*hashes)


def _scan() -> Any:
    """What the hub's library says of its cache; None where there is no cache yet."""
    hub = library("The cache of the hub")
    return hub.scan_cache_dir(cache_folder()) if cache_folder().is_dir() else None


def _in_snapshot(model: HubModel, revision: Any) -> Iterator[Listed]:
    """The safetensors and each GGUF of one revision."""
    files = {path.relative_to(revision.snapshot_path).as_posix(): path for path in _files(revision)}
    for name in gguf_files(files):
        yield _listed(str(replace(model, file=name)), "hub", files[name], [files[name]])
    if not any(name.endswith(".gguf") for name in files) or "config.json" in files:
        try:
            choose_files([name for name in files if not name.endswith(".gguf")], model)
            yield _listed(str(model), "hub", revision.snapshot_path, files.values())
        except FileError as error:
            fault = "only its description is here" if "config.json" in files else str(error)
            yield replace(
                _listed(str(model), "hub", revision.snapshot_path, files.values(), look=False), fault=fault
            )


def _files(revision: Any) -> list[Path]:
    return [file.file_path for file in revision.files if file.file_path.is_file()]


def _listed(name: str, kind: str, path: Path, files: Iterable[Path], look: bool = True) -> Listed:
    stats = [file.stat() for file in files]
    bytes_, used = sum(each.st_size for each in stats), max((each.st_atime for each in stats), default=0.0)
    found = Listed(name, kind, path, bytes_, used)
    if not look:
        return found
    try:
        seen = describe(path)
    except FileError as error:
        return replace(found, fault=str(error))
    parameters = sum(seen.parameters.values()) or None
    return replace(found, family=seen.family, parameters=parameters, fault=" ".join(seen.faults))
