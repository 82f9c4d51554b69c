"""Tokenizers from elsewhere: ids are those of the library that defines them, whatever the text."""

import json
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from twofold.tokens.codec import whole
from twofold.tokens.tokenizer import Tokenizer

sys.path.insert(0, str(Path(__file__).parent))
from kinds import FAST, KINDS, NASTY, SPECIAL, TEXT, content_of


@pytest.fixture(scope="module", params=list(KINDS))
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def folder(kind, sample_text, tmp_path_factory):
    folder = tmp_path_factory.mktemp(kind)
    (folder / "tokenizer.json").write_text(json.dumps(content_of(kind, sample_text)))
    config = {
        "bos_token": "<s>",
        "eos_token": {"content": "</s>"},
        "chat_template": "{{ messages[0].content }}",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps({} if kind == "wordpiece" else config))
    return folder


@pytest.fixture(scope="module")
def opened(folder):
    return Tokenizer.load(folder)


@pytest.fixture(scope="module")
def peer(folder):
    """The library, which leaves the names of special tokens in texts alone."""
    peer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    peer.encode_special_tokens = True
    return peer


@pytest.fixture(scope="module")
def naming_peer(folder):
    return tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))


def ids_of(peer, text):
    return peer.encode(whole(text), add_special_tokens=False).ids


@settings(max_examples=150, deadline=None)
@given(TEXT)
def test_ids_are_the_librarys(opened, peer, kind, text):
    expected = ids_of(peer, text)
    found = opened.encode(text)
    if kind == "unigram" and not {1, 2, 3}.isdisjoint(expected):  # its model has the names among its pieces
        assert {1, 2, 3}.isdisjoint(found)
    else:
        assert found == expected
    assert opened.encode_batch([text])[0].tolist() == found
    assert opened.encode_batch([text])[0].dtype == np.int32


@settings(max_examples=100, deadline=None)
@given(TEXT)
def test_ids_with_special_tokens_by_name_are_the_librarys(opened, naming_peer, text):
    assert opened.encode_named(text) == ids_of(naming_peer, text)


@settings(max_examples=100, deadline=None)
@given(TEXT)
def test_no_text_makes_a_special_token(opened, text):
    special = {token.id for token in opened.added if token.special and token.name not in ("<unk>", "[UNK]")}
    assert special.isdisjoint(opened.encode(text))


@settings(max_examples=100, deadline=None)
@given(TEXT)
def test_decoding_gives_the_librarys_text(opened, peer, text):
    ids = ids_of(peer, text)
    assert opened.decode(ids) == peer.decode(ids)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_stream_joins_to_what_decode_gives(opened, data):
    ids = data.draw(st.lists(st.integers(0, opened.vocab_size - 1), max_size=25))
    stream = opened.stream()
    assert "".join(map(stream.feed, ids)) + stream.flush() == opened.decode(ids)


def test_the_quick_way_is_taken_where_it_is_known(opened, kind):
    assert (opened.codec._way is not None) == (KINDS[kind] in FAST)


def test_every_block_of_unicode_agrees(opened, peer):
    characters = [chr(code) for code in range(1, 0x110000, 41) if not 0xD800 <= code < 0xE000]
    texts = [f"a{c}1 {c}b'{c}\n{c}" for c in characters]
    expected = peer.encode_batch_fast(texts, add_special_tokens=False)
    assert [list(ids) for ids in opened.encode_batch(texts)] == [each.ids for each in expected]


def test_what_is_saved_opens_as_the_same(opened, tmp_path):
    opened.save(tmp_path)
    again = Tokenizer.load(tmp_path)
    assert again.fingerprint == opened.fingerprint
    for role in ("start", "finish", "end_of_text", "stop", "template"):
        assert getattr(again.roles, role) == getattr(opened.roles, role)
    assert [again.encode(text) for text in NASTY] == [opened.encode(text) for text in NASTY]


def test_it_can_be_sent_to_another_process(opened):
    opened.encode("warm")
    again = pickle.loads(pickle.dumps(opened))
    assert [again.encode(text) for text in NASTY] == [opened.encode(text) for text in NASTY]


def test_what_sequences_begin_with_is_read(opened, kind):
    expected = {"llama3": (0,), "wordpiece": (1,)}.get(kind, ())
    assert opened.start_ids == expected
    assert opened.encode("a", start=True) == [*expected, *opened.encode("a")]
    assert opened.roles.finish == ((2,) if kind == "wordpiece" else ())


def test_the_end_of_a_text_and_the_template_are_read(opened, kind):
    if kind != "wordpiece":
        assert opened.pieces[opened.end_of_text] == "</s>"
        assert [opened.pieces[token] for token in opened.stop_ids] == ["</s>", "<|end|>"]
        assert opened.roles.template == "{{ messages[0].content }}"
        assert opened.taught_chat(())
    assert not opened.is_own


@pytest.mark.parametrize("kind", ["llama2", "mistral", "words", "unigram"], indirect=True)
@given(st.text("molinera pan\n", min_size=1, max_size=12))
def test_text_that_goes_on_gets_no_space_before_it(opened, text):
    ids = opened.encode(text, goes_on=True)
    written = b"".join(map(opened.token_bytes, ids)).decode()
    if opened.codec._way is not None:
        assert written == text
    stream = opened.stream(goes_on=True)
    assert "".join(map(stream.feed, ids)) + stream.flush() == written


def test_a_special_token_shows_only_when_asked(opened):
    special = next(token for token in opened.added if token.special)
    ids = [*opened.encode("pan"), special.id]
    assert special.name not in opened.decode(ids)
    assert opened.decode(ids, specials=True).endswith(special.name)
    assert opened.token_bytes(special.id) == b""


def test_a_text_of_spaces_without_end_takes_the_other_way(opened, peer):
    if opened.codec._way is None:
        pytest.skip("it has one way")
    text = "a" + " " * 120_000 + "x"
    assert opened.encode(text) == ids_of(peer, text)


def test_settings_beside_it_have_the_last_word(sample_text, tmp_path):
    (tmp_path / "tokenizer.json").write_text(json.dumps(content_of("llama2", sample_text)))
    (tmp_path / "special_tokens_map.json").write_text(
        json.dumps({"bos_token": "</s>", "eos_token": "<|end|>"})
    )
    config = {"bos_token": "<s>", "add_bos_token": True, "chat_template": "old"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "chat_template.jinja").write_text("new")
    opened = Tokenizer.load(tmp_path)
    assert [opened.pieces[token] for token in opened.start_ids] == ["<s>"]
    assert opened.pieces[opened.end_of_text] == "<|end|>"
    assert opened.roles.template == "new"
    named = [{"name": "tools", "template": "a"}, {"name": "default", "template": "b"}]
    (tmp_path / "chat_template.jinja").unlink()
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": named}))
    assert Tokenizer.load(tmp_path).roles.template == "b"


def test_gpt2s_two_files_open_as_its_tokenizer_json(sample_text, tmp_path):
    content = content_of("gpt2", sample_text)
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in content["model"]["merges"]]
    for vocab, pairs in (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe")):
        folder = tmp_path / vocab
        folder.mkdir()
        (folder / vocab).write_text(json.dumps(content["model"]["vocab"]))
        (folder / pairs).write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
        peer = tokenizers.Tokenizer.from_str(json.dumps({**content, "added_tokens": []}))
        for path in (folder, folder / vocab, folder / pairs):
            opened = Tokenizer.load(path)
            assert [opened.encode(text) for text in NASTY] == [ids_of(peer, text) for text in NASTY]


def test_names_take_the_spaces_beside_them_where_they_ask_for_them(sample_text, tmp_path):
    content = content_of("gpt2", sample_text)
    content["added_tokens"][1].update(lstrip=True, normalized=False)
    content["added_tokens"][2].update(rstrip=True, normalized=True)
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    opened = Tokenizer.load(tmp_path)
    peer = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert opened.codec._way is not None
    for text in (
        "a  </s>  b",
        "a<|end|> \n b",
        "  </s><|end|>  </s> ",
        "</s> </s>",
        "<|end|>\u3000\x1cx",
        *NASTY,
    ):
        assert opened.encode_named(text) == ids_of(peer, text)


def test_special_names_are_those_of_the_files(opened, kind):
    names = {token.name for token in opened.added if token.special}
    assert names >= ({"[CLS]"} if kind == "wordpiece" else set(SPECIAL))
