"""What a tokenizer is made of: pieces, merges and added tokens, checked to be a real byte-level BPE.

Byte-level BPE (Sennrich et al. 2016, arXiv 1508.07909; over bytes as in GPT-2) starts from the 256 bytes
and joins pairs of pieces in the order of its merges. Files write each byte as one visible letter
(the GPT-2 byte alphabet: space is "Ġ", newline is "Ċ"), so that a piece is a plain string.

Key idea of the check: two kinds of encoder are in use. One looks a pair up in the list of merges, the
other joins any two neighbours whose bytes together are a piece, lowest number first. They agree on every
text when the pieces are numbered in the order of their merges, each has exactly one merge, and each piece,
encoded alone, gives itself. Trained vocabularies have these properties; a damaged or hostile one may not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from twofold.errors import FileError

# How text is cut before pairs are joined: exactly Qwen2's, which every GGUF reader knows as "qwen2".
# Contractions, words with at most one leading sign, single digits, runs of signs, line ends, spaces.
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PRE_TOKENIZER = "qwen2"

END_OF_TEXT = "<|endoftext|>"
IM_START = "<|im_start|>"
IM_END = "<|im_end|>"
SPECIAL = (END_OF_TEXT, IM_START, IM_END)
MARKUP = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")

VOCABULARY_MULTIPLE = 64  # shapes that kernels and quantised blocks like
SMALLEST_VOCABULARY = 320  # 256 bytes and 9 added tokens, rounded up
LARGEST_VOCABULARY = 1 << 20
LONGEST_PIECE = 256  # characters, where each may be tried at every place of a text
LONGEST_NAME = 256  # characters of an added token
MOST_NAMES = 1 << 20  # characters of all their names: to look for them, a pattern is compiled

_VISIBLE = (*range(33, 127), *range(161, 173), *range(174, 256))
_HIDDEN = [byte for byte in range(256) if byte not in _VISIBLE]
BYTE_TO_LETTER = {byte: chr(byte) for byte in _VISIBLE} | {
    byte: chr(256 + place) for place, byte in enumerate(_HIDDEN)
}
LETTER_TO_BYTE = {letter: byte for byte, letter in BYTE_TO_LETTER.items()}


@dataclass(frozen=True, slots=True)
class AddedToken:
    """A token that no merge makes. Special ones stand for no text; the others are markup, their name.

    The rest is how its name is found in text, by tokenizers from elsewhere: as a whole word only, with the
    spaces to its left or right, in the text as it is or as the normaliser left it."""

    name: str
    id: int
    special: bool
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = False


@dataclass(frozen=True)
class Vocabulary:
    """`pieces`: every token's string by id, in the byte alphabet (an added token: its name).
    `merges`: "left right", in order of priority. `added`: the tokens at the end, by rising id."""

    pieces: tuple[str, ...]
    merges: tuple[str, ...]
    added: tuple[AddedToken, ...]

    @property
    def learned(self) -> tuple[str, ...]:
        """The pieces that merges or single bytes make: all before the added tokens."""
        return self.pieces[: len(self.pieces) - len(self.added)]


def standard_added(first_id: int, reserved: int = 0) -> tuple[AddedToken, ...]:
    """Twofold's added tokens with ids from `first_id` on, after `reserved` unused ones."""
    names = [(f"<|reserved_{place}|>", True) for place in range(reserved)]
    names += [(name, True) for name in SPECIAL] + [(name, False) for name in MARKUP]
    return tuple(AddedToken(name, first_id + place, special) for place, (name, special) in enumerate(names))


def to_letters(data: bytes) -> str:
    """Bytes in the byte alphabet."""
    return "".join(BYTE_TO_LETTER[byte] for byte in data)


def to_bytes(piece: str) -> bytes:
    """The bytes that a piece in the byte alphabet stands for. Raises KeyError for other letters."""
    return bytes(LETTER_TO_BYTE[letter] for letter in piece)


def check_vocabulary(vocabulary: Vocabulary, where: str) -> None:
    """Raise FileError, beginning with `where`, unless every encoder will agree about `vocabulary`."""
    pieces, learned = vocabulary.pieces, vocabulary.learned

    def refuse(fault: str) -> FileError:
        return FileError(f"{where}: {fault}. The tokenizer is damaged, or not a byte-level BPE.")

    if not 256 < len(pieces) <= LARGEST_VOCABULARY:
        raise refuse(f"a vocabulary of {len(pieces):,} tokens; 257 to {LARGEST_VOCABULARY:,} are possible")
    if not all(isinstance(piece, str) and piece for piece in pieces):
        raise refuse("a token is empty or not a string")
    if len(set(pieces)) != len(pieces):
        raise refuse("two tokens have the same string")
    _check_added(vocabulary, refuse)
    for token, piece in enumerate(learned):
        if not LETTER_TO_BYTE.keys() >= set(piece):
            raise refuse(f"token {token} ({piece[:40]!r}) is not written in the byte alphabet")
    number = {piece: token for token, piece in enumerate(learned)}
    if not LETTER_TO_BYTE.keys() <= number.keys():
        raise refuse("not all 256 bytes are in the vocabulary, so some text could not be written")
    if len(vocabulary.merges) != len(learned) - 256:
        raise refuse(
            f"{len(vocabulary.merges):,} merges, and {len(learned) - 256:,} tokens longer than one byte"
        )
    last = -1
    for place, merge in enumerate(vocabulary.merges):
        left, space, right = merge.partition(" ") if isinstance(merge, str) else ("", "", "")
        made = number.get(left + right, -1)
        if not space or left not in number or right not in number or made < 0:
            raise refuse(f"merge {place} ({str(merge)[:40]!r}) does not join two tokens into a third")
        if made <= last:
            raise refuse(f"merge {place} ({merge[:40]!r}) is out of order: it makes token {made}")
        last = made
    _check_reached(vocabulary, number, refuse)


def _check_added(vocabulary: Vocabulary, refuse) -> None:
    first = len(vocabulary.pieces) - len(vocabulary.added)
    for place, token in enumerate(vocabulary.added):
        if token.id != first + place or first < 256 or vocabulary.pieces[token.id] != token.name:
            raise refuse(f"the added token {token.name[:40]!r} is not at its place, the vocabulary's end")
        if any("\ud800" <= letter <= "\udfff" for letter in token.name):
            raise refuse(f"the name of added token {token.id} is not valid Unicode")
    special = {token.name for token in vocabulary.added if token.special}
    missing = [name for name in SPECIAL if name not in special]
    if missing:
        raise refuse(f"it has no special token {', '.join(missing)}, which Twofold needs")


def check_names(tokens: Iterable[AddedToken], refuse: Callable[[str], FileError]) -> None:
    """Raise what `refuse` makes of the fault where names of added tokens are too long to be found in text."""
    names = [token.name for token in tokens]
    if sum(map(len, names)) > MOST_NAMES or max(map(len, names), default=0) > LONGEST_NAME:
        raise refuse(
            f"a special token's name has more than {LONGEST_NAME} characters, or all together more than {MOST_NAMES:,}"
        )


def _check_reached(vocabulary: Vocabulary, number: dict[str, int], refuse) -> None:
    """Every piece, encoded alone by the merges, must give itself."""
    from tokenizers import models

    merges = [tuple(merge.split(" ")) for merge in vocabulary.merges]
    model = models.BPE(number, merges)
    for piece, token in number.items():
        found = model.tokenize(piece)
        if len(found) != 1 or found[0].id != token:
            raise refuse(f"token {token} ({piece[:40]!r}) is never made by the merges")
