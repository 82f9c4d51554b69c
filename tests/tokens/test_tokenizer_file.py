"""tokenizer.json: written so that others open it with equal ids, read with every claim checked."""

import json
import os

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from twofold.errors import FileError
from twofold.tokens import opening
from twofold.tokens.tokenizer import Tokenizer, bytes_only
from twofold.tokens.vocabulary import MARKUP, PATTERN, SPECIAL


@pytest.fixture
def saved(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "saved")
    return tmp_path / "saved"


@pytest.fixture(scope="module")
def opened(tokenizer, tmp_path_factory):
    """The saved tokenizer in a model's folder, opened by transformers."""
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("model")
    tokenizer.save(folder, chat=True)
    (folder / "config.json").write_text('{"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"]}')
    return AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("what", ["", "tokenizer.json"])
def test_what_is_saved_is_loaded_from_the_folder_or_the_file(tokenizer, saved, what):
    loaded = Tokenizer.load(saved / what)
    assert loaded.fingerprint == tokenizer.fingerprint
    assert (loaded.pieces, loaded.merges, loaded.added) == (
        tokenizer.pieces,
        tokenizer.merges,
        tokenizer.added,
    )


def test_the_byte_tokenizer_is_saved_and_loaded_with_its_unused_tokens(tmp_path):
    bytes_only().save(tmp_path)
    assert Tokenizer.load(tmp_path).fingerprint == bytes_only().fingerprint


def test_saving_twice_gives_the_same_bytes(tokenizer, saved, tmp_path):
    Tokenizer.load(saved).save(tmp_path / "again")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (saved / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_transformers_opens_it_as_a_fast_tokenizer_with_the_tokens_in_their_places(tokenizer, opened):
    assert opened.is_fast
    assert len(opened) == tokenizer.vocab_size
    assert (opened.bos_token_id, opened.pad_token_id) == (tokenizer.end_of_text, tokenizer.end_of_text)
    assert opened.eos_token_id == tokenizer.im_end
    assert opened.convert_ids_to_tokens(range(512)) == list(tokenizer.pieces)


def has_no_name(text):
    """Names of added tokens are tokens to transformers, and text to us."""
    return not any(name in text for name in (*SPECIAL, *MARKUP))


@settings(max_examples=60)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60).filter(has_no_name))
@example("e\u0301 l\u2019\u212b")  # what a normaliser would change
def test_transformers_gives_equal_ids_and_the_text_back(tokenizer, opened, text):
    assert opened(text).input_ids == tokenizer.encode(text, start=True)
    assert opened.decode(tokenizer.encode(text)) == text


def test_the_pattern_is_that_of_qwen2():
    from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

    assert PATTERN == PRETOKENIZE_REGEX


def change(saved, edit):
    path = saved / "tokenizer.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def swap_two_ids(content):
    vocab = content["model"]["vocab"]
    first, second = content["model"]["merges"][0], content["model"]["merges"][1]
    one, two = "".join(first), "".join(second)
    vocab[one], vocab[two] = vocab[two], vocab[one]


FAULTS = {
    "no model": lambda c: c.pop("model"),
    "a list": lambda c: c.update(model=[]),
    "no merges": lambda c: c["model"].pop("merges"),
    "a merge too few": lambda c: c["model"]["merges"].pop(),
    "a merge of three": lambda c: c["model"]["merges"].__setitem__(0, ["a", "b", "c"]),
    "a merge of numbers": lambda c: c["model"]["merges"].__setitem__(0, [1, 2]),
    "a merge of nothing known": lambda c: c["model"]["merges"].__setitem__(0, ["zq", "qz"]),
    "merges out of order": lambda c: c["model"]["merges"].reverse(),
    "two ids swapped": swap_two_ids,
    "a hole in the ids": lambda c: c["model"]["vocab"].update({"!": 100_000}),
    "an id twice": lambda c: c["model"]["vocab"].update({"!": 1}),
    "a negative id": lambda c: c["model"]["vocab"].update({"!": -1}),
    "an id that is a text": lambda c: c["model"]["vocab"].update({"!": "0"}),
    "an id that is true": lambda c: c["model"]["vocab"].update({'"': True}),
    "an enormous id": lambda c: c["model"]["vocab"].update({"!": 10**400}),
    "a byte missing": lambda c: c["model"]["vocab"].pop("!"),
    "a piece outside the alphabet": lambda c: c["model"]["vocab"].update({" ": c["model"]["vocab"].pop("Ġ")}),
    "a special token missing": lambda c: c["added_tokens"].pop(1),
    "an added token elsewhere": lambda c: c["added_tokens"][0].update(id=5),
    "an added token that strips": lambda c: c["added_tokens"][0].update(lstrip=True),
    "an added token of a surrogate": lambda c: c["added_tokens"][4].update(content="\ud800"),
    "an empty added token": lambda c: c["added_tokens"][4].update(content=""),
    "an added token that is a piece": lambda c: c["added_tokens"][4].update(content="!"),
    "added tokens of another kind": lambda c: c.update(added_tokens=["<|endoftext|>"]),
    "another model": lambda c: c["model"].update(type="Unigram"),
    "dropout": lambda c: c["model"].update(dropout=0.1),
    "byte fallback": lambda c: c["model"].update(byte_fallback=True),
    "another pattern": lambda c: c["pre_tokenizer"]["pretokenizers"][0].update(pattern={"Regex": "(a+)+$"}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_damaged_or_foreign_file_is_refused_by_name(saved, fault):
    change(saved, FAULTS[fault])
    with pytest.raises(FileError, match=r"tokenizer\.json"):
        Tokenizer.load(saved)


def test_one_that_begins_otherwise_or_normalises_is_opened_as_somebody_elses(tokenizer, saved):
    change(saved, lambda c: c.update(normalizer={"type": "NFC"}))
    opened = Tokenizer.load(saved)
    assert not opened.is_own
    assert opened.start_ids == tokenizer.start_ids
    assert opened.encode("e\u0301") == tokenizer.encode("\u00e9")


def test_other_spellings_of_the_same_tokenizer_are_read(tokenizer, saved):
    # As tokenizers < 0.20 and transformers write it: merges as texts, offsets trimmed, empty affixes.
    def rewrite(content):
        content["model"]["merges"] = [" ".join(pair) for pair in content["model"]["merges"]]
        content["model"].update(continuing_subword_prefix="", end_of_word_suffix="")
        content["pre_tokenizer"]["pretokenizers"][1]["trim_offsets"] = True

    change(saved, rewrite)
    assert Tokenizer.load(saved).fingerprint == tokenizer.fingerprint


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"null", b'{"model": NaN}'])
def test_a_file_that_is_no_tokenizer_is_refused(tmp_path, content):
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(FileError, match=r"tokenizer\.json"):
        Tokenizer.load(tmp_path)


def test_a_missing_file_and_an_empty_folder_are_told(tmp_path):
    with pytest.raises(FileError, match="holds no tokenizer"):
        Tokenizer.load(tmp_path)
    with pytest.raises(FileError, match="no such file"):
        Tokenizer.load(tmp_path / "nothing.json")


def test_an_enormous_file_is_refused_before_it_is_read(saved, monkeypatch):
    monkeypatch.setattr(opening, "LARGEST", 1000)
    monkeypatch.setattr(opening, "parse_foreign_json", lambda *_: pytest.fail("it was parsed"))
    with pytest.raises(FileError, match="too large"):
        Tokenizer.load(saved)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_random_damage_is_refused_or_harmless(tokenizer, tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damaged")
    bytes_only().save(folder)
    path = folder / "tokenizer.json"
    raw = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        raw = raw[: data.draw(st.integers(0, len(raw)))]
    else:
        for _ in range(data.draw(st.integers(1, 4))):
            raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw)
    try:
        loaded = Tokenizer.load(path)
    except FileError:
        return
    assert loaded.decode(loaded.encode("ab水 1")) == "ab水 1"


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileError, match="is not a file"):
        Tokenizer.load(tmp_path / "pipe")
