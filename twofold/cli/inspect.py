"""`twofold inspect`: what a model is, read from its files without loading the weights, and what it would take
to train it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from twofold.cli.show import printable, section, strong
from twofold.errors import FileError, UsageError
from twofold.files import explained, read_json
from twofold.report.quantities import flat, percent, short, size, value_of, whole

if TYPE_CHECKING:
    from twofold.models.config import TransformerConfig

LONGEST = 100  # characters of a fact; what is longer is in the files
STAGES = ("assistant", "base")  # in what `twofold create` leaves: the one to talk with first

PARTS = ("embedding", "attention", "feed_forward", "norms", "output", "other")


@dataclass
class Facts:
    """What is known of a model; parts that the files do not tell are empty."""

    path: str
    kind: str
    shape: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, int] = field(default_factory=dict)  # by part, tied matrices counted once
    bytes: dict[str, int] = field(default_factory=dict)  # by precision, and "on disk"
    tokenizer: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    plan: dict[str, Any] = field(default_factory=dict)  # of a training run, where one was asked for


def inspect(
    model: Path,
    /,
    *,
    devices: int | None = None,
    device: Literal["a100", "h100", "h200"] = "h100",
    tokens: str | None = None,
    text_bytes: str | None = None,
    row_tokens: int | None = None,
    micro_rows: int = 1,
    recompute: Literal["auto", "yes", "no"] = "auto",
    utilisation: float = 0.4,
    price: float | None = None,
    as_json: Annotated[bool, Parameter("--json", negative="")] = False,
) -> None:
    """Show what a model is: its shape, its size, its tokenizer, and how it was trained.

    MODEL is a run folder, what `twofold create` left, a Hugging Face folder or a .gguf file; a config.json or
    the name of a size (nano, micro, mini, small, medium, large, 1b, 70b) tells of a model that is not made yet.
    Nothing is loaded but the descriptions, so a large model answers as fast as a small one.

    With --devices, also plan its training on that many GPUs, on paper: memory, arithmetic, days and cost,
    computed from the shape and from what you assume.

    Parameters
    ----------
    model
        The model.
    devices
        Plan a training run on so many GPUs.
    device
        Their kind, with 80 GB (a100, h100) or 141 GB (h200) each.
    tokens
        How many tokens to train on, such as 300M or 1.5T; 20 for each parameter unless given.
    text_bytes
        How much text, instead, such as 10T; a token is taken to be 4.2 bytes.
    row_tokens
        Tokens in a row; the model's context, but at most 4096, unless given.
    micro_rows
        Rows for each forward pass, on one GPU or on the few that share each matrix.
    recompute
        Keep only each layer's input and compute the layer twice: less memory, a third more arithmetic. auto does
        so where nothing else fits.
    utilisation
        Share of the GPUs' peak that the run reaches; everything that makes it wait stands in this number.
    price
        US dollars for a GPU and an hour; an assumption of 1.50 (a100), 2.50 (h100) or 3.00 (h200) unless given.
    as_json
        Print the same facts as JSON, for scripts.
    """
    from twofold.cli.plan import config_of, plan_of, show_plan

    if devices is None and (tokens is not None or text_bytes is not None):
        raise UsageError("A plan needs to know how many GPUs there are: add --devices.")
    shape = _shape_named(model)
    facts = facts_of(model) if shape is None else _shape_facts(shape, str(model), "a size by name")
    if devices is not None:
        facts.plan = plan_of(
            shape or config_of(Path(facts.path)), devices, device, tokens=tokens, text_bytes=text_bytes,
            row_tokens=row_tokens, micro_rows=micro_rows, recompute=recompute, utilisation=utilisation,
            price=price,
        )  # fmt: skip
    if as_json:
        print(json.dumps(vars(facts), indent=2, ensure_ascii=False, default=str))
        return
    print(f"{strong(printable(facts.path))}: {facts.kind}")
    section("Shape", [(name, value_of(name, value)) for name, value in facts.shape.items()])
    total = sum(facts.parameters.values())
    rows = [(name, whole(count), percent(count / total)) for name, count in facts.parameters.items() if count]
    section("Parameters", [*rows, ("all", whole(total), short(total))] if rows else [])
    section("Bytes", [(name, whole(count), size(count)) for name, count in facts.bytes.items()])
    section("Tokenizer", [(name, value_of(name, value)) for name, value in facts.tokenizer.items()])
    section("Training", [(name, value_of(name, value)) for name, value in facts.training.items()])
    if facts.plan:
        show_plan(facts.plan)


def facts_of(model: Path) -> Facts:
    """Read the facts of a model's files. Raises FileError where there is no model, or a damaged one."""
    with explained(model, "read"):
        model.stat()
    if model.suffix == ".json" and not model.is_dir():
        from twofold.cli.plan import config_of

        return _shape_facts(config_of(model), str(model), "a shape without weights")
    if not model.is_dir():
        return _gguf_facts(model)
    within = (model, *(model / stage for stage in STAGES))
    return _folder_facts(next((folder for folder in within if (folder / "config.json").is_file()), model))


def _shape_named(model: Path) -> TransformerConfig | None:
    """The size of that name, unless there is a file or folder of that name."""
    from twofold.training.shapes import SHAPES

    shape = SHAPES.get(str(model))
    return None if shape is None or model.exists() else shape


def _folder_facts(folder: Path) -> Facts:
    from twofold.models.config import TransformerConfig
    from twofold.tokens.tokenizer import Tokenizer

    path = folder / "config.json"
    if not path.is_file():
        raise FileError(f"{folder} holds no model: there is no config.json in it.{_models_below(folder)}")
    kind = "a run folder" if (folder / "run.json").is_file() else "a Hugging Face folder"
    facts = _shape_facts(TransformerConfig.from_hf(read_json(path), str(path)), str(folder), kind)
    facts.bytes["on disk"] = sum(file.stat().st_size for file in sorted(folder.glob("*.safetensors")))
    if (folder / "tokenizer.json").is_file():
        tokenizer = Tokenizer.load(folder)
        facts.tokenizer = _vocabulary_facts([tokenizer.token_bytes(i) for i in range(tokenizer.vocab_size)])
        facts.tokenizer["fingerprint"] = tokenizer.fingerprint[:16]
    facts.training = _training_facts(folder)
    return facts


def _shape_facts(config: TransformerConfig, path: str, kind: str) -> Facts:
    """What follows from the shape alone."""
    parts = config.parameters_by_part()
    matrices = sum(parts.values()) - parts["norms"]
    return Facts(
        path,
        kind,
        shape={
            "family": config.model_type,
            "layers": config.num_hidden_layers,
            "width": config.hidden_size,
            "query heads": f"{config.num_attention_heads} of {config.head_dim}",
            "key-value heads": f"{config.num_key_value_heads} of {config.head_dim}",
            "feed-forward width": config.intermediate_size,
            "context": f"{config.max_position_embeddings:,} tokens",
            "vocabulary": f"{config.vocab_size:,} tokens",
            "output matrix": "the embedding's" if config.tie_word_embeddings else "its own",
        },
        parameters=parts,
        bytes={
            "F32": 4 * config.count_parameters(),
            "F16 or BF16": 2 * config.count_parameters(),
            "Q8_0": matrices * 34 // 32 + 4 * parts["norms"],  # blocks of 32 and a scale; norms stay F32
        },
    )


def _models_below(folder: Path) -> str:
    """A hint for the person who named the folder above the model."""
    below = sorted(path.parent for path in folder.glob("*/config.json"))
    files = sorted(folder.glob("*/*.gguf")) + sorted(folder.glob("*.gguf"))
    found = [str(path) for path in [*below, *files]]
    return f" There is one in {', and in '.join(found)}." if found else ""


def _gguf_facts(path: Path) -> Facts:
    from twofold.models.gguf import read_gguf
    from twofold.models.quantize import TYPE_NAMES

    gguf = read_gguf(path)
    facts = Facts(str(path), f"a GGUF file, version {gguf.version}")
    family = gguf.metadata.get("general.architecture", "")
    names = {
        "general.name": "name",
        "general.architecture": "family",
        f"{family}.block_count": "layers",
        f"{family}.embedding_length": "width",
        f"{family}.attention.head_count": "query heads",
        f"{family}.attention.head_count_kv": "key-value heads",
        f"{family}.attention.key_length": "head width",
        f"{family}.feed_forward_length": "feed-forward width",
        f"{family}.context_length": "context",
    }
    facts.shape = {name: gguf.metadata[key] for key, name in names.items() if key in gguf.metadata}
    for tensor in gguf.tensors.values():
        count = 1
        for length in tensor.shape:
            count *= length
        part, kind = _part(tensor.name), TYPE_NAMES.get(tensor.type, str(tensor.type))
        facts.parameters[part] = facts.parameters.get(part, 0) + count
        facts.bytes[f"in {kind}"] = facts.bytes.get(f"in {kind}", 0) + tensor.raw.nbytes
    facts.bytes["on disk"] = path.stat().st_size
    tokens = gguf.metadata.get("tokenizer.ggml.tokens")
    if isinstance(tokens, list):
        facts.tokenizer["tokens"] = len(tokens)
        for key, name in (("model", "kind"), ("pre", "pattern")):
            if f"tokenizer.ggml.{key}" in gguf.metadata:
                facts.tokenizer[name] = gguf.metadata[f"tokenizer.ggml.{key}"]
        facts.tokenizer["chat template"] = "tokenizer.chat_template" in gguf.metadata
    return facts


def _part(tensor: str) -> str:
    """Which part of a Transformer a GGUF tensor belongs to, by its name."""
    if "norm" in tensor:
        return "norms"
    for piece, part in ((".attn_", "attention"), (".ffn_", "feed_forward"), ("token_embd", "embedding")):
        if piece in tensor:
            return part
    return "output" if tensor.startswith("output") else "other"


def _vocabulary_facts(tokens: list[bytes]) -> dict[str, Any]:
    longest = max(tokens, key=len, default=b"")
    return {
        "tokens": len(tokens),
        "of one byte": sum(len(token) == 1 for token in tokens),
        "begin with a space": sum(token.startswith(b" ") for token in tokens),
        "longest": f"{longest.decode('utf-8', 'replace')!r}, {len(longest)} bytes",
    }


def _training_facts(folder: Path) -> dict[str, Any]:
    """What `run.json` tells of the run: the result first, nested names joined by dots; what is
    long stays in the file."""
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
