"""What the model thought of each token that was chosen, as lines, and as a tree to look at."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from twofold.cli.terminal import harmless, note

if TYPE_CHECKING:
    from twofold.decoding.session import Completion, LoadedModel


def show_choices(loaded: LoadedModel, answer: Completion, masked: bool) -> None:
    """One line a token: its probability, what a mask allowed of the mass, and what it was chosen over."""
    print(f"\n{'token':<16} {'chance':>8}{'  allowed' if masked else ''}  instead of")
    for choice in answer.choices:
        others = [pair for pair in choice.alternatives if pair[0] != choice.token][:4]
        allowed = f" {_percent(choice.allowed):>8}" if masked else ""
        instead = "  ".join(f"{_spelled(loaded, token)} {_percent(log)}" for token, log in others)
        print(
            f"{_spelled(loaded, choice.token):<16} {_percent(choice.log_probability):>8}{allowed}  {instead}"
        )
    size = max(1, len(answer.choices))
    total = answer.log_probability
    line = f"all {size:,} tokens: log-probability {total:.3f} ({total / size:.3f} a token)"
    if answer.score is not None:
        line += f", score {answer.score:.3f}"
    if masked:
        line += f"; the mask left e^{answer.log_allowed:.2f} of the mass in all"
    print(line)


def _percent(log: float) -> str:
    share = 100 * math.exp(log)
    return f"{share:.1f} %" if share >= 0.05 or share == 0 else f"{share:.0e} %"


def _spelled(loaded: LoadedModel, token: int) -> str:
    text = loaded.tokenizer.token_bytes(token).decode("utf-8", errors="replace")
    return harmless(repr(text) if token not in loaded.stop_ids else text)


def write_tree(loaded: LoadedModel, prompt: str, options: dict, path: Path) -> None:
    """Run one prompt, print its best text, and write all that was looked at as a page."""
    from twofold.report.search_tree import Step, write_search_tree

    answers, looked_at, chosen = loaded.watched(loaded.start(prompt), **options)
    steps: list[Step] = []
    number: dict[int, int | None] = {id(None): None}
    known = {(id(node.parent), node.token) for node in looked_at}

    def add(parent, token: int, log: float, is_answer: bool = False) -> None:
        text = loaded.tokenizer.token_bytes(token).decode("utf-8", errors="replace")
        steps.append(Step(number[id(parent)], text, log, is_answer))

    for node in looked_at:
        number[id(node)] = len(steps)
        add(node.parent, node.token, node.log_probability, id(node) in chosen)
        for token, log in node.alternatives:  # what was there beside it
            if (id(node.parent), token) not in known:
                known.add((id(node.parent), token))
                add(node.parent, token, log)
    write_search_tree(path, prompt, steps)
    print(harmless(answers[0].text))
    note(f"The tree of {len(steps):,} tokens that were looked at: {path}")
