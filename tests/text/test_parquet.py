import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from twofold.errors import DataError, UsageError
from twofold.text.parquet import _check_pages
from twofold.text.reading import BadFile
from twofold.text.sources import ReadReport, read_documents


def read(path, **settings):
    report = ReadReport()
    settings = {"on_bad": "skip", "report": report} | settings
    return [document.text for document in read_documents([path], **settings)], report


STORIES = [f"Story {n}. " + "It was a day. " * (n % 7) for n in range(1000)]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
@pytest.mark.parametrize("compression", ["none", "snappy", "zstd"])
def test_the_text_column_is_read(tmp_path, kind, compression):
    table = pa.table({"id": range(1000), "text": pa.array(STORIES).cast(kind), "title": ["t"] * 1000})
    pq.write_table(table, tmp_path / "a.parquet", compression=compression, row_group_size=300)
    texts, report = read(tmp_path / "a.parquet", on_bad="refuse")
    assert texts == STORIES
    assert report.documents == 1000


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("dictionary", [True, False])
def test_pages_of_all_kinds_are_walked(tmp_path, version, dictionary):
    table = pa.table({"content": STORIES})
    options = {"use_dictionary": dictionary, "data_page_version": version, "write_page_checksum": True}
    pq.write_table(table, tmp_path / "a.parquet", data_page_size=500, row_group_size=300, **options)
    assert read(tmp_path / "a.parquet", on_bad="refuse")[0] == STORIES


def test_nulls_and_blanks_are_dropped_and_rows_counted(tmp_path):
    pq.write_table(pa.table({"text": ["one", None, " ", "two"]}), tmp_path / "a.parquet")
    documents = list(read_documents([tmp_path / "a.parquet"]))
    assert [(d.text, d.source.rpartition(":")[2]) for d in documents] == [("one", "1"), ("two", "4")]


def test_a_chosen_column_is_read(tmp_path):
    pq.write_table(pa.table({"text": ["no"], "poem": ["yes"]}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet", text_field="poem")[0] == ["yes"]


def test_a_file_without_a_text_column_names_its_columns(tmp_path):
    pq.write_table(pa.table({"text": [1], "label": ["x"]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a\.parquet has no column of texts .*its columns are: text, label"):
        read(tmp_path / "a.parquet", on_bad="refuse")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is empty"),
        (b"plain text", "is not a Parquet file"),
        (b"PAR1" + b"\0" * 50, "damaged"),
        (b"PAR1" + b"\0" * 50 + b"\xff\xff\xff\x7fPAR1", "damaged"),
    ],
)
def test_a_bad_file_is_named_with_its_reason(tmp_path, data, reason):
    (tmp_path / "a.parquet").write_bytes(data)
    assert reason in read(tmp_path / "a.parquet")[1].bad[f"{tmp_path}/a.parquet"]


def test_a_packed_parquet_file_is_refused_with_advice(tmp_path):
    (tmp_path / "a.parquet.gz").write_bytes(b"x")
    assert "unpack it first" in read(tmp_path / "a.parquet.gz")[1].bad[f"{tmp_path}/a.parquet.gz"]


def test_a_file_cut_short_is_refused(tmp_path):
    pq.write_table(pa.table({"text": STORIES}), tmp_path / "a.parquet")
    data = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(data[: len(data) // 2])
    assert "damaged" in read(tmp_path / "a.parquet")[1].bad[f"{tmp_path}/a.parquet"]


def test_damage_anywhere_is_a_named_fault_or_still_text(tmp_path):
    import random

    pq.write_table(pa.table({"text": STORIES}), tmp_path / "a.parquet", write_page_checksum=True)
    data = (tmp_path / "a.parquet").read_bytes()
    draw = random.Random(0)
    faults = 0
    for _ in range(150):
        damaged = bytearray(data)
        damaged[draw.randrange(len(data))] = draw.randrange(256)
        (tmp_path / "a.parquet").write_bytes(damaged)
        faults += read(tmp_path / "a.parquet")[1].bad_files
    assert faults > 10


def test_a_page_that_claims_too_much_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr("twofold.text.parquet._LARGEST_PAGE", 10 << 20)
    for megabytes in (9, 12):
        table = pa.table({"text": ["a" * (megabytes << 20)]})
        pq.write_table(table, tmp_path / f"{megabytes}.parquet", use_dictionary=False, compression="zstd")
        assert (tmp_path / f"{megabytes}.parquet").stat().st_size < 100_000
    assert read(tmp_path / "9.parquet")[1].documents == 10
    assert "page of 12 MiB, more than 10" in read(tmp_path / "12.parquet")[1].bad[f"{tmp_path}/12.parquet"]


def test_columns_outside_the_file_are_refused(tmp_path):
    pq.write_table(pa.table({"text": STORIES}), tmp_path / "a.parquet")
    with open(tmp_path / "a.parquet", "rb") as file, pytest.raises(BadFile, match="outside the file"):
        _check_pages(file, 100, pq.ParquetFile(file).metadata, "text", "a.parquet")


def test_a_million_copies_of_a_long_string_take_little_memory(tmp_path):
    """Dictionary-coded, so the file is tiny; decoded at once it would be tens of gigabytes."""
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 3000, pa.int32()), pa.array(["word " * 200_000]))
    pq.write_table(pa.table({"text": column}), tmp_path / "a.parquet")
    assert (tmp_path / "a.parquet").stat().st_size < 1 << 20
    program = (
        "import sys\n"
        "from itertools import islice\n"
        "from twofold.text.sources import read_documents\n"
        "print(sum(len(document.text) for document in islice(read_documents(sys.argv[1:]), 600)))\n"
        "lines = open('/proc/self/status').readlines() if sys.platform == 'linux' else ['VmHWM: 0']\n"
        "print([line.split()[1] for line in lines if line.startswith('VmHWM')][0])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "a.parquet"], capture_output=True, check=True
    )
    size, peak = map(int, done.stdout.split())
    assert size == 600 * 1_000_000
    assert peak < 400_000  # kB


def test_without_pyarrow_it_says_what_to_install(tmp_path, monkeypatch):
    pq.write_table(pa.table({"text": ["x"]}), tmp_path / "a.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(UsageError, match=r"twofold\[parquet\]"):
        read(tmp_path / "a.parquet")
