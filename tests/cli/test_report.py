import json
import os

import pytest

from twofold.cli.report import report
from twofold.errors import FileError


def test_the_page_of_a_run_is_made_again(tmp_path, capsys):
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 1, "loss": 2.5}) + "\n")
    report(tmp_path)
    assert capsys.readouterr().out.strip() == str(tmp_path / "report.html")
    assert "2.5" in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("step", [0, 2**64, -(2**64), 1e99])
def test_a_page_of_one_absurd_step_is_drawn(tmp_path, step):
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": step, "loss": 2.5}) + "\n")
    report(tmp_path)
    assert "2.5" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_page_can_go_elsewhere(tmp_path):
    (tmp_path / "settings.json").write_text("{}")
    report(tmp_path, output=tmp_path / "other.html")
    assert (tmp_path / "other.html").is_file()
    assert not (tmp_path / "report.html").exists()


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(FileError, match="is not a run folder"):
        report(tmp_path)


def test_a_pipe_or_device_is_not_replaced(tmp_path):
    (tmp_path / "settings.json").write_text("{}")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileError, match="a device or a pipe"):
        report(tmp_path, output=tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo()
    assert len(list(tmp_path.iterdir())) == 2
