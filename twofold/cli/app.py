"""The command `twofold`: which commands there are, in the order of the life of a model.

Key idea: the table below is all there is to the face's shape. A command is a typed function, or an `App`
with commands of its own, in a module of this folder; it is named here by an import string and loaded only
when it runs, so no command pays for another's libraries. Its docstring is its help; the examples stand
together in `examples.py`.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from cyclopts import (
    App,
    CycloptsError,
    Group,
    MissingArgumentError,
    Parameter,
    UnknownCommandError,
    UnusedCliTokensError,
)

import twofold
from twofold.cli.pages import Pages, did_you_mean
from twofold.errors import UsageError

MAKE = "Make a model"
USE = "Talk with it"
SHARE = "Look inside, and take it away"
SHELL = "Your shell"


@dataclass(frozen=True)
class Command:
    """One command: its name, where it lives ("module:attribute"), and the group it is listed in."""

    name: str
    target: str
    group: str


COMMANDS = (
    Command("create", "twofold.cli.create:create", MAKE),
    Command("text", "twofold.cli.text:app", MAKE),
    Command("tokens", "twofold.cli.tokens:app", MAKE),
    Command("train", "twofold.cli.train:train", MAKE),
    Command("finetune", "twofold.cli.train:finetune", MAKE),
    Command("generate", "twofold.cli.generate:generate", USE),
    Command("chat", "twofold.cli.chat:chat", USE),
    Command("choose", "twofold.cli.choose:choose", USE),
    Command("score", "twofold.cli.score:score", USE),
    Command("models", "twofold.cli.models:app", SHARE),
    Command("inspect", "twofold.cli.inspect:inspect", SHARE),
    Command("report", "twofold.cli.report:report", SHARE),
    Command("eval", "twofold.cli.eval:evaluate", SHARE),
    Command("convert", "twofold.cli.convert:convert", SHARE),
    Command("export", "twofold.cli.export:export", SHARE),
    Command("completion", "twofold.cli.completion:completion", SHELL),
)

words: list[str] = []  # of the command line that runs now, for a command that hands it on

INTRODUCTION = (
    "Make a language model from text, fine-tune it into an assistant, "
    "take it away as two files, and talk with it."
)


def present_commands() -> tuple[Command, ...]:
    """The commands whose module is installed."""
    from importlib.util import find_spec

    return tuple(command for command in COMMANDS if find_spec(command.target.partition(":")[0]) is not None)


def build_app() -> App:
    """The command line, nothing of it loaded yet but the table. Errors are raised, never printed here."""
    app = App(
        name="twofold",
        help=INTRODUCTION,
        version=twofold.__version__,
        help_flags=["--help", "-h"],
        help_format="markdown",
        default_parameter=Parameter(negative=()),  # no --no-… twin of a flag that is off anyway
        result_action="return_value",
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,
    )
    groups = {name: Group(name, sort_key=place) for place, name in enumerate((MAKE, USE, SHARE, SHELL))}
    for place, command in enumerate(present_commands()):
        app.command(command.target, name=command.name, group=groups[command.group], sort_key=place)
    for flag in (*app.help_flags, *app.version_flags):
        app[flag].group = groups[SHELL]
        app[flag].sort_key = len(COMMANDS)
    return app


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code: what the command returned if that is an int, else 0.

    Raises UsageError for a line that does not parse; what the command raises passes through."""
    words[:] = arguments
    try:
        result = build_app()(words_of(arguments))
    except CycloptsError as error:
        raise UsageError(explain_usage(error)) from error
    return result if isinstance(result, int) and not isinstance(result, bool) else 0


def words_of(arguments: list[str]) -> list[str]:
    """The arguments as the library is to see them: "-" is a value, as everywhere else."""
    return [_Dash(word) if word == "-" else word for word in arguments]


class _Dash(str):
    """The argument "-", standard input, which the library would take for an option."""

    def startswith(self, prefix: str | tuple[str, ...], *place: int) -> bool:
        return False


def explain_usage(error: CycloptsError) -> str:
    """What was wrong with the command line, in one line that ends with where its help is."""
    path = list(error.command_chain or ())
    given = error.unused_tokens[0] if error.unused_tokens else ""
    if isinstance(error, UnknownCommandError):  # the library's own message would load every command
        kind = "option" if given.startswith("-") else "command"
        known = ["--help", "--version"] if kind == "option" else Pages.load().children(path)
        place = f" of {' '.join(path)}" if path else ""
        message = f"there is no {kind} {given!r}{place}.{did_you_mean(given, known)}"
    elif type(error) is MissingArgumentError and error.argument is not None:
        message = f"{error.keyword} needs a value." if error.keyword else f"{error.argument.name} is missing."
        written = difflib.get_close_matches(error.argument.name, error.unused_tokens or (), n=1)
        message += f" Did you mean {error.argument.name} instead of {written[0]}?" if written else ""
    elif isinstance(error, UnusedCliTokensError):
        message = f"{given!r} is one argument too many."
    else:
        message = " ".join(str(error).split())
    return f"{message} See: {' '.join(['twofold', *path])} --help"
