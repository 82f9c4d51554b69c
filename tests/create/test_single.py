"""`twofold train` of a text: what an earlier try left behind is neither lost nor taken for something else."""

import random
from string import ascii_lowercase

import pytest

from twofold.create import single
from twofold.create.single import pretrain
from twofold.errors import FileError, UsageError
from twofold.files import read_json

TINY = {"steps": 2, "row_tokens": 32, "batch_rows": 2, "compile": "no"}


def write_text(path, word):
    dice = random.Random(word)
    names = ["".join(dice.choices(ascii_lowercase, k=6)) for _ in range(400)]
    path.write_text("\n\n".join(f"A {word} says {' '.join(dice.choices(names, k=40))}." for _ in range(200)))
    return str(path)


@pytest.fixture
def half_way(tmp_path, monkeypatch):
    """A run whose text is read, and which stopped in what comes next."""

    def stop(*_):
        raise KeyboardInterrupt

    run, text = tmp_path / "run", write_text(tmp_path / "text.txt", "cat")
    with monkeypatch.context() as patched:
        patched.setattr(single, "prepare_tokens", stop)
        with pytest.raises(KeyboardInterrupt):
            pretrain(run, [text], TINY, preset="nano")
    assert (run / "data" / "text" / "card.json").is_file()
    return run


def test_text_that_is_not_there_leaves_no_folder(tmp_path):
    (tmp_path / "run").mkdir()
    with pytest.raises(FileError, match=r"missing\.txt"):
        pretrain(tmp_path / "run", [str(tmp_path / "missing.txt")], TINY)
    assert not list((tmp_path / "run").iterdir())


def test_a_persons_own_text_may_lie_in_data(tmp_path):
    (tmp_path / "run" / "data").mkdir(parents=True)
    text = write_text(tmp_path / "run" / "data" / "mine.txt", "cat")
    pretrain(tmp_path / "run", [text], TINY, preset="nano")
    assert (tmp_path / "run" / "model.safetensors").is_file()


def test_another_try_does_not_silently_learn_from_the_first_ones_text(half_way, tmp_path):
    other = write_text(tmp_path / "other.txt", "dog")
    with pytest.raises(UsageError, match=r"what an earlier try has read.*--resume"):
        pretrain(half_way, [other], TINY, preset="micro")
    assert read_json(half_way / "data" / "plan.json")["preset"] == "nano"


def test_it_goes_on_with_the_text_that_was_read(half_way, tmp_path):
    before = (half_way / "data" / "text" / "documents.utf8").read_bytes()
    with pytest.raises(UsageError, match="was planned as nano"):
        pretrain(half_way, [str(tmp_path / "text.txt")], TINY, preset="micro", resume=True)
    page = pretrain(half_way, [str(tmp_path / "text.txt")], TINY, preset="nano", resume=True)
    assert page.is_file()
    assert (half_way / "model.safetensors").is_file()
    assert (half_way / "data" / "text" / "documents.utf8").read_bytes() == before
