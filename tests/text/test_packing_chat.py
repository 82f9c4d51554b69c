from itertools import groupby

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twofold.errors import DataError
from twofold.text.packing import IGNORED
from twofold.text.packing_chat import PackedConversations, fitting_length, pack_conversations


def naive_fitting_length(is_learned, limit):
    if len(is_learned) <= limit:
        return len(is_learned)
    best = place = 0
    for learned, run in groupby(is_learned):
        place += len(list(run))
        if learned and place <= limit:
            best = place
    return best


@given(st.lists(st.booleans(), max_size=40), st.integers(1, 50))
def test_what_is_kept_ends_with_the_last_whole_assistant_turn(is_learned, limit):
    assert fitting_length(np.array(is_learned, bool), limit) == naive_fitting_length(is_learned, limit)


@given(st.lists(st.integers(0, 50), max_size=80), st.integers(50, 70), st.integers(0, 3), st.integers(0, 3))
def test_each_conversation_is_in_one_row_and_no_row_is_overfull(lengths, row_length, seed, epoch):
    rows = pack_conversations(lengths, row_length, seed=seed, epoch=epoch)
    assert sorted(n for row in rows for n in row) == [n for n, size in enumerate(lengths) if size]
    assert all(sum(lengths[n] for n in row) <= row_length for row in rows)
    assert rows == pack_conversations(lengths, row_length, seed=seed, epoch=epoch)
    assert len(rows) == len(pack_conversations(lengths, row_length, seed=seed, epoch=epoch + 1))


def test_little_room_is_left_over():
    lengths = np.random.default_rng(0).integers(20, 300, 5000)
    rows = pack_conversations(lengths, 512)
    assert len(rows) * 512 < 1.01 * lengths.sum()


def test_epochs_pack_otherwise():
    lengths = [10] * 100
    assert pack_conversations(lengths, 30, epoch=0) != pack_conversations(lengths, 30, epoch=1)


def test_a_conversation_longer_than_a_row_must_be_shortened_first():
    with pytest.raises(DataError, match="31 tokens; a row has room for 30"):
        pack_conversations([5, 31], 30)


def conversation(number, turns):
    """Tokens 1000 * number + place; turns of (question, answer) lengths behind a start token."""
    mask = [False]
    for question, answer in turns:
        mask += [False] * question + [True] * answer + [False]
    return 1000 * number + np.arange(len(mask)), np.array(mask)


turn_lists = st.lists(
    st.lists(st.tuples(st.integers(1, 8), st.integers(1, 8)), min_size=1, max_size=5), min_size=1, max_size=20
)


@settings(max_examples=100, deadline=None)
@given(turn_lists, st.integers(18, 40), st.integers(0, 3))
def test_each_learned_token_that_fits_is_a_target_once_an_epoch(turns, length, seed):
    conversations = [conversation(number, each) for number, each in enumerate(turns)]
    packed = PackedConversations(conversations, length, seed=seed)
    expected = []
    for ids, mask in conversations:
        keep = naive_fitting_length(mask.tolist(), length + 1)
        expected += ids[:keep][mask[:keep]].tolist()
    for epoch in range(2):
        inputs, targets, parts = packed.batch(epoch * packed.rows_per_epoch, packed.rows_per_epoch)
        kept = targets != IGNORED
        assert sorted(targets[kept].tolist()) == sorted(expected)
        assert (inputs[kept] + 1 == targets[kept]).all()  # each follows its own predecessor
        assert (parts[kept] >= 0).all()
        for row, numbers in enumerate(parts):
            of_parts = [set((inputs[row, numbers == n] // 1000).tolist()) for n in range(numbers.max() + 1)]
            assert all(len(found) == 1 for found in of_parts)
            assert len(set.union(*of_parts)) == len(of_parts)
    assert len(packed) + packed.skipped == len(conversations)
    assert packed.truncated == sum(len(ids) > length + 1 for ids, _ in conversations) - packed.skipped


def test_a_first_turn_that_is_too_long_is_skipped_and_counted():
    packed = PackedConversations([conversation(0, [(5, 100)]), conversation(1, [(5, 5)])], 20)
    assert (packed.skipped, packed.truncated, len(packed)) == (1, 0, 1)


def test_nothing_to_learn_is_an_error():
    with pytest.raises(DataError, match="No conversation can be learned from"):
        PackedConversations([conversation(0, [(5, 100)])], 20)


def test_any_row_is_found_again():
    conversations = [conversation(number, [(3, 4)] * (1 + number % 3)) for number in range(50)]
    packed = PackedConversations(conversations, 30)
    inputs, targets, _ = packed.batch(0, 3 * packed.rows_per_epoch)
    for row in (5, 2 * packed.rows_per_epoch + 1, 0, packed.rows_per_epoch - 1):
        again = PackedConversations(conversations, 30).batch(row, 2)
        assert np.array_equal(again[0], inputs[row : row + 2])
        assert np.array_equal(again[1], targets[row : row + 2])
