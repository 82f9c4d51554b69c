"""How a model stretches its rotary positions beyond the lengths it was first trained on, as settings.

Plain rotary positions need one number, `rope_theta`. Each way of stretching changes the speeds at which the
pairs of channels turn (`rotary.py` computes them); its name and numbers are Hugging Face's `rope_scaling`,
which transformers 5 writes as `rope_parameters`. Sources: linear (arXiv 2306.15595), dynamic (NTK by length,
as transformers does it), yarn (2309.00071), llama3 (2407.21783 and Meta's reference code), longrope
(2402.13753).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from twofold.errors import UsageError

_LARGEST = 1e12  # of a factor; no model comes near
NEEDS = {  # of each type, the settings without which it means nothing
    "linear": ("factor",),
    "dynamic": ("factor",),
    "yarn": ("original_max_position_embeddings",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
    "longrope": ("short_factor", "long_factor", "original_max_position_embeddings"),
}


@dataclass(frozen=True, kw_only=True)
class RopeScaling:
    """One way of stretching: `rope_type` and its numbers; None where the type gives a value itself.

    `original_max_position_embeddings`: tokens, the longest row before stretching. `factor`: how much longer
    rows become. `attention_factor`: by what sines and cosines are multiplied (yarn and longrope).
    `short_factor` and `long_factor`: one divisor per pair of channels (longrope), for rows up to the original
    length and for longer ones.
    """

    rope_type: str
    factor: float | None = None
    original_max_position_embeddings: int | None = None
    attention_factor: float | None = None
    beta_fast: float | None = None
    beta_slow: float | None = None
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool = True
    low_freq_factor: float | None = None
    high_freq_factor: float | None = None
    short_factor: tuple[float, ...] | None = None
    long_factor: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        """Raise UsageError, naming the setting, for what makes no sense."""
        if not isinstance(self.rope_type, str) or self.rope_type not in NEEDS:
            raise UsageError(
                f"Rotary positions of type {str(self.rope_type)[:40]!r} are not supported; default, "
                f"{', '.join(NEEDS)} are."
            )
        for name in NEEDS[self.rope_type]:
            if getattr(self, name) is None:
                raise UsageError(f"Rotary positions of type {self.rope_type} need {name}.")
        for field in fields(self):
            value = getattr(self, field.name)
            for number in value if isinstance(value, tuple) else (value,):
                is_number = isinstance(number, (int, float)) and not isinstance(number, bool)
                if is_number and not 0 < number <= _LARGEST:
                    raise UsageError(
                        f"{field.name} of the rotary positions must lie in (0, {_LARGEST:.0e}], and is "
                        f"{str(number)[:40]}."
                    )
        if self.original_max_position_embeddings == 1:  # its logarithm divides
            raise UsageError("original_max_position_embeddings of the rotary positions must be at least 2.")
        if self.rope_type == "llama3" and not self.low_freq_factor < self.high_freq_factor:
            raise UsageError("low_freq_factor of the rotary positions must be less than high_freq_factor.")

    def stretch(self, max_position_embeddings: int) -> float:
        """How much longer rows become: `factor`, else the longest row over the original one."""
        return self.factor or max_position_embeddings / self.original_max_position_embeddings

    def scale(self, max_position_embeddings: int) -> float:
        """By what sines and cosines are multiplied: attention_factor, else what its type takes for it."""
        if self.rope_type not in ("yarn", "longrope"):
            return 1.0
        if self.attention_factor is not None:
            return self.attention_factor
        stretch = self.stretch(max_position_embeddings)
        if stretch <= 1:
            return 1.0
        if self.rope_type == "longrope":
            return math.sqrt(1 + math.log(stretch) / math.log(self.original_max_position_embeddings))
        top, bottom = (self.mscale, self.mscale_all_dim) if self.mscale and self.mscale_all_dim else (1, 0)
        return (0.1 * top * math.log(stretch) + 1) / (0.1 * bottom * math.log(stretch) + 1)

    def to_hf(self) -> dict[str, Any]:
        """The `rope_scaling` of a `config.json`."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values = {name: list(v) if isinstance(v, tuple) else v for name, v in values.items() if v is not None}
        if self.rope_type != "yarn":
            del values["truncate"]
        return values

    @classmethod
    def from_hf(cls, values: Mapping[str, Any]) -> RopeScaling:
        """Read a `rope_scaling`. Raises UsageError naming what is amiss, also for keys that nobody knows."""
        arguments: dict[str, Any] = {"rope_type": values.get("rope_type", values.get("type"))}
        kinds = {field.name: field.type for field in fields(cls)}
        for name, value in values.items():
            if name in ("rope_type", "type") or value is None:
                continue
            if name not in kinds:
                raise UsageError(f"{name[:40]!r} of the rotary positions is not supported.")
            arguments[name] = _read(name, kinds[name], value)
        return cls(**arguments)


def _read(name: str, kind: str, value: Any) -> Any:
    """`value` as the field's type. Raises UsageError."""
    if kind.startswith("tuple"):
        if isinstance(value, list) and len(value) <= 1 << 16:
            return tuple(_read(name, "float", number) for number in value)
    elif kind.startswith("float"):
        if type(value) in (int, float) and abs(value) <= _LARGEST:
            return float(value)
    elif type(value).__name__ == kind.removesuffix(" | None"):
        return value
    raise UsageError(f"{name} of the rotary positions cannot be {str(value)[:40]!r}.")
