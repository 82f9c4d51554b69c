"""Help pages are what the code says: rendered afresh, they equal the packaged ones and docs/cli.md."""

import json
import shlex

import pytest

from twofold.cli import reference
from twofold.cli.app import COMMANDS, build_app, present_commands, words_of
from twofold.cli.examples import EXAMPLES, FIRST_STEPS, GO_ON
from twofold.cli.pages import FILE, WIDTHS, without_colour

AGAIN = "the command line has changed; run: make docs"


@pytest.fixture(scope="module")
def fresh():
    return reference.render_all()


def test_the_packaged_pages_equal_a_fresh_rendering(fresh):
    stored = json.loads(FILE.read_text(encoding="utf-8"))
    assert list(stored["pages"][str(WIDTHS[0])]) == list(fresh.pages[str(WIDTHS[0])]), AGAIN
    for width, pages in fresh.pages.items():
        for path, page in pages.items():
            assert stored["pages"][width][path] == page, AGAIN
    assert tuple(stored["groups"]) == fresh.groups, AGAIN


def test_the_written_reference_equals_a_fresh_rendering(fresh):
    assert reference.DOCUMENT.read_text(encoding="utf-8") == reference.as_markdown(fresh), AGAIN


def test_every_command_of_the_table_is_there():
    assert [command.name for command in present_commands()] == [command.name for command in COMMANDS]


def test_every_page_fits_its_width_and_ends_in_one_newline(fresh):
    for width, pages in fresh.pages.items():
        for path, page in pages.items():
            assert page.endswith("\n")
            assert not page.endswith("\n\n")
            head = page.split("\x1b[1mExamples", 1)[0].split("\x1b[1mFirst steps", 1)[0]
            too_wide = [line for line in without_colour(head).splitlines()[1:] if len(line) > int(width)]
            assert not too_wide, path


def test_every_command_says_what_it_is_for_in_one_line(fresh):
    for path, page in fresh.pages[str(WIDTHS[1])].items():
        purpose = without_colour(page).split("\n\n")[1].splitlines()[0]
        assert purpose.rstrip(":").endswith(".") or len(purpose) > 60, path


def example_lines():
    """Every command line that a help page shows."""
    shown = [line for line, _ in FIRST_STEPS]
    shown += [line for examples in EXAMPLES.values() for line, _ in examples]
    return shown + [line for lines in GO_ON.values() for line in lines]


@pytest.mark.parametrize("line", example_lines())
def test_the_examples_in_help_pages_parse(line):
    words = shlex.split(line.rpartition("| ")[2].partition(" > ")[0])
    assert words[0] in ("twofold", "python")
    if words[0] == "twofold":
        build_app().parse_args(words_of(words[1:]))


def test_every_command_has_examples_of_itself(fresh):
    for path in fresh.pages[str(WIDTHS[0])]:
        lines = FIRST_STEPS if not path else EXAMPLES.get(path, ())
        assert any(f"twofold {path}".strip() in line for line, _ in lines), f"no example of: twofold {path}"
    assert set(EXAMPLES) | set(GO_ON) <= set(fresh.pages[str(WIDTHS[0])])
