"""Branches: continuations of prompts as a tree, over the sequences of a model's memory.

A branch that a decoder holds never changes what it says: `Task.extend` and `back` make others. Branches that
grew from each other share one sequence of the memory until two of them go on differently; then one takes a
fork, which shares the pages. Who drops a branch gives its pages back: the last user of a sequence hands it to
its tree, which frees it before the next forward pass. So a decoder keeps what it needs in plain variables, and
that is all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from twofold.decoding.prefix_cache import PrefixCache
from twofold.models.language_model import LanguageModel, Memory, SequenceId

if TYPE_CHECKING:
    from twofold.decoding.masks.mask import MaskState

Finish = Literal["stop", "length", "context", "time"]


@dataclass(slots=True)
class Node:
    """One chosen token, and the way back to the first. `log_probability`: the model's own, in nats;
    `allowed`: the log of the mass that the mask allowed here; `alternatives`: the model's best tokens here
    with their log-probabilities, where asked for."""

    parent: Node | None
    token: int
    depth: int
    log_probability: float = 0.0
    allowed: float = 0.0
    alternatives: tuple[tuple[int, float], ...] = ()


class Tree:
    """The branches over one model and one memory. `cached`: tokens of past prompts and answers to keep."""

    def __init__(
        self,
        model: LanguageModel,
        memory: Memory | None = None,
        *,
        pages: int | None = None,
        cached: int = 0,
    ) -> None:
        self.model = model
        self.memory = model.new_memory(pages) if memory is None else memory
        self.cache = PrefixCache(self.memory, cached)
        self.dropped: list[SequenceId] = []  # filled from wherever a branch dies; emptied by `free_dropped`
        self._held: dict[object, set[_Held]] = {}  # by owner

    def start(
        self,
        prompt: Sequence[int],
        source: Sequence[int] | None = None,
        owner: object = None,
        adapter: str | None = None,
    ) -> Branch:
        """The branch that has only its prompt. `source`: for a model with an encoder. `owner`: whose it is.
        `adapter`: which of the model's reads it."""
        branch = Branch(self, owner, tuple(prompt), source=None if source is None else tuple(source))
        branch.adapter = adapter
        return branch

    def hold(self, sequence: SequenceId, owner: object) -> _Held:
        """Note that a branch of `owner` looks at this sequence."""
        held = _Held(sequence, owner)
        self._held.setdefault(owner, set()).add(held)
        return held

    def let_go(self, held: _Held) -> None:
        """One branch looks at it no more; without any, its sequence is dropped."""
        held.users -= 1
        if not held.users and held.sequence is not None:
            self._held[held.owner].discard(held)
            self.dropped.append(held.sequence)

    def take_back(self, owner: object) -> None:
        """Free all that branches of `owner` hold, whoever still knows them. When one is asked again, it is
        read again."""
        for held in self._held.pop(owner, ()):
            self.memory.free(held.sequence)
            held.sequence = None

    def free_dropped(self) -> None:
        """Give back the pages of all branches that were dropped."""
        while self.dropped:
            self.memory.free(self.dropped.pop())


class _Held:
    """A sequence in memory (None: taken back) and how many branches look at it."""

    __slots__ = ("owner", "sequence", "users")

    def __init__(self, sequence: SequenceId, owner: object) -> None:
        self.sequence: SequenceId | None = sequence
        self.owner = owner
        self.users = 1


class Branch:
    """A prompt and what was chosen after it, `length` tokens together.

    `mask`: which tokens may follow (None: any); `finish`: why nothing may, else None; `tail`: the last
    bytes of its text, where stop strings are looked for; `forced`: how many of its last tokens a mask
    forced, whose log-probabilities are not known yet; `mirostat`: the state of that setting.
    """

    __slots__ = (
        "_held", "_read", "adapter", "finish", "forced", "length", "mask", "mirostat", "node", "owner", "prompt",
        "source", "tail", "tree",
    )  # fmt: skip

    def __init__(
        self,
        tree: Tree,
        owner: object,
        prompt: tuple[int, ...],
        node: Node | None = None,
        *,
        mask: MaskState | None = None,
        finish: Finish | None = None,
        tail: bytes = b"",
        forced: int = 0,
        source: tuple[int, ...] | None = None,
        like: Branch | None = None,
    ) -> None:
        self._held: _Held | None = None
        self.tree = tree
        self.owner = owner
        self.prompt = prompt
        self.node = node
        self.length = len(prompt) + (0 if node is None else node.depth)
        self.mask = mask
        self.finish = finish
        self.tail = tail
        self.forced = forced
        self.mirostat: float | None = None if like is None else like.mirostat
        self.adapter: str | None = None if like is None else like.adapter
        self.source = source
        self._read = 0
        if like is not None and like._held is not None:
            self._held = like._held
            self._held.users += 1
            self._read = min(like._read, self.length)

    def __del__(self) -> None:
        self.release()

    @property
    def count(self) -> int:
        """Tokens of the answer."""
        return 0 if self.node is None else self.node.depth

    def nodes(self, after: int = 0) -> list[Node]:
        """The chosen tokens from number `after` on, in order."""
        found, node = [], self.node
        while node is not None and node.depth > after:
            found.append(node)
            node = node.parent
        return found[::-1]

    @property
    def tokens(self) -> tuple[int, ...]:
        """The prompt and the answer."""
        return (*self.prompt, *self.chosen)

    @property
    def chosen(self) -> tuple[int, ...]:
        """The tokens of the answer."""
        return tuple([node.token for node in self.nodes()])

    @property
    def log_probability(self) -> float:
        """The model's own, of the whole answer, in nats."""
        return sum(node.log_probability for node in self.nodes())

    def copy(self) -> Branch:
        """Another branch that says the same, over the same sequence."""
        return Branch(
            self.tree, self.owner, self.prompt, self.node,
            mask=self.mask, finish=self.finish, tail=self.tail, forced=self.forced, source=self.source, like=self,
        )  # fmt: skip

    def then(self, token: int, *, mask: MaskState | None = None, tail: bytes = b"") -> Branch:
        """This branch and one more token, of which nothing is known but what is given."""
        node = Node(self.node, token, self.count + 1)
        return Branch(
            self.tree, self.owner, self.prompt, node, mask=mask, tail=tail, source=self.source, like=self
        )

    def back(self, length: int, *, mask: MaskState | None = None, tail: bytes = b"") -> Branch:
        """The branch of this one's first `length` chosen tokens, with that place's mask and tail."""
        node = self.node
        while node is not None and node.depth > length:
            node = node.parent
        return Branch(
            self.tree, self.owner, self.prompt, node, mask=mask, tail=tail, source=self.source, like=self
        )

    def unread(self, rows: int = 1) -> list[int]:
        """The tokens that the memory does not hold yet, and at least the last `rows`."""
        read, node, prompt = self.read, self.node, len(self.prompt)
        if rows == 1 and node is not None and read == self.length - 1:  # most often, and quick
            return [node.token]
        read = min(read, self.length - rows)
        if read >= prompt:
            return [node.token for node in self.nodes(read - prompt)]
        return [*self.prompt[read:], *[node.token for node in self.nodes()]]

    def place(self, rows: int = 1) -> SequenceId:
        """The sequence to append `unread(rows)` to: this branch's alone, and as long as what was read."""
        tree, read, most = self.tree, self.read, self.length - rows
        memory, held = tree.memory, self._held
        self._read = read = read if read < most else most
        if held is None:
            read_by = {} if self.adapter is None else {"adapter": self.adapter}
            self._held = held = tree.hold(memory.new(self.source, **read_by), self.owner)
        elif held.users > 1:
            self._held = tree.hold(memory.fork(held.sequence), self.owner)
            tree.let_go(held)
            held = self._held
        if memory.length(held.sequence) > read:
            memory.rewind(held.sequence, read)
        return held.sequence

    def recall(self, rows: int = 1) -> None:
        """Take from the tree's cache what it has of this branch, of which nothing lies in memory."""
        if self.source is None:
            found = self.tree.cache.find(self.tokens[: self.length - rows], self.adapter)
            if found is not None:
                self._held, self._read = self.tree.hold(found[0], self.owner), found[1]

    def share(self, other: Branch) -> None:
        """Look at the sequence of a branch with the same tokens."""
        self._held, self._read = other._held, other._read
        self._held.users += 1

    def grew(self, count: int) -> None:
        """`count` tokens more lie in the memory."""
        self._read += count

    @property
    def read(self) -> int:
        """Tokens that lie in the memory."""
        if self._held is not None and self._held.sequence is None:  # taken back
            self._held, self._read = None, 0
        return self._read

    def keep(self) -> None:
        """Leave what was read in the tree's cache, for those who begin alike."""
        if self.read and self.source is None:
            self.tree.cache.keep(self.tokens[: self._read], self._held.sequence, self.adapter)

    def release(self) -> None:
        """Give the sequence back; when asked again, the branch is read again."""
        held, self._held = self._held, None
        self._read = 0
        if held is not None:
            self.tree.let_go(held)
