"""Texts out of a stream of bytes, by format: plain text, JSON lines, JSON.

Each reader yields `Text(text, line)` and holds no more than one value: a line or value of JSON may have
16 MiB (parsing can take thirty times that), and a plain text without separators is given out in parts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from twofold.text.reading import BadFile
from twofold.text.streams import ByteSource, text_chunks

SEPARATOR = "<|endoftext|>"
LONGEST_TEXT = 1_000_000  # characters; a longer document is cut at a paragraph, line or word
LONGEST_JSON = 1 << 24
TEXT_FIELDS = ("text", "content", "story", "document", "body", "article", "passage", "page_content")
_LIST_FIELDS = ("data", "rows", "documents", "texts", "stories", "examples")


class Text(NamedTuple):
    """A document's text, or a part of it, and the line where it begins (or its row). `more`: the document
    goes on in the next one."""

    text: str
    line: int
    more: bool = False


def cut_place(text: str, longest: int = LONGEST_TEXT) -> int:
    """Where to cut a text longer than `longest`: behind the last paragraph border in the second half of
    what is allowed, else behind a line, a word, or just there."""
    for border in ("\n\n", "\n", " "):
        found = text.rfind(border, longest // 2, longest)
        if found >= 0:
            return found + len(border)
    return longest


def parts(texts: Iterable[Text]) -> Iterator[Text]:
    """Texts in parts of at most LONGEST_TEXT characters; most are one."""
    for text in texts:
        rest = text.text
        while len(rest) > LONGEST_TEXT:
            place = cut_place(rest)
            yield Text(rest[:place].rstrip("\n"), text.line, more=True)
            rest = rest[place:].lstrip("\n")
        yield Text(rest, text.line)


def plain_texts(source: ByteSource, name: str) -> Iterator[Text]:
    """Plain text: one document, or several where `<|endoftext|>` stands between them. Newlines at the ends
    of a document or part are left out."""
    for text, line, more in _untrimmed_texts(source, name):
        trimmed = text.lstrip("\n")
        yield Text(trimmed.rstrip("\n"), line + len(text) - len(trimmed), more)


def _untrimmed_texts(source: ByteSource, name: str) -> Iterator[Text]:
    held, line = "", 1
    for chunk in text_chunks(source, name):
        held += chunk
        if SEPARATOR in held:
            *whole, held = held.split(SEPARATOR)
            for text in whole:
                yield from parts([Text(text, line)])
                line += text.count("\n")
        # A separator can lie across the chunk's end; no cut comes near enough to break it.
        while len(held) > LONGEST_TEXT + len(SEPARATOR):
            place = cut_place(held)
            yield Text(held[:place], line, more=True)
            line += held.count("\n", 0, place)
            held = held[place:]
    yield Text(held, line)


def looks_like_json_lines(head: bytes) -> bool:
    """Whether a stream of no known format, beginning with `head`, is JSON lines rather than plain text."""
    first, newline, _ = head.removeprefix(b"\xef\xbb\xbf").lstrip().partition(b"\n")
    if not first.startswith(b"{"):
        return False
    try:
        return isinstance(json.loads(first), dict)
    except (ValueError, RecursionError):
        return not newline and first.startswith(b'{"')  # one line longer than `head`


def find_text(value: Any, text_field: str | None) -> str | None:
    """The text of a JSON value: itself, or the first of its usual text fields (or `text_field`)."""
    if isinstance(value, str) and text_field is None:
        return value
    if not isinstance(value, dict):
        return None
    for field in (text_field,) if text_field is not None else TEXT_FIELDS:
        if isinstance(value.get(field), str):
            return value[field]
    return None


def no_text(value: Any, text_field: str | None) -> str:
    """Why `find_text` found none, for people."""
    if not isinstance(value, dict):
        return f"holds {_kind(value)}, not an object with a text"
    fields = ", ".join(map(str, list(value)[:8])) or "none"
    wanted = (
        "text field (such as 'text' or 'content')" if text_field is None else f"text named {text_field!r}"
    )
    return f"has no {wanted}; its fields are: {fields[:200]}"


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")


def json_line_texts(
    source: ByteSource, name: str, text_field: str | None, bad_line: Callable[[int, str], None]
) -> Iterator[Text]:
    """JSON lines. A broken line goes to `bad_line(number, reason)`, and reading goes on behind it."""
    for number, line in source.lines(LONGEST_JSON):
        if line is None:
            bad_line(number, f"is longer than {LONGEST_JSON >> 20} MiB")
            continue
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line or line.isspace():
            continue
        try:
            value = json.loads(line.decode())
        except UnicodeDecodeError as error:
            bad_line(number, f"is not valid UTF-8 (byte 0x{line[error.start]:02x})")
            continue
        except (ValueError, RecursionError) as error:
            bad_line(number, f"is not valid JSON ({error})")
            continue
        text = find_text(value, text_field)
        if text is None:
            bad_line(number, no_text(value, text_field))
        else:
            yield Text(text, number)


def json_texts(
    source: ByteSource, name: str, text_field: str | None, bad_line: Callable[[int, str], None]
) -> Iterator[Text]:
    """JSON: a list of objects or strings, one object after another, or one object that holds such a list.
    Values are read one by one, so a list may be longer than memory."""
    for value, line in json_values(text_chunks(source, name), name):
        text = find_text(value, text_field)
        if text is not None:
            yield Text(text, line)
            continue
        field = next(
            (f for f in _LIST_FIELDS if isinstance(value, dict) and isinstance(value.get(f), list)), None
        )
        if field is None:
            bad_line(line, no_text(value, text_field))
            continue
        for member in value[field]:
            text = find_text(member, text_field)
            if text is None:
                bad_line(line, no_text(member, text_field))
            else:
                yield Text(text, line)


def json_values(chunks: Iterator[str], name: str) -> Iterator[tuple[Any, int]]:
    """The members of a top-level list, or the top-level values one after another, each with the line where
    it begins."""
    buffer = _JsonBuffer(chunks, name)
    if buffer.next_character() != "[":
        while buffer.next_character():
            yield buffer.value()
        return
    buffer.place += 1
    ended = buffer.next_character() == "]"
    while not ended:
        if buffer.next_character():
            yield buffer.value()
        character = buffer.next_character()
        if not character:
            raise BadFile(name, f"is cut short: its list does not end (line {buffer.line})")
        ended = character == "]"
        if not ended:
            if character != ",":
                raise BadFile(name, f"is not valid JSON: a comma or ] is missing in line {buffer.line}")
            buffer.place += 1
    buffer.place += 1
    if buffer.next_character():
        raise BadFile(name, f"is not valid JSON: more text behind its list, in line {buffer.line}")


class _JsonBuffer:
    """Text that is read on as far as the next JSON value needs."""

    def __init__(self, chunks: Iterator[str], name: str):
        self.chunks, self.name = chunks, name
        self.text, self.place, self.line = "", 0, 1
        self.decode = json.JSONDecoder().raw_decode

    def more(self) -> bool:
        """Drop what is done, and read at least as much again as is left; False at the end."""
        self.text, self.place = self.text[self.place :], 0
        parts, wanted = [self.text], max(len(self.text), 1)
        while wanted > 0:
            chunk = next(self.chunks, None)
            if chunk is None:
                break
            parts.append(chunk)
            wanted -= len(chunk)
        found = sum(map(len, parts)) > len(self.text)
        self.text = "".join(parts)
        return found

    def next_character(self) -> str:
        """The next character that is not a space, which stays; "" at the end."""
        while True:
            place, end = self.place, len(self.text)
            while place < end and self.text[place] in " \t\n\r":
                self.line += self.text[place] == "\n"
                place += 1
            self.place = place
            if place < end:
                return self.text[place]
            if not self.more():
                return ""

    def value(self) -> tuple[Any, int]:
        """The value that begins here, and its line."""
        while True:
            error: Exception | None = None
            try:
                value, end = self.decode(self.text, self.place)
                # A number could go on in the next chunk; it is no text in any case.
            except (ValueError, RecursionError) as raised:
                error = raised
            if error is None:
                line = self.line
                self.line += self.text.count("\n", self.place, end)
                self.place = end
                return value, line
            if len(self.text) - self.place > LONGEST_JSON:
                raise BadFile(
                    self.name,
                    f"has a value of more than {LONGEST_JSON >> 20} MiB from line {self.line} on; "
                    "write one document a line instead (JSON lines)",
                )
            if self._is_broken(error) or not self.more():
                raise BadFile(self.name, f"is not valid JSON in line {self.line} ({error})")

    def _is_broken(self, error: Exception) -> bool:
        """Whether more text cannot mend a value: the fault is not at the end, nor a string still open."""
        if not isinstance(error, json.JSONDecodeError):
            return True  # nested too deeply, or a number of thousands of digits
        return error.pos < len(self.text) - 16 and not error.msg.startswith("Unterminated string")
