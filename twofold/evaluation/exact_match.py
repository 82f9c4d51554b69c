"""Questions with exact answers, put to a model in chat form.

An answer is right when it equals one of those accepted, after case, spaces and final punctuation are
put aside. No partial credit, no judge.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from twofold.decoding.sampling import Sampling
from twofold.decoding.session import LoadedModel
from twofold.text.documents import Message, Question

MOST_TOKENS = 40  # of an answer; more is not exact
GREEDY = Sampling(temperature=0.0)


@dataclass(frozen=True)
class Answered:
    """One question, what the model said, and whether that is right."""

    question: Question
    text: str
    right: bool


def normalized(text: str) -> str:
    """`text` without what an exact match overlooks."""
    return " ".join(text.split()).rstrip(".!?。 ").casefold()


def is_right(answer: str, question: Question) -> bool:
    """Whether `answer` equals an accepted one."""
    return normalized(answer) in {normalized(accepted) for accepted in question.accepted}


def ask(
    model: LoadedModel, questions: Sequence[Question], progress: Callable[[int, int], None] | None = None
) -> list[Answered]:
    """Put each question, as a conversation of its own, greedily. `progress(done, all)` is called at the end
    of each answer."""
    prompts = [model.start_chat([Message("user", question.text)]) for question in questions]
    texts = [""] * len(questions)
    done = 0
    for index, piece, choice in model.pieces(prompts, settings=GREEDY, max_tokens=MOST_TOKENS):
        texts[index] += piece
        if choice.finish is not None:
            done += 1
            if progress is not None:
                progress(done, len(questions))
    return [Answered(q, t.strip(), is_right(t, q)) for q, t in zip(questions, texts, strict=True)]


def chance(questions: Sequence[Question]) -> float:
    """The share that guessing among each question's possible answers would get right."""
    return sum(1 / q.choices for q in questions if q.choices) / len(questions) if questions else 0.0
