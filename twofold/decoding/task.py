"""What one request asks of its decoder: the prompt, how to choose, when to end; and what the decoder tells."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from twofold.decoding.branch import Branch, Finish, Node, Tree
from twofold.decoding.distribution import Row, adjust
from twofold.decoding.sampling import Sampling
from twofold.models.language_model import LanguageModel

if TYPE_CHECKING:
    from twofold.decoding.masks.mask import MaskState


@dataclass(slots=True)
class Choice:
    """One chosen token of the request `index`, with the model's own log-probability (nats).

    `finish` is set on the last choice of each answer: "stop" (a stop token, which is this one, a stop string,
    or the end of what a mask allows), "length" (max_tokens reached), "context" (the model's context is full)
    or "time". `sample`: which of the request's answers it belongs to. `allowed`: the log of the mass that the
    mask allowed; `alternatives`: the model's best tokens here.
    """

    index: int
    token: int
    log_probability: float
    finish: Finish | None = None
    sample: int = 0
    allowed: float = 0.0
    alternatives: tuple[tuple[int, float], ...] = ()


class Task:
    """The request as its decoder sees it. `extend` and `push` are the ways in which branches grow."""

    def __init__(
        self,
        tree: Tree,
        prompt: Sequence[int],
        *,
        index: int = 0,
        settings: Sampling,
        max_tokens: int | None = None,
        stop_ids: Collection[int] = (),
        stops: Sequence[bytes] = (),
        token_bytes: Callable[[int], bytes] | None = None,
        mask: MaskState | None = None,
        alternatives: int = 0,
        source: Sequence[int] | None = None,
        adapter: str | None = None,
        vocab_size: int | None = None,
    ) -> None:
        self.tree = tree
        self.prompt = tuple(prompt)
        self.index = index
        self.settings = settings
        self.max_tokens = max_tokens
        self.stop_ids = frozenset(stop_ids)
        self.stops = tuple(stops)
        self.token_bytes = token_bytes
        self.mask = mask
        self.alternatives = alternatives
        self.source = source
        self.adapter = adapter
        self.vocab_size = tree.model.vocab_size if vocab_size is None else vocab_size
        self.other: Callable[[LanguageModel], Tree] | None = None  # the tree over another model; the engine's
        self.events: deque[Choice] = deque()
        self.looked_at: list[Node] | None = None  # every token that is tried, if someone wants to see
        self._context = tree.model.context_length
        # what is the same at every step, without a mask
        self._plain_row = Row(settings, self.prompt, stop_ids=self.stop_ids) if settings.is_plain else None
        self._tail = max((len(stop) for stop in self.stops), default=1) - 1
        self._told: dict[int, int] = {}
        self._randoms: dict[int, np.random.Generator] = {}

    def start(self, tree: Tree | None = None) -> Branch:
        """The branch with nothing chosen yet; of another model's tree if one is named."""
        tree = self.tree if tree is None else tree
        branch = tree.start(self.prompt, self.source, self, self.adapter if tree is self.tree else None)
        branch.mask = self.mask
        return branch

    def random(self, stream: int = 0) -> np.random.Generator:
        """This request's own randomness; another stream for each of several answers."""
        if stream not in self._randoms:
            seed = self.settings.seed
            self._randoms[stream] = np.random.default_rng(None if seed is None else seed + stream)
        return self._randoms[stream]

    def extend(
        self,
        branch: Branch,
        token: int,
        log_probability: float,
        *,
        allowed: float = 0.0,
        alternatives: tuple[tuple[int, float], ...] = (),
    ) -> Branch:
        """`branch` and one more token: the mask moves on, and the end is noticed."""
        longer = branch.copy()
        self.push(longer, token, log_probability, allowed, alternatives)
        return longer

    def push(
        self,
        branch: Branch,
        token: int,
        log_probability: float,
        allowed: float = 0.0,
        alternatives: tuple[tuple[int, float], ...] = (),
        forced: int = 0,
    ) -> None:
        """The same in place, for whoever alone holds the branch."""
        length = branch.length
        depth = length - len(branch.prompt) + 1
        node = branch.node = Node(branch.node, token, depth, log_probability, allowed, alternatives)
        branch.length, branch.forced = length + 1, forced
        if self.looked_at is not None:
            self.looked_at.append(node)
        if token in self.stop_ids:
            branch.finish = "stop"
            return
        if branch.mask is not None:
            branch.mask = branch.mask.advance(token)
        if self.stops:
            tail = branch.tail + self.token_bytes(token)
            if any(stop in tail for stop in self.stops):
                branch.finish = "stop"
                return
            branch.tail = tail[len(tail) - self._tail :] if self._tail else b""
        if depth == self.max_tokens:
            branch.finish = "length"
        elif length >= self._context:
            branch.finish = "context"

    @property
    def longest(self) -> int:
        """The most tokens that an answer can have."""
        room = self.tree.model.context_length - len(self.prompt) + 1
        return room if self.max_tokens is None else min(room, self.max_tokens)

    def row(self, branch: Branch) -> Row:
        """What turns scores after this branch into a distribution."""
        if self._plain_row is not None and branch.mask is None:
            return self._plain_row
        return Row(
            self.settings,
            self.prompt,
            () if self.settings.is_plain else branch.chosen,
            None if branch.mask is None else branch.mask.allowed(),
            self.stop_ids,
            branch.mirostat,
        )

    def scores(self, scores_BV: Tensor, branches: Sequence[Branch]) -> Tensor:
        """What a search adds up: log-probabilities [B, V] after bias, bans, penalties and mask; not summing
        to 1 any more, so that what is found is what the model holds for likely."""
        return adjust(scores_BV[:, : self.vocab_size], [self.row(branch) for branch in branches], search=True)

    def tell(self, sample: int, branch: Branch) -> None:
        """What has become certain of one answer: all of `branch` that was not told yet."""
        told, node = self._told.get(sample, 0), branch.node
        if node is not None and node.depth == told + 1 and not branch.forced:  # most often, and quick
            self._told[sample] = node.depth
            self.events.append(
                Choice(
                    self.index, node.token, node.log_probability, branch.finish, sample, node.allowed,
                    node.alternatives,
                )
            )  # fmt: skip
            return
        nodes = branch.nodes(told)
        if branch.forced:
            nodes = nodes[: len(nodes) - branch.forced]
        if not nodes:
            return
        self._told[sample] = told + len(nodes)
        choices = [
            Choice(self.index, n.token, n.log_probability, None, sample, n.allowed, n.alternatives)
            for n in nodes
        ]
        choices[-1].finish = None if branch.forced else branch.finish
        self.events.extend(choices)  # whole at once: another thread may be taking them

    def tell_common(self, branches: Sequence[Branch]) -> None:
        """The beginning that all of these share is certain, whichever of them wins."""
        if not branches:
            return
        told = self._told.get(0, 0)
        first, *others = [branch.nodes(told) for branch in branches]
        count = 0
        for nodes in zip(first, *others, strict=False):
            if any(node is not nodes[0] for node in nodes):
                break
            count += 1
        if count:
            whole = told + count == branches[0].count
            self.tell(0, branches[0] if whole else branches[0].back(told + count))

    @property
    def has_told(self) -> bool:
        """Whether anything became certain."""
        return bool(self._told)
