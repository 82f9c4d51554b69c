"""What past prompts and answers left in memory, for those who begin alike.

A radix tree: each edge is a run of whole pages of tokens and holds a sequence that ends where the edge ends.
What is found is a fork of such a sequence, cut to what is common, so nothing is read twice and nothing is
copied. Leaves not used for longest go first. Source: RadixAttention (arXiv 2312.07104), section 3.
"""

from __future__ import annotations

from collections.abc import Sequence

from twofold.models.language_model import Memory, SequenceId


class _Edge:
    """`tokens`: whole pages; `sequence` holds all tokens from the root to this edge's end."""

    __slots__ = ("children", "parent", "sequence", "tokens", "used")

    def __init__(self, tokens: tuple[int, ...], sequence: SequenceId | None, parent: _Edge | None) -> None:
        self.tokens = tokens
        self.sequence = sequence
        self.parent = parent
        self.children: dict[tuple[int, ...], _Edge] = {}  # by their first page
        self.used = 0


class PrefixCache:
    """At most `most` tokens (0: nothing is kept); shared beginnings count once. What each of a model's adapters read
    is kept apart."""

    def __init__(self, memory: Memory, most: int) -> None:
        self.memory = memory
        self.most = most
        self.tokens = 0
        self.found = 0  # tokens that did not have to be read again, in all
        self._roots: dict[str | None, _Edge] = {}  # by adapter
        self._clock = 0

    def find(self, tokens: Sequence[int], adapter: str | None = None) -> tuple[SequenceId, int] | None:
        """A new sequence that holds the longest known beginning of `tokens`, and its length; None if that
        is shorter than a page."""
        edge, length, part = self._walk(tuple(tokens), adapter)
        if part is not None:
            edge, length = part[0], length + part[1]
        if edge.sequence is None or not length:
            return None
        self._touch(edge)
        self.found += length
        sequence = self.memory.fork(edge.sequence)
        self.memory.rewind(sequence, length)
        return sequence, length

    def known(self, tokens: Sequence[int], adapter: str | None = None) -> int:
        """How long the beginning is that `find` would find."""
        _, length, part = self._walk(tuple(tokens), adapter)
        return length + (0 if part is None else part[1])

    def keep(self, tokens: Sequence[int], sequence: SequenceId, adapter: str | None = None) -> None:
        """Remember the whole pages of `tokens`, which `sequence` holds (and may go on growing), read by `adapter`."""
        size = self.memory.page_size
        whole = len(tokens) // size * size
        if not whole or whole > self.most:
            return
        tokens = tuple(tokens[:whole])
        edge, length, part = self._walk(tokens, adapter)
        if part is not None and part[1] >= size:
            cut = part[1] // size * size
            edge, length = self._split(part[0], cut), length + cut
        self._touch(edge)
        if length < whole:
            held = self.memory.fork(sequence)
            self.memory.rewind(held, whole)
            leaf = _Edge(tokens[length:], held, edge)
            edge.children[leaf.tokens[:size]] = leaf
            self._touch(leaf)
            self.tokens += whole - length
            self._shrink(self.most)

    def evict(self, tokens: int) -> bool:
        """Forget at least so many tokens; False if nothing is left to forget."""
        before = self.tokens
        self._shrink(max(0, self.tokens - tokens))
        return self.tokens < before

    def clear(self) -> None:
        """Forget everything."""
        self._shrink(0)

    def _walk(
        self, tokens: tuple[int, ...], adapter: str | None
    ) -> tuple[_Edge, int, tuple[_Edge, int] | None]:
        """The last edge that is wholly a beginning of `tokens`, the length up to its end, and the child
        that goes on alike for some tokens, with how many (at least a page unless `tokens` end sooner)."""
        size, length = self.memory.page_size, 0
        edge = self._roots.setdefault(adapter, _Edge((), None, None))
        while child := edge.children.get(tokens[length : length + size]):
            common = _common(child.tokens, tokens[length:])
            if common < len(child.tokens):
                return edge, length, (child, common)
            edge, length = child, length + common
        if length:  # an edge that goes on alike for less than a page
            rest = tokens[length : length + size]
            alike = [(_common(child.tokens, rest), child) for child in edge.children.values()]
            common, child = max(alike, key=lambda pair: pair[0], default=(0, None))
            if common:
                return edge, length, (child, common)
        return edge, length, None

    def _split(self, edge: _Edge, cut: int) -> _Edge:
        """Cut an edge in two after `cut` tokens; the upper one."""
        size, parent = self.memory.page_size, edge.parent
        sequence = self.memory.fork(edge.sequence)
        self.memory.rewind(sequence, self.memory.length(sequence) - len(edge.tokens) + cut)
        upper = _Edge(edge.tokens[:cut], sequence, parent)
        parent.children[upper.tokens[:size]] = upper
        upper.used = edge.used
        edge.tokens, edge.parent = edge.tokens[cut:], upper
        upper.children[edge.tokens[:size]] = edge
        return upper

    def _touch(self, edge: _Edge | None) -> None:
        self._clock += 1
        while edge is not None:
            edge.used = self._clock
            edge = edge.parent

    def _shrink(self, most: int) -> None:
        """Drop the leaves not used for longest until at most `most` tokens are kept."""
        while self.tokens > most:
            leaves, stack = [], list(self._roots.values())
            while stack:
                edge = stack.pop()
                stack.extend(edge.children.values())
                if not edge.children and edge.parent is not None:
                    leaves.append(edge)
            for leaf in sorted(leaves, key=lambda leaf: leaf.used):
                self.memory.free(leaf.sequence)
                self.tokens -= len(leaf.tokens)
                del leaf.parent.children[leaf.tokens[: self.memory.page_size]]
                if self.tokens <= most:
                    break


def _common(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    """How many first tokens are the same."""
    most = min(len(a), len(b))
    if a[:most] == b[:most]:
        return most
    low, high = 0, most  # a[:low] == b[:low], a[:high] != b[:high]
    while high - low > 1:
        middle = (low + high) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle
    return low
