"""One JSON record → one conversation, whatever of the usual shapes it has.

| shape | fields |
|---|---|
| messages | `messages`: list of `role`, `content` (text or text parts), `tool_calls` |
| ShareGPT | `conversations`: list of `from`, `value`; `system` |
| Alpaca | `instruction`, `input` or `context`, `output` or `response`; `system`, `history` |
| prompt, question | `prompt` or `question`, with `response`, `completion`, `output`, `answer` or `answers` |
| turns | `turns`: texts, the user's and the assistant's by turns |

The shape is found by the fields, for each record by itself. What does not fit is a `BadRecord` that
says what is wrong in words for the person who has the file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from twofold.text.documents import Message

_ROLES = {
    "system": ("system", "developer"),
    "user": ("user", "human", "prompter"),
    "assistant": ("assistant", "gpt", "chatgpt", "bot", "model", "ai", "bard", "bing", "function_call"),
    "tool": ("tool", "function", "observation", "ipython"),
}
ROLE_OF = {name: role for role, names in _ROLES.items() for name in names}
ASKS = ("instruction", "prompt", "question")
ANSWERS = ("output", "response", "completion", "answer", "answers")
_MORE_INPUT = ("input", "context")
_MOST_TURNS = 10_000
_HALF = re.compile("[\ud800-\udfff]")  # JSON can spell it, UTF-8 cannot


class BadRecord(ValueError):
    """A record that is no conversation; the message is its reason."""


def shape_of(record: Any) -> str:
    """The name of a record's shape. Raises BadRecord where it has none."""
    if not isinstance(record, dict):
        raise BadRecord(f"is {_kind(record)}, not an object with the fields of a conversation")
    for field, shape in (("messages", "messages"), ("conversations", "ShareGPT"), ("turns", "turns")):
        if field in record:
            return shape
    ask = next((field for field in ASKS if field in record), None)
    if ask is not None and any(field in record for field in ANSWERS):
        return "Alpaca" if ask == "instruction" else ask
    fields = ", ".join(map(str, list(record)[:8])) or "none"
    raise BadRecord(
        "has no messages, conversations (ShareGPT), instruction and output (Alpaca), prompt and response, "
        f"or question and answer; its fields are: {fields[:200]}"
    )


def messages_of(record: Any) -> tuple[Message, ...]:
    """The turns of a record: roles are Twofold's, contents are text, and at least one turn is an answer.
    Raises BadRecord."""
    messages = _READERS[shape_of(record)](record)
    if len(messages) > _MOST_TURNS:
        raise BadRecord(f"has {len(messages):,} turns; at most {_MOST_TURNS:,} are read")
    for place, message in enumerate(messages, 1):
        if _HALF.search(message.content):
            raise BadRecord(f"turn {place} holds half of a character (a lone surrogate)")
        if message.role in ("user", "assistant") and not message.content.strip():
            raise BadRecord(f"turn {place} ({message.role}) is empty")
    roles = {message.role for message in messages}
    if "assistant" not in roles:
        raise BadRecord("has no assistant's turn, so there is nothing to learn")
    if roles <= {"assistant", "system"}:
        raise BadRecord("has no user's turn")
    return tuple(messages)


def _from_messages(record: dict) -> list[Message]:
    return _turns(record["messages"], "messages")


def _from_sharegpt(record: dict) -> list[Message]:
    return _system(record) + _turns(record["conversations"], "conversations")


def _from_turns(record: dict) -> list[Message]:
    turns = record["turns"]
    if isinstance(turns, list) and turns and all(isinstance(turn, dict) for turn in turns):
        return _turns(turns, "turns")
    if not isinstance(turns, list) or not all(isinstance(turn, str) for turn in turns):
        raise BadRecord("turns is not a list of texts")
    return [Message(("user", "assistant")[place % 2], turn) for place, turn in enumerate(turns)]


def _from_ask(record: dict) -> list[Message]:
    ask = next(field for field in ASKS if field in record)
    answer = next(field for field in ANSWERS if field in record)
    question, reply = record[ask], record[answer]
    if isinstance(question, list) and isinstance(reply, list) and ask == "prompt":
        return _turns(question, ask) + _turns(reply, answer)
    if isinstance(reply, list):  # several right answers: learn the first
        reply = reply[0] if reply else None
    if not isinstance(question, str) or not isinstance(reply, str):
        field, value = (ask, question) if not isinstance(question, str) else (answer, reply)
        raise BadRecord(f"{field} is {_kind(value)}, not a text")
    for field in _MORE_INPUT:
        more = record.get(field)
        if isinstance(more, str) and more.strip():
            question = f"{question}\n\n{more}" if question.strip() else more
    return [*_system(record), *_history(record), Message("user", question), Message("assistant", reply)]


def _system(record: dict) -> list[Message]:
    system = record.get("system")
    if system is None or system == "":
        return []
    if not isinstance(system, str):
        raise BadRecord(f"system is {_kind(system)}, not a text")
    return [Message("system", system)]


def _history(record: dict) -> list[Message]:
    history = record.get("history") or []
    if not isinstance(history, list) or not all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair)
        for pair in history
    ):
        raise BadRecord("history is not a list of pairs of texts")
    roles = ("user", "assistant")
    return [Message(role, text) for pair in history for role, text in zip(roles, pair, strict=True)]


def _turns(turns: Any, field: str) -> list[Message]:
    if not isinstance(turns, list) or not turns:
        raise BadRecord(f"{field} is {'empty' if turns == [] else _kind(turns)}, not a list of turns")
    return [_turn(turn, place) for place, turn in enumerate(turns, 1)]


def _turn(turn: Any, place: int) -> Message:
    if not isinstance(turn, dict):
        raise BadRecord(f"turn {place} is {_kind(turn)}, not an object with a role and a content")
    name = turn.get("role", turn.get("from"))
    if not isinstance(name, str) or name.lower() not in ROLE_OF:
        raise BadRecord(f"turn {place} has the role {str(name)[:40]!r}; possible are {', '.join(ROLE_OF)}")
    role = ROLE_OF[name.lower()]
    content = _content(turn.get("content", turn.get("value")), role, place)
    calls = _calls(turn, place) if role == "assistant" else []
    if name.lower() == "function_call":
        calls, content = [content], ""
    parts = [content] if content else []
    return Message(role, "\n".join(parts + [f"<tool_call>\n{call}\n</tool_call>" for call in calls]))


def _content(content: Any, role: str, place: int) -> str:
    if isinstance(content, str):
        return content
    if content is None and role == "assistant":
        return ""  # it may have called a tool; else it is found to be empty
    if isinstance(content, list) and content and all(_is_text_part(part) for part in content):
        return "".join(part["text"] for part in content)
    if role == "tool" and content is not None:
        return json.dumps(content, ensure_ascii=False)
    raise BadRecord(f"the content of turn {place} ({role}) is {_kind(content)}, not a text")


def _is_text_part(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)


def _calls(turn: dict, place: int) -> list[str]:
    """Tool calls as Qwen writes them: a JSON object of name and arguments."""
    calls = turn.get("tool_calls") or ([turn["tool_call"]] if turn.get("tool_call") else [])
    written = []
    for call in calls if isinstance(calls, list) else [calls]:
        function = call.get("function", call) if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise BadRecord(f"a tool call of turn {place} has no name")
        arguments = function.get("arguments", {})
        if isinstance(arguments, str):
            try:
                arguments = json.loads(arguments)
            except (ValueError, RecursionError):
                raise BadRecord(f"the arguments of a tool call of turn {place} are not JSON") from None
        written.append(json.dumps({"name": function["name"], "arguments": arguments}, ensure_ascii=False))
    return written


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "missing"}
    return kinds.get(type(value), "a number")


_READERS: dict[str, Callable[[dict], list[Message]]] = {
    "messages": _from_messages,
    "ShareGPT": _from_sharegpt,
    "turns": _from_turns,
    "Alpaca": _from_ask,
    "prompt": _from_ask,
    "question": _from_ask,
}
