"""`twofold`, from the first byte typed to the exit code.

Key idea: what people ask most must answer at once. `twofold`, `--version`, `COMMAND --help` and a mistyped
command are answered here with the standard library alone, from pages rendered beforehand
(`cli/help.json`, written by `python -m twofold.cli.reference`). Everything else goes to `cli/app.py`,
which loads the command-line library, then the command, then whatever the command needs.

It is also the only place that turns errors into messages and exit codes: a `TwofoldError` is shown as one
line with its own code; Ctrl-C is 130; a reader that went away ends us quietly; anything else is a
fault of Twofold, and its traceback is kept in a file.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twofold.errors import TwofoldError

PROGRAM = "twofold"
BROKEN_PIPE = 128 + 13  # what a shell reports for a program that SIGPIPE ended
OUR_FAULT = 70  # EX_SOFTWARE


def main(arguments: list[str] | None = None) -> int:
    """Run one command line (default: the program's own arguments) and return its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    _prepare_streams()
    try:
        code = _answer_at_once(arguments)
        if code is None:
            from twofold.cli.app import run

            code = run(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        _forget_stdout()
        return BROKEN_PIPE
    except KeyboardInterrupt:
        _say("stopped.")
        return 130
    except Exception as error:
        from twofold.errors import TwofoldError

        known = error if isinstance(error, TwofoldError) else _fault_of_the_machine(error)
        if known is not None:
            _say(str(known))
            return known.exit_code
        if os.environ.get("TWOFOLD_DEBUG") == "1":
            raise
        return _our_fault(error)


def _answer_at_once(arguments: list[str]) -> int | None:
    """Answer help, version and mistyped commands; None when the line is a real command."""
    words = arguments[: arguments.index("--")] if "--" in arguments else arguments
    if words[:1] == ["--version"]:
        from twofold import __version__

        print(PROGRAM, __version__)
        return 0
    if words[:1] == ["help"]:
        words = [*words[1:], "--help"]
    asks_help = not words or "--help" in words or "-h" in words
    if not asks_help and len(words) > 2:
        return None  # the common case: no page to look up

    from twofold.cli.pages import Pages, did_you_mean

    pages = Pages.load()
    path = pages.longest_path(words)
    if asks_help and words and not path and not words[0].startswith("-"):
        from twofold.errors import UsageError

        hint = did_you_mean(words[0], pages.children([]))
        raise UsageError(f"there is no command {words[0]!r}.{hint} See: {PROGRAM} --help")
    if asks_help or (pages.is_group(path) and len(words) == len(path)):
        print(pages.show(path), end="")
        return 0
    return None


def _prepare_streams() -> None:
    """Standard streams that can be used without asking: closed ones lead nowhere, and a character that the
    terminal cannot show becomes "?"."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            try:
                os.fstat(number)
            except OSError:
                os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: this one
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - as long as we run
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def _fault_of_the_machine(error: Exception) -> TwofoldError | None:
    """The message for a full disk under standard output, for a path that the system refuses, or for too little
    memory; None for anything else."""
    import errno

    from twofold.errors import TwofoldError
    from twofold.files import explain

    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
        if error.filename is None:
            _forget_stdout()
        return explain(error, error.filename or "standard output", "write")
    if isinstance(error, OSError) and error.filename is not None:
        return explain(error, error.filename, "use")
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):  # torch's words
        return TwofoldError(
            "This computer has not enough free memory for that. Close other programs, or choose a smaller "
            "model, a smaller batch or a shorter text."
        )
    return None


def _say(message: str) -> None:
    """One message on standard error, the program's name in red when a person is watching. Of many processes that
    all say the same only the first speaks; the others let it be heard before their exit ends it too."""
    if os.environ.get("RANK", "0") != "0":
        time.sleep(1)
        return
    from twofold.cli.pages import wants_colour

    name = f"\x1b[1;31m{PROGRAM}:\x1b[0m" if wants_colour(sys.stderr) else f"{PROGRAM}:"
    try:
        print(name, message, file=sys.stderr, flush=True)
    except OSError:
        return  # nobody can hear us


def _forget_stdout() -> None:
    """The reader has gone: point standard output at nothing, so that Python's last flush is quiet too."""
    try:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())
    except (OSError, ValueError, AttributeError):
        return


def _our_fault(error: Exception) -> int:
    """Keep the traceback in a file and say so in a line."""
    import tempfile
    import traceback

    text = "".join(traceback.format_exception(error))
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="twofold-fault-", suffix=".txt", encoding="utf-8", errors="replace", delete=False
        ) as file:
            file.write(f"{PROGRAM} {' '.join(sys.argv[1:])}\nPython {sys.version}\n\n{text}")
            where = f"the details are in {file.name}"
    except OSError:
        where = "run it again with TWOFOLD_DEBUG=1 for the details"
    summary = " ".join(str(error).split())[:300]
    _say(f"this is a fault in Twofold, not in what you did ({type(error).__name__}: {summary}); {where}.")
    return OUR_FAULT


if __name__ == "__main__":
    sys.exit(main())
