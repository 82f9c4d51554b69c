import json
import math

import pytest

from twofold.errors import FileError
from twofold.report import load_run_record, render_report, report_of_folder, report_of_run, save_report
from twofold.report import read as reading


@pytest.fixture
def run_folder(report, tmp_path):
    """The first run of the made-up report, as the folder that training leaves."""
    run = report.runs[0]
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "settings.json").write_text(json.dumps(run.settings))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in run.metrics))
    rest = {k: getattr(run, k) for k in ("name", "model", "parameters", "data_card", "result", "environment")}
    (folder / "run.json").write_text(json.dumps(rest))
    (folder / "samples.json").write_text(json.dumps([{"prompt": "One", "continuation": " day.", "seed": 1}]))
    return folder


def test_a_run_folder_reads_as_the_run_that_wrote_it(report, run_folder):
    assert load_run_record(run_folder) == report.runs[0]
    assert load_run_record(run_folder, name="Other").name == "Other"


def test_a_run_alone_makes_a_report(run_folder):
    report = report_of_run(run_folder)
    page = render_report(report)
    assert "5.77 M parameters" in report.summary
    assert "1,500 steps on 12.3 M tokens" in report.summary
    assert "2 cores of Intel Xeon" in report.summary
    assert report.compression.precisions["F32"] == 4 * 5_772_800
    assert report.compression.text_bytes == 36_968_201
    for words in ("Pretraining", "Bits per byte", "One", " day.", "Muon", "Intel Xeon"):
        assert words in page


def test_a_cut_last_line_is_left_out_in_silence(run_folder):
    path = run_folder / "metrics.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    record = load_run_record(run_folder)
    assert len(record.metrics) == 1500
    assert record.notes == ()


def test_a_cut_line_without_its_end_that_still_is_json_is_kept(run_folder):
    path = run_folder / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-1])
    assert len(load_run_record(run_folder).metrics) == 1501


@pytest.mark.parametrize("bad", [b"\xff\xfe\0", b'{"step": 1, "lo', b"[1, 2]", b"x" * 200_000, b"[" * 50_000])
def test_a_damaged_line_is_left_out_and_counted(run_folder, bad):
    path = run_folder / "metrics.jsonl"
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([*lines[:700], bad, *lines[701:]]) + b"\n")
    record = load_run_record(run_folder)
    assert len(record.metrics) == 1500
    assert "1 damaged line " in record.notes[0]


def test_a_run_that_still_goes_on_has_a_page_with_its_shape(report, run_folder):
    (run_folder / "run.json").unlink()
    (run_folder / "settings.json").write_text(
        json.dumps({"name": "Mine", "seed": 1, "model": report.runs[0].model})
    )
    record = load_run_record(run_folder)
    assert record.name == "Mine"
    assert record.model["hidden_size"] == 256
    assert record.settings == {"seed": 1}


@pytest.mark.parametrize("left", ["settings.json", "metrics.jsonl", "run.json"])
def test_any_one_file_is_enough_for_a_page(run_folder, left):
    for path in run_folder.iterdir():
        if path.name != left:
            path.unlink()
    assert "<h1" in render_report(report_of_run(run_folder))


def test_what_is_no_run_folder_is_refused(tmp_path):
    with pytest.raises(FileError, match="is not a run folder"):
        load_run_record(tmp_path)
    with pytest.raises(FileError, match="is not there"):
        report_of_folder(tmp_path / "nowhere")


@pytest.mark.parametrize("text", ["[]", "{", "\xff", "3"])
def test_a_damaged_json_file_is_named(run_folder, text):
    (run_folder / "run.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(FileError, match=r"run\.json"):
        load_run_record(run_folder)


def test_a_file_too_large_to_be_ours_is_not_read(run_folder, monkeypatch):
    monkeypatch.setattr(reading, "MAX_JSON_BYTES", 10)
    with pytest.raises(FileError, match="large"):
        load_run_record(run_folder)


def test_values_of_wrong_kinds_are_passed_over(run_folder):
    (run_folder / "run.json").write_text(
        json.dumps(
            {
                "name": ["x"],
                "parameters": {"a": "many", "b": -1, "c": 1e300, "d": 7, "e": True},
                "environment": [1],
                "data_card": {"bytes": 10**300},
                "result": {"seconds": "long"},
            }
        ).replace("true", "NaN")
    )
    (run_folder / "samples.json").write_text(json.dumps([1, {"prompt": 2}, {"text": "ok", "prompt": 4}]))
    record = load_run_record(run_folder)
    assert record.name == "Training"
    assert record.parameters == {"d": 7}
    report = report_of_run(run_folder)
    assert [s.continuation for s in report.samples] == ["ok"]
    render_report(report)


def test_a_very_long_run_is_thinned_with_its_extremes_and_evaluations(run_folder, monkeypatch):
    monkeypatch.setattr(reading, "MAX_ROWS", 100)
    with open(run_folder / "metrics.jsonl", "w") as file:
        for step in range(1, 5001):
            row = {"step": step, "loss": 3 + math.sin(step)}
            if step == 1234:
                row["loss"] = 99.0
            if step % 1000 == 0:
                row["held_out_bits_per_byte"] = 1 / step
            file.write(json.dumps(row) + "\n")
    rows = load_run_record(run_folder).metrics
    assert len(rows) <= 100
    assert max(row["loss"] for row in rows) == 99.0
    assert [row["step"] for row in rows if "held_out_bits_per_byte" in row] == [1000, 2000, 3000, 4000, 5000]
    assert [row["step"] for row in rows] == sorted(row["step"] for row in rows)


def test_a_pipelines_record_comes_before_its_files(report, run_folder):
    save_report(run_folder / "report.json", report)
    assert report_of_folder(run_folder).title == "A village in two files"
