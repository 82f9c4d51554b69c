from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from twofold.report.markup import escape, tag


class Reader(HTMLParser):
    """Reads one element back: its text and its attributes."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.text, self.tags, self.attributes = "", [], {}
        self.feed(text)
        self.close()

    def handle_starttag(self, name, attributes):
        self.tags.append(name)
        self.attributes = dict(attributes)

    def handle_data(self, data):
        self.text += data


printable = st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="\ufffe\uffff"))


@given(printable)
def test_any_text_reads_back_as_that_text_and_nothing_else(text):
    read = Reader(tag("p", text, title=text))
    assert read.tags == ["p"]
    assert read.text == text
    assert read.attributes == {"title": text}


@given(st.text())
def test_whatever_the_text_it_can_be_written_as_utf8_without_controls(text):
    shown = escape(text)
    shown.encode("utf-8")
    assert not any(ord(c) < 32 and c not in "\t\n" for c in shown)


def test_children_are_nested_joined_and_left_out():
    assert tag("p", "a", None, ["b", tag("i", "<")], 3) == "<p>ab<i>&lt;</i>3</p>"
    assert tag("br") == "<br>"
    assert tag("input", class_="x", aria_label='"', checked=True, hidden=False) == (
        '<input class="x" aria-label="&quot;" checked>'
    )


def test_a_control_character_is_shown_as_a_symbol():
    assert escape("a\0b\x1b[31m") == "a␀b␛[31m"
    assert escape("\ud800") == "\ufffd"
