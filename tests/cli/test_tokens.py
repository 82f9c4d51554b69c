"""`twofold tokens` shows, learns and measures tokenizers; what is wrong is said in a line."""

import io
import json

import pytest

from twofold.cli.app import run
from twofold.errors import DataError, FileError, UsageError
from twofold.tokens.tokenizer import Tokenizer, bytes_only

STORY = (
    "The miller's donkey carried flour to the village, and the baker's daughter baked bread. "
    "One morning nobody found the key of the old mill, so everyone looked under stones until noon. "
)


@pytest.fixture
def byte_folder(tmp_path):
    bytes_only().save(tmp_path / "bytes")
    return str(tmp_path / "bytes")


@pytest.fixture
def book(tmp_path):
    path = tmp_path / "book.txt"
    path.write_text("\n".join(STORY * 3 + str(number) for number in range(40)), encoding="utf-8")
    return str(path)


def test_pieces_ids_and_bytes_are_shown(byte_folder, capsys):
    assert run(["tokens", "a é\n", "--tokenizer", byte_folder]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0] == "a│␠│⟨C3⟩│⟨A9⟩│␊"
    assert "5 tokens, 5 bytes, 1.00 bytes a token" in out
    assert "\x1b" not in out


def test_colours_where_they_are_wanted(byte_folder, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    assert run(["tokens", "ab", "--tokenizer", byte_folder]) == 0
    out = capsys.readouterr().out
    assert "\x1b[" in out
    assert "│" not in out


def test_json_is_for_scripts(byte_folder, capsys):
    run(["tokens", "<|im_end|>", "--tokenizer", byte_folder, "--json"])
    tokens = json.loads(capsys.readouterr().out)
    assert "".join(token["text"] for token in tokens) == "<|im_end|>"
    assert len(tokens) == 10


def test_a_dash_reads_standard_input(byte_folder, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"train \xff"), encoding="utf-8"))
    run(["tokens", "-", "--tokenizer", byte_folder, "--json"])
    shown = [token["shown"] for token in json.loads(capsys.readouterr().out)]
    assert shown == ["t", "r", "a", "i", "n", "␠", "⟨EF⟩", "⟨BF⟩", "⟨BD⟩"]


def test_without_a_tokenizer_it_is_said_how_to_get_one():
    with pytest.raises(UsageError, match="twofold tokens train"):
        run(["tokens", "hello"])


def test_a_tokenizer_is_found_in_what_create_leaves(tmp_path, capsys):
    bytes_only().save(tmp_path / "demo" / "tokens")
    assert run(["tokens", "a", "--tokenizer", str(tmp_path / "demo")]) == 0
    with pytest.raises(FileError, match="no such file"):
        run(["tokens", "a", "--tokenizer", str(tmp_path / "nothing")])


def test_training_leaves_a_tokenizer_that_can_be_used_and_measured(book, tmp_path, capsys):
    folder = tmp_path / "mine"
    assert run(["tokens", "train", book, "-o", str(folder), "--vocab-size", "320"]) == 0
    assert "320 tokens" in capsys.readouterr().out
    assert Tokenizer.load(folder).vocab_size == 320
    run(["tokens", "stats", book, "--tokenizer", str(folder), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["bytes_per_token"] > 2
    run(["tokens", "stats", book, "--tokenizer", str(folder)])
    assert f"{found['bytes_per_token']:.3f}" in capsys.readouterr().out


def test_a_vocabulary_that_the_text_does_not_fill_is_told(book, tmp_path, capsys):
    run(["tokens", "train", book, "-o", str(tmp_path / "mine"), "--vocab-size", "8192"])
    out = capsys.readouterr().out
    assert "You asked for 8,192" in out
    assert Tokenizer.load(tmp_path / "mine").vocab_size < 8192


def test_a_tokenizer_is_never_written_over(book, byte_folder):
    before = Tokenizer.load(byte_folder).fingerprint
    with pytest.raises(UsageError, match="exists already"):
        run(["tokens", "train", book, "-o", byte_folder])
    assert Tokenizer.load(byte_folder).fingerprint == before


@pytest.mark.parametrize(
    ("options", "fault"),
    [(["--vocab-size", "1000"], "multiple of 64"), (["--megabytes", "0"], "--megabytes")],
)
def test_impossible_settings_are_refused_before_anything_is_read(tmp_path, options, fault):
    with pytest.raises(UsageError, match=fault):
        run(["tokens", "train", str(tmp_path / "none.txt"), "-o", str(tmp_path / "mine"), *options])


def test_too_little_text_leaves_nothing_behind(tmp_path):
    (tmp_path / "a.txt").write_text("hello\n")
    with pytest.raises(DataError, match="Too little text"):
        run(["tokens", "train", str(tmp_path / "a.txt"), "-o", str(tmp_path / "mine")])
    assert not (tmp_path / "mine").exists()
