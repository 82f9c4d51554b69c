"""Training a tokenizer: the same everywhere, streaming, and clear about text that is too little."""

import itertools
import os
import subprocess
import sys
import time
from collections import Counter

import pytest
import regex

from twofold.errors import DataError, UsageError
from twofold.tokens.tokenizer import bytes_only
from twofold.tokens.train import train_tokenizer
from twofold.tokens.vocabulary import PATTERN


def words_in_letters(text):
    """The cut words with their counts, each a tuple of letters of the byte alphabet."""
    tokenizer = bytes_only()
    letter_of = {tokenizer.token_bytes(token)[0]: tokenizer.pieces[token] for token in range(256)}
    counts = Counter(regex.findall(PATTERN, text))
    return {tuple(letter_of[byte] for byte in word.encode()): count for word, count in counts.items()}


def join(word, left, right):
    parts, place = [], 0
    while place < len(word):
        both = word[place : place + 2] == (left, right)
        parts.append(left + right if both else word[place])
        place += 2 if both else 1
    return tuple(parts)


def test_each_merge_joins_a_pair_that_is_the_most_frequent_when_counted_naively(sample_text):
    words = words_in_letters(sample_text)
    merges = train_tokenizer([sample_text], 512).merges
    assert len(merges) == 247
    for merge in merges:
        pairs = Counter()
        for word, count in words.items():
            for pair in itertools.pairwise(word):
                pairs[pair] += count
        left, right = merge.split(" ")
        assert pairs[left, right] == max(pairs.values())
        words = {join(word, left, right): count for word, count in words.items()}


def test_the_size_is_what_was_asked_with_the_added_tokens_in_it(sample_text):
    for size in (320, 384, 640):
        tokenizer = train_tokenizer([sample_text], size)
        assert tokenizer.vocab_size == size
        assert len(tokenizer.merges) == size - 256 - 9


def test_a_larger_vocabulary_makes_fewer_tokens(sample_text):
    counts = [len(train_tokenizer([sample_text], size).encode(sample_text)) for size in (320, 512, 768)]
    assert counts[0] > counts[1] > counts[2]


def test_too_few_pairs_for_the_size_give_a_smaller_vocabulary_of_a_good_size(sample_text):
    tokenizer = train_tokenizer([sample_text], 32_768)
    assert tokenizer.vocab_size < 32_768
    assert tokenizer.vocab_size % 64 == 0
    assert tokenizer.decode(tokenizer.encode(sample_text)) == sample_text


@pytest.mark.parametrize("size", [-64, 0, 64, 256, 319, 500, 4095, (1 << 20) + 64])
def test_an_impossible_size_is_refused_with_one_that_works(size):
    with pytest.raises(UsageError, match="multiple of 64 from 320") as error:
        train_tokenizer(["text"], size)
    example = int(str(error.value).rstrip(".").split()[-1].replace(",", ""))
    assert 320 <= example <= 1 << 20
    assert example % 64 == 0


@pytest.mark.parametrize("texts", [[], [""], ["", ""]])
def test_no_text_is_told(texts):
    with pytest.raises(DataError, match="no text"):
        train_tokenizer(texts, 320)


@pytest.mark.parametrize("text", ["a", "hello world", "xy" * 4])
def test_too_little_text_is_told_with_what_there_was(text):
    with pytest.raises(DataError, match=f"{len(text)} bytes"):
        train_tokenizer([text], 320)


def test_texts_are_read_one_by_one_up_to_the_limit(sample_text):
    given, reads = [], []

    def texts():
        for number in range(1000):
            given.append(number)
            yield sample_text

    size = len(sample_text.encode())
    train_tokenizer(texts(), 320, max_bytes=2 * size + 10, progress=reads.append)
    assert len(given) <= 4
    assert reads[-1] == 2 * size + 10
    assert reads == sorted(reads)


def test_text_beyond_the_limit_changes_nothing(sample_text):
    alone = train_tokenizer([sample_text], 384)
    more = train_tokenizer([sample_text, "zq" * 5000], 384, max_bytes=len(sample_text.encode()))
    assert more.fingerprint == alone.fingerprint


def test_the_limit_may_cut_a_character():
    with pytest.raises(DataError, match="4 bytes"):
        train_tokenizer(["水水"], 320, max_bytes=4)


def test_surrogates_are_no_trouble(sample_text):
    assert train_tokenizer([sample_text + "\ud800"], 320).vocab_size == 320


@pytest.mark.parametrize("unit", ["a", " ", "ab", "水"])
def test_one_endless_word_does_not_make_training_crawl(sample_text, unit):
    start = time.process_time()
    train_tokenizer([sample_text, unit * 400_000], 512)
    assert time.process_time() - start < 20  # in the square of the length it would be many minutes


SCRIPT = """
import random, sys
from twofold.tokens.train import train_tokenizer
choose = random.Random(1)
words = ["".join(choose.choices("aeioumnrst", k=choose.randint(2, 9))) for _ in range(3000)]
print(train_tokenizer((" ".join(choose.choices(words, k=500)) for _ in range(200)), 1024).fingerprint)
"""


def test_training_gives_the_same_on_any_number_of_threads_and_any_run():
    found = set()
    for threads, seed in (("1", "0"), ("2", "1"), ("3", "2")):
        parallel = "false" if threads == "1" else "true"
        environment = {
            **os.environ,
            "RAYON_NUM_THREADS": threads,
            "TOKENIZERS_PARALLELISM": parallel,
            "PYTHONHASHSEED": seed,
        }
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True
        )
        found.add(done.stdout)
    assert len(found) == 1
