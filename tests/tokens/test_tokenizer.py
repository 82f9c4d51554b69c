"""Encoding loses nothing, agrees with every other encoder, and text never makes a special token."""

import copy
import itertools
import pickle
import time

import numpy as np
import pytest
import regex
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from twofold.errors import FileError, UsageError
from twofold.tokens.tokenizer import Tokenizer, bytes_only
from twofold.tokens.vocabulary import MARKUP, PATTERN, SPECIAL, AddedToken, Vocabulary

NAME = regex.compile("|".join(map(regex.escape, (*SPECIAL, *MARKUP))))
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60).filter(lambda t: not NAME.search(t))
SPACES = st.text("  \t\r\n\x0b\x85\u00a0\u2028\u3000a'.9", max_size=40)
WITH_SURROGATES = st.text(st.characters(categories=["Cs", "Lu", "Zs"]), max_size=20)
NAMES = st.sampled_from([*SPECIAL, *MARKUP])
WITH_NAMES = st.lists(st.one_of(NAMES, ANY_TEXT), max_size=6).map("".join)


@pytest.fixture(scope="module")
def peer(tokenizer, tmp_path_factory):
    """The same tokenizer.json, run by the library that defines the format."""
    folder = tmp_path_factory.mktemp("peer")
    tokenizer.save(folder)
    return tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))


def naive_encode(tokenizer, text):
    """Byte-pair encoding as it is defined: cut, then join the first merge that applies, leftmost first."""
    ids = {piece: token for token, piece in enumerate(tokenizer.pieces)}
    ranks = {merge: rank for rank, merge in enumerate(tokenizer.merges)}
    letters = {tokenizer.token_bytes(token): tokenizer.pieces[token] for token in range(256)}
    found = []
    for word in regex.findall(PATTERN, text):
        parts = [letters[bytes([byte])] for byte in word.encode()]
        while True:
            pairs = [(ranks.get(f"{a} {b}", len(ranks)), a, b) for a, b in itertools.pairwise(parts)]
            rank, left, right = min(pairs, default=(len(ranks), "", ""), key=lambda pair: pair[0])
            if rank == len(ranks):
                break
            joined, place = [], 0
            while place < len(parts):
                both = parts[place : place + 2] == [left, right]
                joined.append(left + right if both else parts[place])
                place += 2 if both else 1
            parts = joined
        found += [ids[part] for part in parts]
    return found


@given(ANY_TEXT)
def test_decode_gives_back_every_text(tokenizer, text):
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert b"".join(map(tokenizer.token_bytes, ids)) == text.encode()


def test_accents_that_are_written_apart_stay_apart(tokenizer):
    apart, together = "e\u0301", "\u00e9"
    assert tokenizer.decode(tokenizer.encode(apart)) == apart
    assert tokenizer.encode(apart) != tokenizer.encode(together)


@settings(max_examples=300)
@given(st.one_of(ANY_TEXT, SPACES))
def test_ids_equal_those_of_the_library_that_defines_the_file(tokenizer, peer, text):
    assert tokenizer.encode(text) == peer.encode(text, add_special_tokens=False).ids
    assert tokenizer.encode(text, start=True) == peer.encode(text).ids


@given(st.one_of(ANY_TEXT, SPACES))
def test_ids_equal_the_definition_of_byte_pair_encoding(tokenizer, text):
    assert tokenizer.encode(text) == naive_encode(tokenizer, text)


def test_real_sentences_agree_with_both(tokenizer, peer, sample_text):
    ids = tokenizer.encode(sample_text)
    assert ids == peer.encode(sample_text, add_special_tokens=False).ids
    assert tokenizer.encode(sample_text[:3000]) == naive_encode(tokenizer, sample_text[:3000])
    assert max(ids) > 400  # merges are in use


def test_every_block_of_unicode_agrees(tokenizer, peer):
    # Two encoders bring two tables of letters. Every 7th character of all planes, between a letter and a
    # digit, where whether it is a letter decides the cut.
    characters = [chr(code) for code in range(1, 0x110000, 7) if not 0xD800 <= code < 0xE000]
    texts = [f"a{character}1" for character in characters if character.isprintable()]
    assert len(texts) > 15_000
    expected = peer.encode_batch_fast(texts, add_special_tokens=False)
    assert [list(ids) for ids in tokenizer.encode_batch(texts)] == [each.ids for each in expected]


@given(WITH_SURROGATES)
def test_a_surrogate_without_its_partner_becomes_the_replacement_character(tokenizer, text):
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert tokenizer.decode(tokenizer.encode(text)) == whole
    assert [list(ids) for ids in tokenizer.encode_batch([text])] == [tokenizer.encode(text)]


def test_a_pair_of_surrogates_is_the_character_it_stands_for(tokenizer):
    assert tokenizer.encode("\ud83c\udf3e") == tokenizer.encode("🌾")


@pytest.mark.parametrize("unit", ["a", " ", "\n", "!", "é", "水", " \n", "a1", "\x0b"])
def test_long_runs_do_not_take_time_in_the_square_of_their_length(tokenizer, unit):
    def seconds(length):
        text = unit * (length // len(unit))
        best = float("inf")
        for _ in range(3):
            start = time.process_time()
            ids = tokenizer.encode(text)
            best = min(best, time.process_time() - start)
        assert tokenizer.decode(ids) == text
        return best

    assert seconds(96_000) < 24 * max(seconds(12_000), 1e-3)  # 8 times longer; its square is 64


def test_a_million_spaces_are_encoded_as_everyone_does(tokenizer, peer):
    text = "a" + " " * 1_100_000 + "x"  # tiktoken alone panics on this
    assert tokenizer.encode(text) == peer.encode(text, add_special_tokens=False).ids


@given(st.lists(WITH_NAMES, max_size=8))
def test_a_batch_gives_the_same_ids_as_one_by_one(tokenizer, texts):
    arrays = tokenizer.encode_batch(texts)
    assert all(array.dtype == np.int32 and array.ndim == 1 for array in arrays)
    assert [array.tolist() for array in arrays] == [tokenizer.encode(text) for text in texts]


def test_a_large_batch_keeps_its_order_across_threads(tokenizer, sample_text):
    texts = [f"{number}: {sample_text[:2000]}" for number in range(400)]
    arrays = tokenizer.encode_batch(texts)
    assert all(tokenizer.decode(array) == text for array, text in zip(arrays, texts, strict=True))


@given(WITH_NAMES)
def test_no_text_makes_an_added_token(tokenizer, text):
    assert not any(map(tokenizer.is_added, tokenizer.encode(text)))
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(WITH_NAMES)
def test_markup_makes_the_tokens_that_are_not_special_and_no_others(tokenizer, text):
    ids = tokenizer.encode_markup(text)
    assert tokenizer.decode(ids) == text
    made = [tokenizer.pieces[token] for token in ids if tokenizer.is_added(token)]
    assert made == regex.findall("|".join(map(regex.escape, MARKUP)), text)


@given(st.lists(st.integers(0, 511), max_size=30))
def test_a_stream_joins_to_what_decode_gives(tokenizer, ids):
    stream = tokenizer.stream()
    assert "".join(map(stream.feed, ids)) + stream.flush() == tokenizer.decode(ids)


def test_a_stream_holds_a_character_back_until_it_is_whole():
    tokenizer = bytes_only()
    stream = tokenizer.stream()
    assert [stream.feed(token) for token in tokenizer.encode("a水b")] == ["a", "", "", "水", "b"]
    assert stream.feed(tokenizer.encode("水")[0]) == ""
    assert stream.flush() == "\ufffd"


def test_the_added_tokens_stand_at_the_end_in_their_order(tokenizer):
    assert tokenizer.pieces[-9:] == (*SPECIAL, *MARKUP)
    assert [token.special for token in tokenizer.added] == [True] * 3 + [False] * 6
    assert (tokenizer.end_of_text, tokenizer.im_start, tokenizer.im_end) == (503, 504, 505)


def test_special_tokens_stand_for_no_text_unless_asked_for(tokenizer):
    ids = [*tokenizer.encode("hi", start=True), tokenizer.im_end]
    assert tokenizer.decode(ids) == "hi"
    assert tokenizer.decode(ids, specials=True) == "<|endoftext|>hi<|im_end|>"
    assert tokenizer.token_bytes(tokenizer.im_end) == b""
    assert tokenizer.token_bytes(tokenizer.im_end + 1) == b"<think>"


@pytest.mark.parametrize("token", [-1, 512, 1 << 40])
def test_an_id_outside_the_vocabulary_is_told(tokenizer, token):
    with pytest.raises(UsageError, match="512 tokens"):
        tokenizer.decode([token])
    with pytest.raises(UsageError):
        tokenizer.stream().feed(token)


def test_decode_takes_numpy_arrays(tokenizer):
    assert tokenizer.decode(np.array(tokenizer.encode("a水"), dtype=np.uint16)) == "a水"


def test_the_fingerprint_tells_vocabularies_apart(tokenizer):
    again = Tokenizer.from_vocabulary(tokenizer.pieces, tokenizer.merges, tokenizer.added)
    assert again.fingerprint == tokenizer.fingerprint
    assert bytes_only().fingerprint != tokenizer.fingerprint
    markup = tokenizer.added[-1]
    other = (*tokenizer.added[:-1], AddedToken(markup.name, markup.id, True))
    renamed = Tokenizer.from_vocabulary(tokenizer.pieces, tokenizer.merges, other)
    assert renamed.fingerprint != tokenizer.fingerprint


def test_a_tokenizer_can_be_sent_to_another_process(tokenizer):
    again = pickle.loads(pickle.dumps(tokenizer))
    assert again.fingerprint == tokenizer.fingerprint
    assert again.encode("miller 水") == tokenizer.encode("miller 水")
    assert copy.deepcopy(tokenizer).vocab_size == tokenizer.vocab_size


def test_the_byte_tokenizer_has_a_token_for_each_byte_and_the_smallest_legal_size():
    tokenizer = bytes_only()
    assert tokenizer.vocab_size == 320
    assert sorted(map(tokenizer.token_bytes, range(256))) == [bytes([byte]) for byte in range(256)]
    assert len(tokenizer.encode("水")) == 3
    assert tokenizer.pieces[-9:] == (*SPECIAL, *MARKUP)


def test_a_vocabulary_that_encoders_would_disagree_about_is_refused(tokenizer):
    # "abc" made of (ab, c), though (b, c) is joined first: a search by bytes finds it, the merges never do.
    base = tuple(bytes_only().pieces[:256])
    added = tuple(AddedToken(name, 259 + place, True) for place, name in enumerate(SPECIAL))
    pieces = (*base, "bc", "ab", "abc", *SPECIAL)
    with pytest.raises(FileError, match="never made"):
        Tokenizer(Vocabulary(pieces, ("b c", "a b", "ab c"), added))
    Tokenizer(Vocabulary((*base, "ab", "bc", "abc", *SPECIAL), ("a b", "b c", "ab c"), added))
