from collections import Counter, defaultdict
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twofold.errors import UsageError
from twofold.text.packing import (
    IGNORED,
    PackedRows,
    Piece,
    cut_into_stretches,
    plan_rows,
    plan_whole,
    shuffled,
)


class Lists:
    """Documents in memory. Every token is unique, and tells its document: 1000 * document + place."""

    def __init__(self, lengths):
        self.lengths = np.array(lengths, np.int64)

    def __getitem__(self, document):
        return 1000 * document + np.arange(self.lengths[document])


documents = st.lists(st.integers(1, 90), min_size=1, max_size=40).map(Lists)
row_lengths = st.integers(1, 40)


def pairs(inputs, targets):
    kept = targets != IGNORED
    return list(zip(inputs[kept].tolist(), targets[kept].tolist(), strict=True))


def expected_pairs(documents):
    """Each token with the one that follows it; after the last comes the start token, as the end."""
    return Counter(
        (int(a), int(b))
        for number in range(len(documents.lengths))
        for a, b in zip(documents[number], np.roll(documents[number], -1), strict=True)
    )


@settings(max_examples=60, deadline=None)
@given(documents, row_lengths, st.integers(0, 9), st.booleans(), st.integers(1, 400))
def test_each_epoch_holds_each_step_exactly_once(docs, length, seed, shuffle, window):
    packed = PackedRows(docs, length, seed=seed, shuffle=shuffle, window_tokens=window)
    for epoch in range(2):
        inputs, targets, parts = packed.batch(epoch * packed.rows_per_epoch, packed.rows_per_epoch)
        assert inputs.shape == targets.shape == (packed.rows_per_epoch, length)
        assert Counter(pairs(inputs, targets)) == expected_pairs(docs)
        for row in range(packed.rows_per_epoch):  # of a document that is cut, one row may hold two pieces
            sizes = [piece.stop - piece.start for piece in packed.pieces(epoch * packed.rows_per_epoch + row)]
            expected = np.repeat(np.arange(len(sizes) + 1), [*sizes, length - sum(sizes)])
            assert np.array_equal(parts[row], expected)


@settings(max_examples=40, deadline=None)
@given(documents, row_lengths, st.integers(1, 400))
def test_only_the_end_of_an_epochs_last_row_is_padding(docs, length, window):
    packed = PackedRows(docs, length, window_tokens=window)
    _, targets, _ = packed.batch(0, packed.rows_per_epoch)
    padding = (targets == IGNORED).ravel()
    assert 0 <= packed.padding_per_epoch < length
    assert padding.sum() == packed.padding_per_epoch
    assert not padding[: targets.size - packed.padding_per_epoch].any()


@settings(max_examples=40, deadline=None)
@given(documents, row_lengths, st.integers(0, 9), st.integers(1, 400), st.randoms(use_true_random=False))
def test_any_row_is_found_again_without_replaying(docs, length, seed, window, random):
    packed = PackedRows(docs, length, seed=seed, window_tokens=window)
    count = 3 * packed.rows_per_epoch
    all_inputs, all_targets, all_parts = packed.batch(0, count)
    for _ in range(4):
        row = random.randrange(count)
        fresh = PackedRows(docs, length, seed=seed, window_tokens=window)
        inputs, targets, parts = fresh.batch(row, min(5, count - row))
        assert np.array_equal(inputs, all_inputs[row : row + 5])
        assert np.array_equal(targets, all_targets[row : row + 5])
        assert np.array_equal(parts, all_parts[row : row + 5])


@settings(max_examples=60, deadline=None)
@given(documents, row_lengths, st.integers(0, 9), st.booleans())
def test_a_row_starts_at_a_document_start_while_there_is_one(docs, length, seed, shuffle):
    packed = PackedRows(docs, length, seed=seed, shuffle=shuffle)
    heads = sum(piece.start == 0 for row in range(packed.rows_per_epoch) for piece in packed.pieces(row))
    assert heads == len(docs.lengths)
    for row in range(packed.rows_per_epoch):
        pieces = packed.pieces(row)
        if pieces[0].start:
            assert not any(piece.start == 0 for piece in pieces)


@settings(max_examples=60, deadline=None)
@given(documents, row_lengths)
def test_planned_rows_begin_inside_documents_only_when_no_start_is_left(docs, length):
    rows = plan_rows([Piece(number, 0, int(n)) for number, n in enumerate(docs.lengths)], length)
    begins_inside = [row[0].start > 0 for row in rows]
    assert begins_inside == sorted(begins_inside)
    assert all(sum(p.stop - p.start for p in row) == length for row in rows[:-1])


def test_short_documents_are_hardly_ever_cut():
    lengths = np.random.default_rng(0).geometric(1 / 100, 20_000) + 4
    packed = PackedRows(Lists(lengths), 1024)
    cuts = sum(len(packed.pieces(row)) for row in range(packed.rows_per_epoch)) - len(lengths)
    assert cuts < packed.rows_per_epoch / 8
    assert all(packed.pieces(row)[0].start == 0 for row in range(packed.rows_per_epoch))


def test_documents_longer_than_a_row_are_cut_into_whole_rows():
    packed = PackedRows(Lists([256, 320]), 64, shuffle=False)
    sizes = [[p.stop - p.start for p in packed.pieces(row)] for row in range(packed.rows_per_epoch)]
    assert sizes == [[64]] * 9


def test_epochs_and_seeds_differ():
    docs = Lists([50] * 200)
    packed, other = PackedRows(docs, 64, seed=1), PackedRows(docs, 64, seed=2)
    first, second = packed.batch(0, 20)[0], packed.batch(packed.rows_per_epoch, 20)[0]
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, other.batch(0, 20)[0])


def test_documents_of_all_lengths_are_spread_over_an_epoch():
    """Longest-first packing must not become a curriculum from long documents to short ones."""
    lengths = np.tile(np.arange(8, 40), 60)
    packed = PackedRows(Lists(lengths), 64)
    half = packed.rows_per_epoch // 2
    counts = defaultdict(lambda: [0, 0])
    for row in range(packed.rows_per_epoch):
        for piece in packed.pieces(row):
            counts[int(lengths[piece.document])][row >= half] += 1
    for early, late in counts.values():
        assert early >= 10
        assert late >= 10


@given(st.lists(st.integers(1, 90), min_size=1, max_size=20), st.integers(1, 30), st.data())
def test_stretches_cover_each_document_in_order(lengths, longest, data):
    first = data.draw(st.integers(1, longest))
    document, start, stop = cut_into_stretches(np.array(lengths), longest, first)
    covered = [[] for _ in lengths]
    for d, a, b in zip(document.tolist(), start.tolist(), stop.tolist(), strict=True):
        assert 0 < b - a <= longest
        covered[d] += range(a, b)
    assert covered == [list(range(n)) for n in lengths]
    assert all(np.sum(document == d) == 1 for d, n in enumerate(lengths) if n <= longest)


def test_long_documents_are_mixed_over_the_whole_epoch():
    """Ten books, and windows of one book's size: every part of an epoch must hold something of every book."""
    packed = PackedRows(Lists([1000] * 10), 10, window_tokens=1000)
    for tenth in range(10):
        rows = range(tenth * 100, (tenth + 1) * 100)
        assert {piece.document for row in rows for piece in packed.pieces(row)} == set(range(10))


def test_long_documents_are_cut_elsewhere_in_the_next_epoch():
    packed = PackedRows(Lists([1000]), 10)
    epochs = [range(n * packed.rows_per_epoch, (n + 1) * packed.rows_per_epoch) for n in range(3)]
    starts = [{p.start % 10 for row in rows for p in packed.pieces(row)} for rows in epochs]
    assert len({tuple(sorted(found)) for found in starts}) > 1


def test_a_corpus_shorter_than_a_row_is_one_padded_row():
    inputs, targets, parts = PackedRows(Lists([3]), 8).batch(0, 1)
    assert parts.tolist() == [[0, 0, 0, 1, 1, 1, 1, 1]]
    assert inputs.tolist() == [[0, 1, 2, 0, 0, 0, 0, 0]]
    assert targets.tolist() == [[1, 2, 0] + [IGNORED] * 5]


def test_shuffling_is_the_same_on_every_machine():
    assert shuffled(10, 1, 2).tolist() == [5, 6, 9, 3, 2, 1, 0, 8, 4, 7]


@given(st.lists(st.integers(1, 30), max_size=60), st.integers(30, 40))
def test_whole_packing_cuts_nothing_and_overfills_nothing(lengths, length):
    rows = plan_whole([Piece(number, 0, n) for number, n in enumerate(lengths)], length)
    assert sorted(piece.document for row in rows for piece in row) == list(range(len(lengths)))
    assert all(piece == (piece.document, 0, lengths[piece.document]) for row in rows for piece in row)
    assert all(sum(piece.stop for piece in row) <= length for row in rows)
    # First-fit decreasing: no two rows could be one, but for the very last.
    fills = [sum(piece.stop for piece in row) for row in rows]
    assert all(a + b > length for a, b in pairwise(fills))


@pytest.mark.parametrize("settings", [{"length": 0}, {"length": 8, "seed": -1}])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(UsageError):
        PackedRows(Lists([3]), **settings)
