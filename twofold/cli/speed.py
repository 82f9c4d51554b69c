"""The speeds of a model's card: what is foretold of this machine, and beside it what was measured."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from twofold.cli.show import section
from twofold.errors import TwofoldError, UsageError
from twofold.models.cost import BITS, Rates, Speed, key_value_bytes, predict, weight_bytes, working_bytes
from twofold.models.describe import Description
from twofold.report.quantities import size, whole

Engine = Literal["torch", "c"]
Precision = Literal["float32", "bfloat16"]


def foretell(found: Description, context: int, batch: int, notes: list[str]) -> dict[str, Any]:
    """The speeds at each precision that this machine can compute the model at; {} for one that does not open here."""
    if found.config is None or found.shape is None:
        return {}
    from twofold.evaluation.speed import free_memory
    from twofold.training.machine import best_device

    device = best_device().type
    free = free_memory(device)
    facts: dict[str, Any] = {"device": device, "free_memory": free, "predicted": []}
    for engine, recipe in _ways(found):
        needed = weight_bytes(found.parameters, recipe) + working_bytes(found.shape, context, batch, 4)
        needed += key_value_bytes(found.shape, context, batch, _number(engine, recipe))
        row: dict[str, Any] = {"engine": engine, "precision": recipe, "context": context, "batch": batch}
        row |= {"needs": needed, "fits": free is None or needed <= free}
        if row["fits"]:
            try:
                rates = _rates(engine, recipe, device, batch)
            except TwofoldError as error:
                notes.append(f"{_NAMES[engine]} cannot compute it here: {error}")
                continue
            row |= _row(predicted(found, rates, engine, recipe, context, batch))
            row |= {"reads": rates.reading(1), "multiplies": rates.multiplies}
        facts["predicted"].append(row)
    return facts


def measured(
    model: Path, found: Description, context: int, batch: int, engine: Engine, precision: Precision
) -> dict[str, Any]:
    """Open the model and measure it, and foretell the same. Raises FileError, and UsageError for what does not fit."""
    if found.config is None or found.shape is None or not (found.on_disk or found.on_hub):
        raise UsageError(f"--measure needs a model that opens here, with weights; {model} is {found.kind}.")
    from twofold.decoding.load import load
    from twofold.evaluation.speed import free_memory, measure
    from twofold.training.machine import best_device

    device = best_device().type if engine == "torch" else "cpu"
    stored = engine == "c" and found.path.suffix == ".gguf"
    recipe = _recipe(found) if stored else "f32" if precision == "float32" else "bf16"
    needed, free = weight_bytes(found.parameters, recipe), free_memory(device)
    if free is not None and needed > free:
        raise UsageError(
            f"Its weights alone need {size(needed)} at {recipe}, and {size(free)} of memory are free."
        )
    rates = _rates(engine, recipe, device, batch)
    opened = load(model, engine=engine, precision=precision)
    speed, length = measure(opened.model, context, batch)
    way = {"engine": engine, "precision": recipe, "context": length, "batch": batch}
    return {
        "measured": way | _row(speed),
        "foretold": way | _row(predicted(found, rates, engine, recipe, length, batch)),
    }


def predicted(
    found: Description, rates: Rates, engine: Engine, recipe: str, context: int, batch: int
) -> Speed:
    """What the rates make of the model."""
    return predict(found.shape, rates, context, batch, BITS[recipe] / 8, _number(engine, recipe))


def show_speed(facts: dict[str, Any]) -> None:
    """Print the speeds as a table."""
    rows = [(row, "") for row in facts.get("predicted", [])]
    rows += [(facts[name], name) for name in ("foretold", "measured") if name in facts]
    if not rows:
        return
    batch, context = rows[0][0]["batch"], rows[0][0]["context"]
    head = ("", "prompt", "one text", *([f"{batch:,} texts"] if batch > 1 else []), "")
    lines = [_line(row, batch, title, facts.get("free_memory")) for row, title in rows]
    section(f"Tokens a second here, for {context:,} tokens of prompt and one after them", [head, *lines])


_NAMES = {"torch": "torch", "c": "run.c"}


def _line(row: dict[str, Any], batch: int, title: str, free: int | None) -> tuple[str, ...]:
    name = f"{row['precision'].upper()}, {_NAMES[row['engine']]}"
    if not row.get("fits", True):
        blank = [""] * (2 + (batch > 1))
        return name, *blank, f"does not fit: {size(row['needs'])} needed, {size(free or 0)} free"
    speeds = [row["prefill"], row["decode"], *([row["together"]] if batch > 1 else [])]
    cells = ["" if speed is None else f"{speed:,.1f}" if speed < 100 else whole(speed) for speed in speeds]
    if title:
        return f"{name}: {title}", *cells, f"for {row['context']:,} tokens"
    return name, *cells, f"{size(row['reads'])}/s read, {row['multiplies'] / 1e9:,.0f} GFLOP/s"


def _row(speed: Speed) -> dict[str, Any]:
    return asdict(speed)


def _ways(found: Description) -> list[tuple[Engine, str]]:
    """(engine, recipe) that the model can be computed by as it is."""
    from twofold.twofiles.export import FAMILIES

    ways: list[tuple[Engine, str]] = [("torch", "f32"), ("torch", "bf16")]
    if found.path.suffix == ".gguf" and found.family in FAMILIES:
        ways.append(("c", _recipe(found)))
    return ways


def _recipe(found: Description) -> str:
    """The recipe that a .gguf is by: what most of its bytes are of."""
    kind = max(found.stored, key=found.stored.get, default="f32").lower()
    return {"q4_k": "q4_k_m", "q5_k": "q5_k_m"}.get(kind, kind if kind in BITS else "q8_0")


def _number(engine: Engine, recipe: str) -> int:
    """Bytes that an engine keeps for a number of keys and values."""
    wide = ("f32",) if engine == "torch" else ("f32", "f16")
    return 4 if recipe in wide else 2


def _rates(engine: Engine, recipe: str, device: str, batch: int) -> Rates:
    """Measured now, once in this process."""
    import torch

    from twofold.evaluation.speed import c_rates, torch_rates

    watched = sys.stderr.isatty()
    if watched:
        print(f"\rmeasuring this machine: {_NAMES[engine]}, {recipe} …", end="", file=sys.stderr, flush=True)
    try:
        if engine == "c":
            return c_rates(recipe, batch)
        return torch_rates(torch.float32 if recipe == "f32" else torch.bfloat16, device, batch)
    finally:
        if watched:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
