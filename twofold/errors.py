"""The errors people see. Each is raised where the fault is known, with a message that says
what was wrong, where, and what to do. The faces turn them into exit codes and HTTP statuses;
anything else that escapes is a bug of ours."""


def without_controls(text: str) -> str:
    """`text` with what would steer a terminal instead of showing (all but new lines and tabs) escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)


class TwofoldError(Exception):
    """A fault we understand; `str(error)` is written for the person at the keyboard.

    A message may quote what a stranger wrote: what would steer a terminal instead of showing is escaped in it."""

    exit_code = 1

    def __str__(self) -> str:
        return without_controls(super().__str__())


class UsageError(TwofoldError):
    """The request itself is wrong: an impossible setting, an unknown name, a missing argument."""

    exit_code = 2


class FileError(TwofoldError):
    """A file or folder is missing, unreadable, damaged, or cannot be written."""

    exit_code = 3


class DataError(TwofoldError):
    """The text or conversations given cannot be used: empty, too short, not text."""

    exit_code = 4


class TrainingError(TwofoldError):
    """Training cannot go on, for example because the loss is no longer a finite number."""

    exit_code = 5


class Interrupted(TwofoldError):
    """The person stopped the work (Ctrl-C); everything done so far has been saved."""

    exit_code = 130
