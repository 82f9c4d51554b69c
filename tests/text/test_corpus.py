import hashlib
import json
import os
import random
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twofold.errors import DataError, FileError, UsageError
from twofold.text.corpus import Corpus, build_corpus
from twofold.text.documents import Document
from twofold.text.reading import ReadReport
from twofold.text.seen import SeenDigests
from twofold.text.split import choose_ends, find_border


def stories(count=200, seed=0, size=40):
    draw = random.Random(seed)
    words = "sun moon river mouse bread apple hill door cold warm runs sings niño 木".split()  # noqa: SIM905
    return [
        Document(f"Story {seed}.{n}: " + " ".join(draw.choices(words, k=size)) + ".", f"a.jsonl:{n}")
        for n in range(count)
    ]


def texts(corpus):
    return {side: list(corpus.documents(side)) for side in ("train", "held_out")}


def test_both_sides_together_are_the_documents_in_order(tmp_path):
    documents = stories()
    corpus = build_corpus(documents, tmp_path / "c")
    sides = texts(corpus)
    assert sorted(sides["train"] + sides["held_out"]) == sorted(d.text for d in documents)
    held = set(sides["held_out"])
    assert sides["train"] == [d.text for d in documents if d.text not in held]
    assert len(corpus) == len(documents)
    for side, found in sides.items():
        assert corpus.sizes(side).tolist() == [len(text.encode()) for text in found]


@pytest.mark.parametrize("fraction", [0.01, 0.05, 0.3])
def test_the_held_out_side_has_its_fraction_of_bytes(tmp_path, fraction):
    corpus = build_corpus(stories(1000), tmp_path / "c", held_out=fraction)
    held = corpus.card["held_out"]["bytes"]
    assert 0.95 * fraction <= held / corpus.card["bytes"] <= fraction
    assert corpus.card["split"]["way"] == "documents"


def test_at_most_four_megabytes_are_held_out(tmp_path):
    documents = [Document(f"{n} " * 5000) for n in range(1000, 3000)]
    corpus = build_corpus(documents, tmp_path / "c", held_out=0.5)
    assert corpus.card["bytes"] > 40_000_000
    assert 3_900_000 < corpus.card["held_out"]["bytes"] <= 4_000_000


def test_a_text_stays_on_its_side_whatever_the_order_and_the_files(tmp_path):
    documents = stories()
    first = texts(build_corpus(documents, tmp_path / "a"))
    shuffled = [Document(d.text, "elsewhere") for d in random.Random(1).sample(documents, len(documents))]
    second = texts(build_corpus(shuffled, tmp_path / "b"))
    assert sorted(first["held_out"]) == sorted(second["held_out"])


def test_a_text_mostly_stays_on_its_side_when_the_corpus_grows(tmp_path):
    documents = stories(400)
    small = set(texts(build_corpus(documents, tmp_path / "a"))["held_out"])
    large = set(texts(build_corpus(documents + stories(100, seed=7), tmp_path / "b"))["held_out"])
    assert len(small & large) > 0.8 * len(small)


def test_another_seed_holds_out_other_documents(tmp_path):
    first = texts(build_corpus(stories(), tmp_path / "a", seed=1))
    second = texts(build_corpus(stories(), tmp_path / "b", seed=2))
    assert set(first["held_out"]) != set(second["held_out"])


def test_which_documents_are_held_out_follows_from_blake2b(tmp_path):
    """An independent way to the same choice: sort by the keyed digest, take while they fit."""
    documents = stories(size=20)
    texts_of = [d.text for d in documents]
    budget = int(0.1 * sum(len(text.encode()) for text in texts_of))
    expected, left = [], budget
    key = (5).to_bytes(8, "little")
    for text in sorted(texts_of, key=lambda t: hashlib.blake2b(t.encode(), digest_size=16, key=key).digest()):
        if len(text.encode()) <= left:
            expected.append(text)
            left -= len(text.encode())
            if left < budget // 50:
                break
    found = texts(build_corpus(documents, tmp_path / "c", held_out=0.1, seed=5))["held_out"]
    assert sorted(found) == sorted(expected)


def test_exact_repeats_are_dropped_and_counted(tmp_path):
    documents = stories(100)
    corpus = build_corpus(documents + documents[:30], tmp_path / "c")
    assert len(corpus) == 100
    assert corpus.card["duplicates"] == 30
    assert corpus.card["duplicate_bytes"] == sum(len(d.text.encode()) for d in documents[:30])
    assert corpus.card["bytes"] == sum(len(d.text.encode()) for d in documents)


def test_the_card_tells_what_the_text_is(tmp_path):
    report = ReadReport(documents=3, bad_files=1, bad={"x.gz": "is empty"})
    documents = [
        *stories(100),
        Document("  \n "),
        Document("A last one. " * 20, "b:c.txt"),
        Document("No name."),
    ]
    card = build_corpus(documents, tmp_path / "c", report=report).card
    assert card["documents"] == 102
    assert card["empty"] == 1
    assert card["sources"]["a.jsonl"]["documents"] == 100
    assert card["sources"]["b:c.txt"] == {"documents": 1, "bytes": 240}
    assert card["sources"]["(no source)"]["documents"] == 1
    assert sum(source["bytes"] for source in card["sources"].values()) == card["bytes"]
    assert card["train"]["bytes"] + card["held_out"]["bytes"] == card["bytes"]
    assert card["reading"]["bad"] == {"x.gz": "is empty"}
    store = (tmp_path / "c" / "documents.utf8").read_bytes()
    assert card["sha256"] == hashlib.sha256(store).hexdigest()
    assert json.loads((tmp_path / "c" / "card.json").read_text()) == card


def test_the_card_names_a_bounded_number_of_sources(tmp_path):
    documents = [Document(f"Text number {n}.", f"file-{n}.txt:1") for n in range(1500)]
    sources = build_corpus(documents, tmp_path / "c").card["sources"]
    assert len(sources) == 1001
    assert sources["(other sources)"]["documents"] == 500


@pytest.mark.parametrize("border", ["\n\n", "\n", ". ", " ", ""])
def test_one_long_document_holds_out_its_end(tmp_path, border):
    text = border.join(f"pärt{n:04}" * 5 for n in range(400))
    corpus = build_corpus([Document(text, "book.txt")], tmp_path / "c")
    sides = texts(corpus)
    assert corpus.card["split"]["way"] == "ends"
    assert sides["train"][0] + sides["held_out"][0] == text
    assert sides["train"][0].endswith(border)
    held = len(sides["held_out"][0].encode()) / len(text.encode())
    assert 0.025 <= held <= 0.05


def test_few_documents_hold_out_the_ends_of_the_longest(tmp_path):
    paragraphs = [f"Paragraph {n} is here, and a little more.\n\n" for n in range(1000)]
    documents = [
        Document("".join(paragraphs[:300])),
        Document("".join(paragraphs[300:])),
        Document("Short one."),
    ]
    corpus = build_corpus(documents, tmp_path / "c", held_out=0.1)
    sides = texts(corpus)
    assert corpus.card["split"]["way"] == "ends"
    assert documents[1].text.endswith(sides["held_out"][-1])
    assert "".join(sides["train"] + sides["held_out"]).count("Paragraph") == 1000
    assert sides["held_out"][0].startswith("Paragraph")
    assert len(corpus) == 3 + len(sides["held_out"])


@given(st.text(min_size=1).map(str.encode))
def test_a_border_never_splits_a_character(data):
    place = find_border(data[1:])
    data[1 + place :].decode()
    assert 0 <= place <= len(data) - 1


def test_a_document_without_borders_is_cut_between_characters(tmp_path):
    sides = texts(build_corpus([Document("木" * 3000)], tmp_path / "c"))
    assert len(sides["train"][0]) + len(sides["held_out"][0]) == 3000


@pytest.mark.parametrize("documents", [[], [Document("")], [Document(" \n\t")] * 5])
def test_no_text_is_an_error(tmp_path, documents):
    with pytest.raises(DataError, match="There is no text"):
        build_corpus(documents, tmp_path / "c")
    assert list(tmp_path.iterdir()) == []


def test_too_little_text_says_how_much_is_needed(tmp_path):
    with pytest.raises(DataError, match=r"only 1000 bytes .* At least 2048"):
        build_corpus([Document("a" * 1000)] * 5, tmp_path / "c")
    assert list(tmp_path.iterdir()) == []


def test_half_a_character_is_refused_by_source(tmp_path):
    with pytest.raises(DataError, match=r"b\.json:7 is not valid Unicode"):
        build_corpus([*stories(), Document("\ud800", "b.json:7")], tmp_path / "c")


@pytest.mark.parametrize("settings", [{"held_out": 0}, {"held_out": 0.6}, {"held_out": -1}, {"seed": -1}])
def test_impossible_settings_are_refused(tmp_path, settings):
    with pytest.raises(UsageError):
        build_corpus(stories(), tmp_path / "c", **settings)


def test_an_existing_folder_is_left_alone(tmp_path):
    build_corpus(stories(), tmp_path / "c")
    with pytest.raises(FileError, match="exists already"):
        build_corpus(stories(seed=2), tmp_path / "c")


def test_an_interruption_leaves_nothing(tmp_path):
    def documents():
        yield from stories()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_corpus(documents(), tmp_path / "c")
    assert list(tmp_path.iterdir()) == []


def test_progress_is_told_now_and_then(tmp_path):
    told = []
    documents = (Document(f"{n} " * 200_000) for n in range(1000, 1050))
    build_corpus(documents, tmp_path / "c", progress=lambda *counts: told.append(counts))
    assert told[0][1] >= 1 << 24
    assert told == sorted(told)
    assert len(told) == 2


@pytest.mark.parametrize("name", ["documents.utf8", "index.bin"])
@pytest.mark.parametrize("change", [-1, 1, None])
def test_a_store_of_another_size_is_refused(tmp_path, name, change):
    build_corpus(stories(), tmp_path / "c")
    path = tmp_path / "c" / name
    if change is None:
        path.unlink()
    else:
        os.truncate(path, path.stat().st_size + change)
    with pytest.raises(FileError, match=name):
        Corpus.open(tmp_path / "c")


def test_a_changed_index_is_refused_and_a_changed_text_found_on_request(tmp_path):
    build_corpus(stories(), tmp_path / "c")
    for name, verify in (("documents.utf8", True), ("index.bin", False)):
        path = tmp_path / "c" / name
        data = bytearray(path.read_bytes())
        data[100] ^= 1
        path.write_bytes(data)
        with pytest.raises(FileError, match="SHA-256"):
            Corpus.open(tmp_path / "c", verify=verify)


def test_a_text_changed_into_invalid_utf8_is_an_error_when_read(tmp_path):
    corpus = build_corpus(stories(), tmp_path / "c")
    path = tmp_path / "c" / "documents.utf8"
    path.write_bytes(b"\xff" * path.stat().st_size)
    with pytest.raises(FileError, match="not valid UTF-8"):
        list(corpus.documents("train"))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["format"], "x"),
        (["version"], 99),
        (["bytes"], "5"),
        (["bytes"], -5),
        (["documents"], None),
        (["index"], []),
        (["train", "documents"], 7),
        (["held_out", "bytes"], 10**40),
        (["sha256"], None),
        (["split"], {"seed": 0}),
        (["split"], "x"),
        (["reading"], ["x"]),
        (["sources"], {"a": {"documents": 1}}),
        (["sources"], [1]),
        (["duplicates"], "x"),
    ],
)
def test_a_card_that_lies_is_refused(tmp_path, path, value):
    build_corpus(stories(), tmp_path / "c")
    file = tmp_path / "c" / "card.json"
    card = json.loads(file.read_text())
    *way, last = path
    place = card
    for step in way:
        place = place[step]
    place[last] = value
    file.write_text(json.dumps(card))
    with pytest.raises(FileError):
        Corpus.open(tmp_path / "c", verify=True)


def test_a_folder_without_a_card_was_never_finished(tmp_path):
    with pytest.raises(FileError, match="holds no corpus"):
        Corpus.open(tmp_path)


def test_a_side_must_be_one_of_the_two(tmp_path):
    corpus = build_corpus(stories(), tmp_path / "c")
    with pytest.raises(UsageError, match="held_out"):
        list(corpus.documents("test"))


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 50), max_size=300))
def test_digests_are_new_exactly_once(numbers):
    table, seen = SeenDigests(), set()
    for number in numbers:
        # Equal low halves make the probes collide.
        assert table.add(number.to_bytes(8, "big") + bytes(8)) == (number not in seen)
        seen.add(number)
    assert len(table) == len(seen)
    assert table.array()[:, 0].tolist() == list(dict.fromkeys(numbers))


def test_the_table_of_digests_grows():
    table = SeenDigests()
    digests = [hashlib.blake2b(str(n).encode(), digest_size=16).digest() for n in range(20_000)]
    assert all(table.add(digest) for digest in digests)
    assert not any(table.add(digest) for digest in digests)
    assert table.array()[123].astype(">u8").tobytes() == digests[123]


def test_killing_while_a_corpus_is_written_leaves_nothing_readable(tmp_path):
    program = (
        "import sys\n"
        "from twofold.text.corpus import build_corpus\n"
        "from twofold.text.documents import Document\n"
        "def documents():\n"
        "    for n in range(10**9):\n"
        "        if n == 50_000: print('writing', flush=True)\n"
        "        yield Document(f'{n} ' * 20)\n"
        "build_corpus(documents(), sys.argv[1])\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "c")], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"writing\n"
        process.kill()
    assert not (tmp_path / "c").exists()
    with pytest.raises(FileError):
        Corpus.open(tmp_path / "c")
    build_corpus(stories(), tmp_path / "c")


def test_a_disk_that_takes_no_more_is_named_and_nothing_is_left(tmp_path):
    program = (
        "import resource, sys\n"
        "from twofold.errors import FileError\n"
        "from twofold.text.corpus import build_corpus\n"
        "from twofold.text.documents import Document\n"
        "from twofold.text.shards import write_shards\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000))\n"
        "try:\n"
        "    if sys.argv[2] == 'corpus':\n"
        "        build_corpus((Document(f'{n} ' * 1000) for n in range(10**6)), sys.argv[1])\n"
        "    else:\n"
        "        more = {'vocab_size': 9, 'tokenizer_fingerprint': 'x', 'text_bytes': [1] * 10**6}\n"
        "        write_shards(([n % 9] * 1000 for n in range(10**6)), sys.argv[1], **more)\n"
        "except FileError as error:\n"
        "    print(error)\n"
    )
    for kind in ("corpus", "shards"):
        done = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / "c"), kind], capture_output=True, text=True
        )
        assert not done.stderr, done.stderr
        assert done.stdout.startswith(f"Cannot write {tmp_path / 'c'}: the file system does not hold files")
        assert list(tmp_path.iterdir()) == []


def test_index_arithmetic_holds_beyond_four_gigabytes():
    sizes = np.array([2**33, 5], np.int64)
    ends = choose_ends(sizes, 4_000_000, lambda document, count: b"word " * (count // 5))
    assert ends[0][0] == 0
    assert 0 < ends[0][1] <= 4_000_000
