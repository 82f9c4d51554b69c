"""`twofold tokens`: what a model reads instead of letters, looked at, learned and measured."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from twofold.cli.pages import wants_colour
from twofold.cli.terminal import status
from twofold.errors import UsageError
from twofold.files import explained

if TYPE_CHECKING:
    from twofold.tokens.tokenizer import Tokenizer

app = App(name="tokens")

PLACES = ("", "tokens", "assistant", "base")  # within what `twofold create` leaves
_LONGEST_TEXT = 10_000_000  # characters; each token is a line on the screen

Json = Annotated[bool, Parameter("--json", negative="")]
Output = Annotated[Path, Parameter(name=["--output", "-o"])]
Inputs = Annotated[list[str], Parameter(negative_iterable=())]
BadFiles = Literal["refuse", "skip"]


@app.default
def show(
    text: str,
    /,
    *,
    tokenizer: Path | None = None,
    as_json: Json = False,
) -> None:
    """See how text becomes tokens, and learn a tokenizer of your own.

    Shows the pieces of TEXT in colour, with the number and the bytes of each. A space shows as ␠, a line
    end as ␊, and bytes that are only a part of a character as ⟨E2⟩.

    A model reads numbers. Each stands for a piece of text: a byte, a part of a word, a word with the
    space before it. Frequent pieces get a number of their own, so common words cost one token and rare
    ones many. With Twofold's own tokenizers no text is lost: the pieces, put together, are the text again,
    byte for byte.

    Parameters
    ----------
    text
        What to look at; - reads standard input. For a text that is also the name of a command, such as
        train, use standard input.
    tokenizer
        A folder that holds one: a model's, or what `tokens train` or `create` left. Or a file: tokenizer.json,
        vocab.json beside merges.txt, tiktoken's ranks, a SentencePiece .model, a .gguf. Or a model of the hub
        (owner/name), of which only what describes it is fetched.
    as_json
        Print the tokens as JSON, for scripts.
    """
    from twofold.tokens.show import TokenView, look_at

    chosen = _load(tokenizer)
    text = _standard_input() if text == "-" else text
    if len(text) > _LONGEST_TEXT:
        raise UsageError(f"The text has {len(text):,} characters; at most {_LONGEST_TEXT:,} can be shown.")
    tokens = look_at(chosen, chosen.encode(text))
    if as_json:
        print(json.dumps([token.as_dict() for token in tokens], ensure_ascii=False))
        return
    _print(TokenView(tokens, border="" if wants_colour(sys.stdout) else "│"))


@app.command
def train(
    inputs: Inputs,
    /,
    *,
    output: Output,
    vocab_size: int = 4096,
    megabytes: float = 100.0,
    bad_files: BadFiles = "refuse",
) -> None:
    """Learn a tokenizer from your own text.

    Starts from the 256 bytes and joins the most frequent pair of neighbours into a new piece, again and
    again, until the vocabulary is full. A larger vocabulary makes texts shorter and the model's table of
    tokens bigger: 4,096 suits models of a few million parameters, 32,768 those of a hundred million.

    Parameters
    ----------
    inputs
        Files, folders, - for standard input, or hf://name; as `twofold text read` takes them.
    output
        The folder for tokenizer.json and tokenizer_config.json.
    vocab_size
        How many tokens, a multiple of 64 and at least 320. Nine of them mark conversations and ends.
    megabytes
        Learn from the first so many millions of bytes.
    bad_files
        What to do with a file that cannot be read: stop, or leave it out and count it.
    """
    from twofold.text.sources import ReadReport, read_documents
    from twofold.tokens.tokenizer_file import FILE
    from twofold.tokens.train import check_vocab_size, train_tokenizer

    check_vocab_size(vocab_size)
    if not 0 < megabytes <= 1_000_000:
        raise UsageError(f"--megabytes must be above 0 and at most 1,000,000, and is {megabytes:g}.")
    if (output / FILE).exists():
        raise UsageError(f"{output / FILE} exists already; nothing was changed. Choose another --output.")
    report = ReadReport()
    texts = (document.text for document in read_documents(inputs, on_bad=bad_files, report=report))
    with status(lambda count: f"{count / 1e6:,.0f} MB read") as progress:
        learned = train_tokenizer(
            texts, vocab_size, progress=progress, max_bytes=max(1, int(megabytes * 1_000_000))
        )
    learned.save(output)
    print(f"{output}: {learned.vocab_size:,} tokens, learned from {report}.")
    if learned.vocab_size < vocab_size:
        print(
            f"You asked for {vocab_size:,}. The text has no more pairs that occur twice; "
            "a larger vocabulary needs more text."
        )


@app.command
def stats(
    inputs: Inputs, /, *, tokenizer: Path | None = None, as_json: Json = False, bad_files: BadFiles = "refuse"
) -> None:
    """Measure a tokenizer on text: bytes per token, and which words are cheap or dear.

    More bytes per token is less work for the model. Bytes are counted from the tokens themselves. Measure
    on text that the tokenizer was not trained on.

    Parameters
    ----------
    inputs
        Files, folders, - for standard input, or hf://name.
    tokenizer
        A folder that holds one, a file of one, or a model of the hub, as for `twofold tokens`.
    as_json
        Print the figures as JSON, for scripts.
    bad_files
        What to do with a file that cannot be read: stop, or leave it out.
    """
    from twofold.text.sources import read_documents
    from twofold.tokens.show import render_statistics, statistics

    chosen = _load(tokenizer)
    found = statistics(chosen, (document.text for document in read_documents(inputs, on_bad=bad_files)))
    if as_json:
        print(json.dumps(found.as_dict(), indent=2, ensure_ascii=False))
        return
    _print(render_statistics(found))


def _load(path: Path | None) -> Tokenizer:
    if path is None:
        raise UsageError(
            "which tokenizer? Name one with --tokenizer: a folder that holds one, a tokenizer.json, a .gguf, … "
            "To get one: `twofold tokens train book.txt -o mine` learns it from your text in seconds; "
            "`twofold create` leaves one in its output folder."
        )
    from twofold.models.hub import glance
    from twofold.models.hub_files import parse_model
    from twofold.tokens.opening import holds_tokenizer
    from twofold.tokens.tokenizer import Tokenizer

    if (address := parse_model(path)) is not None:
        path = glance(address).path
    if path.suffix == ".gguf":
        from twofold.models.gguf import read_gguf
        from twofold.tokens.gguf import from_metadata

        return from_metadata(read_gguf(path).metadata, str(path))
    with explained(path, "read"):
        return Tokenizer.load(next((path / at for at in PLACES if holds_tokenizer(path / at)), path))


def _standard_input() -> str:
    return sys.stdin.buffer.read(4 * _LONGEST_TEXT + 1).decode("utf-8", errors="replace")


def _print(renderable: Any) -> None:
    from rich.console import Console

    Console(force_terminal=wants_colour(sys.stdout), highlight=False).print(renderable)
