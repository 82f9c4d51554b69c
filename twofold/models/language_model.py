"""What every language model is to those who decode: tokens in, next-token log-scores out.

A *memory* holds sequences of tokens that have been read. A sequence can be forked (the copy shares what
was read), rewound (its end forgotten) and freed; equal beginnings are shared by forking, never by
comparing tokens. An *ask* appends tokens to one sequence and gets the scores of its last positions; one
call answers many asks, each with a number of tokens of its own, in one pass over the weights.

The Transformer keeps keys and values in a memory, a native engine keeps its own, an n-gram model only
the last tokens, an encoder-decoder also the encoded source: whoever decodes sees no difference.

Who owns what. A memory belongs to the model that made it, and a sequence to the memory that made it: it
is a number, never used twice within a memory, and it lives until it is freed. Whoever called `new` or
`fork` calls `free`. Freeing a sequence never harms its forks. A memory may be used by one thread at a
time.

Faults. A wrong call (a freed sequence, a sequence asked twice at once, a token outside the vocabulary, a
rewind forwards) is a bug in the caller and raises ValueError. `MemoryFull` and `ContextFull` are for
people. Whatever is raised, also KeyboardInterrupt in the middle, the memory is as it was before the call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NewType, Protocol, runtime_checkable

from twofold.errors import TwofoldError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

SequenceId = NewType("SequenceId", int)


class MemoryFull(TwofoldError):
    """The memory has no page left for what was asked; nothing has been changed. Free, and ask again."""


class ContextFull(UsageError):
    """A sequence would become longer than the model's context; nothing has been changed."""


@dataclass(slots=True)  # not frozen: one is made for each token, and that would cost four times as much
class Ask:
    """Append `tokens` (at least one) to `sequence`; return the scores after each of the last `rows`.

    `rows` from 0 (only read) to `len(tokens)`. A memory keeps no scores: to have those of the present
    end again, rewind by one and ask with the last token.
    """

    sequence: SequenceId
    tokens: Sequence[int]
    rows: int = 1


class Memory(Protocol):
    """Sequences over shared pages.

    A page holds `page_size` tokens (a model without pages says 1). Forks share pages; a shared page is
    never written: whoever appends to it first takes a copy.
    """

    page_size: int

    def new(self, source: Sequence[int] | None = None, adapter: str | None = None) -> SequenceId:
        """An empty sequence. `source`: the tokens it answers to, for a model with an encoder; `adapter`: which of
        the model's `adapters` reads it, where it has such. Its forks share both. ValueError for a source or an
        adapter that the model does not have."""
        ...

    def fork(self, sequence: SequenceId) -> SequenceId:
        """A new sequence with the same tokens. Costs no page; forks may be forked."""
        ...

    def rewind(self, sequence: SequenceId, length: int) -> None:
        """Forget all but the first `length` tokens. Pages that nobody needs any more become free; forks
        keep theirs. ValueError for a length above the present one."""
        ...

    def free(self, sequence: SequenceId) -> None:
        """Forget the sequence and give back the pages that no other sequence shares. Freeing twice is a
        ValueError."""
        ...

    def length(self, sequence: SequenceId) -> int:
        """How many tokens the sequence holds."""
        ...

    def pages_free(self) -> int | None:
        """Pages still to be had; None where memory grows as it is needed."""
        ...

    def pages_needed(self, appends: Sequence[tuple[SequenceId, int]]) -> int:
        """Pages that asking for these (sequence, number of tokens) at once would take, copies of shared
        pages included. Asking raises MemoryFull exactly if this is more than `pages_free()`."""
        ...


@runtime_checkable
class LanguageModel(Protocol):
    """Tokens in, next-token scores out. Stateless: what was read lives in the memories.

    A model that computes as several, each sequence by one of them, names them in `adapters`.
    """

    vocab_size: int
    context_length: int

    def new_memory(self, pages: int | None = None) -> Memory:
        """A memory of at most `pages` pages for this model; None: as much as is asked for."""
        ...

    def scores(self, memory: Memory, questions: Sequence[Ask]) -> np.ndarray | Tensor:
        """Answer every ask in one pass: [sum of rows, V] float32, asks in order, positions in order.

        Scores are natural logarithms up to a constant per row (a softmax gives probabilities); -inf is an
        impossible token. The result is the caller's to keep and to change. An ask's scores do not depend
        on its neighbours, apart from rounding.

        Raises ValueError for a wrong call, ContextFull and MemoryFull, in that order, before anything is
        changed.
        """
        ...


def checked_context(asked: int, longest: int) -> int:
    """`asked` tokens of context for a model whose positions allow `longest`. Raises UsageError for more."""
    if not 1 <= asked <= longest:
        raise UsageError(
            f"A context of {asked:,} tokens was asked for, and the model's positions allow 1 to {longest:,}."
        )
    return asked


def check_asks(memory: Memory, questions: Sequence[Ask], vocab_size: int, context_length: int) -> None:
    """What every model refuses: ValueError for a wrong call, ContextFull for a sequence that would be too
    long."""
    if len({ask.sequence for ask in questions}) != len(questions):
        raise ValueError("a sequence is asked twice at once; fork it")
    too_long = None
    for ask in questions:
        if not len(ask.tokens) or not 0 <= ask.rows <= len(ask.tokens):
            raise ValueError(f"an ask of {len(ask.tokens)} tokens cannot have {ask.rows} rows of scores")
        if not 0 <= min(ask.tokens) <= max(ask.tokens) < vocab_size:
            raise ValueError(f"a token is outside the vocabulary of {vocab_size:,}")
        length = memory.length(ask.sequence) + len(ask.tokens)
        if length > context_length:
            too_long = too_long or length
    if too_long:
        raise ContextFull(
            f"A sequence of {too_long:,} tokens is longer than this model's context of {context_length:,}. "
            f"Shorten the text, or ask for fewer tokens."
        )
