"""`twofold completion`: what the Tab key needs to know, for bash, zsh and fish."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from twofold.errors import UsageError
from twofold.files import explained

Shell = Literal["bash", "zsh", "fish"]


def completion(
    shell: Shell | None = None, /, *, install: Annotated[bool, Parameter(negative="")] = False
) -> None:
    """Complete commands and options with the Tab key.

    Prints the completion script, or installs it where the shell looks for it. Installed once, it
    works in every new shell.

    Parameters
    ----------
    shell
        Which shell. Default: the one in $SHELL.
    install
        Install the script instead of printing it, and say where.
    """
    from twofold.cli.app import build_app

    shell = shell or _own_shell()
    app = build_app()
    if not install:
        print(app.generate_completion(shell=shell), end="")
        return
    with explained(Path.home(), "write"):
        place = app.install_completion(shell=shell, add_to_startup=True)
    print(f"Installed {place}. It works in the next {shell} you open.")


def _own_shell() -> Shell:
    name = Path(os.environ.get("SHELL", "")).name
    if name not in ("bash", "zsh", "fish"):
        raise UsageError(
            "cannot tell which shell this is; name it: twofold completion bash (or zsh, or fish)."
        )
    return name
