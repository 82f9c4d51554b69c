"""Masks over a tokenizer of SentencePiece's kind: what they let through is what they say, spaces and all."""

import random

import pytest

from twofold.decoding.masks import Choices, Regex
from twofold.decoding.masks.vocabulary import MaskVocabulary
from twofold.tokens.codec import Roles
from twofold.tokens.piece_codec import PieceCodec
from twofold.tokens.sentencepiece_file import Kind, Piece, PieceModel
from twofold.tokens.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    words = [
        "▁the",
        "▁th",
        "▁t",
        "▁yes",
        "▁ye",
        "▁y",
        "yes",
        "ye",
        "▁no",
        "▁n",
        "no",
        "▁▁",
        "▁a",
        "12",
        "▁1",
        "▁b",
        "an",
    ]
    names = [Piece("<unk>", 0, Kind.UNKNOWN), Piece("<s>", 0, Kind.CONTROL), Piece("</s>", 0, Kind.CONTROL)]
    names += [Piece(f"<0x{byte:02X}>", 0, Kind.BYTE) for byte in range(256)]
    letters = "▁abcdefghijklmnopqrstuvwxyzABN0123456789.,水é"
    joined = [Piece(text, float(-place)) for place, text in enumerate([*words, *letters])]
    model = PieceModel((*names, *joined), byte_fallback=True, squeezed=False)
    return Tokenizer.of(PieceCodec(model, "it"), Roles((1,), (), 2, None, 0, (2,)))


@pytest.fixture(scope="module")
def vocabulary(tokenizer):
    return MaskVocabulary(tokenizer, tokenizer.vocab_size, (2,))


def walk(mask, vocabulary, seed, length=40):
    """A text drawn among what the mask allows; where it must go on in one way, that way."""
    choose, state, data = random.Random(seed), mask.compile(vocabulary), b""
    for _ in range(length):
        forced = state.forced()
        assert b"".join(map(vocabulary.token_bytes, forced)) or not forced
        if forced and choose.random() < 0.5:
            tokens = list(forced)
        else:
            allowed = [token for token in state.allowed().nonzero()[0].tolist() if token != 2]
            if not allowed or (state.complete and choose.random() < 0.3):
                break
            tokens = [choose.choice(allowed)]
        for token in tokens:
            data += vocabulary.token_bytes(token)
            state = state.advance(token)
    return data.decode("utf-8", errors="replace"), state.complete


@pytest.mark.parametrize("seed", range(40))
def test_choices_are_written_to_the_letter(vocabulary, seed):
    texts = ["yes", " yes", "no", "a  b 水", "é12"]
    text, complete = walk(Choices(texts), vocabulary, seed)
    assert complete
    assert text in texts


@pytest.mark.parametrize("seed", range(40))
def test_a_pattern_is_held(vocabulary, seed):
    import re

    pattern = r"( (the|a|yes|no))+ ?[0-9]{1,3}\.é?"
    text, complete = walk(Regex(pattern), vocabulary, seed, 200)
    assert not complete or re.fullmatch(pattern, text)
    assert complete or re.match(r"( (the|a|yes|no))* ?\w*", text)


def test_the_usual_way_to_write_a_text_begins_with_no_space_of_its_own(tokenizer, vocabulary):
    for text in ("yes", " the", "a b", "水12", "  x"):
        tokens = vocabulary.canonical(text.encode(), last=True)
        assert b"".join(map(vocabulary.token_bytes, tokens)) == text.encode()
    assert tokenizer.encode("yes") != tokenizer.encode("yes", goes_on=True)


def test_unknown_and_special_tokens_write_nothing(vocabulary):
    assert not vocabulary.writes[[0, 1, 2]].any()
    assert vocabulary.writes[3:].all()
