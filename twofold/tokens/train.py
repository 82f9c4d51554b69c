"""Train a tokenizer: read text once, count words, join the most frequent pair again and again.

The training itself is `tokenizers`' `BpeTrainer`, in Rust, on all cores, and the same for the same texts
on every machine. What is ours is that it streams, that nothing in the text can make it crawl, and that the
result is always a vocabulary of a size that kernels like.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator

from twofold.errors import DataError, UsageError
from twofold.tokens.tokenizer import Tokenizer
from twofold.tokens.vocabulary import (
    BYTE_TO_LETTER,
    LARGEST_VOCABULARY,
    PATTERN,
    SMALLEST_VOCABULARY,
    VOCABULARY_MULTIPLE,
    Vocabulary,
    standard_added,
)

DEFAULT_BYTES = 100_000_000  # more text changes the merges very little
_SLICE = 1 << 20  # characters handed to the trainer at once
_LONGEST_WORD = 2_000  # joining pairs inside one word takes time in the square of its length
_FIND_LONG = re.compile(rf"\S{{{_LONGEST_WORD}}}|\s{{{_LONGEST_WORD}}}")
_SEEN_TWICE = 2  # a pair met once is no pattern


def train_tokenizer(
    texts: Iterable[str],
    vocab_size: int,
    *,
    progress: Callable[[int], None] | None = None,
    max_bytes: int = DEFAULT_BYTES,
) -> Tokenizer:
    """A tokenizer of `vocab_size` tokens, the 9 added ones among them, from the first `max_bytes` of text.

    Text with too few repeated pairs for that gives a smaller vocabulary, the largest multiple of 64 that
    it fills: compare `.vocab_size` with what was asked. `progress` is called with the bytes read so far.
    Raises UsageError for an impossible size, DataError for text that does not even fill 320 tokens.
    """
    check_vocab_size(vocab_size)
    if max_bytes <= 0:
        raise UsageError(f"The tokenizer cannot be trained on {max_bytes} bytes of text.")
    from tokenizers import Regex, models, pre_tokenizers, trainers
    from tokenizers import Tokenizer as Backend

    added = len(standard_added(0))
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - added,
        min_frequency=_SEEN_TWICE,
        initial_alphabet=sorted(BYTE_TO_LETTER.values()),
        show_progress=False,
    )
    feed = _Feed(texts, max_bytes, progress)
    backend.train_from_iterator(feed.slices(), trainer)
    if not feed.bytes_read:
        raise DataError("There is no text to train a tokenizer on: all that was given is empty.")
    return _finish(backend, feed.bytes_read)


def check_vocab_size(vocab_size: int) -> None:
    """Raise UsageError unless a tokenizer can have this size."""
    if not SMALLEST_VOCABULARY <= vocab_size <= LARGEST_VOCABULARY or vocab_size % VOCABULARY_MULTIPLE:
        above = max(SMALLEST_VOCABULARY, -(-vocab_size // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE)
        raise UsageError(
            f"A vocabulary of {vocab_size:,} tokens is not possible: take a multiple of "
            f"{VOCABULARY_MULTIPLE} from {SMALLEST_VOCABULARY} to {LARGEST_VOCABULARY:,}, "
            f"for example {min(above, LARGEST_VOCABULARY):,}."
        )


def _finish(backend, bytes_read: int) -> Tokenizer:
    """The Tokenizer of what was learned, cut to a multiple of 64 with the added tokens at its end."""
    model = json.loads(backend.to_str())["model"]
    pieces = sorted(model["vocab"], key=model["vocab"].__getitem__)
    merges = [" ".join(pair) for pair in model["merges"]]
    added = len(standard_added(0))
    size = (len(pieces) + added) // VOCABULARY_MULTIPLE * VOCABULARY_MULTIPLE
    if size < SMALLEST_VOCABULARY:
        raise DataError(
            f"Too little text to train a tokenizer: {bytes_read:,} bytes with {len(merges)} different pairs "
            f"that occur twice, and {SMALLEST_VOCABULARY - 256 - added} are needed. "
            "Give more text, or more varied text."
        )
    learned, merges = pieces[: size - added], merges[: size - added - 256]
    tokens = standard_added(size - added)
    return Tokenizer(Vocabulary((*learned, *(token.name for token in tokens)), tuple(merges), tokens))


class _Feed:
    """The texts as slices that the trainer can take, counted, up to a number of bytes."""

    def __init__(self, texts: Iterable[str], max_bytes: int, progress: Callable[[int], None] | None) -> None:
        self.bytes_read = 0
        self._texts = texts
        self._max_bytes = max_bytes
        self._progress = progress

    def slices(self) -> Iterator[str]:
        for text in self._texts:
            for start in range(0, len(text), _SLICE):
                part = text[start : start + _SLICE].encode("utf-8", errors="replace")
                part = part[: self._max_bytes - self.bytes_read]
                self.bytes_read += len(part)
                yield from _without_long_words(part.decode("utf-8", errors="ignore"))
                if self._progress is not None:
                    self._progress(self.bytes_read)
                if self.bytes_read >= self._max_bytes:
                    return


def _without_long_words(text: str) -> Iterator[str]:
    if _FIND_LONG.search(text) is None:
        yield text
        return
    for start in range(0, len(text), _LONGEST_WORD):
        yield text[start : start + _LONGEST_WORD]
