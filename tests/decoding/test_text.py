"""Stop strings and characters that fall across the borders of tokens."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold.decoding.text import StopStrings, TextOut
from twofold.errors import UsageError
from twofold.tokens.tokenizer import bytes_only

letters = st.text("ab\n", max_size=12)


@given(
    pieces=st.lists(letters, max_size=12), stops=st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=3)
)
def test_the_text_ends_before_the_first_stop_string_to_be_completed(pieces, stops):
    """Against a naive reading, character by character."""
    whole, shown = "".join(pieces), None
    for end in range(1, len(whole) + 1):
        starts = [end - len(stop) for stop in stops if whole[:end].endswith(stop)]
        if starts:
            shown = whole[: min(starts)]
            break
    stopper = StopStrings(stops)
    characters = [c for piece in pieces for c in piece]
    text = "".join(stopper.feed(c) for c in characters) + stopper.flush()
    assert text == (whole if shown is None else shown)
    assert (stopper.found is not None) == (shown is not None)


@given(
    pieces=st.lists(letters, max_size=12), stops=st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=3)
)
def test_whatever_the_pieces_no_stop_string_is_shown_and_nothing_else_is_lost(pieces, stops):
    stopper = StopStrings(stops)
    text = ""
    for piece in pieces:
        text += stopper.feed(piece)
        assert not any(stop in text for stop in stops)
    text += stopper.flush()
    whole = "".join(pieces)
    assert whole.startswith(text)
    if stopper.found is None:
        assert text == whole
    else:
        assert whole[len(text) :].startswith(stopper.found)


def test_text_that_cannot_become_a_stop_string_is_shown_at_once():
    stopper = StopStrings(["\nUser:"])
    assert stopper.feed("Hello\n") == "Hello"
    assert stopper.feed("Us") == ""
    assert stopper.feed("ing it") == "\nUsing it"


def test_an_empty_stop_string_is_refused():
    with pytest.raises(UsageError, match="empty"):
        StopStrings(["a", ""])


def test_characters_of_several_tokens_come_whole():
    tokenizer = bytes_only()
    out = TextOut(tokenizer, ["ñ"])
    shown = []
    for token in tokenizer.encode("é→añb"):
        ended = out.feed(token)
        shown.append(out.take())
        if ended:
            break
    assert [piece for piece in shown if piece] == ["é", "→", "a"]
    assert out.finish() == ""


def test_half_a_character_at_the_end_is_shown_as_such():
    tokenizer = bytes_only()
    out = TextOut(tokenizer)
    for token in tokenizer.encode("aé")[:2]:
        out.feed(token)
    assert out.take() == "a"
    assert out.finish() == "\ufffd"
