"""tiktoken's files of ranks: the ids of tiktoken, with the cut that goes with the file's name or size."""

import base64
import gzip

import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st

from twofold.errors import FileError, UsageError
from twofold.tokens.codec import whole
from twofold.tokens.patterns import RANK_FILES, RankFile
from twofold.tokens.rank_codec import RankCodec, cut_for, read_ranks
from twofold.tokens.special import Config, roles_of
from twofold.tokens.tokenizer import Tokenizer

TEXT = st.lists(
    st.one_of(
        st.text(max_size=12),
        st.sampled_from(["<|endoftext|>", "  \n", "   ", "'S", "don't", "1234", "\n\n  ", "\ud83c", "Aa", "水"]),
    ),
    max_size=6,
).map("".join)  # fmt: skip


@pytest.fixture(scope="module")
def ranks(tokenizer):
    return {tokenizer.token_bytes(token): token for token in range(tokenizer.vocab_size - 9)}


def written(ranks):
    return b"".join(base64.b64encode(token) + b" %d\n" % rank for token, rank in ranks.items())


@pytest.fixture(scope="module", params=sorted(RANK_FILES))
def both(request, ranks):
    """Ours, with special tokens a little behind the ranks, and tiktoken's."""
    special = {name: len(ranks) + 2 + place for place, name in enumerate(RANK_FILES[request.param].special)}
    cut = RankFile(RANK_FILES[request.param].pattern, special)
    theirs = tiktoken.Encoding("x", pat_str=cut.pattern, mergeable_ranks=ranks, special_tokens=special)
    return Tokenizer.of(RankCodec(ranks, cut, "it"), roles_of(special, Config())), theirs


@settings(max_examples=100, deadline=None)
@given(TEXT)
def test_ids_are_those_of_tiktoken(both, text):
    ours, theirs = both
    assert ours.encode(text) == theirs.encode_ordinary(text)
    assert ours.encode_batch([text])[0].tolist() == ours.encode(text)
    assert ours.encode_named(text) == theirs.encode(text, allowed_special="all")
    assert ours.decode(ours.encode(text)) == theirs.decode(theirs.encode_ordinary(text)) == whole(text)


@settings(max_examples=60, deadline=None)
@given(TEXT)
def test_what_is_saved_as_tokenizer_json_gives_the_same_ids(both, text):
    ours, theirs = both
    for way in (ours.codec.as_json.encode, lambda t: ours.codec.as_json._by_library(t, False)):
        assert way(whole(text)) == theirs.encode_ordinary(text)


def test_saving_and_the_way_for_endless_spaces(both, tmp_path):
    ours, _ = both
    ours.save(tmp_path)
    again = Tokenizer.load(tmp_path)
    assert again.encode("Hello  there\n") == ours.encode("Hello  there\n")
    assert again.vocab_size == ours.vocab_size
    text = "a" + " " * 1_100_000 + "x"  # tiktoken panics
    assert ours.decode(ours.encode(text)) == text


def test_ids_without_a_token_stand_for_nothing(both):
    ours, _ = both
    hole = next((token for token in range(ours.vocab_size) if not ours.pieces[token]), None)
    assert hole is None or (ours.token_bytes(hole) == b"" and ours.decode([hole], specials=True) == "")


def test_the_cut_is_known_by_name_or_by_size_and_otherwise_asked_for(ranks, tmp_path):
    assert cut_for(ranks, "o200k_base") is RANK_FILES["o200k_base"]
    assert cut_for({i.to_bytes(3, "big"): i for i in range(100_256)}, "x") is RANK_FILES["cl100k_base"]
    (tmp_path / "mine.tiktoken").write_bytes(written(ranks))
    with pytest.raises(UsageError, match="does not say how text is cut"):
        Tokenizer.load(tmp_path / "mine.tiktoken")


def test_packed_files_and_llamas_name_for_them_open(ranks, tmp_path):
    (tmp_path / "o200k_base.tiktoken.gz").write_bytes(gzip.compress(written(ranks)))
    opened = Tokenizer.load(tmp_path)
    assert opened.decode(opened.encode("Hello<|endoftext|>")) == "Hello<|endoftext|>"
    assert opened.encode_named("<|endoftext|>") == [199_999]
    big = ranks | {b"zz%d" % i: i for i in range(len(ranks), 128_000)}
    (tmp_path / "tokenizer.model").write_bytes(written(big))
    opened = Tokenizer.load(tmp_path / "tokenizer.model")
    assert opened.pieces[128_000] == "<|begin_of_text|>"
    assert opened.pieces[opened.stop_ids[0]] == "<|end_of_text|>"


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[:-3],
        lambda data: data + b"!!! 9\n",
        lambda data: data + b"YQ== x\n",
        lambda data: data + b"YQ== 99999\n",
        lambda data: data + b"enp6 -1\n",
        lambda data: data + b"enp6 5\n",
        lambda data: data + b"enp6 99999999999\n",
        lambda data: data.split(b"\n", 1)[1],
        lambda data: b"",
    ],
)
def test_damaged_files_are_refused(ranks, change):
    with pytest.raises(FileError, match=r"^it"):
        read_ranks(change(written(ranks)), "it")


def test_ranks_in_the_place_of_special_tokens_are_refused(ranks, tmp_path):
    (tmp_path / "r50k_base.tiktoken").write_bytes(written(ranks | {b"zzzz": 50256}))
    with pytest.raises(FileError, match="numbers of special tokens"):
        Tokenizer.load(tmp_path)
