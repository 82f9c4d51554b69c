"""run.py's tokenizer, against `tokenizers` and the product's own, on text that breaks tokenizers."""

import json
import unicodedata

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers

from twofold.tokens import tokenizer_file
from twofold.tokens.vocabulary import PATTERN
from twofold.twofiles import run
from twofold.twofiles.export import unicode_ranges

NASTY = [
    "'s", "'S", "'ſ", "'ſt", "'LL", "'lL", "'Re", "'vE", "'D", "'M", "'T", "’s", "'", "''s", " 's", "\n's",
    " ", "  ", "\n", "\r", "\r\n", "\t", "\x0b", "\x0c", "\x1c", "\x1f", "\x85", "\xa0", "\u1680", "\u2003",
    "\u2028", "\u3000", "\u200b", "\ufeff", "\x00", "\x7f", "a", "Z", "ß", "é", "e\u0301", "İ", "ŉ", "ǅ",
    "村", "アー", "ก็", "नमस्ते", "٣", "7", "½", "Ⅷ", "²", "𝟜", "!", "...", "—", "🙂", "👩‍👩‍👧", "🇫🇷",
    "\U00013000", "\U0001e900", "\U0003134a", "\ue000", "\uffff", "\U0010ffff", "_", '"', "<|im_end|>",
    "<think>", "ĠĊ",
]  # fmt: skip
texts = st.lists(
    st.one_of(st.sampled_from(NASTY), st.characters(exclude_categories=["Cs"]), st.text(max_size=5)),
    max_size=30,
).map("".join)


@pytest.fixture(scope="module")
def ours(opened):
    return opened().tokenizer


@pytest.fixture(scope="module")
def theirs(tokenizer):
    from twofold.tokens.vocabulary import Vocabulary

    vocabulary = Vocabulary(tokenizer.pieces, tokenizer.merges, tokenizer.added)
    return tokenizers.Tokenizer.from_str(json.dumps(tokenizer_file.to_json(vocabulary, added=False)))


@pytest.fixture(scope="module")
def words():
    """The library's cut of a text into words."""
    split = pre_tokenizers.Split(Regex(PATTERN), "isolated")
    return lambda text: [word for word, _ in split.pre_tokenize_str(text)]


def test_tokens_equal_those_of_the_library_on_nasty_text(ours, theirs, tokenizer):
    @settings(max_examples=600, deadline=None)
    @given(texts)
    def check(text):
        found = ours.encode(text)
        assert found == theirs.encode(text, add_special_tokens=False).ids
        assert found == tokenizer.encode(text)
        assert b"".join(ours.bytes[i] for i in found).decode() == text

    check()


def test_words_equal_those_of_the_library_over_all_of_unicode(ours, words):
    points = [*range(0xD800), *range(0xE000, 0x30000), *range(0xE0000, 0xE0200), *range(0x10FF00, 0x110000)]
    order = np.random.default_rng(0).permutation(len(points))
    for start in range(0, len(points), 20_000):  # each code point among random neighbours
        text = "".join(chr(points[i]) for i in order[start : start + 20_000])
        assert ours.pattern.findall(text) == words(text)


@pytest.mark.parametrize("ending", ["s", "t", "re", "ve", "m", "ll", "d"])
def test_contractions_fold_case_as_the_library_does(ending, ours, words):
    folded = {"s": "sSſ"}
    options = [folded.get(letter, letter + letter.upper()) for letter in ending]
    combinations = [""]
    for option in options:
        combinations = [head + letter for head in combinations for letter in option]
    for combination in combinations:
        for text in (f"x'{combination}", f"x'{combination}y", f" '{combination} z", f"''{combination}'"):
            assert ours.pattern.findall(text) == words(text)


def test_the_stored_ranges_are_the_librarys_letters_numbers_and_spaces():
    points = [*range(0xD800), *range(0xE000, 0x40000), *range(0xE0000, 0xF0000)]  # the others are unassigned
    everything = "".join(map(chr, points))
    for name, pattern in (("letters", r"\p{L}"), ("numbers", r"\p{N}"), ("spaces", r"\s")):
        split = pre_tokenizers.Split(Regex(pattern + "+"), "removed", invert=True)
        expected = {
            points[i] for _, (start, stop) in split.pre_tokenize_str(everything) for i in range(start, stop)
        }
        pairs = unicode_ranges()[f"twofold.unicode.{name}"].reshape(-1, 2).tolist()
        assert {p for first, last in pairs for p in range(first, last + 1)} == expected


def test_without_stored_ranges_pythons_own_tables_serve(opened, ours):
    session = opened()
    for name in ("letters", "numbers", "spaces"):
        del session.file.values[f"twofold.unicode.{name}"]
    fallback = run.Tokenizer(session.file)
    known = [chr(p) for p in range(0x30000) if unicodedata.category(chr(p)) not in ("Cn", "Cs")]
    order = np.random.default_rng(1).permutation(len(known))
    text = "".join(known[i] for i in order)
    assert fallback.pattern.findall(text) == ours.pattern.findall(text)


@pytest.mark.parametrize(
    "word",
    ["a" * 100_000, "village" * 10_000, "\U0001e900" * 10_000, "!" * 50_000, " " * 50_000, "\n" * 50_000,
     "ab" * 25_000 + "é"],
    ids=["a", "village", "adlam", "signs", "spaces", "lines", "ab"],
)  # fmt: skip
def test_very_long_words_take_no_longer_than_their_length(word, ours, theirs):
    assert ours.encode(word) == theirs.encode(word, add_special_tokens=False).ids


def test_a_surrogate_without_its_partner_is_a_replacement_character(ours, tokenizer):
    for text in ("a\ud800b", "\udcff", "\ud83d\ude42", "\ufeffx"):
        assert ours.encode(text) == tokenizer.encode(text)


def test_each_tokens_bytes_are_the_products(ours, tokenizer):
    assert ours.bytes == [tokenizer.token_bytes(i) for i in range(tokenizer.vocab_size)]


@pytest.mark.parametrize(
    "table", [[], [5], [9, 5], [0, 0x110000], [-1, 5], ["a", "b"], [5.5, float("nan")], 7, "x"]
)
def test_damaged_unicode_tables_are_refused(table, opened):
    session = opened()
    value = np.array(table) if isinstance(table, list) and "a" not in table else table
    session.file.values["twofold.unicode.letters"] = value
    with np.errstate(invalid="ignore"), pytest.raises(run.Problem, match="letters"):
        run.Tokenizer(session.file)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model", "llama"),
        ("pre", "tekken"),
        ("tokens", ["a", "b"]),
        ("tokens", 5),
        ("token_type", np.array([1, 1])),
        ("merges", ["ab"]),
        ("merges", ["a b", "q qq"]),
        ("merges", [["x"]]),
        ("bos_token_id", 10**6),
        ("eos_token_id", -1),
        ("eos_token_id", None),
    ],
)
def test_a_damaged_tokenizer_is_refused(key, value, opened):
    session = opened()
    if value is None:
        del session.file.values[f"tokenizer.ggml.{key}"]
    else:
        session.file.values[f"tokenizer.ggml.{key}"] = value
    with pytest.raises(run.Problem, match="token"):
        run.Tokenizer(session.file)


def test_messages_equal_the_products(ours, tokenizer):
    from twofold.tokens.chat import encode_chat

    @settings(max_examples=200, deadline=None)
    @given(texts, texts)
    def check(system, user):
        messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
        expected, _ = encode_chat(tokenizer, messages, add_generation_prompt=True)
        found = [*ours.begin, *ours.message("system", system), *ours.message("user", user)]
        assert found + ours.message("assistant") == expected

    check()
