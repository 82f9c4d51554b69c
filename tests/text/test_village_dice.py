from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from twofold.text.village_dice import Deck, Dice


def test_dice_of_the_same_name_throw_the_same_and_others_differ():
    throws = [[dice.below(1000) for _ in range(20)] for dice in (Dice("a"), Dice("a"), Dice("b"))]
    assert throws[0] == throws[1] != throws[2]


def test_throws_are_the_documented_sequence_of_python():
    # Seeding with a string and random() are the two things that Python promises never to change.
    assert [Dice("village").below(10**6) for _ in range(1)] == [
        int(__import__("random").Random("village").random() * 10**6)
    ]


@given(st.text(max_size=5), st.integers(-50, 50), st.integers(0, 50))
def test_between_stays_within_its_bounds(name, low, width):
    dice = Dice(name)
    assert all(low <= dice.between(low, low + width) <= low + width for _ in range(20))


@given(st.text(max_size=5), st.lists(st.integers(), max_size=30))
def test_shuffling_keeps_the_cards(name, cards):
    assert sorted(Dice(name).shuffled(cards)) == sorted(cards)


@given(st.text(max_size=5), st.integers(1, 12), st.lists(st.integers(0, 15), max_size=30))
def test_a_deck_deals_every_card_equally_often_and_no_hand_holds_a_card_twice(name, size, hands):
    deck = Deck(range(size), Dice(name))
    dealt = Counter()
    for count in hands:
        hand = deck.hand(count)
        assert len(hand) == len(set(hand)) == min(count, size)
        dealt.update(hand)
        dealt.update([deck.draw()])
        assert max(dealt.values()) - min(dealt[card] for card in range(size)) <= 1
