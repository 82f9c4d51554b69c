"""What README.md and docs/ show is true: their code blocks run, their links lead somewhere.

A ```console block is run line by line ("$ command", in bash), a ```python block in one namespace per file,
both in a folder where `demo/` is what `twofold create` leaves (with a tiny, untrained model) and `book.txt`
is a text.
Lines under a command are its expected output: each must appear, in order; "..." stands for anything.
`<!-- not run: reason -->` above a block keeps it from being run; its `twofold` lines must then at least
parse, and its `make` lines name targets that exist. Blocks in other languages are only read.
"""

import io
import os
import re
import shlex
import subprocess
import sys
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GUIDES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]  # their blocks run
PAGES = [*GUIDES, ROOT / "CHANGELOG.md", ROOT / "ARCHITECTURE.md"]
RUN = {"console", "python"}
READ = {"text", "json", "toml", "mermaid", ""}
FENCE = re.compile(
    r"^(?:<!-- not run: (?P<reason>[^\n]*?) -->\n+)?"
    r"(?P<indent> *)```(?P<language>\w*)\n(?P<body>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """One fenced block of a page. `reason`: why it is not run, None when it is."""

    page: Path
    line: int
    language: str
    body: str
    reason: str | None

    @property
    def commands(self) -> list[tuple[str, list[str]]]:
        """(command, expected output lines) of a console block."""
        found: list[tuple[str, list[str]]] = []
        for line in self.body.replace("\\\n", " ").splitlines():
            if line.strip().startswith("$ "):
                found.append((line.strip()[2:], []))
            elif found and line.strip():
                found[-1][1].append(line.strip())
        return found


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(page, text[: match.start()].count("\n") + 1, match["language"], match["body"], match["reason"])
        for match in FENCE.finditer(text)
    ]


def pages_with(**wanted) -> list:
    """Pages that have blocks to run (reason=None) or not to run."""
    return [
        pytest.param(page, id=page.name)
        for page in GUIDES
        if any(b.language in RUN and (b.reason is None) == wanted["run"] for b in blocks(page))
    ]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder as a newcomer has it after `twofold create`, with a tiny, untrained model."""
    from twofold.models.config import TransformerConfig
    from twofold.models.folder import save_folder
    from twofold.models.transformer import Transformer
    from twofold.text.world import Village, VillageSettings
    from twofold.tokens.train import train_tokenizer
    from twofold.twofiles.export import export

    folder = tmp_path_factory.mktemp("workplace")
    texts = [document.text for document in Village(VillageSettings(villagers=20)).documents(60_000)]
    (folder / "book.txt").write_text("\n\n".join(texts), encoding="utf-8")
    tokenizer = train_tokenizer(texts, 512)
    config = TransformerConfig(
        vocab_size=tokenizer.vocab_size, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, intermediate_size=64, max_position_embeddings=256,
    )  # fmt: skip
    for name, chat in (("base", False), ("assistant", True)):
        save_folder(folder / "demo" / name, Transformer(config), tokenizer, chat=chat)
    export(folder / "demo/assistant", folder / "demo/two-files")
    return folder


def run_line(command: str) -> tuple[int, str]:
    """(exit code, output) of a command line. A plain `twofold …` runs in this process, which has torch loaded
    already; whatever needs a shell runs in one."""
    if command.startswith("twofold ") and not set("|&;<>$`*") & set(command):
        from twofold.__main__ import main

        shown = io.StringIO()
        with open(os.devnull) as nothing, redirect_stdout(shown), redirect_stderr(shown), stdin_from(nothing):
            code = main(shlex.split(command)[1:])
        return code, shown.getvalue()
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=120,
    )
    return done.returncode, done.stdout.decode("utf-8", "replace")


@contextmanager
def stdin_from(file):
    """Standard input is `file` within the block."""
    before, sys.stdin = sys.stdin, file
    try:
        yield
    finally:
        sys.stdin = before


@pytest.mark.parametrize("page", pages_with(run=True))
def test_what_the_page_shows_happens(page, workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    namespace = {"__name__": "__main__"}
    for block in blocks(page):
        if block.reason is not None or block.language not in RUN:
            continue
        where = f"{page.name}, line {block.line}"
        if block.language == "python":
            exec(compile(block.body, where, "exec"), namespace)
            continue
        for command, expected in block.commands:
            code, output = run_line(command)
            assert code == 0, f"{where}: {command}\n{output}"
            rest = output
            for line in expected:
                for piece in filter(None, (piece.strip() for piece in line.split("..."))):
                    assert piece in rest, f"{where}: {command}\nexpected {piece!r} in\n{output}"
                    rest = rest.split(piece, 1)[1]


@pytest.mark.parametrize("page", pages_with(run=False))
def test_what_is_not_run_is_at_least_possible(page):
    from twofold.cli.app import build_app, words_of

    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for block in blocks(page):
        if block.reason is None or block.language != "console":
            continue
        assert block.reason.strip()
        for command, _ in block.commands:
            for part in re.split(r"\||&&|;", command):
                words = shlex.split(part, comments=True)
                if words[:1] == ["make"]:
                    assert set(words[1:]) <= targets, command
                if words[:1] == ["twofold"]:
                    words = words[: words.index(">")] if ">" in words else words
                    build_app().parse_args(words_of(words[1:]))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_is_of_a_known_kind_and_closed(page):
    assert page.read_text(encoding="utf-8").count("```") == 2 * len(blocks(page))
    assert {block.language for block in blocks(page)} <= RUN | READ


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        linked = (page.parent / name).resolve() if name else page
        assert linked.exists(), f"{page.name} links to {target}"
        if anchor and linked.suffix == ".md":
            headings = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in slugs, f"{page.name} links to {target}"


def test_expected_output_and_reasons_are_read_from_blocks(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- not run: slow -->\n```console\n$ make demo\n```\n\n"
        "```console\n$ echo one \\\n    two\none two\n$ true\n```\n\n```text\nx\n```\n"
    )
    slow, quick, text = blocks(page)
    assert (slow.reason, slow.commands) == ("slow", [("make demo", [])])
    assert quick.reason is None
    assert [(" ".join(c.split()), e) for c, e in quick.commands] == [
        ("echo one two", ["one two"]),
        ("true", []),
    ]
    assert text.language == "text"
