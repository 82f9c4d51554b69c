"""Tokenizer files from strangers: refused with a message, at once, whatever they hold."""

import base64
import gzip
import json
import os
import struct
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twofold.errors import FileError, TwofoldError
from twofold.tokens import opening
from twofold.tokens.charsmap import CharacterMap
from twofold.tokens.patterns import CUTS, RANK_FILES, for_tokenizers, refusal
from twofold.tokens.tokenizer import Tokenizer

sys.path.insert(0, str(Path(__file__).parent))
from kinds import KINDS, content_of

SLOW = [
    r"(a+)+$", r"(a|a)*b", r"(?:a|aa)+c", r"a*a*a*b", r"(.*)*x", r"\s*\s*y", r"(?:a?){50}a{50}", r"a?a?a?a?a?aaaaa",
    r"(?=(a+))\1b", r"(a)\1", r"a{0,999}b", r"[a-z]+[a-z]+[0-9]", r"(?<=a+)b", r"\s*[\r\n]+|.", "", "a|", "a" * 5000,
    r"(?R)", r"\g<0>", "[", "(", "a{1000000}",
]  # fmt: skip
QUICK = [
    r"\p{L}+|\p{N}|\s", r" ?[^(\s|[.,!?])]+", r"\d{1,3}", r"(?i:'s|'t)|\w+", r"[一-龥]+", r" {2,}", r"\s+(?!\S)|\s+",
]  # fmt: skip


@pytest.mark.parametrize("pattern", SLOW)
def test_patterns_that_may_run_for_years_are_refused(pattern):
    assert refusal(pattern) is not None


@pytest.mark.parametrize("pattern", QUICK)
def test_patterns_of_the_usual_kind_may_run(pattern):
    assert refusal(pattern) is None


def test_every_cut_that_is_known_may_run():
    for steps in CUTS.values():
        assert [refusal(step) for step in steps] == [None] * len(steps)
    assert all(refusal(for_tokenizers(entry.pattern)) is None for entry in RANK_FILES.values())


def split_by(pattern):
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def nested(depth, kind, name):
    part = {"type": kind}
    for _ in range(depth):
        part = {"type": "Sequence", name: [part]}
    return part


def rename(content, old, new):
    vocab = content["model"]["vocab"]
    vocab[new] = vocab.pop(old)


FAULTS = {
    "no model": lambda c: c.pop("model"),
    "a model of an unknown kind": lambda c: c["model"].update(type="Pickle"),
    "a model that is a list": lambda c: c.update(model=[]),
    "no vocabulary": lambda c: c["model"].update(vocab={}),
    "a vocabulary of texts": lambda c: c["model"].update(vocab="abc"),
    "a number too large": lambda c: c["model"]["vocab"].update(zz=10**9),
    "a negative number": lambda c: c["model"]["vocab"].update(zz=-1),
    "a number that is true": lambda c: c["model"]["vocab"].update(zz=True),
    "a number twice": lambda c: c["model"]["vocab"].update(zz=5),
    "half a character": lambda c: rename(c, "a", "\ud800"),
    "merges of numbers": lambda c: c["model"].update(merges=[[1, 2]]),
    "merges of three": lambda c: c["model"].update(merges=["a b c"]),
    "a merge of nothing known": lambda c: c["model"].update(merges=[["qqq", "zzz"]]),
    "a merge that makes nothing": lambda c: c["model"].update(merges=[["a", "\u0100"], ["\u0100", "\u0101"]]),
    "a mark that merges do not have": lambda c: c["model"].update(continuing_subword_prefix="##"),
    "a mark that is a number": lambda c: c["model"].update(continuing_subword_prefix=3),
    "no merges": lambda c: c["model"].pop("merges"),
    "an unknown token that is none": lambda c: c["model"].update(unk_token="nothing"),
    "an added token elsewhere": lambda c: c["added_tokens"][0].update(id=7),
    "an added token far away": lambda c: c["added_tokens"].append(c["added_tokens"][0] | {"content": "x", "id": 10**8}),
    "an added token twice": lambda c: c["added_tokens"].append(c["added_tokens"][0]),
    "an added token without a name": lambda c: c["added_tokens"][0].update(content=""),
    "an added token with a long name": lambda c: c["added_tokens"][0].update(content="x" * 10_000),
    "an added token of a number": lambda c: c["added_tokens"][0].update(content=3),
    "flags of texts": lambda c: c["added_tokens"][0].update(special="yes"),
    "added tokens that are texts": lambda c: c.update(added_tokens=["<s>"]),
    "an unknown normaliser": lambda c: c.update(normalizer={"type": "Python"}),
    "a normaliser that is a list": lambda c: c.update(normalizer=[]),
    "a deep normaliser": lambda c: c.update(normalizer=nested(50, "NFC", "normalizers")),
    "a normaliser of many steps": lambda c: c.update(
        normalizer={"type": "Sequence", "normalizers": [{"type": "NFC"}] * 1000}
    ),
    "a normaliser that makes much of little": lambda c: c.update(
        normalizer={
            "type": "Sequence",
            "normalizers": [{"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 60}] * 6,
        }
    ),
    "a replacement without end": lambda c: c.update(
        normalizer={"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 10**6}
    ),
    "a replacement of nothing": lambda c: c.update(
        normalizer={"type": "Replace", "pattern": {"String": ""}, "content": "a"}
    ),
    "a slow replacement": lambda c: c.update(
        normalizer={"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": "b"}
    ),
    "a long text before": lambda c: c.update(normalizer={"type": "Prepend", "prepend": "a" * 10**6}),
    "a slow pattern": lambda c: c.update(pre_tokenizer=split_by("(a|a)+$")),
    "a pattern that is a number": lambda c: c.update(pre_tokenizer=split_by(3)),
    "an unknown decoder": lambda c: c.update(decoder={"type": "Magic"}),
    "a table that is not base64": lambda c: c.update(
        normalizer={"type": "Precompiled", "precompiled_charsmap": "%%%"}
    ),
    "a table of noise": lambda c: c.update(
        normalizer={"type": "Precompiled", "precompiled_charsmap": base64.b64encode(b"\xff" * 99).decode()}
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_with_a_fault_is_refused_with_its_name(sample_text, tmp_path, fault):
    content = content_of("gpt2", sample_text)
    FAULTS[fault](content)
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(FileError, match=r"tokenizer\.json"):
        Tokenizer.load(tmp_path)


@pytest.fixture(scope="module")
def contents(sample_text):
    return lambda kind: content_of(kind, sample_text)


STRANGE = [None, True, -1, 10**30, 1.5, "", "x", "\ud800", [], {}, [[]], "(a+)+$", 0]


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(sorted(KINDS)),
    st.lists(st.integers(0, 30), min_size=1, max_size=6),
    st.sampled_from(STRANGE),
)
def test_random_damage_is_refused_or_harmless(contents, tmp_path_factory, kind, turns, strange):
    content = here = contents(kind)
    for turn in turns:  # somewhere in it
        keys = list(here) if isinstance(here, dict) else range(len(here))
        parent, key = here, keys[turn % len(keys)]
        here = parent[key]
        if not isinstance(here, dict | list) or not here:
            break
    parent[key] = strange
    path = tmp_path_factory.mktemp("damaged") / "tokenizer.json"
    path.write_text(json.dumps(content))
    with suppress(TwofoldError):
        opened = Tokenizer.load(path)
        opened.encode("a molinera 水 <s>")
        opened.encode_named("a<s> b")
        opened.decode(range(min(opened.vocab_size, 300)))


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[" * 10**6, b'{"a":' * 10**5, b"null", b"[]", b'{"model": {"vocab": NaN}}', b"\x1f\x8b"],
)
@pytest.mark.parametrize(
    "name",
    ["tokenizer.json", "tokenizer.model", "x.tiktoken", "vocab.json", "merges.txt", "tokenizer.json.gz"],
)
def test_what_is_no_tokenizer_is_refused(tmp_path, name, data):
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b\n")
    (tmp_path / "vocab.json").write_text("{}")
    (tmp_path / name).write_bytes(data)
    with pytest.raises(TwofoldError):
        Tokenizer.load(tmp_path / name)


def test_a_packed_file_that_is_enormous_unpacked_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(opening, "LARGEST", 1 << 20)
    (tmp_path / "tokenizer.json.gz").write_bytes(gzip.compress(b" " * (64 << 20)))
    with pytest.raises(FileError, match="too large"):
        Tokenizer.load(tmp_path / "tokenizer.json.gz")
    (tmp_path / "cut.json.gz").write_bytes(gzip.compress(b"{}")[:-6])
    with pytest.raises(FileError, match="cut short"):
        Tokenizer.load(tmp_path / "cut.json.gz")


def test_pipes_and_files_of_other_kinds_are_refused(tmp_path):
    os.mkfifo(tmp_path / "tokenizer.json")
    with pytest.raises(FileError):
        Tokenizer.load(tmp_path / "tokenizer.json")
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(FileError, match="no kind of tokenizer"):
        Tokenizer.load(tmp_path / "a.txt")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("tokenizer_config.json", b"\xff\xfe"),
        ("tokenizer_config.json", b"[" * 10**5),
        ("special_tokens_map.json", b"[1]"),
        ("chat_template.jinja", b"\xff\xfe"),
        ("tokenizer_config.json", b'{"chat_template": [1]}'),
    ],
)
def test_settings_that_are_damaged_are_refused(sample_text, tmp_path, name, data):
    (tmp_path / "tokenizer.json").write_text(json.dumps(content_of("gpt2", sample_text)))
    (tmp_path / name).write_bytes(data)
    with pytest.raises(FileError, match=name):
        Tokenizer.load(tmp_path)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60), st.text(max_size=20))
def test_a_table_of_characters_made_of_noise_is_refused_or_harmless(noise, text):
    units = noise[: len(noise) // 8 * 4]
    data = struct.pack("<I", len(units)) + units + noise[len(units) :] + b"\0"
    with suppress(FileError):
        CharacterMap(data, "it")(text)


def test_names_among_the_pieces_of_a_model_stay_text(sample_text, tmp_path):
    content = content_of("llama2", sample_text)
    vocab = content["model"]["vocab"]
    for piece in ("<", "s", ">", "<s"):
        vocab.setdefault(piece, len(vocab))
    content["model"]["merges"] += [["<", "s"], ["<s", ">"]]  # text alone would make the token that begins
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    opened = Tokenizer.load(tmp_path)
    assert 0 not in opened.encode("a<s>b<s>")
    assert opened.decode(opened.encode("a<s>b")).replace(" ", "") == "a<s>b"
