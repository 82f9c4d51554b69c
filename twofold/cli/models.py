"""`twofold models`: which models are here, and getting and removing those of the hub."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from twofold.cli.inspect import inspect
from twofold.cli.show import section
from twofold.cli.terminal import harmless, json_line
from twofold.errors import FileError, UsageError
from twofold.models.hub_files import HubModel, parse_model
from twofold.models.inventory import Listed
from twofold.report.quantities import short, size

app = App(name="models")
app.command(inspect, name="show")

Folders = Annotated[list[Path] | None, Parameter(negative_iterable=())]
Json = Annotated[bool, Parameter("--json", negative="")]


@app.default
def models(folders: Folders = None, /, *, as_json: Json = False) -> None:
    """List the models that are here: in the hub's cache, and in folders.

    Tells of each its name, which is what other commands take as MODEL, its kind (hub, run, folder or GGUF), family,
    parameters, bytes on the disk, when its files were last read, and where it lies. Only descriptions are read.

    Parameters
    ----------
    folders
        Where to look, three folders deep; the current folder unless given.
    as_json
        Print one JSON object a model, for scripts.
    """
    from twofold.models.inventory import in_cache, in_folders

    found = [*in_cache(), *in_folders(folders or [Path()])]
    if as_json:
        for model in found:
            print(json_line(asdict(model) | {"path": str(model.path)}))
        return
    if not found:
        print(
            "There are no models here. `twofold create` makes one; `twofold models get owner/name` fetches one."
        )
        return
    head = ("", "kind", "family", "parameters", "on disk", "last used", "")
    section("Models", [head, *(_row(model) for model in found)])
    section("Not whole", [(model.name, model.fault) for model in found if model.fault])


@app.command
def get(model: str, /, *, as_json: Json = False) -> None:
    """Fetch a model from the Hugging Face hub, and print where it lies.

    MODEL is owner/name, or owner/name@revision; owner/name:file.gguf or owner/name:Q4_K_M names one GGUF of it. Only
    what a model is read from is fetched: its description, its tokenizer and its weights as safetensors or GGUF, never
    pickles or code. Other commands take the same names, and fetch what is not here yet.

    The files go into the hub's own cache (HF_HOME), where other programs find them too; HF_TOKEN or `hf auth login`
    opens models that ask who you are, HF_ENDPOINT names another hub. What was broken off is gone on with.

    Parameters
    ----------
    model
        The model's name on the hub.
    as_json
        Print name, path and bytes as JSON, for scripts.
    """
    from twofold.models.hub import local_path

    path = local_path(model)
    if not path.exists():
        raise FileError(
            f"{model} is neither a file or folder here nor the name of a model on the hub (owner/name)."
        )
    if as_json:
        files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        print(
            json_line({"name": model, "path": str(path), "bytes": sum(file.stat().st_size for file in files)})
        )
    else:
        print(path)


@app.command
def remove(model: str, /, *, yes: bool = False, as_json: Json = False) -> None:
    """Remove a model from the hub's cache.

    All of its revisions go, or the one that owner/name@revision names; files that other revisions use stay. What lies
    in your own folders is never touched.

    Parameters
    ----------
    model
        The model's name on the hub, as `twofold models` lists it.
    yes
        Do not ask.
    as_json
        Print what was removed as JSON, for scripts.
    """
    from twofold.models.inventory import removal

    address = _address(model)
    plan = removal(address)
    freed = plan.expected_freed_size
    if not yes:
        _ask(f"Remove {harmless(str(address))} from the hub's cache, {size(freed)}?")
    plan.execute()
    if as_json:
        print(json_line({"name": str(address), "bytes": freed}))
    else:
        print(f"Removed {address}: {size(freed)}.")


def _address(model: str) -> HubModel:
    address = parse_model(model)
    if address is not None:
        return address
    if Path(model).exists():
        hub = f", or name the hub's: hf://{model}" if parse_model(f"hf://{model}") else ""
        raise UsageError(
            f"{model} is a file or folder of yours, and only what the hub's cache holds is removed here. Remove it "
            f"yourself{hub}."
        )
    raise UsageError(
        f"{model} is no name of a model on the hub (owner/name). `twofold models` lists what is here."
    )


def _ask(question: str) -> None:
    """Go on only if a person says yes. Raises UsageError otherwise."""
    if not sys.stdin.isatty():
        raise UsageError(f"{question} Nobody is there to ask: add --yes.")
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UsageError("Nothing was removed.")


def _row(model: Listed) -> tuple[str, ...]:
    used = time.strftime("%Y-%m-%d", time.localtime(model.used)) if model.used else ""
    count = short(model.parameters) if model.parameters else ""
    path = "" if model.name == str(model.path) else str(model.path)
    return model.name, model.kind, model.family, count, size(model.bytes), used, path
