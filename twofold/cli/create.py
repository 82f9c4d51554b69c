"""`twofold create`: from text to two files with one command."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

Paths = Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative_iterable=())]


def create(
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"])] = Path("demo"),
    text: Paths = (),
    chat: Paths = (),
    minutes: float = 12.0,
    preset: Literal["nano", "micro", "mini", "small", "medium", "large"] | None = None,
    villagers: int | None = None,
    megabytes: float = 32.0,
    type: Literal["q8_0", "f16", "bf16", "f32"] = "q8_0",
    bad_files: Literal["refuse", "skip"] = "refuse",
    seed: int = 0,
) -> None:
    """Make a language model, all of it, with one command.

    From text: a tokenizer, a pretrained model, an assistant fine-tuned from it, measured answers, two files
    that run anywhere, and a report to look at. Without --text, a small made-up village is learned, in which
    every fact is known and every answer can be checked: that needs no network and no data.

    Stopped or killed anywhere, the same command again goes on where it was.

    Parameters
    ----------
    output
        The folder to make, or to go on in.
    text
        Your own text: files, folders, - for standard input, hf://name.
    chat
        Your own conversations, as JSON lines, to fine-tune on. Without them, passages of the text serve.
    minutes
        How long to train, in all. The model's size follows from it and from this machine's speed.
    preset
        The model's size by name, instead.
    villagers
        How many people live in the village. Unless given, as many as there is time to learn about.
    megabytes
        How much text is told about them, in millions of bytes.
    type
        How the weights are kept in the parameter file.
    bad_files
        What to do with a file that cannot be read: stop, or leave it out and count it.
    seed
        Another seed is another village, another split, another model.
    """
    from twofold.create.pipeline import create as make
    from twofold.create.settings import CreateSettings

    settings = CreateSettings(
        text=tuple(text),
        chat=tuple(chat),
        minutes=minutes,
        preset=preset,
        villagers=villagers,
        megabytes=megabytes,
        type=type,
        bad_files=bad_files,
        seed=seed,
    )
    page = make(output, settings, say=lambda line: print(line, file=sys.stderr, flush=True))
    show_end(output, page)


def show_end(folder: Path, page: Path) -> None:
    """The last lines: a first conversation, where things are, how to go on."""
    from twofold.cli.show import printable, strong
    from twofold.files import as_written, read_json

    print(f"\n{strong('A first conversation')}")
    with as_written(folder / "talk.json"):
        for message in read_json(folder / "talk.json"):
            print(f"  {message['role']:>9}: {printable(message['content'])}")
    print(f"\n{strong('The report')}      {page.resolve().as_uri()}")
    print(f"{strong('The two files')}   {folder / 'two-files'}/model.gguf and run.py")
    print(f"\n{strong('Go on')}")
    for what, command in (
        ("talk with it", shlex.join(["twofold", "chat", str(folder)])),
        ("also without Twofold", shlex.join(["python", str(folder / "two-files" / "run.py")])),
        ("your own text", "twofold create --text FILE … --minutes 30 --output mine"),
    ):
        print(f"  {what:<22}{command}")
