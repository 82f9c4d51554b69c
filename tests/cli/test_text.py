"""`twofold text` gathers text into a corpus that can be looked at."""

import io
import json

import pytest

from twofold.__main__ import main
from twofold.cli import text
from twofold.errors import FileError
from twofold.text.corpus import Corpus

STORY = "One morning {} lost a key in the village, and looked for it until noon, and found it at last.\n"


@pytest.fixture
def books(tmp_path):
    folder = tmp_path / "books"
    folder.mkdir()
    for number in range(60):
        (folder / f"{number}.txt").write_text(STORY.format(f"Mira the {number}th"), encoding="utf-8")
    return folder


def test_own_text_becomes_a_corpus_and_its_card_is_shown(books, tmp_path, capsys):
    assert main(["text", "read", str(books), "-o", str(tmp_path / "corpus")]) == 0
    out = capsys.readouterr().out
    corpus = Corpus.open(tmp_path / "corpus")
    assert corpus.card["documents"] == 60
    assert "60 documents" in out
    assert "held out" in out
    assert corpus.card["sha256"] in out


def test_show_tells_the_card_and_the_beginnings_of_documents(books, tmp_path, capsys):
    main(["text", "read", str(books), "-o", str(tmp_path / "corpus")])
    capsys.readouterr()
    assert main(["text", "show", str(tmp_path / "corpus"), "--documents", "2", "--characters", "20"]) == 0
    out = capsys.readouterr().out
    assert out.count("Document ") == 2
    assert "One morning Mira the" in out
    assert "lost a key" not in out


def test_a_village_brings_conversations_and_questions_with_answers(tmp_path, capsys):
    folder = tmp_path / "village"
    line = [
        "text",
        "village",
        "-o",
        str(folder),
        "--villagers",
        "12",
        "--megabytes",
        "0.05",
        "--conversations",
        "7",
    ]
    assert main(line) == 0
    assert "documents" in capsys.readouterr().out
    assert Corpus.open(folder).card["bytes"] >= 50_000 * 0.9
    conversations = [
        json.loads(row) for row in (folder / "conversations.jsonl").read_text("utf-8").splitlines()
    ]
    assert len(conversations) == 7
    assert {m["role"] for c in conversations for m in c["messages"]} <= {"system", "user", "assistant"}
    questions = [json.loads(row) for row in (folder / "questions.jsonl").read_text("utf-8").splitlines()]
    assert {q["split"] for q in questions} == {"taught", "held_out"}
    assert {q["language"] for q in questions} == {"en", "es"}
    assert all(q["accepted"] and q["text"] for q in questions)


def test_the_same_seed_makes_the_same_village(tmp_path):
    for name in ("one", "two"):
        assert (
            main(["text", "village", "-o", str(tmp_path / name), "--villagers", "8", "--megabytes", "0.02"])
            == 0
        )
    one, two = (Corpus.open(tmp_path / name).card["sha256"] for name in ("one", "two"))
    assert one == two
    for file in ("conversations.jsonl", "questions.jsonl"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--megabytes", "0"], "--megabytes"),
        (["--megabytes", "nan"], "--megabytes"),
        (["--villagers", "1"], "village"),
        (["--conversations", "-1"], "--conversations"),
        (["--held-out", "2"], "held_out"),
        (["--villagers", "many"], "--villagers"),
    ],
)
def test_impossible_villages_are_refused_and_leave_nothing(tmp_path, capsys, options, named):
    assert main(["text", "village", "-o", str(tmp_path / "v"), *options]) == 2
    err = capsys.readouterr().err
    assert named in err
    assert not list(tmp_path.iterdir())


def test_a_folder_that_exists_is_left_alone(books, tmp_path, capsys):
    assert main(["text", "read", str(books), "-o", str(books)]) == 2
    assert "exists" in capsys.readouterr().err
    assert len(list(books.iterdir())) == 60


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("empty.txt", b"", 4),
        ("short.txt", b"Too short.", 4),
        ("binary.txt", bytes(range(256)) * 40, None),
        ("latin.txt", "caf\xe9 ".encode("latin-1") * 2000, None),
        ("broken.jsonl", b'{"text": "a"\n' * 400, None),
        ("broken.txt.gz", b"not gzip at all", None),
    ],
)
def test_bad_files_are_named_without_a_traceback_and_leave_nothing(tmp_path, capsys, name, content, code):
    (tmp_path / name).write_bytes(content)
    result = main(["text", "read", str(tmp_path / name), "-o", str(tmp_path / "corpus")])
    err = capsys.readouterr().err
    assert result in ((3, 4) if code is None else (code,)), err
    assert "fault in Twofold" not in err
    assert code is not None or name in err
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_bad_files_can_be_left_out_and_are_counted(books, tmp_path, capsys):
    (books / "bad.jsonl").write_bytes(b"{{{{\n")
    assert main(["text", "read", str(books), "-o", str(tmp_path / "c"), "--bad-files", "skip"]) == 0
    out, err = capsys.readouterr()
    assert "bad" in out + err
    assert Corpus.open(tmp_path / "c").card["documents"] == 60


def test_a_missing_file_is_named(tmp_path, capsys):
    assert main(["text", "read", str(tmp_path / "none.txt"), "-o", str(tmp_path / "c")]) == 3
    assert "none.txt" in capsys.readouterr().err


def test_standard_input_is_a_dash(tmp_path, monkeypatch, capsys):
    text = "".join(STORY.format(f"Mira the {number}th") for number in range(60))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode()), encoding="utf-8"))
    assert main(["text", "read", "-", "-o", str(tmp_path / "corpus")]) == 0
    corpus = Corpus.open(tmp_path / "corpus")
    assert sorted("".join([*corpus.documents("train"), *corpus.documents("held_out")]).split()) == sorted(
        text.split()
    )


def test_a_village_is_whole_or_not_there(tmp_path, monkeypatch):
    def full(path, rows):
        raise FileError("the disk is full")

    monkeypatch.setattr(text, "_write_lines", full)
    with pytest.raises(FileError, match="full"):
        text.village(output=tmp_path / "village", villagers=8, megabytes=0.05)
    assert list(tmp_path.iterdir()) == []


def test_how_much_to_show_is_any_number_that_can_be(books, tmp_path, capsys):
    assert main(["text", "read", str(books), "-o", str(tmp_path / "c")]) == 0
    for option in ("--documents", "--characters"):
        assert main(["text", "show", str(tmp_path / "c"), option, "-1"]) == 2
        assert f"{option} must not be negative" in capsys.readouterr().err
        assert main(["text", "show", str(tmp_path / "c"), option, str(10**20)]) == 0
