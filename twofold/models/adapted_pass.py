"""Adapters in a pass over many sequences: each token is changed by its sequence's adapter, all in one pass.

What a pass joins (queries, keys and values; gate and up) an adapter's changes are joined for as well, and all adapters'
lie in one stack, so that a step of many requests takes two thin batches of products beside each of the model's own.
Whoever reads beside a sequence changes no bit of its scores (see `torch_model.py`).
Source: multi-adapter batching as in S-LoRA (arXiv 2311.03285), section 4.

Shape letters: N tokens of a pass, m adapters with n tokens each; X inputs and Y outputs of a joined matrix, R rank.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from twofold.errors import UsageError
from twofold.models.lora import Adapter, LowRank, join
from twofold.models.token_rows import EMBEDDING, OUTPUT
from twofold.models.transformer import Transformer

RANKS = 16  # of thinner products MKL computes a row by where it stands among four
# adapter, by number -> its rows of a pass, and which of those whose scores are wanted
_ReadBy = Mapping[int, tuple[Sequence[int], Sequence[int]]]
# What a pass multiplies with in a layer, and of which matrices that consists.
JOINED = {
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "out": ("self_attn.o_proj",),
    "up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}


@dataclass(frozen=True, slots=True)
class Changes:
    """Of each of M adapters, what it adds to x·W: x·a·b + x·W·more. a [M, X, R], b [M, R, Y]; `more` [M, Y], where one
    of them is DoRA."""

    a: Tensor
    b: Tensor
    more: Tensor | None


@torch.no_grad()
def changes_of(transformer: Transformer, adapters: Sequence[Adapter]) -> list[dict[str, Changes]]:
    """The adapters' changes of each layer as a pass uses them, by what it multiplies with, in the weights' dtype. All
    have the rank of the largest. Raises UsageError for an adapter that changes more than the layers' matrices."""
    known = {
        f"model.layers.{i}.{name}"
        for i in range(len(transformer.model.layers))
        for name in sum(JOINED.values(), ())
    }
    for adapter in adapters:
        if other := next(iter([*(adapter.changes.keys() - known), *adapter.replaced]), None):
            raise UsageError(
                f"The adapter changes {other}, which cannot be changed for some requests alone. Open it as a model by "
                f"itself, or make one of it and its base: twofold convert."
            )
    layers = []
    for number, block in enumerate(transformer.model.layers):
        found = {}
        for which, parts in JOINED.items():
            parts = [part for part in parts if block.mlp.gated or part != "mlp.gate_proj"]
            weights = [block.get_submodule(part).weight for part in parts]
            changes = [
                [one.changes.get(f"model.layers.{number}.{part}") for part in parts] for one in adapters
            ]
            if any(change is not None for some in changes for change in some):
                found[which] = _stacked([_joined(some, weights) for some in changes], weights[0])
        layers.append(found)
    return layers


def _joined(
    changes: Sequence[LowRank | None], weights: Sequence[Tensor]
) -> tuple[Tensor, Tensor, Tensor | None]:
    """One adapter's changes of matrices that are multiplied with the same input: a [X, R], b [R, Y], more [Y]."""
    outputs = [len(weight) for weight in weights]
    if not any(change is not None for change in changes):
        return torch.zeros(weights[0].shape[1], 0), torch.zeros(0, sum(outputs)), None
    scaled = [c if c is None else replace(c, a=c.a.float(), b=c.scale * c.b.float()) for c in changes]
    a, b = join(scaled, outputs)
    if not any(change is not None and change.magnitude is not None for change in changes):
        return a.t(), b.t(), None
    gains = [
        torch.ones(len(weight)) if change is None or change.magnitude is None else change.gain(weight).cpu()
        for change, weight in zip(changes, weights, strict=True)
    ]
    gain = torch.cat(gains).to(b.device)
    return a.t(), (b * gain[:, None]).t(), gain - 1


def _stacked(parts: Sequence[tuple[Tensor, Tensor, Tensor | None]], like: Tensor) -> Changes:
    """All adapters' of one joined matrix, in the dtype and on the device of `like`."""
    rank = max(a.shape[1] for a, _, _ in parts)
    rank += -rank % RANKS
    a = torch.stack([F.pad(a, (0, rank - a.shape[1])) for a, _, _ in parts])
    b = torch.stack([F.pad(b, (0, 0, 0, rank - len(b))) for _, b, _ in parts])
    more = None
    if any(more is not None for _, _, more in parts):
        more = torch.stack([b.new_zeros(b.shape[1]) if more is None else more for _, b, more in parts]).to(
            like
        )
    return Changes(a.to(like), b.to(like), more)


@dataclass(frozen=True, slots=True)
class _Bundle:
    """Tokens of some adapters, as many of each: `rows` [m·n] of a pass, the `adapters` [m] by number; of the products'
    rows those that count, `valid`, and to which rows of the pass they are added, `to`."""

    adapters: Tensor
    rows: Tensor
    valid: Tensor
    to: Tensor


class AdaptedTokens:
    """Rows of tokens that adapters learned: [n] of each adapter, by number, with room for more in the output's."""

    def __init__(self, transformer: Transformer, adapters: Sequence[Adapter]) -> None:
        weight = transformer.model.embed_tokens.weight
        output = EMBEDDING if transformer.config.tie_word_embeddings else OUTPUT
        self.cap = transformer.config.final_logit_softcapping
        self.embedded: list[dict[int, int]] = []  # token -> row
        self.values: list[Tensor | None] = []  # [n, D]
        self.outputs: list[tuple[Tensor, Tensor] | None] = []  # ids [n]; rows and padding [n or more, D]
        for adapter in adapters:
            into, out = adapter.rows.get(EMBEDDING), adapter.rows.get(output)
            self.embedded.append({} if into is None else {token: i for i, token in enumerate(into.ids)})
            self.values.append(None if into is None else into.values.to(weight))
            if out is None:
                self.outputs.append(None)
            else:
                values = F.pad(out.values.to(weight), (0, 0, 0, -len(out.ids) % RANKS))
                self.outputs.append((torch.tensor(out.ids, device=weight.device), values))

    def embed(self, x_ND: Tensor, tokens: Sequence[int], read_by: _ReadBy) -> None:
        """Put the learned rows in the places of the embeddings [N, D] of their tokens, where their adapter reads."""
        for adapter, (rows, _) in read_by.items():
            known = self.embedded[adapter]
            if known and (at := [row for row in rows if tokens[row] in known]):
                index = torch.tensor([known[tokens[row]] for row in at], device=x_ND.device)
                x_ND[torch.tensor(at, device=x_ND.device)] = self.values[adapter].index_select(0, index)

    def score(self, scores_NV: Tensor, states_ND: Tensor, read_by: _ReadBy, multiple: int) -> None:
        """Put the scores of the learned tokens in their places, in the rows that their adapter reads."""
        for adapter, (_, wanted) in read_by.items():
            if self.outputs[adapter] is None or not wanted:
                continue
            ids, values = self.outputs[adapter]
            padded = [*wanted, *[wanted[0]] * (-len(wanted) % multiple)]
            rows = torch.tensor(padded, device=scores_NV.device)
            own = F.linear(states_ND.index_select(0, rows), values)[: len(wanted), : len(ids)]
            own = own if self.cap is None else self.cap * (own / self.cap).tanh()
            scores_NV[rows[: len(wanted), None], ids] = own


class Adapted:
    """The tokens of a pass that adapters change. `read_by`: of each adapter, by number, its rows among the N, and among
    those whose scores are asked. `multiple`: of how many rows a product has some (`invariance.py`).

    Adapters with few tokens go together through one batch of products; the others each alone.
    """

    def __init__(
        self,
        layers: list[dict[str, Changes]],
        read_by: _ReadBy,
        multiple: int,
        device: torch.device,
    ) -> None:
        self.layers = layers
        self.all, self.chosen = (
            _bundles({adapter: rows[which] for adapter, rows in read_by.items()}, multiple, device)
            for which in (0, 1)
        )

    def add(
        self, layer: int, which: str, x_NX: Tensor, matrix_XY: Tensor, y_NY: Tensor, chosen: bool
    ) -> None:
        """Add to y = x·W, in place, what the adapters make it more; `chosen`: only those tokens are left."""
        if (changes := self.layers[layer].get(which)) is None:
            return
        for bundle in self.chosen if chosen else self.all:
            x_nX = x_NX.index_select(0, bundle.rows)
            x_mnX = x_nX.view(len(bundle.adapters), -1, x_nX.shape[1])
            a, b = (part.index_select(0, bundle.adapters) for part in (changes.a, changes.b))
            y_mnY = torch.bmm(torch.bmm(x_mnX, a), b)
            if changes.more is not None:
                own = (x_nX @ matrix_XY).view_as(y_mnY)
                y_mnY.addcmul_(own, changes.more.index_select(0, bundle.adapters)[:, None])
            y_NY.index_add_(0, bundle.to, y_mnY.flatten(0, 1).index_select(0, bundle.valid))


def _bundles(rows: Mapping[int, Sequence[int]], multiple: int, device: torch.device) -> list[_Bundle]:
    few = {adapter: some for adapter, some in rows.items() if 0 < len(some) <= multiple}
    many = [{adapter: some} for adapter, some in rows.items() if len(some) > multiple]
    found = []
    for bundle in ([few] if few else []) + many:
        n = max(len(some) + -len(some) % multiple for some in bundle.values())
        padded = [row for some in bundle.values() for row in [*some, *[0] * (n - len(some))]]
        valid = [i * n + j for i, some in enumerate(bundle.values()) for j in range(len(some))]
        to = [row for some in bundle.values() for row in some]
        tensors = (
            torch.tensor(part, dtype=torch.int64, device=device) for part in (list(bundle), padded, valid, to)
        )
        found.append(_Bundle(*tensors))
    return found
