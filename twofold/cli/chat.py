"""`twofold chat`: a conversation in the terminal, or one turn for each line of standard input."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from twofold.cli.opening import PLAIN, Model, Opening
from twofold.cli.pages import wants_colour
from twofold.cli.terminal import harmless, json_line, note, say
from twofold.decoding.sampling import Sampling
from twofold.errors import FileError, TwofoldError, UsageError
from twofold.files import atomic_write, explained

if TYPE_CHECKING:
    from twofold.decoding.chat import ChatSession

HELP = """\
/reset         forget the conversation
/system TEXT   tell the model who it is; without TEXT, tell it nothing
/retry         answer the last turn again
/save FILE     write the conversation to a new file, in the form that twofold finetune reads
/quit          leave; Ctrl-D does too
Ctrl-C stops an answer. Alt-Enter, or pasting, makes a turn of several lines; ↑ brings earlier turns back.
Begin a turn with // to say something that begins with a slash."""


def chat(
    model: Model,
    /,
    *,
    system: str | None = None,
    max_tokens: int = 256,
    temperature: float = 0.8,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    seed: int | None = None,
    opened: Opening = PLAIN,
) -> int:
    """Talk with a model.

    In a terminal: type, press Enter, read; `/help` shows what else there is, Ctrl-C stops an answer and
    Ctrl-D leaves. Where standard input is no terminal, each of its lines is a turn, so scripts can talk
    too. When the conversation outgrows the model's context, its oldest turns are left out, and you are told.

    Parameters
    ----------
    system
        Tell the model who it is, before the conversation.
    max_tokens
        The most tokens of an answer.
    temperature
        Below 1 is safer, above 1 is wilder; 0 always takes the best token.
    top_k
        Choose among the k best tokens only.
    top_p
        Choose among the best tokens that together have this probability only.
    min_p
        Choose among tokens with at least this fraction of the best one's probability only.
    seed
        The same seed and the same turns give the same conversation.
    """
    settings = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, seed=seed)
    if max_tokens < 1:
        raise UsageError(f"--max-tokens must be 1 or more, and is {max_tokens}.")

    from twofold.decoding.chat import ChatSession

    loaded = opened.load(model)
    session = ChatSession(loaded, system=system, settings=settings, max_tokens=max_tokens)
    if not loaded.is_chat:
        note("This model was not taught conversations; `twofold generate` suits it better.")
    if sys.stdin.isatty() and sys.stdout.isatty():
        print(f"{faint(f'{harmless(loaded.name)} · /help for help, Ctrl-D to leave')}")
        return converse(session, _typed_turns())
    return converse(session, _piped_turns())


def converse(session: ChatSession, turns: Iterator[str]) -> int:
    """Answer each turn or obey it, until there are no more. Returns the exit code: 0, or that of the last
    turn that failed."""
    code = 0
    for turn in turns:
        try:
            if turn.startswith("/") and not turn.startswith("//"):
                if not obey(session, turn):
                    break
            elif turn.strip():
                _show(session, lambda turn=turn: session.ask(turn.removeprefix("/")))
        except TwofoldError as error:
            note(harmless(str(error)))
            code = error.exit_code
    return code


def obey(session: ChatSession, line: str) -> bool:
    """Do what a line that begins with a slash says; False when it says to leave."""
    name, _, rest = line.strip().partition(" ")
    rest = rest.strip()
    if name == "/quit":
        return False
    if name == "/help":
        print(HELP)
    elif name == "/reset":
        session.reset()
        note(faint("The conversation is forgotten."))
    elif name == "/system":
        session.system = rest or None
        note(faint("From the next turn on." if rest else "There is no system message any more."))
    elif name == "/retry":
        _show(session, session.retry)
    elif name == "/save":
        save(session, rest)
    else:
        raise UsageError(
            f"There is no {name}; /help shows what there is. Begin with // to say it to the model."
        )
    return True


def save(session: ChatSession, name: str) -> None:
    """Write the conversation to a new file: one line of JSON with its messages."""
    if not name:
        raise UsageError("Say where: /save FILE")
    if not session.messages:
        raise UsageError("There is nothing to save yet.")
    path = Path(os.path.expanduser(name))  # an unknown ~user stays as it is
    with explained(path, "write"):
        if path.exists():
            raise FileError(f"{path} exists already; choose another name.")
    with atomic_write(path) as file:
        file.write(json_line({"messages": session.transcript()}) + "\n")
    note(faint(f"Saved {len(session.messages)} messages to {path}."))


def _show(session: ChatSession, begin: Callable[[], Iterator[str]]) -> None:
    """Show an answer as it comes. When a person is there, Ctrl-C stops the answer only."""
    before = session.left_out
    try:
        with closing(begin()) as answer:
            if session.left_out > before:
                note(
                    faint(
                        f"(The oldest {session.left_out} messages no longer fit into the model's context of "
                        f"{session.model.model.context_length:,} tokens, and are left out.)"
                    )
                )
            for piece in answer:
                say(piece)
        print(flush=True)
    except KeyboardInterrupt:
        if not sys.stdin.isatty():
            raise
        print(flush=True)
        note(faint("(stopped)"))


def _piped_turns() -> Iterator[str]:
    """The lines of standard input."""
    for number, line in enumerate(sys.stdin.buffer, 1):
        try:
            yield line.decode("utf-8").removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError as error:
            raise UsageError(f"Line {number} of standard input is not text in UTF-8.") from error


def _typed_turns() -> Iterator[str]:
    """What a person types, with line editing and a history that lasts."""
    from prompt_toolkit import PromptSession
    from prompt_toolkit.key_binding import KeyBindings

    keys = KeyBindings()

    @keys.add("escape", "enter")
    def _(event) -> None:
        event.current_buffer.insert_text("\n")

    prompt = PromptSession("> ", history=_history(), key_bindings=keys, prompt_continuation="  ")
    while True:
        try:
            yield prompt.prompt()
        except KeyboardInterrupt:
            note(faint("Ctrl-D leaves."))
        except EOFError:
            return


def _history():
    """Earlier turns, in a file that only their author can read; in memory alone where none can be had."""
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    class Lasting(FileHistory):
        def store_string(self, string: str) -> None:
            with suppress(OSError):  # a full disk is no reason to end a conversation
                super().store_string(string)

    home = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    try:
        path = Path(home, "twofold", "chat-history")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.open("a+b").close()
    except OSError:
        return InMemoryHistory()
    return Lasting(str(path))


def faint(text: str) -> str:
    """`text` in a faint colour where it can be seen."""
    return f"\x1b[2m{text}\x1b[0m" if wants_colour(sys.stdout) else text
