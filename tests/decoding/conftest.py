"""Language models of a few lines: a memory with real pages, and scores that any test can work out itself."""

from types import SimpleNamespace

import numpy as np
import pytest

from twofold.models.language_model import ContextFull
from twofold.models.memory import PagedMemory


class TokenMemory(PagedMemory):
    """Pages, and beside them the tokens themselves."""

    def __init__(self, page_size=4, pages=None):
        super().__init__(page_size, pages)
        self.texts = {}

    def new(self, source=None):
        sequence = super().new(source)
        self.texts[sequence] = ()
        return sequence

    def fork(self, sequence):
        fork = super().fork(sequence)
        self.texts[fork] = self.texts[sequence]
        return fork

    def rewind(self, sequence, length):
        super().rewind(sequence, length)
        self.texts[sequence] = self.texts[sequence][:length]

    def free(self, sequence):
        super().free(sequence)
        del self.texts[sequence]

    @property
    def pages_held(self):
        return self.pages_made - len(self._free)


class TextModel:
    """A LanguageModel whose scores after a text are `after(text)` [V], whatever function that is."""

    def __init__(self, after, vocab_size, context_length=60, page_size=4):
        self.after = after
        self.vocab_size = vocab_size
        self.context_length = context_length
        self.page_size = page_size
        self.read = 0  # tokens, in all
        self.asks = []  # how many at a time

    def new_memory(self, pages=None):
        return TokenMemory(self.page_size, pages)

    def scores(self, memory, questions):
        for ask in questions:
            if memory.length(ask.sequence) + len(ask.tokens) > self.context_length:
                raise ContextFull("too long")
        rows = []
        with memory.append([(ask.sequence, len(ask.tokens)) for ask in questions]):
            for ask in questions:
                text = memory.texts[ask.sequence] = memory.texts[ask.sequence] + tuple(ask.tokens)
                self.read += len(ask.tokens)
                rows += [self.after(text[: len(text) - back]) for back in range(ask.rows - 1, -1, -1)]
        self.asks.append(len(questions))
        return np.array(rows, np.float32).reshape(-1, self.vocab_size)


def random_texts(seed=0, size=6, spread=1.5, **options):
    """Scores that depend on the whole text, by chance; the same for the same seed."""
    known = {}

    def after(text):
        if text not in known:
            known[text] = np.random.default_rng([seed, *text]).normal(size=size).astype(np.float32) * spread
        return known[text]

    return TextModel(after, size, **options)


@pytest.fixture(scope="session")
def toys():
    return SimpleNamespace(TextModel=TextModel, TokenMemory=TokenMemory, random_texts=random_texts)
