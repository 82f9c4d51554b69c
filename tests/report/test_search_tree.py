"""The page of a search: every token once, escaped, at a place of its own."""

import re

import pytest

from twofold.errors import FileError
from twofold.report.search_tree import Step, render_search_tree, write_search_tree

STEPS = [
    Step(None, " the", -0.1, True), Step(None, " a", -2.5), Step(0, " cat", -0.4, True), Step(0, " dog", -1.2),
    Step(2, "<b>&", -3.0, True),
]  # fmt: skip


def tokens(page):
    """(text, x, y) of each token drawn."""
    return [
        (text, int(x), int(y)) for x, y, text in re.findall(r'<text x="(\d+)" y="(\d+)">([^<]*)</text>', page)
    ]


def test_every_token_is_drawn_once_at_a_place_of_its_own():
    drawn = tokens(render_search_tree("Once", STEPS))
    assert sorted(text.strip() for text, _, _ in drawn) == ["&lt;b&gt;&amp;", "a", "cat", "dog", "the"]
    assert len({(x, y) for _, x, y in drawn}) == 5


def test_the_most_probable_child_goes_on_in_its_parents_row_one_column_on():
    place = {text.strip(): (x, y) for text, x, y in tokens(render_search_tree("Once", STEPS))}
    assert place["the"][1] == place["cat"][1] == place["&lt;b&gt;&amp;"][1]
    assert place["the"][0] < place["cat"][0] < place["&lt;b&gt;&amp;"][0]
    assert place["dog"][1] > place["cat"][1]
    assert place["dog"][0] == place["cat"][0]


def test_what_was_returned_is_marked_and_the_rest_is_not():
    page = render_search_tree("Once", STEPS)
    assert page.count('<g class="best">') == 3
    assert "log-probability -0.400, so far -0.500" in page


def test_the_prompt_is_text_and_nothing_runs():
    page = render_search_tree("<script>alert(1)</script>", STEPS)
    assert "<script" not in page
    assert "default-src &#x27;none&#x27;" in page


def test_a_huge_search_leaves_out_what_led_nowhere_and_says_so():
    steps = [Step(i - 1 if i else None, "x", -0.1, True) for i in range(100)]
    steps += [Step(i % 100, "y", -3.0) for i in range(5000)]
    page = render_search_tree("Once", steps)
    assert len(tokens(page)) == 100
    assert "5,000 that led nowhere are left out" in page


def test_a_page_that_cannot_be_written_is_told(tmp_path):
    write_search_tree(tmp_path / "tree.html", "Once", STEPS)
    assert (tmp_path / "tree.html").read_text().startswith("<!doctype html>")
    with pytest.raises(FileError):
        write_search_tree(tmp_path, "Once", STEPS)
