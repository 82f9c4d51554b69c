from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twofold.errors import DataError, UsageError
from twofold.text.held_out import HeldOutRows
from twofold.text.packing import IGNORED


class Lists:
    def __init__(self, lengths):
        self.lengths = np.array(lengths, np.int64)
        self.documents = len(lengths)
        self.document_bytes = 4 * (self.lengths - 1)

    def __getitem__(self, document):
        return 1000 * document + np.arange(self.lengths[document])


documents = st.lists(st.integers(1, 60), min_size=1, max_size=25).filter(lambda x: max(x) > 1).map(Lists)


def targets_of(batches):
    found = Counter()
    for inputs, targets in batches:
        kept = targets != IGNORED
        assert (inputs[kept] + 1 == targets[kept]).all()
        found.update(targets[kept].tolist())
    return found


def every_token_but_starts(docs):
    return Counter(int(token) for number in range(docs.documents) for token in docs[number][1:])


@settings(deadline=None)
@given(documents, st.integers(1, 30), st.integers(1, 200))
def test_each_token_is_scored_once_in_batches(docs, length, steps):
    rows = HeldOutRows(docs, length)
    batches = list(rows.batches(steps))
    assert targets_of(batches) == every_token_but_starts(docs)
    assert rows.tokens == sum(every_token_but_starts(docs).values())
    assert rows.text_bytes == 4 * rows.tokens
    assert all(inputs.size <= steps or len(inputs) == 1 for inputs, _ in batches)
    assert all(inputs.shape[1] <= length for inputs, _ in batches)


def all_rows(docs, length):
    rows = HeldOutRows(docs, length)
    return rows.rows(range(len(rows)))


@settings(deadline=None)
@given(documents, st.integers(1, 30))
def test_each_token_is_scored_once_in_one_array(docs, length):
    inputs, targets = all_rows(docs, length)
    assert inputs.shape == targets.shape
    assert inputs.shape[1] <= length
    assert targets_of([(inputs, targets)]) == every_token_but_starts(docs)


@settings(deadline=None)
@given(documents, st.integers(1, 30))
def test_each_row_holds_one_document_only(docs, length):
    inputs, targets = all_rows(docs, length)
    for row, wanted in zip(inputs, targets, strict=True):
        assert len(set((row[wanted != IGNORED] // 1000).tolist())) == 1


def test_long_documents_are_cut_into_consecutive_pieces():
    inputs, targets = all_rows(Lists([1, 6]), 3)
    assert inputs.tolist() == [[1000, 1001, 1002], [1003, 1004, 0]]
    assert targets.tolist() == [[1001, 1002, 1003], [1004, 1005, IGNORED]]


def test_a_limit_keeps_the_first_documents_and_their_bytes():
    rows = HeldOutRows(Lists([5, 5, 5, 5]), 8, most_tokens=9)
    assert (rows.documents, rows.tokens, rows.text_bytes) == (2, 8, 32)
    assert HeldOutRows(Lists([50, 5]), 8, most_tokens=9).documents == 1


def test_impossible_settings_are_refused():
    with pytest.raises(DataError, match="no text"):
        HeldOutRows(Lists([1, 1]), 8)
    with pytest.raises(UsageError):
        HeldOutRows(Lists([5]), 0)
