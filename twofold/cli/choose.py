"""`twofold choose`: which of some texts fits, with the probability of each."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from twofold.cli.opening import PLAIN, Model, Opening
from twofold.cli.terminal import harmless, json_line, standard_input

Flag = Parameter(negative="")
_BAR = 30


def choose(
    model: Model,
    prompt: str,
    /,
    *choices: str,
    ask: Annotated[bool, Flag] = False,
    ends: Annotated[bool, Flag] = False,
    opened: Opening = PLAIN,
    as_json: Annotated[bool, Parameter("--json", negative="")] = False,
) -> None:
    """Weigh a few texts against each other: classification without training.

    Prints the probability of each choice as the continuation of the prompt, given that it is one of them.
    The whole of each choice counts, not only its first token. Write the space that belongs before a choice:
    `twofold choose demo/base "I liked it. This is" " good" " bad"`.

    Parameters
    ----------
    prompt
        What stands before the choice; - reads it from standard input.
    choices
        Two texts or more.
    ask
        Ask the prompt as a question in a conversation; the choices are whole answers.
    ends
        Also count that the text ends after the choice; needed if one choice begins like another.
    as_json
        Print one JSON object, the probability by choice.
    """
    text = standard_input() if prompt == "-" else prompt
    asked = [{"role": "user", "content": text}] if ask else text
    found = opened.load(model).choose(asked, list(choices), ends=ends)
    if as_json:
        print(json_line(found))
        return
    width = max(len(repr(choice)) for choice in found)
    for choice, chance in sorted(found.items(), key=lambda pair: -pair[1]):
        bar = "█" * round(_BAR * chance)
        print(f"{harmless(repr(choice)):<{width}} {100 * chance:6.2f} % {bar}".rstrip())
