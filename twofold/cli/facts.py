"""The facts of a model's card: what its files say of it, of its tokenizer and of its training, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from twofold.errors import FileError, UsageError
from twofold.files import read_json
from twofold.models.cost import (
    PRECISIONS,
    Shape,
    decode_flops,
    key_value_bytes,
    prefill_flops,
    weight_bytes,
    working_bytes,
)
from twofold.models.describe import Description, describe, describe_config, describe_folder
from twofold.models.hub import glance
from twofold.models.hub_files import parse_model
from twofold.report.quantities import flat, value_of

LONGEST = 100  # characters of a fact; what is longer is in the files
USUAL_CONTEXT = 4096  # tokens to reckon with, where the model can hold so many and nothing else is said
MOST_TEXTS = 1 << 20


@dataclass
class Facts:
    """What is known of a model; parts that the files do not tell are empty."""

    path: str
    kind: str
    shape: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, int] = field(default_factory=dict)  # by part, tied matrices counted once
    bytes: dict[str, int] = field(default_factory=dict)  # by precision, as stored ("in F16"), and "on disk"
    memory: dict[str, Any] = field(default_factory=dict)  # of a context and of texts at once, by precision
    operations: dict[str, Any] = field(default_factory=dict)  # FLOPs for a token
    speed: dict[str, Any] = field(default_factory=dict)  # tokens a second, foretold and measured
    tokenizer: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    plan: dict[str, Any] = field(default_factory=dict)  # of a training run, where one was asked for
    notes: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)  # what is damaged or missing


def description_of(model: Path) -> Description:
    """Describe what MODEL names: a file or folder, a size by name, or a model of the hub, of which only the description
    is fetched. Raises FileError where there is no model, or a damaged one."""
    from twofold.training.shapes import SHAPES

    if str(model) in SHAPES and not model.exists():
        return describe_config(SHAPES[str(model)], Path(model), "a size by name")
    if (address := parse_model(model)) is None:
        return describe(model)
    seen = glance(address)
    if seen.weight_bytes is None:
        return describe(seen.path)
    kind = "a model of the hub, its weights not fetched yet"
    found = describe_folder(seen.path, kind, {})
    if found.config is None:  # its tensors tell what its family does not
        found = describe_folder(seen.path, kind, glance(address, headers=True).entries)
    return replace(found, on_hub=seen.weight_bytes)


def facts_from(found: Description, context: int | None = None, batch: int = 1) -> Facts:
    """The facts of a model that follow from its files; costs for `context` tokens (a usual number, unless given) of
    `batch` texts at once. Raises UsageError for numbers that cannot be."""
    facts = Facts(str(found.path), found.kind, _shape_facts(found), found.parameters)
    facts.notes, facts.faults = list(found.notes), list(found.faults)
    if found.parameters:
        facts.bytes = {name: weight_bytes(found.parameters, recipe) for name, recipe in PRECISIONS.items()}
    facts.bytes |= {f"in {name}": count for name, count in found.stored.items()}
    facts.bytes |= {
        name: count for name, count in (("on disk", found.on_disk), ("on the hub", found.on_hub)) if count
    }
    if found.shape is not None:
        context = context_of(found.shape, context, batch)
        facts.memory = _memory(found.shape, found.parameters, context, batch)
        facts.operations = {
            "context": context,
            "prompt": prefill_flops(found.shape, context) / context,
            "next": decode_flops(found.shape, context),
        }
    facts.tokenizer = _tokenizer_facts(found, facts.notes)
    facts.training = _training_facts(found.path) if found.path.is_dir() else {}
    return facts


def context_of(shape: Shape, context: int | None, batch: int) -> int:
    """How many tokens to reckon with. Raises UsageError for more than the model holds."""
    if not 1 <= batch <= MOST_TEXTS:
        raise UsageError(f"--batch must be from 1 to {MOST_TEXTS:,}, and is {batch:,}.")
    if context is None:
        return min(USUAL_CONTEXT, shape.context)
    if not 1 <= context <= shape.context:
        raise UsageError(
            f"--context must be from 1 to the model's own {shape.context:,}, and is {context:,}."
        )
    return context


def _shape_facts(found: Description) -> dict[str, Any]:
    """The sizes in words; what was not found is left out."""
    sizes = found.sizes
    facts: dict[str, Any] = {"name": sizes.get("name"), "family": found.family}
    facts |= {"layers": sizes.get("layers"), "width": sizes.get("width")}
    for name, key in (("query heads", "heads"), ("key-value heads", "kv_heads")):
        count = sizes.get(key)
        facts[name] = f"{count} of {sizes['head_width']}" if count and "head_width" in sizes else count
    facts["feed-forward width"] = sizes.get("inner")
    if "experts" in sizes:
        facts["experts"] = (
            f"{sizes['experts']}, of which a token goes through {sizes.get('active_experts', '?')}"
        )
    facts |= {"context": f"{sizes['context']:,} tokens"} if "context" in sizes else {}
    if "window" in sizes:
        facts["sliding window"] = f"{sizes['window']:,} tokens in {sizes['sliding']} of the layers"
    facts |= {"vocabulary": f"{sizes['vocab_size']:,} tokens"} if "vocab_size" in sizes else {}
    if sizes.get("vocab_size"):
        facts["output matrix"] = "the embedding's" if sizes.get("tied") else "its own"
    facts["quantization"] = sizes.get("quantization")
    return {name: value for name, value in facts.items() if value is not None}


def _memory(shape: Shape, parameters: Mapping[str, int], context: int, batch: int) -> dict[str, Any]:
    """Bytes by precision, of weights, keys and values, and what a pass needs beside them."""
    rows = {}
    for name, recipe in PRECISIONS.items():
        number = 4 if recipe == "f32" else 2  # bytes for a number of keys, values and activations
        parts = {
            "weights": weight_bytes(parameters, recipe),
            "keys_values": key_value_bytes(shape, context, batch, number),
            "working": working_bytes(shape, context, batch, number),
        }
        rows[name] = parts | {"all": sum(parts.values())}
    return {"context": context, "batch": batch, "bytes": rows}


def _tokenizer_facts(found: Description, notes: list[str]) -> dict[str, Any]:
    if found.path.suffix == ".gguf" and found.path.is_file():
        return _gguf_tokenizer(found.path)
    if not found.path.is_dir() or not (found.path / "tokenizer.json").is_file():
        return {}
    from twofold.tokens.tokenizer import Tokenizer

    try:
        tokenizer = Tokenizer.load(found.path)
    except FileError as error:
        notes.append(f"Its tokenizer does not open here: {error}")
        return {}
    tokens = [tokenizer.token_bytes(token) for token in range(tokenizer.vocab_size)]
    longest = max(tokens, key=len, default=b"")
    return {
        "tokens": len(tokens),
        "of one byte": sum(len(token) == 1 for token in tokens),
        "begin with a space": sum(token.startswith(b" ") for token in tokens),
        "longest": f"{longest.decode('utf-8', 'replace')!r}, {len(longest)} bytes",
        "fingerprint": tokenizer.fingerprint[:16],
    }


def _gguf_tokenizer(path: Path) -> dict[str, Any]:
    from twofold.models.gguf import read_gguf

    metadata = read_gguf(path).metadata
    tokens = metadata.get("tokenizer.ggml.tokens")
    if not isinstance(tokens, list):
        return {}
    facts: dict[str, Any] = {"tokens": len(tokens)}
    for key, name in (("model", "kind"), ("pre", "pattern")):
        if f"tokenizer.ggml.{key}" in metadata:
            facts[name] = metadata[f"tokenizer.ggml.{key}"]
    return facts | {"chat template": "tokenizer.chat_template" in metadata}


def _training_facts(folder: Path) -> dict[str, Any]:
    """What `run.json` tells of the run: the result first, nested names joined by dots; what is long stays in the
    file."""
    path = folder / "run.json"
    if not path.is_file():
        return {}
    run = read_json(path)
    if not isinstance(run, Mapping):
        raise FileError(f"{path} should hold one JSON object. It may be damaged.")
    facts = {name: run[name] for name in ("name", "finished") if name in run}
    result = run.get("result")
    facts |= dict(flat(result)) if isinstance(result, Mapping) else {}
    for part in ("data", "environment"):
        if isinstance(run.get(part), Mapping):
            facts |= dict(flat(run[part], f"{part}."))
    return {
        name: value
        for name, value in facts.items()
        if len(value_of(name, value)) <= LONGEST and not name.startswith("data.sources.")
    }
