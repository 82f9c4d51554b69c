import gzip
import io
import json
import os
import subprocess
import sys
import threading

import pytest
import zstandard

from twofold.errors import DataError, FileError, TwofoldError, UsageError
from twofold.text.formats import LONGEST_TEXT
from twofold.text.sources import ReadReport, read_documents


def read(*inputs, **settings):
    """Texts and report of reading with on_bad="skip"."""
    report = ReadReport()
    settings = {"on_bad": "skip", "report": report} | settings
    return [document.text for document in read_documents(inputs, **settings)], report


def lines(*values):
    return "".join(json.dumps(value) + "\n" for value in values).encode()


FORMATS = {
    "a.txt": b"one\n<|endoftext|>\ntwo",
    "a.md": b"one<|endoftext|>two\n",
    "a.jsonl": lines({"text": "one"}, {"content": "two"}),
    "b.jsonl": b'\n{"story": "one"}\r\n\n"two"',
    "a.json": json.dumps([{"id": 1, "text": "one"}, {"document": "two"}], indent=2).encode(),
    "b.json": json.dumps({"data": [{"text": "one"}, "two"]}).encode(),
    "c.json": lines({"text": "one"}, {"text": "two"}),
}


@pytest.mark.parametrize("packing", ["", ".gz", ".zst"])
@pytest.mark.parametrize("name", FORMATS)
def test_each_format_is_read_plain_and_packed(tmp_path, name, packing):
    pack = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}[packing]
    path = tmp_path / (name + packing)
    path.write_bytes(pack(FORMATS[name]))
    texts, report = read(path, on_bad="refuse")
    assert texts == ["one", "two"]
    assert (report.documents, report.bytes, report.files) == (2, 6, 1)


def test_a_plain_file_is_one_document_and_keeps_its_inside(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf\n  one\r\n\r\n\ttwo\rthree\r\n")
    assert read(tmp_path / "a.txt")[0] == ["  one\n\n\ttwo\rthree"]


def test_a_document_knows_its_file_and_line(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "one"}\n\n{"text": "two"}\n')
    (tmp_path / "b.txt").write_text("one\n<|endoftext|>\nt\nwo\n<|endoftext|>three")
    (tmp_path / "c.json").write_text('[\n{"text": "one"},\n\n{"text": "two"}]')
    found = [document.source for document in read_documents([tmp_path])]
    base = str(tmp_path)
    assert found[:2] == [f"{base}/a.jsonl:1", f"{base}/a.jsonl:3"]
    assert found[2:5] == [f"{base}/b.txt:1", f"{base}/b.txt:3", f"{base}/b.txt:5"]
    assert found[5:] == [f"{base}/c.json:2", f"{base}/c.json:4"]


def test_folders_are_read_in_order_without_what_is_hidden_or_of_another_kind(tmp_path):
    for name in ("b/2.txt", "b/1.md", "a/x.txt", "z.txt", ".hidden.txt", ".git/y.txt", "picture.png", "b.py"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
    texts, report = read(tmp_path, on_bad="refuse")
    assert texts == ["z.txt", "a/x.txt", "b/1.md", "b/2.txt"]
    assert (report.files, report.ignored) == (4, 2)


def test_a_file_without_a_known_ending_is_looked_into(tmp_path):
    (tmp_path / "book").write_text("one")
    (tmp_path / "lines.data").write_bytes(lines({"text": "two"}))
    (tmp_path / "packed").write_bytes(gzip.compress(lines({"text": "three"})))
    (tmp_path / "code.cfg").write_text("{ not json }\n")
    texts, _ = read(*(tmp_path / n for n in ("book", "lines.data", "packed", "code.cfg")), on_bad="refuse")
    assert texts == ["one", "two", "three", "{ not json }"]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"plain\ntext", ["plain\ntext"]),
        (lines({"text": "one"}, {"text": "two"}), ["one", "two"]),
        (b"\xef\xbb\xbf" + lines({"text": "one"}), ["one"]),
        (gzip.compress(b"packed"), ["packed"]),
        (zstandard.ZstdCompressor().compress(b"packed"), ["packed"]),
        (lines({"text": "x" * 2_000_000}), ["x" * LONGEST_TEXT] * 2),
    ],
)
def test_standard_input_is_text_or_json_lines(monkeypatch, data, expected):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert read("-", on_bad="refuse")[0] == expected


def test_a_named_pipe_can_be_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(b"from a pipe",))
    writer.start()
    assert read(tmp_path / "pipe", on_bad="refuse")[0] == ["from a pipe"]
    writer.join()


def test_a_chosen_field_is_the_only_one_read(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(lines({"text": "no", "poem": "yes"}, {"text": "no"}, "no"))
    texts, report = read(tmp_path / "a.jsonl", text_field="poem")
    assert texts == ["yes"]
    assert report.bad[f"{tmp_path}/a.jsonl:2"] == "has no text named 'poem'; its fields are: text"


def test_empty_documents_are_dropped_and_counted(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(lines({"text": " \n"}, {"text": "one"}, {"text": ""}))
    (tmp_path / "b.txt").write_text("<|endoftext|>two<|endoftext|><|endoftext|>three\n<|endoftext|>\n")
    texts, report = read(tmp_path, on_bad="refuse")
    assert texts == ["one", "two", "three"]
    assert report.empty == 5


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.txt", b"", "is empty"),
        ("a.gz", b"", "is empty"),
        ("a.jsonl", b"\n\n", "holds no text"),
        ("a.json", b"[]", "holds no text"),
        ("a.txt", b" \n ", "holds no text"),
        ("a.txt", b"text\0text", "NUL bytes"),
        ("a.txt", bytes(range(1, 32)) * 50, "control characters"),
        ("a.txt", b"line one\nline \xff two", "not valid UTF-8: byte 0xff in line 2"),
        ("a.txt", "café".encode()[:-1], "not valid UTF-8: byte 0xc3 in line 1"),
        ("a.txt", "text".encode("utf-16"), "UTF-16"),
        ("a.txt", gzip.compress(b"text"), "gzip data; its name should end in .gz"),
        ("a.jsonl", zstandard.ZstdCompressor().compress(b"{}"), "zstd data; its name should end in .zst"),
        ("a.txt", b"PAR1....", "a Parquet file"),
        ("a.txt.gz", b"plain text", "does not hold gz data"),
        ("a.txt.zst", b"plain text", "does not hold zst data"),
        ("a.txt.gz", gzip.compress(os.urandom(9000).hex().encode())[:-2000], "cut short"),
        ("a.txt.gz", gzip.compress(b"x" * 5000)[:-1], "cut short"),
        ("a.txt.gz", gzip.compress(b"x" * 5000)[:12], "cut short"),
        ("a.txt.gz", gzip.compress(b"text")[:-8] + b"\1" * 8, "damaged gzip data"),
        ("a.txt.gz", gzip.compress(b"text") + b"garbage", "damaged gzip data"),
        ("a.txt.zst", zstandard.ZstdCompressor().compress(os.urandom(9000).hex().encode())[:-9], "cut short"),
        ("a.txt.zst", b"\x28\xb5\x2f\xfd" + b"\xff" * 50, "zstd data"),
        ("a.json", b'[{"text": "one"}', "cut short"),
        ("a.json", b'[{"text": "on', "not valid JSON in line 1"),
        ("a.json", b'[{"text": "one"} {"text": "two"}]', "a comma or ] is missing in line 1"),
        ("a.json", b'[{"text": "one"}]\n[1]', "more text behind its list"),
        ("a.json", b"{'text': 1}" + b" " * 100, "not valid JSON in line 1"),
        ("a.json", b"[" * 200_000, "not valid JSON"),
        ("a.json", b"[" + b"9" * 5000 + b"]", "not valid JSON"),
        ("a.json", b"\0", "NUL"),
    ],
)
def test_a_bad_file_is_named_with_its_reason(tmp_path, name, data, reason):
    path = tmp_path / name
    path.write_bytes(data)
    (tmp_path / "good.txt").write_text("good")
    texts, report = read(path, tmp_path / "good.txt")
    assert texts[-1] == "good"
    assert report.bad_files == 1
    assert reason in report.bad[str(path)]
    with pytest.raises(DataError) as caught:
        read(path, on_bad="refuse")
    assert reason in str(caught.value)
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"text": "one"', "is not valid JSON"),
        (b"plain", "is not valid JSON"),
        (b"[" * 100_000, "is not valid JSON"),
        (b"1" * 5000, "is not valid JSON"),
        (b'{"text": "\xff"}', "is not valid UTF-8 (byte 0xff)"),
        (b'{"text": "\\ud800"}', "half of a character"),
        (b'{"text": "\\u0000"}', "NUL"),
        (b'{"text": 5}', "has no text field (such as 'text' or 'content'); its fields are: text"),
        (b"{}", "its fields are: none"),
        (b"[1]", "holds a list, not an object"),
        (b"null", "holds null"),
        (b'{"text": "' + b"x" * (17 << 20) + b'"}', "is longer than 16 MiB"),
    ],
)
def test_a_bad_line_is_named_with_its_number_and_reading_goes_on(tmp_path, line, reason):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "one"}\n\n' + line + b'\n{"text": "two"}')
    texts, report = read(path)
    assert texts == ["one", "two"]
    assert (report.bad_lines, report.bad_files) == (1, 0)
    assert reason in report.bad[f"{path}:3"]
    with pytest.raises(DataError) as caught:
        read(path, on_bad="refuse")
    assert "a.jsonl:3 " in str(caught.value)
    assert reason in str(caught.value)


def test_what_cannot_be_opened_is_named(tmp_path):
    (tmp_path / "folder").mkdir()
    os.symlink(tmp_path / "nowhere", tmp_path / "folder" / "link.txt")
    for path in (tmp_path / "missing.txt", tmp_path / "folder"):
        with pytest.raises(FileError, match="no such file"):
            read(path, on_bad="refuse")
    _, report = read(tmp_path / "missing.txt", tmp_path / "folder")
    assert report.bad_files == 2
    assert "cannot be read (no such file" in report.bad[f"{tmp_path}/missing.txt"]


def test_an_unreadable_file_is_named(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "a.txt").write_text("text")
    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(FileError, match=r"Cannot read .*a\.txt: permission denied"):
        read(tmp_path / "a.txt", on_bad="refuse")


def test_pipes_and_devices_in_folders_are_not_opened(tmp_path):
    os.mkfifo(tmp_path / "a.txt")
    _, report = read(tmp_path)
    assert report.bad[f"{tmp_path}/a.txt"] == "is not a regular file"


def test_an_endless_device_is_refused_at_once():
    with pytest.raises(DataError, match="NUL"):
        read("/dev/zero", on_bad="refuse")


def test_impossible_requests_are_refused_before_reading():
    with pytest.raises(UsageError):
        read_documents([])
    with pytest.raises(UsageError):
        read_documents(["a"], on_bad="ignore")


@pytest.mark.parametrize("border", ["\n\n", "\n", " ", ""])
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
def test_a_long_document_comes_in_parts_cut_at_borders(tmp_path, name, border):
    text = border.join(f"{n:07}" for n in range(400_000))
    (tmp_path / name).write_text(text if name == "a.txt" else json.dumps({"text": text}))
    texts, report = read(tmp_path / name, on_bad="refuse")
    assert len(texts) == -(-len(text) // LONGEST_TEXT)
    assert all(LONGEST_TEXT - 20 <= len(part) <= LONGEST_TEXT for part in texts[:-1])
    assert border.strip(" ").join(texts) == text
    assert report.cut == 1


@pytest.mark.parametrize("size", [1, 2, 5, 7, 11, 1000])
def test_chunk_borders_change_nothing(monkeypatch, size, tmp_path):
    """Separators, line ends, characters and JSON values that lie across the borders of reading."""
    monkeypatch.setattr("twofold.text.streams._CHUNK", size)
    text = "\ufeffone é木\r\nline\r\n<|endoftext|>\r\ntwo <|endo 😀 ftext|>\r\n<|endoftext|>three"
    (tmp_path / "a.txt").write_bytes(text.encode())
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(text.encode()[:50]) + gzip.compress(text.encode()[50:]))
    (tmp_path / "c.jsonl").write_bytes(lines({"text": "é\r\nx"}, {"text": "y" * 20}, {"text": "😀"}))
    (tmp_path / "d.json").write_text(json.dumps([{"text": "é\r\nx"}, {"text": "y" * 20}, "😀"], indent=1))
    plain = ["one é木\nline", "two <|endo 😀 ftext|>", "three"]
    rest = ["é\nx", "y" * 20, "😀"]
    assert read(tmp_path, on_bad="refuse")[0] == plain * 2 + rest * 2


def test_several_zstd_frames_are_one_file(tmp_path):
    pack = zstandard.ZstdCompressor().compress
    (tmp_path / "a.txt.zst").write_bytes(pack(b"one ") + b"\x50\x2a\x4d\x18\x02\0\0\0xx" + pack(b"two"))
    assert read(tmp_path / "a.txt.zst", on_bad="refuse")[0] == ["one two"]


def test_a_zstd_window_of_gigabytes_is_refused(tmp_path):
    parameters = zstandard.ZstdCompressionParameters(window_log=28, write_content_size=0)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    (tmp_path / "a.txt.zst").write_bytes(packer.compress(b"text") + packer.flush())
    _, report = read(tmp_path / "a.txt.zst")
    assert "unreadable zstd data" in report.bad[f"{tmp_path}/a.txt.zst"]


def bomb(packing, megabytes):
    """Spaces and letters, packed to about a thousandth or less."""
    block = b"a " * (1 << 19)
    pack = gzip.compress if packing == "gz" else zstandard.ZstdCompressor().compress
    return pack(block) * megabytes


# A program that reads its arguments and prints its own peak memory in kB, texts, and bad reasons.
PROGRAM = """
import sys
from twofold.text.sources import ReadReport, read_documents
report = ReadReport()
for document in read_documents(sys.argv[1:], on_bad="skip", report=report):
    pass
with open("/proc/self/status") as status:
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
print(peak, report.documents, report.bytes, report.cut, list(report.bad.values()))
"""

on_linux = pytest.mark.skipif(
    not os.path.exists("/proc/self/status"), reason="peak memory is read from /proc"
)


def peak_memory(*arguments, stdin=None):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, arguments)], input=stdin, capture_output=True
    )
    assert not done.stderr, done.stderr.decode()
    peak, documents, size, cut, bad = done.stdout.decode().split(maxsplit=4)
    return int(peak) // 1024, int(documents), int(size), int(cut), bad


@on_linux
@pytest.mark.parametrize(("border", "megabytes"), [(b"\n\n", 320), (b"\n", 80), (b"", 80)])
def test_a_stream_of_hundreds_of_megabytes_takes_little_memory(border, megabytes):
    block = (b"A line of quite ordinary text for the stream. " * 20 + border) * 1000
    count = megabytes * 1_000_000 // len(block)
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        for _ in range(count):
            process.stdin.write(block)
        process.stdin.close()
        peak, documents, size, cut, _ = process.stdout.read().decode().split(maxsplit=4)
    assert int(peak) < 100 * 1024  # kB: Python itself, NumPy and a few megabytes
    assert int(documents) >= 0.9 * megabytes
    assert 0.999 * count * len(block) < int(size) <= count * len(block)
    assert cut == "1"


@on_linux
@pytest.mark.parametrize("packing", ["gz", "zst"])
def test_a_decompression_bomb_is_refused_in_bounded_memory(tmp_path, packing):
    path = tmp_path / f"a.txt.{packing}"
    path.write_bytes(bomb(packing, 400))
    assert path.stat().st_size < 1_000_000
    peak, _, size, _, bad = peak_memory(path)
    assert peak < 350
    assert size < 400 << 20
    assert "decompression bomb" in bad


@on_linux
def test_json_that_parses_to_much_takes_bounded_memory(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'{"text": [' + b'{"":0},' * ((15 << 20) // 7) + b"0]}\n")
    (tmp_path / "b.jsonl").write_bytes(b"[" * (100 << 20))
    (tmp_path / "c.json").write_bytes(b'["' + b"x" * (100 << 20))
    peak, _, _, _, bad = peak_memory(tmp_path)
    assert peak < 1000
    assert bad.count("16 MiB") == 2


def test_the_report_says_it_in_a_line(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(lines({"text": "one"}, 5))
    (tmp_path / "b.txt").write_bytes(b"")
    _, report = read(tmp_path)
    assert str(report) == "1 documents (3 bytes) from 1 file, 1 bad file skipped, 1 bad line skipped"
    assert report.as_dict()["bad_lines"] == 1


def test_the_report_names_a_bounded_number(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b"x\n" * 5000)
    _, report = read(tmp_path / "a.jsonl")
    assert report.bad_lines == 5000
    assert len(report.bad) == 1000


def test_every_fault_is_an_error_for_people(tmp_path):
    """Random damage to good files of all formats: documents or a TwofoldError, never anything else."""
    import random

    draw = random.Random(0)
    pack = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}
    faults = 0
    for name, data in FORMATS.items():
        for packing, function in pack.items():
            for _ in range(20):
                damaged = bytearray(function(data * 3))
                for _ in range(draw.randint(1, 4)):
                    damaged[draw.randrange(len(damaged))] = draw.randrange(256)
                path = tmp_path / (name + packing)
                path.write_bytes(damaged[: draw.randint(len(damaged) // 2, len(damaged))])
                try:
                    read(path, on_bad="refuse")
                except TwofoldError:
                    faults += 1
                read(path)
    assert faults > 200


def test_an_empty_name_is_not_the_folder_we_are_in():
    with pytest.raises(UsageError, match="empty"):
        list(read_documents([""]))
