import json
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twofold.errors import DataError, FileError
from twofold.text.shards import Shards, write_shards


def write(folder, documents, vocab_size=1000, text_bytes=None, **more):
    if text_bytes is None:
        text_bytes = [3 * len(document) for document in documents]
    fixed = {"vocab_size": vocab_size, "tokenizer_fingerprint": "f" * 64}
    return write_shards(documents, folder, text_bytes=text_bytes, **fixed, **more)


def some_documents(count=50, vocab_size=1000, seed=0):
    draw = np.random.default_rng(seed)
    return [draw.integers(0, vocab_size, draw.integers(1, 40)) for _ in range(count)]


@settings(max_examples=25, deadline=None)
@given(
    documents=st.lists(st.lists(st.integers(0, 99_999), min_size=1, max_size=30), min_size=1, max_size=30),
    tokens_per_shard=st.integers(1, 200),
)
def test_what_is_written_is_read_back(tmp_path_factory, documents, tokens_per_shard):
    folder = tmp_path_factory.mktemp("shards") / "s"
    shards = write(folder, documents, vocab_size=100_000, tokens_per_shard=tokens_per_shard)
    assert [shards[i].tolist() for i in range(len(shards))] == documents
    assert shards.lengths.tolist() == [len(document) for document in documents]
    assert shards.total_tokens == sum(map(len, documents))
    assert shards.text_bytes == 3 * shards.total_tokens
    assert shards.document_bytes.tolist() == [3 * len(document) for document in documents]
    Shards.open(folder, "f" * 64, verify=True)


def test_the_files_are_plain_little_endian_ids(tmp_path):
    write(tmp_path / "s", [[5, 1, 2], [5, 999]])
    assert (tmp_path / "s" / "shard-00000.bin").read_bytes() == np.array([5, 1, 2, 5, 999], "<u2").tobytes()


@pytest.mark.parametrize(("vocab_size", "width"), [(65536, 2), (65537, 4)])
def test_the_narrowest_type_that_holds_the_vocabulary_is_used(tmp_path, vocab_size, width):
    shards = write(tmp_path / "s", [[vocab_size - 1, 0]], vocab_size=vocab_size)
    assert shards[0].dtype.itemsize == width
    assert shards[0].tolist() == [vocab_size - 1, 0]


def test_tokens_are_mapped_and_cannot_be_written_to(tmp_path):
    shards = write(tmp_path / "s", some_documents())
    with pytest.raises(ValueError, match="read-only"):
        shards[0][0] = 1


def test_documents_and_byte_counts_may_be_generators(tmp_path):
    shards = write(tmp_path / "s", (np.array([i, i]) for i in range(5)), text_bytes=(i for i in range(5)))
    assert shards.text_bytes == 10


@pytest.mark.parametrize("wrong", [1000, 70_000, -1])
def test_an_id_outside_the_vocabulary_is_refused_by_name(tmp_path, wrong):
    documents = [*some_documents(20), np.array([1, wrong])]
    with pytest.raises(DataError, match=rf"Document 20 holds token id {wrong}"):
        write(tmp_path / "s", documents)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("documents", "sizes", "message"),
    [
        ([], [], "no documents"),
        ([[1], []], [1, 1], "Document 1 is not a list of token ids"),
        ([[1.5]], [1], "not a list of token ids"),
        ([[[1]]], [1], "not a list of token ids"),
        ([[1], [2]], [1], "more documents than byte counts"),
        ([[1]], [1, 2], "fewer documents than byte counts"),
        ([[1]], [-1], "number of bytes"),
    ],
)
def test_unusable_documents_are_refused(tmp_path, documents, sizes, message):
    with pytest.raises(DataError, match=message):
        write(tmp_path / "s", documents, text_bytes=sizes)
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_leaves_nothing(tmp_path):
    def documents():
        yield from some_documents()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "s", documents(), text_bytes=[1] * 100, tokens_per_shard=100)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_left_alone(tmp_path):
    write(tmp_path / "s", [[1, 2]])
    with pytest.raises(FileError, match="exists already"):
        write(tmp_path / "s", [[3]])
    assert Shards.open(tmp_path / "s")[0].tolist() == [1, 2]


def test_another_tokenizer_is_refused(tmp_path):
    write(tmp_path / "s", [[1, 2]])
    with pytest.raises(FileError, match="another tokenizer"):
        Shards.open(tmp_path / "s", "0" * 64)


def test_a_folder_without_a_manifest_was_never_finished(tmp_path):
    write(tmp_path / "s", [[1, 2]])
    (tmp_path / "s" / "manifest.json").unlink()
    with pytest.raises(FileError, match="never finished"):
        Shards.open(tmp_path / "s")
    with pytest.raises(FileError, match="no token shards"):
        Shards.open(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["shard-00001.bin", "lengths.bin", "bytes.bin"])
@pytest.mark.parametrize("change", ["cut", "grown", "missing"])
def test_a_file_of_another_size_is_refused(tmp_path, name, change):
    write(tmp_path / "s", some_documents(), tokens_per_shard=200)
    path = tmp_path / "s" / name
    if change == "missing":
        path.unlink()
    else:
        os.truncate(path, path.stat().st_size + (1 if change == "grown" else -1))
    with pytest.raises(FileError, match=name):
        Shards.open(tmp_path / "s")


@pytest.mark.parametrize("name", ["shard-00001.bin", "lengths.bin", "bytes.bin"])
def test_verify_finds_a_changed_byte(tmp_path, name):
    write(tmp_path / "s", some_documents(), tokens_per_shard=200)
    path = tmp_path / "s" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(FileError, match=r"SHA-256|does not fit"):
        Shards.open(tmp_path / "s", verify=True)


def test_verify_finds_ids_outside_the_vocabulary_even_with_a_fitting_hash(tmp_path):
    write(tmp_path / "s", [[1, 2, 3]])
    other = write(tmp_path / "other", [[1, 60_000, 3]], vocab_size=65_000)
    manifest = other.manifest | {"vocab_size": 1000}
    (tmp_path / "other" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(FileError, match="outside its vocabulary"):
        Shards.open(tmp_path / "other", verify=True)


def _set(manifest, path, value):
    *way, last = path
    for step in way:
        manifest = manifest[step]
    manifest[last] = value


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["format"], "other"),
        (["version"], 2),
        (["dtype"], "float64"),
        (["vocab_size"], -5),
        (["vocab_size"], "1000"),
        (["tokenizer_fingerprint"], 7),
        (["documents"], 10**30),
        (["documents"], 49),
        (["tokens"], 2**61),
        (["text_bytes"], True),
        (["text_bytes"], 1),
        (["shards"], {}),
        (["shards"], []),
        (["shards", 0], None),
        (["shards", 0, "tokens"], 1),
        (["shards", 0, "documents"], 2),
        (["shards", 0, "size"], 10**12),
        (["lengths", "size"], 4),
        (["bytes"], 3),
        (["shards", 0, "sha256"], None),
    ],
)
def test_a_manifest_that_lies_is_refused(tmp_path, path, value):
    write(tmp_path / "s", some_documents(), tokens_per_shard=200)
    file = tmp_path / "s" / "manifest.json"
    manifest = json.loads(file.read_text())
    _set(manifest, path, value)
    file.write_text(json.dumps(manifest))
    with pytest.raises(FileError, match=r"manifest|damaged|bytes"):
        Shards.open(tmp_path / "s")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format": 1}', "null", "[" * 100_000])
def test_a_broken_manifest_is_refused(tmp_path, text):
    write(tmp_path / "s", [[1]])
    (tmp_path / "s" / "manifest.json").write_text(text)
    with pytest.raises(FileError, match=r"manifest\.json"):
        Shards.open(tmp_path / "s")


def test_lengths_that_do_not_fit_their_shards_are_refused(tmp_path):
    write(tmp_path / "s", [[1, 2, 3], [4, 5]], tokens_per_shard=3)
    np.array([2, 3], "<u4").tofile(tmp_path / "s" / "lengths.bin")
    with pytest.raises(FileError, match="does not fit"):
        Shards.open(tmp_path / "s")


def test_a_document_outside_is_an_index_error(tmp_path):
    shards = write(tmp_path / "s", [[1], [2]])
    for number in (-1, 2):
        with pytest.raises(IndexError):
            shards[number]
