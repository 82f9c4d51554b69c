"""SentencePiece models: the ids of SentencePiece, and files that hold no model refused."""

import io
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twofold.errors import FileError, TwofoldError
from twofold.tokens.codec import whole
from twofold.tokens.piece_codec import PieceCodec
from twofold.tokens.sentencepiece_file import Kind, Model, Piece, PieceModel, read_model, write_model
from twofold.tokens.tokenizer import Tokenizer

sys.path.insert(0, str(Path(__file__).parent))
from kinds import NASTY, TEXT

sentencepiece = pytest.importorskip("sentencepiece")

OPTIONS = {
    "bpe": dict(model_type="bpe", byte_fallback=True, vocab_size=600),
    "bpe, nothing put before": dict(model_type="bpe", byte_fallback=True, vocab_size=600, add_dummy_prefix=False),
    "bpe, as it is": dict(
        model_type="bpe", byte_fallback=True, vocab_size=600, normalization_rule_name="identity",
        remove_extra_whitespaces=False, allow_whitespace_only_pieces=True,
    ),
    "bpe, unknown": dict(model_type="bpe", vocab_size=400, character_coverage=0.98),
    "bpe, named": dict(
        model_type="bpe", byte_fallback=True, vocab_size=600, user_defined_symbols=["<tool>", "\n\n", "miller"],
        control_symbols=["<turn>"], remove_extra_whitespaces=False, pad_id=3,
    ),
    "bpe, across words": dict(model_type="bpe", vocab_size=500, split_by_whitespace=False, max_sentence_length=9000),
    "bpe, spaces behind": dict(model_type="bpe", vocab_size=500, treat_whitespace_as_suffix=True),
    "unigram": dict(model_type="unigram", byte_fallback=True, vocab_size=500),
    "unigram, unknown": dict(model_type="unigram", vocab_size=300, character_coverage=0.98),
}  # fmt: skip
JOINED = [name for name in OPTIONS if name.startswith("bpe")]


@pytest.fixture(scope="module", params=list(OPTIONS))
def name(request):
    return request.param


@pytest.fixture(scope="module")
def path(name, sample_text, tmp_path_factory):
    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sample_text.split("\n")), model_writer=made, minloglevel=2, hard_vocab_limit=False,
        **OPTIONS[name],
    )  # fmt: skip
    path = tmp_path_factory.mktemp("piece") / "tokenizer.model"
    path.write_bytes(made.getvalue())
    return path


@pytest.fixture(scope="module")
def opened(path):
    return Tokenizer.load(path)


@pytest.fixture(scope="module")
def peer(path):
    return sentencepiece.SentencePieceProcessor(model_file=str(path))


@settings(max_examples=250, deadline=None)
@given(TEXT)
def test_ids_are_those_of_sentencepiece(opened, peer, text):
    expected = peer.encode(whole(text))
    assert opened.encode(text) == expected
    assert opened.encode_batch([text])[0].tolist() == expected


@settings(max_examples=100, deadline=None)
@given(TEXT)
def test_decoding_gives_sentencepieces_text(opened, peer, name, text):
    ids = peer.encode(whole(text))
    if name != "bpe, spaces behind":
        assert opened.decode(ids) == peer.decode(ids)
    stream = opened.stream()
    assert "".join(map(stream.feed, ids)) + stream.flush() == opened.decode(ids)


def test_the_quick_way_is_taken_for_every_model_that_joins(opened, name):
    assert (opened.codec._joiner is not None) == (name in JOINED)


def test_special_tokens_come_from_no_text(opened):
    control = {token.id for token in opened.added if token.special}
    assert control.isdisjoint(opened.encode("a<s>b</s> <turn><pad>"))
    assert [opened.pieces[token] for token in opened.start_ids] == ["<s>"]
    assert opened.pieces[opened.end_of_text] == "</s>"
    named = opened.encode_named("a<s>b")
    assert named.count(opened.start_ids[0]) == 1


def test_what_is_saved_opens_as_the_same(opened, tmp_path):
    opened.save(tmp_path)
    again = Tokenizer.load(tmp_path)
    assert again.fingerprint == opened.fingerprint
    assert [again.encode(text) for text in NASTY] == [opened.encode(text) for text in NASTY]
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model"))
    assert [theirs.encode(whole(text)) for text in NASTY] == [opened.encode(text) for text in NASTY]


def test_writing_and_reading_give_the_model_back(path):
    model = read_model(path.read_bytes(), "it")
    assert read_model(write_model(model), "it") == model


def test_pieces_of_one_letter_repeated_may_have_one_score():
    pieces = [Piece("<unk>", 0, Kind.UNKNOWN), Piece("▁", -9), Piece("a", -9)]
    pieces += [Piece("▁" * length, -1e9) for length in range(2, 9)] + [Piece("▁a", -1)]
    model = PieceModel(tuple(pieces), squeezed=False, bos=None, eos=None)
    codec = PieceCodec(model, "it")
    peer = sentencepiece.SentencePieceProcessor(model_proto=write_model(model))
    assert codec._joiner is not None
    for length in range(40):
        text = " " * length + "a" + " " * (length // 3)
        assert codec.encode(text) == peer.encode(text)


def test_pieces_of_one_score_otherwise_are_left_to_sentencepiece():
    pieces = [Piece("<unk>", 0, Kind.UNKNOWN), *(Piece(letter, -9) for letter in "▁abc")]
    pieces += [Piece("ab", -1), Piece("bc", -1)]
    codec = PieceCodec(PieceModel(tuple(pieces), bos=None, eos=None), "it")
    assert codec._joiner is None
    assert [codec.pieces[token] for token in codec.encode("abc bc")] == ["▁", "ab", "c", "▁", "bc"]


def test_pieces_that_are_not_in_use_are_left_to_sentencepiece():
    pieces = [Piece("<unk>", 0, Kind.UNKNOWN), *(Piece(letter, -9) for letter in "▁abc")]
    pieces += [Piece("ab", -1, Kind.UNUSED), Piece("abc", -2), Piece("▁ab", -3, Kind.UNUSED)]
    model = PieceModel(tuple(pieces), bos=None, eos=None)
    codec = PieceCodec(model, "it")
    peer = sentencepiece.SentencePieceProcessor(model_proto=write_model(model))
    assert codec._joiner is None
    for text in ("ab", "abc", "aabbcc", "ab abc b", "abab"):
        assert codec.encode(text) == peer.encode(text)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=4), st.integers(0, 10**6))
def test_random_damage_is_refused_or_harmless(changes, cut):
    pieces = [Piece("<unk>", 0, Kind.UNKNOWN), Piece("<s>", 0, Kind.CONTROL), Piece("▁", -1), Piece("a", -2)]
    data = bytearray(write_model(PieceModel((*pieces, Piece("▁a", -1)))))
    for place, byte in changes:
        data[place % len(data)] = byte
    try:
        codec = PieceCodec(read_model(bytes(data[: cut % (2 * len(data))]), "it"), "it")
        codec.encode("a b")
    except TwofoldError as error:
        assert "it" in str(error)  # noqa: PT017 - or nothing happens


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\x0a", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x0b", b"\xff" * 30, b"\x08\x01",
        b"\x0a\x02\x0a\x00", b"\x0a\x03\x0a\x01\xff", b"\x0a\x03\x0a\x01a" * 2, b"\x0a\x05\x0a\x01a\x18\x63",
        b"\x0a\x08\x0a\x01a\x15\x00\x00\xc0\x7f", b"\x0a\x03\x0a\x01a\x12\x02\x18\x03",
    ],
)  # fmt: skip
def test_what_is_no_model_is_refused(data, tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(data)
    with pytest.raises(FileError, match=r"tokenizer\.model"):
        Tokenizer.load(tmp_path).encode("a")


def test_a_model_without_all_its_bytes_is_refused():
    pieces = [Piece("<unk>", 0, Kind.UNKNOWN), Piece("<0x41>", 0, Kind.BYTE), Piece("a", -1)]
    with pytest.raises(FileError, match="1 of the 256 byte pieces"):
        PieceCodec(PieceModel(tuple(pieces), byte_fallback=True), "it")
    with pytest.raises(FileError, match="no byte"):
        PieceCodec(PieceModel((*pieces[:1], replace(pieces[1], text="zz"))), "it")


def test_a_unigram_model_says_what_it_needs_where_that_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    pieces = (Piece("<unk>", 0, Kind.UNKNOWN), Piece("a", -1))
    with pytest.raises(TwofoldError, match=r"pip install 'twofold\[sentencepiece\]'"):
        PieceCodec(PieceModel(pieces, Model.UNIGRAM), "it")
