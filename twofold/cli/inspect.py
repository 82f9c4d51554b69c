"""`twofold inspect`: a model's card, read from its files without loading the weights, and what it would take to train
it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from twofold.cli.facts import Facts, context_of, description_of, facts_from
from twofold.cli.show import printable, section, strong
from twofold.errors import FileError, UsageError
from twofold.models.cost import PRECISIONS
from twofold.models.hub_files import parse_model
from twofold.report.quantities import percent, short, size, value_of, whole


def inspect(
    model: Path,
    /,
    *,
    context: int | None = None,
    batch: int = 1,
    quick: bool = False,
    measure: bool = False,
    engine: Literal["torch", "c"] = "torch",
    precision: Literal["float32", "bfloat16"] = "float32",
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
) -> int:
    """Show what a model is and what it costs: its card.

    MODEL is a run folder, what `twofold create` left, a Hugging Face folder, a .gguf file, or a model of the hub
    (owner/name), of which only the description is fetched; a config.json or the name of a size (nano, micro, mini,
    small, medium, large, 1b, 70b) tells of a model that is not made yet.

    The card: shape, parameters by part, bytes at each precision, memory and arithmetic for a context and for some
    texts at once, and how fast it would answer here, foretold from what this machine is measured to do in a few
    seconds. No weights are loaded, so a large model answers as fast as a small one; with --measure they are, and the
    foretold speed stands beside the measured one.

    With --devices, also plan its training on that many GPUs, on paper: memory, arithmetic, days and cost,
    computed from the shape and from what you assume. Weights that are damaged or cut short are told, and the exit code
    is then 3.

    Parameters
    ----------
    model
        The model.
    context
        Tokens of a text that memory, arithmetic and speed are told for; 4096, or the model's own if that is less,
        unless given.
    batch
        Texts at once that they are told for.
    quick
        Leave out the speeds, for which this machine has to be measured; --devices does too.
    measure
        Load the model and measure its speed, for some seconds.
    engine
        What computes for --measure: torch, or c: run.c, for a .gguf, and folders of qwen3 and qwen2.
    precision
        For --measure, of the weights, except those of a .gguf in run.c.
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
    if devices is None and (tokens is not None or text_bytes is not None):
        raise UsageError("A plan needs to know how many GPUs there are: add --devices.")
    found = description_of(model)
    facts = facts_from(found, context, batch)
    if devices is not None:
        from twofold.cli.plan import plan_of

        if found.config is None:
            raise UsageError(f"A plan needs a model of a family that opens here. {' '.join(found.notes)}")
        facts.plan = plan_of(
            found.config, devices, device, tokens=tokens, text_bytes=text_bytes, row_tokens=row_tokens,
            micro_rows=micro_rows, recompute=recompute, utilisation=utilisation, price=price,
        )  # fmt: skip
    if found.shape is not None and not facts.faults:
        from twofold.cli.speed import foretell, measured

        length = context_of(found.shape, context, batch)
        facts.speed = {} if quick or facts.plan else foretell(found, length, batch, facts.notes)
        if measure:
            facts.speed |= measured(model, found, length, batch, engine, precision)
    if as_json:
        print(json.dumps(vars(facts), indent=2, ensure_ascii=False, default=str))
    else:
        _show(facts, str(model) if parse_model(model) else facts.path)
    return FileError.exit_code if facts.faults else 0


def _show(facts: Facts, name: str) -> None:
    print(f"{strong(printable(name))}: {facts.kind}")
    if name != facts.path:
        print(f"in {printable(facts.path)}")
    total = sum(facts.parameters.values())
    if total:
        count = short(total).replace(" G", " billion").replace(" M", " million")
        print(f"{count} parameters at two bytes each: {size(facts.bytes['F16 or BF16'])}")
    for name, notes in (("Damaged", facts.faults), ("Notes", facts.notes)):
        section(name, [(note,) for note in notes])
    section("Shape", [(name, value_of(name, value)) for name, value in facts.shape.items()])
    rows = [(name, whole(count), percent(count / total)) for name, count in facts.parameters.items() if count]
    section("Parameters", [*rows, ("all", whole(total), short(total))] if rows else [])
    section("Bytes", [(_about(name), whole(count), size(count)) for name, count in facts.bytes.items()])
    if facts.memory:
        _show_memory(facts)
    if facts.speed:
        from twofold.cli.speed import show_speed

        show_speed(facts.speed)
    section("Tokenizer", [(name, value_of(name, value)) for name, value in facts.tokenizer.items()])
    section("Training", [(name, value_of(name, value)) for name, value in facts.training.items()])
    if facts.plan:
        from twofold.cli.plan import show_plan

        show_plan(facts.plan)


def _show_memory(facts: Facts) -> None:
    memory, operations = facts.memory, facts.operations
    texts = "one text" if memory["batch"] == 1 else f"{memory['batch']:,} texts"
    rows = [("", "weights", "keys and values", "at work, about", "all")]
    for name, parts in memory["bytes"].items():
        rows.append(
            (_about(name), *(size(parts[part]) for part in ("weights", "keys_values", "working", "all")))
        )
    section(f"Memory for {texts} of {memory['context']:,} tokens", rows)
    section(
        "Operations for a token",
        [
            (
                "of the prompt",
                f"{short(operations['prompt'])}FLOP",
                f"one of {memory['context']:,}, on average",
            ),
            ("after it", f"{short(operations['next'])}FLOP", "which look back at all of them"),
        ],
    )


def _about(name: str) -> str:
    """A precision's name, with a sign where its bytes depend on the file's own mix."""
    return f"{name}, about" if name in PRECISIONS and name.startswith("Q4_K") else name
