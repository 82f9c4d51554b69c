"""What a family's weight files call a Transformer's tensors, and how they hold them.

Most families' files hold our tensors under our names. Phi-3 joins those that are multiplied with the same input;
GPT-2 does too, has other names, and keeps its matrices the other way round.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from twofold.models.config import TransformerConfig

OUTPUT = "lm_head.weight"
_LAYER = re.compile(r"(model\.layers)(\.\d+\.)(.+)")


@dataclass(frozen=True)
class Stored:
    """One tensor of a file: `parts` of ours below each other; `transposed`: [inputs, outputs]."""

    name: str
    parts: tuple[str, ...]
    transposed: bool = False

    def shape(self, ours: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
        """Its shape, from those of ours."""
        rows = sum(ours[part][0] for part in self.parts)
        whole = (rows, *ours[self.parts[0]][1:])
        return whole[::-1] if self.transposed else whole

    def join(self, ours: Mapping[str, Tensor]) -> Tensor:
        """Ours as the file holds them."""
        whole = torch.cat([ours[part] for part in self.parts]) if len(self.parts) > 1 else ours[self.parts[0]]
        return whole.t() if self.transposed else whole

    def split(self, whole: Tensor, ours: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
        """The file's tensor as ours, of these shapes: views of it."""
        whole = whole.t() if self.transposed else whole
        pieces = whole.split([ours[part][0] for part in self.parts])
        return dict(zip(self.parts, pieces, strict=True))


def one_to_one(config: TransformerConfig, names: Iterable[str]) -> list[Stored]:
    """Our own way of holding tensors of these names."""
    del config
    return [Stored(name, (name,)) for name in names]


def stored_tensors(config: TransformerConfig, names: Iterable[str]) -> list[Stored]:
    """How the family's files hold our tensors of these names."""
    family = config.family
    theirs = {part: name for name, parts in family.joined.items() for part in parts}
    order = {part: index for parts in family.joined.values() for index, part in enumerate(parts)}
    found: dict[str, list[tuple[int, str]]] = {}
    transposed = set()
    for ours in names:
        stem, _, kind = ours.rpartition(".")
        if layer := _LAYER.fullmatch(stem):
            before, number, own = layer.groups()
            part = theirs.get(own, own)
            stem = family.prefixes.get(before, before) + number + part
        else:
            own = part = stem
            stem = family.prefixes.get(stem, stem)
        name = f"{stem}.{kind}"
        if part in family.transposed and kind == "weight":
            transposed.add(name)
        found.setdefault(name, []).append((order.get(own, 0), ours))
    return [
        Stored(name, tuple(ours for _, ours in sorted(parts)), name in transposed)
        for name, parts in found.items()
    ]


def plain_name(config: TransformerConfig, name: str) -> str | None:
    """A name in a file as `stored_tensors` has it: without what other programs put before it, or with what they
    leave away. None for tensors that are none of this model's: buffers that follow from the settings, and the
    part that sees."""
    family = config.family
    name = name.removeprefix(family.wrapper)
    if family.root and name != OUTPUT and not name.startswith(family.root):
        name = family.root + name
    return None if re.fullmatch(family.ignored, name) else name
