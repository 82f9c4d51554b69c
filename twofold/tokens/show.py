"""Tokens to look at: a text cut into coloured pieces, and what a tokenizer does to a body of text.

Both come as plain dataclasses (for JSON and tests) and as rich renderables (for the terminal). Whatever a
text holds, what is shown holds no control character: those are named with the Unicode control pictures
(␛ ␊ ␠), invisible or combining characters by their code, and bytes that are no whole character in hex.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from twofold.errors import DataError
from twofold.tokens.tokenizer import Tokenizer

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

_COLOURS = ("black on cyan", "black on yellow", "black on green", "black on magenta")
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
_MOST_WORDS = 200_000  # different ones counted; later new ones are left out
_BATCH = 64
_LISTED = 12


@dataclass(frozen=True, slots=True)
class Token:
    """One token of a text. `shown`: its bytes made visible. `partial`: they are not whole characters."""

    id: int
    shown: str
    bytes: bytes
    special: bool = False
    partial: bool = False

    def as_dict(self) -> dict[str, Any]:
        """For JSON; bytes in hex. `text` is None where the bytes are not whole characters."""
        text = None if self.partial else self.bytes.decode("utf-8")
        return {"id": self.id, "text": text, "shown": self.shown, "bytes": self.bytes.hex(" ")}


def look_at(tokenizer: Tokenizer, ids: Iterable[int]) -> list[Token]:
    """Each token as it can be shown. Raises UsageError for an id outside the vocabulary."""
    special = {token.id: token.name for token in tokenizer.added if token.special}
    tokens = []
    for token in ids:
        data = tokenizer.token_bytes(token)
        if token in special:
            tokens.append(Token(token, special[token], data, special=True))
            continue
        try:
            tokens.append(Token(token, visible(data.decode("utf-8")), data))
        except UnicodeDecodeError:
            tokens.append(Token(token, _visible_bytes(data), data, partial=True))
    return tokens


def visible(text: str) -> str:
    """`text` with spaces as ␠ and every character that would not show, or would steer a terminal, named."""
    return "".join(map(_visible_character, text))


def _visible_character(character: str) -> str:
    code = ord(character)
    if code <= 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    if character.isprintable() and not _combines(character):
        return character
    return f"⟨U+{code:04X}⟩"


def _combines(character: str) -> bool:
    import unicodedata

    return unicodedata.combining(character) != 0 or unicodedata.category(character) in ("Mn", "Me", "Mc")


def _visible_bytes(data: bytes) -> str:
    """Bytes that are not whole characters: what is whole as text, the rest as ⟨E2⟩."""
    shown = []
    for character in data.decode("utf-8", errors="surrogateescape"):
        code = ord(character)
        shown.append(f"⟨{code - 0xDC00:02X}⟩" if 0xDC80 <= code <= 0xDCFF else _visible_character(character))
    return "".join(shown)


@dataclass(frozen=True)
class TokenView:
    """A rich renderable: the text in coloured pieces, then a line for each piece with its id and bytes.
    `border` goes between pieces, for where there are no colours to tell them apart.

    It yields segments itself, because a rich Table of 30,000 rows takes half a minute."""

    tokens: list[Token]
    border: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        from rich.cells import cell_len
        from rich.segment import Segment

        colours = [console.get_style(name) for name in _COLOURS]
        special, heading, faint = map(console.get_style, ("bold reverse", "bold", "dim"))
        styles = [
            special if token.special else colours[place % len(colours)]
            for place, token in enumerate(self.tokens)
        ]
        widths = [cell_len(token.shown) for token in self.tokens]
        column = 0
        for token, style, width in zip(self.tokens, styles, widths, strict=True):
            border = self.border if column else ""
            if column and column + len(border) + width > options.max_width:
                yield Segment.line()
                column, border = 0, ""
            yield Segment(border)
            yield Segment(token.shown, style)
            column += len(border) + width
            if token.shown.endswith("␊"):
                yield Segment.line()
                column = 0
        if column:
            yield Segment.line()
        widest = max([*widths, len("piece")])
        digits = max([len(str(token.id)) for token in self.tokens] + [len("id")])
        yield Segment(f"\n{'piece':{widest}}  {'id':>{digits}}  bytes\n", heading)
        for token, style, width in zip(self.tokens, styles, widths, strict=True):
            yield Segment(token.shown, style)
            yield Segment(f"{' ' * (widest - width)}  {token.id:>{digits}}  {token.bytes.hex(' ')}\n")
        size = sum(len(token.bytes) for token in self.tokens)
        count = sum(not token.special for token in self.tokens)
        ratio = f", {size / count:.2f} bytes a token" if count else ""
        yield Segment(f"\n{len(self.tokens):,} tokens, {size:,} bytes{ratio}\n", faint)


@dataclass(frozen=True)
class Statistics:
    """What a tokenizer does to some text. Bytes are those that the tokens stand for, not guesses from
    characters; words are runs of letters. The lists hold examples, the most telling first."""

    vocab_size: int
    texts: int
    bytes: int
    tokens: int
    words: int
    bytes_per_token: float
    tokens_per_word: float  # of a word with the space before it; weighed by how often it occurs
    single_byte_share: float  # of the tokens of the text, those that stand for one byte
    used_share: float  # of the vocabulary, tokens that occur at all
    common_whole: tuple[str, ...]  # the most frequent words that are one token
    common_split: tuple[tuple[str, int], ...]  # the most frequent words that are not, and their tokens
    rare_costly: tuple[tuple[str, int], ...]  # words met once or twice that take the most tokens
    longest: tuple[str, ...]  # the longest tokens of the vocabulary, made visible

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def statistics(tokenizer: Tokenizer, texts: Iterable[str]) -> Statistics:
    """Encode all `texts`, a few at a time, and count. Raises DataError where there is no text."""
    sizes = [len(tokenizer.token_bytes(token)) for token in range(tokenizer.vocab_size)]
    used: Counter[int] = Counter()
    words: Counter[str] = Counter()
    texts_seen = 0
    for batch in _batches(texts):
        texts_seen += len(batch)
        for array in tokenizer.encode_batch(batch):
            used.update(array.tolist())
        for text in batch:
            found = Counter(match.group() for match in _WORD.finditer(text))
            room = len(words) < _MOST_WORDS
            words.update(found if room else {word: n for word, n in found.items() if word in words})
    total = used.total()
    if not total:
        raise DataError("There is no text to count: all that was given is empty.")
    cost = {word: len(tokenizer.encode(" " + word, goes_on=True)) for word in words}
    by_count = sorted(words, key=lambda word: (-words[word], word))
    rare = sorted((word for word in words if words[word] <= 2), key=lambda word: (-cost[word], word))
    longest = sorted(range(tokenizer.vocab_size), key=lambda token: (-sizes[token], token))
    longest = [token for token in longest if not tokenizer.is_added(token)]
    size = sum(sizes[token] * count for token, count in used.items())
    return Statistics(
        vocab_size=tokenizer.vocab_size,
        texts=texts_seen,
        bytes=size,
        tokens=total,
        words=words.total(),
        bytes_per_token=size / total,
        tokens_per_word=sum(cost[word] * n for word, n in words.items()) / max(words.total(), 1),
        single_byte_share=sum(n for token, n in used.items() if sizes[token] == 1) / total,
        used_share=len(used) / tokenizer.vocab_size,
        common_whole=tuple(islice((word for word in by_count if cost[word] == 1), _LISTED)),
        common_split=tuple(islice(((word, cost[word]) for word in by_count if cost[word] > 1), _LISTED)),
        rare_costly=tuple((word, cost[word]) for word in rare[:_LISTED] if cost[word] > 1),
        longest=tuple(token.shown for token in look_at(tokenizer, longest[:_LISTED])),
    )


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    iterator = iter(texts)
    while batch := list(islice(iterator, _BATCH)):
        yield batch


def render_statistics(found: Statistics) -> RenderableType:
    """A table for the terminal."""
    from rich.table import Table
    from rich.text import Text

    def costs(words: tuple[tuple[str, int], ...]) -> str:
        return ", ".join(f"{visible(word)} {count}" for word, count in words) or "none"

    rows = {
        "vocabulary": f"{found.vocab_size:,} tokens, {found.used_share:.1%} of them used here",
        "text": f"{found.texts:,} texts, {found.bytes:,} bytes, {found.tokens:,} tokens",
        "bytes per token": f"{found.bytes_per_token:.3f}",
        "tokens per word": f"{found.tokens_per_word:.3f}" if found.words else "no words",
        "single bytes": f"{found.single_byte_share:.2%} of the tokens",
        "common, one token": ", ".join(map(visible, found.common_whole)) or "none",
        "common, several": costs(found.common_split),
        "rare and costly": costs(found.rare_costly),
        "longest tokens": ", ".join(found.longest),
    }
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, Text(value))
    return table
