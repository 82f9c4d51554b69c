"""Masks: exactly the tokens that can lead to an allowed text, checked by brute force on small vocabularies."""

import gc
import itertools
import random
import re
import time
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twofold.decoding.masks import Choices, Grammar, JsonSchema, MaskVocabulary, PythonMask, Regex
from twofold.errors import TwofoldError, UsageError
from twofold.tokens.tokenizer import Tokenizer, bytes_only
from twofold.tokens.vocabulary import Vocabulary, standard_added, to_letters

MERGES = ("a b", "ab c", "b a", "c c", "Ġ a", "Ġ ab", "1 2", '" :', '{ "', "n u", "nu l", "nul l", "Ã ©")


def with_merges(merges):
    """A tokenizer of the 256 bytes and what these merges make of them."""
    pieces = [to_letters(bytes([byte])) for byte in range(256)]
    pieces += [merge.replace(" ", "") for merge in merges]
    added = standard_added(len(pieces), -(len(pieces) + 9) % 64)
    return Tokenizer(Vocabulary((*pieces, *(token.name for token in added)), merges, added))


TOKENIZER = with_merges(MERGES)
STOP = TOKENIZER.im_end
SIZE = TOKENIZER.vocab_size + 7  # a model's vocabulary with a padded tail
VOCABULARY = MaskVocabulary(TOKENIZER, SIZE, [STOP, TOKENIZER.end_of_text])
BYTES = [b"" if TOKENIZER.is_added(i) else TOKENIZER.token_bytes(i) for i in range(TOKENIZER.vocab_size)]


def begins(texts, data):
    return any(text.startswith(data) for text in texts)


def check_against(state, texts, depth=3, written=b""):
    """`allowed` and `complete` are what the list of all texts says, here and after every allowed token."""
    allowed = state.allowed()
    assert allowed.shape == (SIZE,)
    assert allowed.dtype == bool
    assert state.complete == (written in texts)
    assert state.over == (texts == {written})
    for token, data in enumerate(BYTES):
        if token in VOCABULARY.stop_ids:
            assert allowed[token] == (written in texts)
        else:
            assert allowed[token] == (bool(data) and begins(texts, written + data)), (written, data)
    assert not allowed[TOKENIZER.vocab_size :].any()
    forced = b"".join(BYTES[token] for token in state.forced())
    assert all(text.startswith(written + forced) for text in texts)
    if depth:
        for token in allowed.nonzero()[0]:
            if token not in VOCABULARY.stop_ids:
                on = written + BYTES[token]
                check_against(state.advance(token), {t for t in texts if t.startswith(on)}, depth - 1, on)


LISTS = [
    ["a", "ab"],
    ["positive", "negative", "neutral"],
    [""],
    ["", "ab", "abc"],
    ["ab", "ab", "ba"],
    ["é", "è", "\U0001f33e"],
    ["abcabc", "abcab", "abc ab"],
    ["<think>", "<|im_end|>"],
    ["null"],
]


@pytest.mark.parametrize("choices", LISTS, ids=str)
def test_choices_allow_exactly_what_begins_a_choice_in_every_cut(choices):
    check_against(Choices(choices).compile(VOCABULARY), {choice.encode() for choice in choices})


@pytest.mark.parametrize("choices", LISTS, ids=str)
def test_a_regex_and_a_grammar_of_the_same_choices_allow_the_same(choices):
    texts = {choice.encode() for choice in choices}
    check_against(Regex("|".join(map(re.escape, choices))).compile(VOCABULARY), texts)
    quoted = " | ".join('"' + choice + '"' for choice in choices)
    check_against(Grammar(f"start: {quoted}").compile(VOCABULARY), texts)
    check_against(Grammar(f"root ::= {quoted}").compile(VOCABULARY), texts)


@given(st.lists(st.text("abc é<", max_size=5), min_size=1, max_size=6))
@settings(max_examples=40, deadline=None)
def test_any_choices_are_held_exactly(choices):
    check_against(Choices(choices).compile(VOCABULARY), {choice.encode() for choice in choices}, depth=2)


PATTERNS = [
    "a*",
    "(a|b)*c",
    "ab?c{1,2}",
    "[ab]{2}|c",
    "(?:a|ab)(?:c|bc)?",
    "a{0}b",
    "^a|b$",
    "(^ab|b)$",
    "[^b]",
    "a.?",
    "(?P<x>a)+?",
    "a|",
    r"\x61\u0062",
    r"[\w]",
    r"[^\W]b",
    r"\D{2}",
    r"[b-]a",
    "((a*)*)*b",
]
ALPHABET = "abc-"
ALL = ["".join(signs) for length in range(5) for signs in itertools.product(ALPHABET, repeat=length)]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_regex_allows_exactly_what_can_still_match(pattern):
    """Against `re.fullmatch` over every text of up to four letters; longer ones are not looked at."""
    matching = {text.encode() for text in ALL if re.fullmatch(pattern, text, re.ASCII)}
    start = Regex(pattern).compile(VOCABULARY)
    for text in ALL:
        state, written = start, ""
        for sign in text:
            token = VOCABULARY.tokens_of(sign.encode())[0]
            if not state.allowed()[token]:
                assert not begins(matching, (written + sign).encode())
                with pytest.raises(ValueError, match="not allowed"):
                    state.advance(token)
                break
            state, written = state.advance(token), written + sign
        else:
            assert state.complete == (text.encode() in matching)


@given(st.text("ab", max_size=12), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_every_cut_into_tokens_is_accepted(text, choose):
    """Not only the tokenizer's own, even where every byte is forced."""
    whole = f"x{text}é null"
    data = whole.encode()
    for mask in (
        Choices([whole, "other"]),
        Regex(re.escape(whole)),
        JsonSchema({"const": whole}, most_space=0),
    ):
        state = mask.compile(VOCABULARY)
        rest = data if not isinstance(mask, JsonSchema) else b'"' + data + b'"'
        while rest:
            options = [i for i, piece in enumerate(BYTES) if piece and rest.startswith(piece)]
            assert all(state.allowed()[token] for token in options)
            token = choose.choice(options)
            state, rest = state.advance(token), rest[len(BYTES[token]) :]
        assert state.complete


MASKS = [
    Choices(["abc", "abab", "ba"]),
    Regex(r"(?:ab|ba)+c\d{2}"),
    JsonSchema({"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}),
    Grammar('start: "(" start ")" | "a" | start "+" start'),
]


@pytest.mark.parametrize("mask", MASKS, ids=lambda mask: type(mask).__name__)
def test_branches_are_independent_in_any_order(mask):
    """States of one text share a matcher; a state that was left behind still says what it said."""
    choose = random.Random(3)
    start = mask.compile(VOCABULARY)
    known = [((), start)]
    for _ in range(300):
        path, state = choose.choice(known)
        allowed = [t for t in state.allowed().nonzero()[0].tolist() if t not in VOCABULARY.stop_ids]
        if allowed:
            token = choose.choice(allowed)
            known.append(((*path, token), state.advance(token)))
    for path, state in choose.sample(known, len(known)):
        fresh = mask.compile(VOCABULARY)
        for token in path:
            fresh = fresh.advance(token)
        assert np.array_equal(state.allowed(), fresh.allowed())
        assert (state.complete, state.over, state.forced()) == (fresh.complete, fresh.over, fresh.forced())


@pytest.mark.parametrize("mask", MASKS, ids=lambda mask: type(mask).__name__)
def test_a_state_that_was_not_looked_at_before_it_was_left_answers_the_same(mask):
    start = mask.compile(VOCABULARY)
    token = next(t for t in start.allowed().nonzero()[0].tolist() if t not in VOCABULARY.stop_ids)
    left = mask.compile(VOCABULARY)
    on = left.advance(token)
    assert np.array_equal(left.allowed(), start.allowed())
    assert left.complete == start.complete
    assert np.array_equal(on.allowed(), start.advance(token).allowed())


def test_forced_tokens_are_the_tokenizers_own_and_what_every_walk_writes():
    start = JsonSchema(
        {"type": "object", "properties": {"name": {"enum": ["null ab", "null ba"]}}, "required": ["name"]},
        most_space=0,
    ).compile(VOCABULARY)
    forced = start.forced()
    text = b"".join(BYTES[token] for token in forced)
    assert b'{"name":"null'.startswith(text)
    assert len(text) > 6
    state = start
    for token in forced:
        state = state.advance(token)
    for whole in ('{"name":"null ab","x":1}', '{"name":"null ba"}'):
        assert tuple(TOKENIZER.encode(whole)[: len(forced)]) == forced
    for mask in (Choices(["null ab"]), Regex("null ab")):
        assert mask.compile(VOCABULARY).forced() == tuple(TOKENIZER.encode("null ab"))


@given(st.lists(st.text("abc né12 ", min_size=1, max_size=12), min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_forced_tokens_begin_the_tokenizers_way_to_write_every_choice(choices):
    forced = Choices(choices).compile(VOCABULARY).forced()
    for choice in choices:
        assert tuple(TOKENIZER.encode(choice)[: len(forced)]) == forced


def walk(state, choose, most=60):
    """Random tokens until the text may end; short of that, those that write least."""
    tokens = []
    while not state.over and not (state.complete and choose.random() < 0.3):
        options = [t for t in state.allowed().nonzero()[0].tolist() if t not in VOCABULARY.stop_ids]
        if len(tokens) > most:
            options = [t for t in options if BYTES[t] in (b")", b"a", b"c", b"0")] or options
        tokens.append(choose.choice(options))
        state = state.advance(tokens[-1])
        assert len(tokens) < 2000
    return b"".join(BYTES[token] for token in tokens)


@pytest.mark.parametrize(
    "pattern", [r"(?:ab|ba)+c\d{2}", r"[^a]{3}", r"\d{4}-\d\d", r"\p{Lu}\p{Ll}+", r"é|\S\s\w"]
)
def test_random_walks_never_end_early_and_always_match(pattern):
    choose = random.Random(1)
    start = Regex(pattern).compile(VOCABULARY)
    for _ in range(25):
        text = walk(start, choose).decode()
        if "p{" in pattern:
            assert text[0].isupper()
            assert text[1:].isalpha()
        else:
            assert re.fullmatch(pattern, text, re.ASCII), text


def test_random_walks_of_a_grammar_are_sums():
    choose = random.Random(2)
    start = MASKS[3].compile(VOCABULARY)
    for _ in range(25):
        text = walk(start, choose, most=20).decode()
        assert re.fullmatch(r"[()a+]+", text)
        assert text.count("(") == text.count(")")


def test_gbnf_is_read_as_llama_cpp_does():
    grammar = Grammar('root ::= item ("," item)*\nitem ::= [a-b]+ | "12" # digits\n')
    texts = {",".join(items) for n in (1, 2) for items in itertools.product(["a", "ba", "12"], repeat=n)}
    for text in [*texts, "1", "a,", ",a", "c", ""]:
        state = grammar.compile(VOCABULARY)
        for byte in text.encode():
            token = VOCABULARY.tokens_of(bytes([byte]))[0]
            if not state.allowed()[token]:
                assert text not in texts
                break
            state = state.advance(token)
        else:
            assert state.complete == (text in texts)


def test_a_mask_in_plain_python():
    digits = TOKENIZER.encode("12")[0], *TOKENIZER.encode("3")

    def allowed(state):
        if state[1] == 2:
            return []
        if state[1]:
            return list(digits)
        return np.isin(np.arange(SIZE), [*digits, TOKENIZER.im_start])

    mask = PythonMask(
        (0, 0), lambda state, token: (token, state[1] + 1), allowed, lambda state: state[1] == 2
    )
    state = mask.compile(VOCABULARY)
    assert state.allowed().nonzero()[0].tolist() == sorted(digits)  # the special token stays out
    one, other = (state.advance(token) for token in digits)
    assert not one.complete
    done = other.advance(digits[0])
    assert done.complete
    assert done.over
    assert done.allowed().nonzero()[0].tolist() == sorted(VOCABULARY.stop_ids)
    assert done.advance(STOP).over
    with pytest.raises(ValueError, match="not allowed"):
        state.advance(STOP)


def test_a_python_mask_forces_a_token_that_is_alone():
    mask = PythonMask(0, lambda state, token: state + 1, lambda state: [97 + state], lambda state: state == 3)
    assert mask.compile(VOCABULARY).forced() == (97, 98, 99)


@pytest.mark.parametrize(
    ("allowed", "complete", "says"),
    [
        (lambda state: [], lambda state: False, "no text"),
        (lambda state: [SIZE], lambda state: False, "outside"),
        (lambda state: np.ones(3, dtype=bool), lambda state: True, "shape"),
    ],
)
def test_a_python_mask_that_cannot_be_is_refused(allowed, complete, says):
    with pytest.raises(UsageError, match=says):
        PythonMask(0, lambda state, token: state, allowed, complete).compile(VOCABULARY)


def test_a_dead_end_on_the_way_is_an_error_with_a_reason():
    mask = PythonMask(
        0, lambda state, token: 1, lambda state: [97] if state == 0 else [], lambda state: False
    )
    with pytest.raises(TwofoldError, match="no token"):
        mask.compile(VOCABULARY).advance(97).allowed()


@pytest.mark.parametrize("mask", MASKS, ids=lambda mask: type(mask).__name__)
@pytest.mark.parametrize(
    "token", [-1, SIZE, SIZE - 1, STOP, TOKENIZER.im_start, TOKENIZER.encode_markup("<think>")[0]]
)
def test_a_token_that_is_not_allowed_is_refused_and_changes_nothing(mask, token):
    state = mask.compile(VOCABULARY)
    with pytest.raises(ValueError, match=str(token)):
        state.advance(token)
    before = mask.compile(VOCABULARY).allowed()
    assert np.array_equal(state.allowed(), before)
    with pytest.raises(ValueError, match=str(token)):
        state.advance(token)
    assert not state.allowed().flags.writeable


BAD_PATTERNS = {
    "(?=a)": "group",
    "(?i)a": "group",
    r"(a)\1": "way back",
    r"\bword": "word border",
    "a^b": "begins or ends",
    "(": "never closed",
    "a)": "closes nothing",
    "*a": "repeat",
    "a**": "counted again",
    "a{2,1}": "below its start",
    "a{,2}": "no count",
    "[]a]": "empty set",
    "[z-a]": "no order",
    "[a": "never closed",
    "\\": "backslash|'\\\\'",
    r"\p{Klingon}": "category",
    "((a{100}){100}){100}": "counts",
    "(" * 100_000: "characters",
    "(" * 500 + ")" * 500: "deep",
    "a" * 30_000: "characters",
    r"\ud800": "no character",
    "[^\\x00-\\U0010ffff]": "no text",
}


@pytest.mark.parametrize("pattern", BAD_PATTERNS, ids=lambda pattern: pattern[:20])
def test_a_bad_pattern_is_refused_with_its_place(pattern):
    with pytest.raises(UsageError, match=BAD_PATTERNS[pattern]):
        Regex(pattern).compile(VOCABULARY)


BAD_GRAMMARS = {
    "nothing": "",
    "no start": 'a: "x"',
    "broken": "start: (",
    "unknown rule": "start: missing",
    "special": "start: <|im_start|>",
    "special by number": "start: <[300]>",
    "schema": 'start: %json {"type": "array", "uniqueItems": true}',
    "options": '%llguidance {"no_forcing": false}\nstart: "a"',
    "deep": "start: " + "(" * 50_000 + '"a"' + ")" * 50_000,
    "deep gbnf": "root ::= " + "(" * 50_000 + '"a"' + ")" * 50_000,
    "broken gbnf": "root ::= [a",
    "counts": 'start: (("a"{1000}){1000}){1000}',
    "long": 'start: "a"' + ' | "b"' * 100_000,
    "endless": "start: start",
    "half a pair": 'start: "\udcff"',
    "expression": "start: /((a{100}){100}){100}/",
}


@pytest.mark.parametrize("name", BAD_GRAMMARS)
def test_a_bad_grammar_is_refused_soon(name):
    started = time.perf_counter()
    with pytest.raises(UsageError):
        Grammar(BAD_GRAMMARS[name]).compile(VOCABULARY)
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize(
    "pattern", ["(a*)*b", "(a|aa)*b", ".*a.{20}", "(x+x+)+y", "(a|b)*a(a|b){25}", "a{20000}"]
)
def test_patterns_that_hang_other_engines_are_walked_soon(pattern):
    started = time.perf_counter()
    state = Regex(pattern).compile(VOCABULARY)
    choose = random.Random(4)
    for _ in range(200):
        options = [t for t in state.allowed().nonzero()[0].tolist() if t not in VOCABULARY.stop_ids]
        if options:
            state = state.advance(choose.choice([t for t in options if BYTES[t] in (b"a", b"x")] or options))
    assert time.perf_counter() - started < 10


def test_bad_choices_are_refused():
    for choices in ([], "abc", [1], ["\ud800"], ["x" * 5_000_000]):
        with pytest.raises(UsageError):
            Choices(choices).compile(VOCABULARY)


def test_many_choices_are_cheap():
    started = time.perf_counter()
    state = Choices([f"word {i}" for i in range(20_000)]).compile(VOCABULARY)
    assert state.forced() == tuple(TOKENIZER.encode("word"))
    for token in TOKENIZER.encode("word 12"):
        state = state.advance(token)
    assert state.complete
    assert time.perf_counter() - started < 5


def test_a_vocabulary_that_cannot_work_is_refused():
    for size, stops in ((10, [1]), (SIZE, []), (SIZE, [SIZE]), (SIZE, [-1])):
        with pytest.raises(UsageError):
            MaskVocabulary(TOKENIZER, size, stops)


def test_a_stop_token_that_is_text_ends_the_text_and_never_stands_in_it():
    vocabulary = MaskVocabulary(TOKENIZER, SIZE, [TOKENIZER.encode("b")[0]])
    for mask in (Choices(["a", "ab"]), Regex("ab?")):
        state = mask.compile(vocabulary).advance(TOKENIZER.encode("a")[0])
        assert state.allowed().nonzero()[0].tolist() == [TOKENIZER.encode("b")[0]]
        assert state.over


def test_llguidance_reads_a_tokenizer_once_and_lets_it_go():
    tokenizer = bytes_only()
    first = MaskVocabulary(tokenizer, tokenizer.vocab_size, [tokenizer.im_end])
    second = MaskVocabulary(tokenizer, tokenizer.vocab_size + 64, [tokenizer.end_of_text])
    assert first.llguidance is second.llguidance
    gone = weakref.ref(tokenizer)
    del tokenizer, first, second
    gc.collect()
    assert gone() is None
