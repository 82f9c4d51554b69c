"""What goes up the spine: documents to read, conversations to imitate, questions to check with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Document:
    """One text to learn from. `source` says where it came from ("books.jsonl.gz:17", "village")."""

    text: str
    source: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation; `role` is "system", "user", "assistant" or "tool"."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """Turns in order. Fine-tuning learns the assistant's turns alone."""

    messages: tuple[Message, ...]
    source: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """A question with a known answer. An answer is right when it equals one of `accepted`
    after both are normalised (case, spaces, final punctuation)."""

    text: str
    accepted: tuple[str, ...]
    topic: str = ""
    language: str = "en"
    choices: int = 0  # how many answers of this kind exist: chance level is 1 / choices
