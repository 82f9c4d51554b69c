"""Beam search for texts that must contain given words.

Beams are sorted into banks by how much of what is required they have said, and the width is dealt out evenly
over the banks, so that a text that says an unlikely word does not have to compete with those that do not.
Source: Post & Vilar 2018 (arXiv 1804.06609), dynamic beam allocation.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from twofold.decoding.branch import Branch
from twofold.decoding.decoders.beam import told
from twofold.decoding.decoders.decoder import Program
from twofold.decoding.decoders.expansion import Expansion
from twofold.decoding.task import Task
from twofold.errors import TwofoldError, UsageError


@dataclass(frozen=True, slots=True)
class RequiredWords:
    """Beam search of `width` for a text in which each of `words` stands, anywhere and in any order.

    A word counts however its bytes are cut into tokens; it is steered towards by its `spellings`, the tokens
    at the start of a text and after a space, which `spelled` fills in.
    """

    words: tuple[str, ...]
    width: int = 8
    keep: int = 1
    length_penalty: float = 1.0
    spellings: tuple[tuple[tuple[int, ...], ...], ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "words", tuple(self.words))
        if not self.words or not all(self.words):
            raise UsageError("There must be at least one required word, and none may be empty.")
        if self.width < 2 or not 1 <= self.keep <= self.width:
            raise UsageError(
                f"width must be 2 or more and keep from 1 to width; they are {self.width} and {self.keep}."
            )

    def spelled(self, encode: Callable[[str], Sequence[int]]) -> RequiredWords:
        """The same with the tokens of each word."""
        both = [(word, " " + word) for word in self.words]
        return replace(self, spellings=tuple(tuple(tuple(encode(form)) for form in forms) for forms in both))

    def program(self, task: Task) -> Program:
        """Search until no running beam can be better, or all are too long."""
        if not self.spellings or task.token_bytes is None:
            raise UsageError("Required words need a tokenizer, which spells them.")
        return self._run(task)

    def _run(self, task: Task) -> Program:
        running = [_Beam(0.0, task.start(), b"", frozenset())]
        finished: list[tuple[float, Branch]] = []
        while running:
            grown = self._grow(task, (yield [beam.branch for beam in running]), running)
            ended = [beam for beam in grown if beam.branch.finish is not None and self._has_all(beam)]
            finished += [(self._normed(beam), beam.branch) for beam in ended]
            finished = sorted(finished, key=lambda pair: -pair[0])[: self.width]
            running = self._deal([beam for beam in grown if beam.branch.finish is None])
            del grown, ended
            if len(finished) == self.width and all(self._normed(b) <= finished[-1][0] for b in running):
                break
        if not finished:
            words = ", ".join(repr(word) for word in self.words)
            raise TwofoldError(
                f"No text of at most {task.longest:,} tokens with {words} was found. Allow more tokens, or a "
                f"greater width than {self.width}."
            )
        return told(task, finished[: self.keep])

    def _grow(self, task: Task, scores, running: list[_Beam]) -> list[_Beam]:
        """The children worth a look: the best of all, the best of each, and those that say what is missing."""
        expansion = Expansion(task, scores, [beam.branch for beam in running])
        values = expansion.scores.clone()
        stops = sorted(task.stop_ids)
        for row, beam in enumerate(running):
            if not self._has_all(beam) and stops:
                values[row, stops] = float("-inf")
        totals = [beam.total for beam in running]
        wanted = {(row, token) for _, row, token in expansion.best(totals, 2 * self.width, values)}
        wanted |= set(enumerate(values.argmax(-1).tolist()))
        for row, beam in enumerate(running):
            wanted |= {(row, token) for token in self._next_tokens(beam)}
        grown = []
        for row, token in sorted(wanted):
            value = float(values[row, token])
            if value == float("-inf"):
                continue
            beam = running[row]
            branch = expansion.extend(row, token)
            text = beam.text + (b"" if token in task.stop_ids else task.token_bytes(token))
            met = beam.met | {i for i, word in enumerate(self.words) if word.encode() in text}
            grown.append(_Beam(beam.total + value, branch, text, met))
        return sorted(grown, key=lambda beam: -beam.total)

    def _next_tokens(self, beam: _Beam) -> set[int]:
        """The tokens that begin a missing word or go on with it."""
        found = set()
        for i, forms in enumerate(self.spellings):
            if i not in beam.met:
                found |= {form[_said(beam.branch, form)] for form in forms}
        return found

    def _bank(self, beam: _Beam) -> int:
        """Tokens of required words that are said: of whole ones, and of one begun."""
        whole = sum(len(self.spellings[i][0]) for i in beam.met)
        missing = [forms for i, forms in enumerate(self.spellings) if i not in beam.met]
        return whole + max((_said(beam.branch, form) for forms in missing for form in forms), default=0)

    def _deal(self, beams: list[_Beam]) -> list[_Beam]:
        """`width` of the beams (best first), dealt from the banks in turn."""
        banks: dict[int, list[_Beam]] = {}
        for beam in beams:
            banks.setdefault(self._bank(beam), []).append(beam)
        rounds = itertools.zip_longest(*(banks[bank] for bank in sorted(banks, reverse=True)))
        dealt = [beam for some in rounds for beam in some if beam is not None]
        return dealt[: self.width]

    def _has_all(self, beam: _Beam) -> bool:
        return len(beam.met) == len(self.words)

    def _normed(self, beam: _Beam) -> float:
        return beam.total / beam.branch.count**self.length_penalty


@dataclass(frozen=True, slots=True)
class _Beam:
    """`met`: the numbers of the words that stand in `text`."""

    total: float
    branch: Branch
    text: bytes
    met: frozenset[int]


def _said(branch: Branch, form: tuple[int, ...]) -> int:
    """How many first tokens of `form` the branch ends with (not all of them)."""
    last = tuple(node.token for node in branch.nodes(branch.count - len(form) + 1))
    for length in range(min(len(form) - 1, len(last)), 0, -1):
        if last[len(last) - length :] == form[:length]:
            return length
    return 0
