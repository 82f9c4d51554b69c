"""Tokens to look at: nothing invisible, nothing that steers a terminal, and figures that add up."""

import io
import itertools
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from twofold.errors import DataError, UsageError
from twofold.tokens.show import TokenView, look_at, render_statistics, statistics, visible
from twofold.tokens.tokenizer import bytes_only

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def on_screen(renderable, **options):
    console = Console(file=io.StringIO(), width=100, highlight=False, **options)
    console.print(renderable)
    return console.file.getvalue()


@given(ANY_TEXT)
def test_every_token_shows_something_that_steers_no_terminal(tokenizer, text):
    tokens = look_at(tokenizer, tokenizer.encode(text))
    assert b"".join(token.bytes for token in tokens) == text.encode()
    assert all(token.shown and token.shown.isprintable() and " " not in token.shown for token in tokens)
    screen = on_screen(TokenView(tokens, border="│"))
    assert "\x1b" not in screen
    assert all(letter.isprintable() or letter == "\n" for letter in screen)


def test_spaces_controls_and_hidden_characters_are_named():
    assert visible("a b\tc\n") == "a␠b␉c␊"
    assert visible("\x1b[31m\x7f") == "␛[31m␡"
    assert visible("\u200b\u202ee\u0301\u00a0") == "⟨U+200B⟩⟨U+202E⟩e⟨U+0301⟩⟨U+00A0⟩"
    assert visible("水é") == "水é"


def test_parts_of_characters_are_shown_as_their_bytes():
    tokens = look_at(bytes_only(), bytes_only().encode("a水"))
    assert [token.shown for token in tokens] == ["a", "⟨E6⟩", "⟨B0⟩", "⟨B4⟩"]
    assert [token.partial for token in tokens] == [False, True, True, True]
    assert tokens[1].as_dict() == {"id": tokens[1].id, "text": None, "shown": "⟨E6⟩", "bytes": "e6"}


def test_special_tokens_are_shown_by_name():
    tokenizer = bytes_only()
    tokens = look_at(tokenizer, [tokenizer.im_end, tokenizer.im_end + 1])
    assert [(token.shown, token.special) for token in tokens] == [("<|im_end|>", True), ("<think>", False)]
    with pytest.raises(UsageError):
        look_at(tokenizer, [320])


def test_colours_tell_neighbours_apart(tokenizer):
    tokens = look_at(tokenizer, tokenizer.encode("ab" * 3))
    screen = on_screen(TokenView(tokens), force_terminal=True, color_system="standard")
    first_line = screen.splitlines()[0]
    styles = re.findall(r"\x1b\[(30;4\d)m", first_line)
    assert len(styles) == len(tokens)
    assert all(one != two for one, two in itertools.pairwise(styles))


def test_figures_are_counted_from_the_tokens_themselves(tokenizer, sample_text):
    texts = [sample_text, "水水", ""]
    found = statistics(tokenizer, iter(texts))
    ids = [token for text in texts for token in tokenizer.encode(text)]
    assert found.bytes == sum(len(text.encode()) for text in texts)
    assert found.tokens == len(ids)
    assert found.bytes_per_token == pytest.approx(found.bytes / len(ids))
    single = sum(len(tokenizer.token_bytes(token)) == 1 for token in ids)
    assert found.single_byte_share == pytest.approx(single / len(ids))
    assert found.used_share == pytest.approx(len(set(ids)) / 512)
    assert found.texts == 3


def test_common_words_are_cheap_and_rare_ones_dear(tokenizer, sample_text):
    found = statistics(tokenizer, [sample_text + " antidisestablishmentarianism"])
    assert all(len(tokenizer.encode(" " + word)) == 1 for word in found.common_whole)
    assert found.common_whole
    assert all(len(tokenizer.encode(" " + word)) == count > 1 for word, count in found.common_split)
    assert ("antidisestablishmentarianism", len(tokenizer.encode(" antidisestablishmentarianism"))) in (
        found.rare_costly
    )
    lengths = [len(tokenizer.token_bytes(token)) for token in range(512) if not tokenizer.is_added(token)]
    assert len(found.longest[0].replace("␠", " ").encode()) == max(lengths) or "⟨" in found.longest[0]


def test_a_byte_tokenizer_has_one_byte_a_token():
    found = statistics(bytes_only(), ["hello there 水"])
    assert (found.bytes_per_token, found.single_byte_share) == (1, 1)
    assert found.words == 3
    assert found.tokens_per_word == pytest.approx((6 + 6 + 4) / 3)


def test_the_figures_can_be_printed_and_kept(tokenizer, sample_text):
    found = statistics(tokenizer, [sample_text, "[red]tricky[/nothing]"])
    screen = on_screen(render_statistics(found))
    assert f"{found.bytes_per_token:.3f}" in screen
    assert json.loads(json.dumps(found.as_dict()))["tokens"] == found.tokens
    on_screen(render_statistics(statistics(tokenizer, ["123"])))  # no words


@pytest.mark.parametrize("texts", [[], [""]])
def test_no_text_is_told(tokenizer, texts):
    with pytest.raises(DataError, match="no text"):
        statistics(tokenizer, texts)
