"""What a model is, from its files' descriptions alone: no weight is read, no tensor made.

Families that open here are described by their configuration, others by what their files say (`foreign.py`); what a
header announces is held against the bytes that are there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from twofold.errors import FileError, without_controls
from twofold.files import explained
from twofold.models.adapter_config import base_of, is_adapter, read_config
from twofold.models.config import TransformerConfig
from twofold.models.cost import Shape
from twofold.models.foreign import MOST_LAYERS, config_sizes, count_parts, gguf_sizes, shape_of
from twofold.models.weight_files import (
    ADAPTER,
    INDEX,
    WEIGHTS,
    Entry,
    pickles,
    read_bounded_json,
    read_header,
    weight_files,
)

STAGES = ("assistant", "base")  # of what `twofold create` leaves, the best to talk with first
CONFIG = "a shape without weights"


@dataclass(frozen=True)
class Description:
    """A model as its files describe it. `sizes` are facts by name; `parameters` by part, tied matrices once;
    `stored` bytes by type. `shape`: what costs depend on, where the files tell enough. `config`: of a model that
    opens here, else `notes` say why not. `faults`: what is damaged or missing."""

    path: Path
    kind: str
    family: str
    sizes: dict[str, Any]
    parameters: dict[str, int] = field(default_factory=dict)
    stored: dict[str, int] = field(default_factory=dict)
    on_disk: int = 0
    on_hub: int = 0  # bytes of weights that are not fetched yet
    shape: Shape | None = None
    config: TransformerConfig | None = None
    notes: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()


def describe(path: Path) -> Description:
    """Describe a model folder, what `create` left, a .gguf, or a config.json. Raises FileError where there is none."""
    with explained(path, "read"):
        path.stat()
        if path.is_dir() and is_adapter(path):
            return _describe_adapter(path)
        if path.is_dir():
            folder = find_folder(path)
            return describe_folder(
                folder, "a run folder" if (folder / "run.json").is_file() else "a Hugging Face folder"
            )
        if path.suffix == ".json":
            return _of_values(read_bounded_json(path), path, CONFIG, None)
        return _describe_gguf(path)


def describe_config(config: TransformerConfig, path: Path, kind: str) -> Description:
    """Describe a model that is not made yet; `path` is what it is called."""
    parameters = config.parameters_by_part()
    return Description(
        path, kind, config.model_type, _sizes(config), parameters, shape=Shape.of(config), config=config
    )


def find_folder(path: Path) -> Path:
    """The folder with a `config.json`: `path` itself, or the stage to use of a `create` folder."""
    for folder in (path, *(path / stage for stage in STAGES)):
        if (folder / "config.json").is_file():
            return folder
    if any((path / stage).is_dir() for stage in STAGES):
        raise FileError(
            f"{path} holds no finished model yet: neither assistant/ nor base/ has a config.json. "
            f"Run the command that makes it again; it goes on where it was."
        )
    below = sorted([*path.glob("*/config.json"), *path.glob("*.gguf"), *path.glob("*/*.gguf")])
    found = [str(p.parent if p.name == "config.json" else p) for p in below[:5]]
    also = f" There is one in {', and in '.join(found)}." if found else ""
    raise FileError(f"{path} holds no model: there is no config.json in it.{also}")


def _describe_adapter(folder: Path) -> Description:
    """Describe an adapter: its base as far as that is here, and in a note what it changes of it."""
    values, base, file = read_config(folder), base_of(folder), folder / ADAPTER
    with explained(file, "read"):
        size = file.stat().st_size
    learned = sum(math.prod(entry.shape) for entry in read_header(file).values())
    kind = "a DoRA" if values.get("use_dora") else "an rsLoRA" if values.get("use_rslora") else "a LoRA"
    changed = values.get("target_modules")
    changed = ", ".join(map(str, changed)) if isinstance(changed, list) else str(changed)
    note = (
        f"The adapter has {learned:,} parameters in {size:,} bytes: rank {str(values.get('r'))[:20]}, alpha "
        f"{str(values.get('lora_alpha'))[:20]}, beside {changed[:200]}."
    )
    kind, note = without_controls(f"{kind} adapter of {base[:200]}"), without_controls(note)
    if not Path(base).exists() or (Path(base).is_dir() and is_adapter(Path(base))):
        return Description(folder, kind, "its base's", {}, notes=(note,))
    try:
        found = describe(Path(base))
    except FileError as error:
        raise FileError(f"{folder} is an adapter of {base[:200]}, which does not open. {error}") from error
    return replace(found, path=folder, kind=kind, notes=(note, *found.notes))


def describe_folder(folder: Path, kind: str, entries: Mapping[str, Entry] | None = None) -> Description:
    """Describe a Hugging Face folder; `entries` are its tensors where its weights lie elsewhere."""
    values, faults, notes = read_bounded_json(folder / "config.json"), [], []
    on_disk = sum(file.stat().st_size for file in folder.glob("*.safetensors") if file.is_file())
    if entries is None and not any((folder / name).is_file() for name in (WEIGHTS, INDEX)):
        found = pickles(path.name for path in sorted(folder.iterdir()))
        notes.append(
            f"Its weights are pickled ({found[0]}), which is not opened." if found else "It has no weights."
        )
    elif entries is None:
        try:
            entries = {
                name: entry for file in weight_files(folder) for name, entry in read_header(file).items()
            }
        except FileError as error:
            faults.append(str(error))
    return _of_values(values, folder / "config.json", kind, entries, on_disk, notes, faults)


def _of_values(
    values: Any, path: Path, kind: str, entries: Mapping[str, Entry] | None, on_disk: int = 0,
    notes: Iterable[str] = (), faults: Iterable[str] = (),
) -> Description:  # fmt: skip
    """Describe what a config.json says, with its tensors where they are known."""
    if not isinstance(values, dict):
        raise FileError(f"{path} should hold one JSON object.")
    notes, faults = list(notes), list(faults)
    config = None
    try:
        config = TransformerConfig.from_hf(values, str(path))
    except FileError as error:
        notes.append(f"It does not open here: {error}")
    try:  # the same sizes, whatever the weights are kept in
        known = config or TransformerConfig.from_hf({**values, "quantization_config": None}, str(path))
    except FileError:
        known = None
    if known and known.num_hidden_layers > MOST_LAYERS:  # of which one by one is told what they are
        raise FileError(f"{path} describes {known.num_hidden_layers:,} layers, more than any model has.")
    sizes = _sizes(known) if known else config_sizes(values)
    quantization = values.get("quantization_config")
    if isinstance(quantization, dict):
        sizes["quantization"] = str(quantization.get("quant_method", "of some kind"))[:40]
    tied = sizes.get("tied", values.get("tie_word_embeddings") is True)
    parameters, stored = count_parts(entries or {}, tied)
    if entries and config:
        faults += _missing(config, parameters, str(path))
    if known:
        parameters = known.parameters_by_part()
    return Description(
        path if kind == CONFIG else path.parent, kind, str(values.get("model_type", "not said"))[:40], sizes,
        parameters, stored, on_disk, shape=Shape.of(known) if known else shape_of(sizes, parameters), config=config,
        notes=tuple(notes), faults=tuple(faults),
    )  # fmt: skip


def _missing(config: TransformerConfig, parameters: Mapping[str, int], where: str) -> list[str]:
    """A fault if a file's tensors are fewer than its configuration asks for."""
    expected, held = config.count_parameters(), sum(parameters.values())
    if held >= expected:
        return []
    return [
        f"{where} describes {expected:,} parameters, and the weights hold {held:,}: a part of them is missing, or the "
        "two are of different models."
    ]


def _describe_gguf(path: Path) -> Description:
    from twofold.models.gguf import read_gguf
    from twofold.models.gguf_config import read_config
    from twofold.models.quantize import TYPE_NAMES

    file = read_gguf(path)
    entries, stored = {}, {}
    for tensor in file.tensors.values():
        kind = TYPE_NAMES.get(tensor.type, str(tensor.type))
        entries[tensor.name] = Entry(tensor.shape, kind)
        stored[kind] = stored.get(kind, 0) + tensor.raw.nbytes
    parameters, _ = count_parts(entries, False)
    family = str(file.metadata.get("general.architecture", "not said"))[:40]
    try:
        config, notes = read_config(file), ()
    except FileError as error:
        config, notes = None, (f"It does not open here: {error}",)
    faults = _missing(config, parameters, str(path)) if config else ()
    if config:
        sizes, shape = _sizes(config), Shape.of(config)
    else:
        sizes = gguf_sizes(file.metadata, family, "output" in parameters)
        shape = shape_of(sizes, parameters)
    if isinstance(name := file.metadata.get("general.name"), str):
        sizes = {"name": name[:80], **sizes}
    return Description(
        path, f"a GGUF file, version {file.version}", family, sizes, parameters, stored, path.stat().st_size,
        shape=shape, config=config, notes=notes, faults=tuple(faults),
    )  # fmt: skip


def _sizes(config: TransformerConfig) -> dict[str, Any]:
    sizes: dict[str, Any] = {
        "layers": config.num_hidden_layers,
        "width": config.hidden_size,
        "heads": config.num_attention_heads,
        "kv_heads": config.num_key_value_heads,
        "head_width": config.head_dim,
        "inner": config.intermediate_size,
        "context": config.max_position_embeddings,
        "vocab_size": config.vocab_size,
        "tied": config.tie_word_embeddings,
    }
    sliding = sum(map(config.slides, range(config.num_hidden_layers)))
    return sizes | ({"window": config.sliding_window, "sliding": sliding} if sliding else {})
