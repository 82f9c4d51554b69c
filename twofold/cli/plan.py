"""A training run on paper, as `twofold inspect MODEL --devices N` shows it."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Any

from twofold.cli.show import section
from twofold.errors import UsageError
from twofold.models.config import TransformerConfig
from twofold.report.quantities import number, percent, short, size, whole
from twofold.training.budget import (
    USABLE,
    budget,
    compute_optimal_tokens,
    smallest_sharding,
    tokens_in,
)
from twofold.training.devices import DEVICES

LONGEST_ROW = 4096  # tokens, unless the model's context is shorter or another length is given
_AMOUNT = re.compile(r"([0-9]{1,30}(?:\.[0-9]{1,30})?(?:e[0-9]{1,2})?) ?(?:([kmgt])b?)?")
_UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}


def amount(text: str, option: str) -> float:
    """1.5T, 300M or 2.4e12 as a number; 10TB is 10T. Raises UsageError naming the option."""
    found = _AMOUNT.fullmatch(text.strip().lower())
    if found is None:
        raise UsageError(f"{option} takes a number such as 300M, 20G or 1.5T, and not {text[:40]!r}.")
    return float(found[1]) * _UNITS[found[2] or ""]


def plan_of(
    config: TransformerConfig,
    devices: int,
    device: str,
    *,
    tokens: str | None = None,
    text_bytes: str | None = None,
    row_tokens: int | None = None,
    micro_rows: int = 1,
    recompute: str = "auto",
    utilisation: float,
    price: float | None = None,
) -> dict[str, Any]:
    """The plan as plain data: what was assumed, how it is spread, and what it takes. Raises UsageError."""
    if tokens is not None and text_bytes is not None:
        raise UsageError("Say how much to learn from once: give either --tokens or --text-bytes.")
    if tokens is not None:
        count = amount(tokens, "--tokens")
    elif text_bytes is not None:
        count = tokens_in(amount(text_bytes, "--text-bytes"))
    else:
        count = compute_optimal_tokens(config.count_parameters())
    row = min(LONGEST_ROW, config.max_position_embeddings) if row_tokens is None else row_tokens
    kind = DEVICES[device]
    again = None if recompute == "auto" else recompute == "yes"
    spread = smallest_sharding(config, row, kind, devices, micro_rows, again)
    found = budget(config, count, row, kind, spread, utilisation, price)
    assumed = {"row_tokens": row, "utilisation": utilisation, "price": kind.price if price is None else price}
    whole_memory = {**asdict(found.memory), "total": found.memory.total}
    return {
        "devices": devices,
        "device": asdict(kind),
        "assumed": assumed,
        "sharding": asdict(spread),
        **asdict(found),
        "memory": whole_memory,
        "compute_optimal_tokens": compute_optimal_tokens(found.parameters),
    }


def show_plan(plan: dict[str, Any]) -> None:
    """Print the plan as tables."""
    device, assumed, spread = plan["device"], plan["assumed"], plan["sharding"]
    held = plan["memory"]
    again = f"; {number(plan['hardware_flops'])} with layers recomputed" if spread["recompute"] else ""
    section(
        "Plan (computed, not measured)",
        [
            ("devices", f"{plan['devices']:,} × {device['name']}"),
            ("spread", f"replicas {spread['replicas']:,} × FSDP shards {spread['shards']:,} × tensor parallel "
             f"{spread['tensor_parallel']}"),
            ("tokens", f"{short(plan['tokens'])} ({number(plan['tokens'] / plan['parameters'])} for each "
             f"parameter; about {short(plan['compute_optimal_tokens'])} are compute-optimal)"),
            ("one pass", f"{whole(plan['pass_tokens'])} tokens, in rows of {assumed['row_tokens']:,}"),
            ("FLOPs", number(plan["flops"]) + again),
            ("time", f"{plan['seconds'] / 86400:,.1f} days at {percent(assumed['utilisation'])} of the peak of "
             f"{number(device['peak'])} FLOP/s"),
            ("device-hours", whole(plan["device_hours"])),
            ("cost", f"${whole(plan['cost'])} at ${assumed['price']:.2f} for a device and hour (assumed)"),
        ],
    )  # fmt: skip
    names = {
        "weights": "float32",
        "gradients": "float32",
        "optimizer": "Muon and AdamW, float32",
        "working_copy": "bfloat16 weights in use",
        "activations": "kept for the backward pass",
        "logits": "of one pass",
        "update": "Muon's whole matrices, after the pass",
    }
    rows = [(name.replace("_", " "), size(held[name]), meaning) for name, meaning in names.items()]
    limit = f"at the fullest, of {size(USABLE * device['memory'])} free for it"
    section("Memory of each device", [*rows, ("all", size(held["total"]), limit)])
