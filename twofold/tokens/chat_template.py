"""Conversations in the form that a model from elsewhere brings: its Jinja template, and what it may not do.

A template writes special tokens by name into its text, and those names must become tokens; the same names in
a message must not, or whoever writes a message could end it and speak as somebody else.

Key idea: the template is rendered twice. Once as it is, R; and once, S, with every character of the messages
with which a name could begin (or go on) replaced by another that is in no name, so that all names in S are the
template's own. If R holds the same names in the same order, they are the template's too, and R is encoded
whole: ids are those of `transformers`. If not, S decides: its text with the characters put back is encoded,
broken apart within each name that a message holds. Names are those of special tokens, and of other added
tokens that the template writes itself (<think>, …), except in the assistant's own turns.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from twofold.errors import DataError
from twofold.text.documents import Message
from twofold.tokens.added import trie_pattern
from twofold.tokens.chat import Turn
from twofold.tokens.codec import whole
from twofold.tokens.template import BEGIN_ANSWER, END_ANSWER, Template

if TYPE_CHECKING:
    from twofold.tokens.tokenizer import Tokenizer

_PLANES = (0x100000, 0xF0000)  # for private use: no name and hardly any text holds them
_ROLE = re.compile(r"[A-Za-z][A-Za-z0-9_ -]{0,39}")
_DEEPEST = 32
_MARKS = {ord(BEGIN_ANSWER): None, ord(END_ANSWER): None}


class TemplateChat:
    """The `ChatForm` of a tokenizer with a template. Raises DataError for a template that cannot be read."""

    def __init__(self, tokenizer: Tokenizer, source: str) -> None:
        self._tokenizer = tokenizer
        self._template = Template(source)
        literal = "\0".join(self._template.literals)
        special = [token.name for token in tokenizer.added if token.special]
        others = [token.name for token in tokenizer.added if not token.special and token.name.strip()]
        self._special = frozenset(special)
        self._names = frozenset((*special, *(name for name in others if name in literal)))

    def encode(
        self,
        messages: Sequence[Turn],
        add_generation_prompt: bool = False,
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        variables: Mapping[str, Any] | None = None,
    ) -> list[int]:
        """See `ChatForm`."""
        given = self._given(messages, add_generation_prompt, tools, variables)
        text, breaks = self._safe(given)
        ends = [*breaks, len(text)]
        ids: list[int] = []
        for start, end in zip([0, *breaks], ends, strict=True):
            ids += self._tokenizer.codec.encode_named(text[start:end], begins=not start)
        return ids

    def learn(
        self, messages: Sequence[Turn], add_generation_prompt: bool = False
    ) -> tuple[list[int], list[bool]]:
        """See `ChatForm`. What is learned is what the template marks as generated, or else what an answer adds
        to the conversation before it. Raises DataError where a template writes the past anew."""
        given = self._given(messages, add_generation_prompt, (), None)
        text, breaks = self._safe(given)
        spans = self._marked(given) or self._added(messages, text)
        ids: list[int] = []
        places: list[int] = []
        for start, end in zip([0, *breaks], [*breaks, len(text)], strict=True):
            found, at = self._tokenizer.codec.encode_located(text[start:end])
            ids += found
            places += [start + place for place in at]
        is_learned = [any(start <= place < end for start, end in spans) for place in places]
        return ids, self._up_to_the_end(ids, is_learned)

    def render(self, messages: Sequence[Turn], add_generation_prompt: bool = False) -> str:
        """The conversation as one text, names in messages and all."""
        return self._render(self._given(messages, add_generation_prompt, (), None))

    def _given(
        self,
        messages: Sequence[Turn],
        add_generation_prompt: bool,
        tools: Sequence[Mapping[str, Any]],
        variables: Mapping[str, Any] | None,
    ) -> dict[str, Any]:
        """What the template sees: JSON-like copies of what people gave."""
        more = _plain(variables or {}, "a setting of the template")
        return {
            **more,
            "messages": [_message(message, place) for place, message in enumerate(messages, 1)],
            "tools": _plain(list(tools), "a tool") or None,
            "documents": None,
            "add_generation_prompt": add_generation_prompt,
        }

    def _render(self, given: Mapping[str, Any]) -> str:
        text = self._template.render({**self._tokenizer.roles.names, **given})
        return text.translate(_MARKS) if BEGIN_ANSWER in text else text

    def _safe(self, given: dict[str, Any]) -> tuple[str, list[int]]:
        """The text to encode, and where it must be broken so that no message makes a token by name."""
        rendered = self._render(given)
        plane = next((p for p in _PLANES if not _holds(given, lambda c, p=p: p <= ord(c) < p + 0xFFFE)), None)
        if plane is None:
            raise DataError(
                "The conversation holds private characters of both planes, so it cannot be made safe."
            )
        shielded = self._shielded(given, plane)
        if shielded == given:
            return rendered, []
        sure = self._render(shielded)
        if [m.group() for m in self._find.finditer(rendered)] == [
            m.group() for m in self._find.finditer(sure)
        ]:
            return rendered, []
        text = "".join(chr(ord(c) - plane) if plane <= ord(c) < plane + 0xFFFE else c for c in sure)
        names = ((match.start(), match.start(1), match.end(1)) for match in self._find_all.finditer(text))
        return text, sorted({start + 1 for _, start, end in names if text[start:end] != sure[start:end]})

    @cached_property
    def _find(self) -> re.Pattern:
        return re.compile(trie_pattern(sorted(self._names)) if self._names else "(?!)")

    @cached_property
    def _find_all(self) -> re.Pattern:
        """Also those that overlap."""
        return re.compile(f"(?=({self._find.pattern}))")

    def _shielded(self, given: dict[str, Any], plane: int) -> dict[str, Any]:
        """`given` with characters replaced that could be part of a name."""

        def message(turn: dict[str, Any]) -> dict[str, Any]:
            names = self._special if turn["role"] == "assistant" else self._names
            return {
                key: value if key == "role" else _map(value, self._shield(names, plane))
                for key, value in turn.items()
            }

        shield = self._shield(self._names, plane)
        rest = {key: _map(value, shield) for key, value in given.items() if key != "messages"}
        return {**rest, "messages": [message(turn) for turn in given["messages"]]}

    def _shield(self, names: frozenset[str], plane: int) -> Callable[[str], str]:
        firsts = {ord(name[0]): chr(plane + ord(name[0])) for name in names if ord(name[0]) < 0xFFFE}
        rests = {name[start:] for name in names for start in range(1, len(name))}
        free = [name for name in self._names - names if ord(name[0]) in firsts]
        keep = re.compile(f"({trie_pattern(sorted(free))})") if free else None

        def shield(text: str) -> str:
            parts = keep.split(text) if keep else [text]  # the assistant's own marks stay
            parts[::2] = [part.translate(firsts) for part in parts[::2]]
            made = "".join(parts)
            goes_on = made[:1] and any(rest.startswith(text) or text.startswith(rest) for rest in rests)
            if goes_on and ord(made[0]) < 0xFFFE:  # it could end a name that the template begins
                made = chr(plane + ord(made[0])) + made[1:]
            return made

        return shield

    def _marked(self, given: dict[str, Any]) -> list[tuple[int, int]]:
        """The spans that the template marks as generated, in its text without the marks."""
        text = self._template.render({**self._tokenizer.roles.names, **given})
        spans, place, start = [], 0, 0
        for part in re.split(f"([{BEGIN_ANSWER}{END_ANSWER}])", text):
            if part == BEGIN_ANSWER:
                start = place
            elif part == END_ANSWER:
                spans.append((start, place))
            else:
                place += len(part)
        return spans

    def _added(self, messages: Sequence[Turn], text: str) -> list[tuple[int, int]]:
        """The span of each answer: what comes to the prompt that asks for it."""
        spans = []
        for place, message in enumerate(messages):
            role = message.role if isinstance(message, Message) else message.get("role")
            if role != "assistant":
                continue
            said, asked, answered = (
                self._render(self._given(messages[: place + more], prompt, (), None))
                for more, prompt in ((0, False), (0, True), (1, False))
            )
            if not answered.startswith(said) or not text.startswith(answered):
                raise DataError(
                    f"The model's chat template writes a conversation anew as it goes on (at message {place + 1}), so "
                    "it is not known which tokens an answer has. Learn from conversations with one answer."
                )
            # what asks for an answer may hold more than is kept of it
            start = next(
                (i for i, (a, b) in enumerate(zip(asked, answered, strict=False)) if a != b), len(asked)
            )
            spans.append((max(start, len(said)), len(answered)))
        return spans

    def _up_to_the_end(self, ids: list[int], is_learned: list[bool]) -> list[bool]:
        """Without what a template puts behind the token that ends an answer."""
        special = {token.id for token in self._tokenizer.added if token.special}
        learned = list(is_learned)
        for place in range(len(ids) - 1, -1, -1):
            ends_here = learned[place] and not (place + 1 < len(ids) and is_learned[place + 1])
            if ends_here:
                start = place
                while start > 0 and is_learned[start - 1]:
                    start -= 1
                last = next((i for i in range(place, start - 1, -1) if ids[i] in special), place)
                if not self._tokenizer.decode(ids[last + 1 : place + 1]).strip():
                    learned[last + 1 : place + 1] = [False] * (place - last)
        return learned


def _message(message: Turn, place: int) -> dict[str, Any]:
    if isinstance(message, Message):
        return {"role": message.role, "content": whole(message.content).translate(_MARKS)}
    if not isinstance(message, Mapping):
        raise DataError(f"Message {place} is not a message with a role and a content.")
    role, content = message.get("role"), message.get("content")
    if not isinstance(role, str) or not _ROLE.fullmatch(role):
        raise DataError(f"Message {place} has the role {str(role)[:40]!r}, which is no name.")
    if content is not None and not isinstance(content, str | list | tuple):
        raise DataError(f"The content of message {place} ({role}) is neither text nor parts of text.")
    plain = _plain(message, f"message {place}")
    return {key: value for key, value in plain.items() if value is not None}


def _plain(value: Any, what: str, depth: int = 0) -> Any:
    """A copy of JSON-like data. Raises DataError for what is not."""
    if depth > _DEEPEST:
        raise DataError(f"There is too much within {what}: lists lie deeper than {_DEEPEST}.")
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return whole(str(value)).translate(_MARKS)
    if isinstance(value, Mapping):
        return {str(key): _plain(item, what, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, what, depth + 1) for item in value]
    raise DataError(
        f"A part of {what} is {type(value).__name__}, and should be text, number, list or object."
    )


def _map(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {key: _map(item, change) for key, item in value.items()}
    return [_map(item, change) for item in value] if isinstance(value, list) else value


def _holds(value: Any, test: Callable[[str], bool]) -> bool:
    if isinstance(value, str):
        return not value.isascii() and any(map(test, value))
    if isinstance(value, dict):
        return any(_holds(item, test) for item in value.values())
    return isinstance(value, list) and any(_holds(item, test) for item in value)
