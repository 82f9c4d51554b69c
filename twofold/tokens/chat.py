"""Conversations ⇄ tokens: ChatML, with the mask that says which tokens the assistant is taught.

    <|endoftext|><|im_start|>user
    Who is Ada?<|im_end|>
    <|im_start|>assistant
    A mathematician.<|im_end|>

Key idea: the form is written down twice, as the Jinja text that every other program runs (`CHAT_TEMPLATE`)
and as `render`; tests hold them equal. `ChatML` puts special tokens in by number and encodes what people
wrote as plain text, so nothing inside a message can end a turn or begin another. Tokenizers from elsewhere
bring a template of their own (chat_template.py); both are a `ChatForm`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from twofold.errors import DataError, UsageError
from twofold.text.documents import Message
from twofold.tokens.vocabulary import END_OF_TEXT, IM_END, IM_START

if TYPE_CHECKING:
    from twofold.tokens.tokenizer import Tokenizer

ROLES = ("system", "user", "assistant", "tool")

# As Qwen does, what a tool answered goes into a user turn, neighbouring answers into one.
CHAT_TEMPLATE = (
    "{{- bos_token }}"
    "{%- if tools %}{{- raise_exception('Tools are not supported by this chat template.') }}{%- endif %}"
    "{%- for message in messages %}"
    "{%- if message.role not in ['system', 'user', 'assistant', 'tool'] %}"
    "{{- raise_exception('Unknown role: ' + message.role) }}"
    "{%- endif %}"
    "{%- if message.content is not string %}"
    "{{- raise_exception('The content of a message must be text.') }}"
    "{%- endif %}"
    "{%- if message.role == 'tool' %}"
    "{%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}{{- '<|im_start|>user' }}{%- endif %}"
    "{{- '\\n<tool_response>\\n' + message.content + '\\n</tool_response>' }}"
    "{%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{- '<|im_end|>\\n' }}{%- endif %}"
    "{%- else %}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{%- endif %}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)

Turn = Message | Mapping[str, Any]


class ChatForm(Protocol):
    """How conversations become tokens. `messages`: Message, or mappings with "role" and "content". `tools`:
    descriptions of functions, in JSON schema, and `variables`: what else a template may ask for
    (enable_thinking, …). Raises DataError for messages that have no form, UsageError for what it cannot do."""

    def encode(
        self,
        messages: Sequence[Turn],
        add_generation_prompt: bool = False,
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        variables: Mapping[str, Any] | None = None,
    ) -> list[int]:
        """The conversation's ids, up to where an answer begins with `add_generation_prompt`."""

    def learn(
        self, messages: Sequence[Turn], add_generation_prompt: bool = False
    ) -> tuple[list[int], list[bool]]:
        """The conversation's ids, and for each whether it is learned: true exactly on the assistant's
        answers and what closes each."""


def encode_chat(
    tokenizer: Tokenizer, messages: Sequence[Turn], add_generation_prompt: bool = False
) -> tuple[list[int], list[bool]]:
    """`ChatForm.learn` in the tokenizer's own form. Raises UsageError for a tokenizer that has none."""
    if tokenizer.chat is None:
        raise UsageError(
            "This model does not say how conversations are written: it has no chat template, so it only goes on "
            "with a text."
        )
    return tokenizer.chat.learn(messages, add_generation_prompt)


def render(messages: Sequence[Turn], add_generation_prompt: bool = False) -> str:
    """The conversation as one text: what Jinja makes of `CHAT_TEMPLATE`. `messages`: Message, or
    mappings with "role" and "content". Raises DataError for an unknown role or content that is not text."""
    parts = [END_OF_TEXT]
    for role, contents in _turns(messages):
        parts.append(f"{IM_START}{_header(role)}{_body(role, contents)}{IM_END}\n")
    if add_generation_prompt:
        parts.append(f"{IM_START}assistant\n")
    return "".join(parts)


class ChatML:
    """The `ChatForm` of our own tokenizers.

    Ids equal those that `transformers` gives for the rendered text, with three exceptions, each meant.
    The names of special tokens inside a message stay text; so do <think>, <tool_call>, … outside the
    assistant's turns. And an answer that begins with a line break is encoded apart from the line break of
    its header, because the prompt that asks for an answer ends with the header.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def encode(
        self,
        messages: Sequence[Turn],
        add_generation_prompt: bool = False,
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        variables: Mapping[str, Any] | None = None,
    ) -> list[int]:
        """See `ChatForm`."""
        if tools or variables:
            raise UsageError("This model's conversations know neither tools nor settings of a template.")
        return self.learn(messages, add_generation_prompt)[0]

    def learn(
        self, messages: Sequence[Turn], add_generation_prompt: bool = False
    ) -> tuple[list[int], list[bool]]:
        """See `ChatForm`."""
        tokenizer = self._tokenizer
        ids, is_learned = list(tokenizer.start_ids), [False] * len(tokenizer.start_ids)

        def add(tokens: list[int], learned: bool) -> None:
            ids.extend(tokens)
            is_learned.extend([learned] * len(tokens))

        for role, contents in _turns(messages):
            add([tokenizer.im_start], False)
            if role == "assistant":
                add(tokenizer.encode(_header(role)), False)
                add([*tokenizer.encode_markup(contents[0]), tokenizer.im_end], True)
            elif role == "tool":
                add(_encode_tool_turn(tokenizer, contents), False)
                add([tokenizer.im_end], False)
            else:
                add(tokenizer.encode(_header(role) + contents[0]), False)
                add([tokenizer.im_end], False)
            add(tokenizer.encode("\n"), False)
        if add_generation_prompt:
            add([tokenizer.im_start, *tokenizer.encode(_header("assistant"))], False)
        return ids, is_learned


def _turns(messages: Sequence[Turn]) -> Iterator[tuple[str, list[str]]]:
    """(role, contents) for each turn; only a turn of tool answers holds several."""
    answers: list[str] = []
    for place, message in enumerate(messages):
        role, content = checked(message, place)
        if role == "tool":
            answers.append(content)
            continue
        if answers:
            yield "tool", answers
            answers = []
        yield role, [content]
    if answers:
        yield "tool", answers


def checked(message: Turn, place: int) -> tuple[str, str]:
    """(role, content) of message number `place`, from 0. Raises DataError for another role or no text."""
    if isinstance(message, Message):
        role, content = message.role, message.content
    elif isinstance(message, Mapping):
        role, content = message.get("role"), message.get("content")
    else:
        raise DataError(f"Message {place + 1} is not a message with a role and a content.")
    if role not in ROLES:
        raise DataError(f"Message {place + 1} has the role {role!r}; possible are {', '.join(ROLES)}.")
    if not isinstance(content, str):
        raise DataError(f"The content of message {place + 1} ({role}) is not text.")
    return role, content


def _header(role: str) -> str:
    return "user" if role == "tool" else f"{role}\n"


def _body(role: str, contents: list[str]) -> str:
    if role != "tool":
        return contents[0]
    return "".join(f"\n<tool_response>\n{content}\n</tool_response>" for content in contents)


def _encode_tool_turn(tokenizer: Tokenizer, contents: list[str]) -> list[int]:
    ids = tokenizer.encode(_header("tool") + "\n")
    for place, content in enumerate(contents):
        if place:
            ids += tokenizer.encode("\n")
        ids += tokenizer.encode_markup("<tool_response>")
        ids += tokenizer.encode(f"\n{content}\n")
        ids += tokenizer.encode_markup("</tool_response>")
    return ids
