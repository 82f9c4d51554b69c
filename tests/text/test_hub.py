import os
import subprocess
import sys

import pytest

from twofold.errors import FileError, UsageError
from twofold.text.hub import HubAddress, choose_files, parse_address
from twofold.text.sources import read_documents


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("hf://owner/name", ("owner/name", "", "")),
        ("hf://owner/name:test", ("owner/name", "", "test")),
        ("hf://owner/na.me-1/data/en:train", ("owner/na.me-1", "data/en", "train")),
        ("hf://datasets/owner/name/", ("owner/name", "", "")),
    ],
)
def test_an_address_has_a_set_a_folder_and_a_split(address, parts):
    assert parse_address(address) == parts


@pytest.mark.parametrize(
    "address", ["hf://", "hf://name", "hf://a/b/../c", "hf://a/b:c:d", "hf://a/b c", "hf:a/b"]
)
def test_what_is_no_address_is_refused(address):
    with pytest.raises(UsageError, match="no data set address"):
        parse_address(address)


FILES = [
    ".gitattributes",
    "README.md",
    "dataset_infos.json",
    "script.py",
    "weights.pkl",
    "data/train-00001-of-00002.parquet",
    "data/train-00000-of-00002.parquet",
    "data/validation.jsonl.zst",
    "other/test.txt",
]


@pytest.mark.parametrize(
    ("folder", "split", "expected"),
    [
        ("", "", FILES[6:4:-1]),
        ("", "train", FILES[6:4:-1]),
        ("", "validation", [FILES[7]]),
        ("data", "validation", [FILES[7]]),
        ("other", "", [FILES[8]]),
        ("other/test.txt", "", [FILES[8]]),
    ],
)
def test_only_data_files_of_the_split_are_chosen(folder, split, expected):
    assert choose_files(FILES, HubAddress("owner/name", folder, split)) == expected


@pytest.mark.parametrize(
    ("files", "folder", "split", "message"),
    [
        (FILES[:5], "", "", "no Parquet, JSON or text files"),
        (FILES, "nowhere", "", "no Parquet, JSON or text files"),
        (FILES, "", "dev", "no files of the split 'dev'; it has: data/train-00000"),
    ],
)
def test_a_set_without_what_is_wanted_says_so(files, folder, split, message):
    with pytest.raises(FileError, match=message):
        choose_files(files, HubAddress("owner/name", folder, split))


def test_without_the_library_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UsageError, match=r"twofold\[hub\]"):
        list(read_documents(["hf://owner/name"]))


def read_offline(address, cache):
    """Read in a fresh process: the library looks at its environment once."""
    program = (
        "import sys\n"
        "from twofold.errors import TwofoldError\n"
        "from twofold.text.sources import read_documents\n"
        "try:\n"
        "    for document in read_documents(sys.argv[1:]):\n"
        "        print(document.text, '<', document.source)\n"
        "except TwofoldError as error:\n"
        "    print(type(error).__name__, error)\n"
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(cache)}
    done = subprocess.run(
        [sys.executable, "-c", program, address], env=environment, capture_output=True, text=True
    )
    assert not done.stderr, done.stderr
    return done.stdout


def test_offline_the_cache_is_read(tmp_path):
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "datasets--owner--name"
    data = repository / "snapshots" / commit / "data"
    data.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    (data / "train.jsonl").write_text('{"text": "one"}\n')
    (data / "test.jsonl").write_text('{"text": "two"}\n')
    (data.parent / "README.md").write_text("not this")
    assert read_offline("hf://owner/name", tmp_path) == "one < hf://owner/name/data/train.jsonl:1\n"
    assert read_offline("hf://owner/name:test", tmp_path) == "two < hf://owner/name/data/test.jsonl:1\n"


def test_offline_and_not_in_the_cache_says_what_to_do(tmp_path):
    told = read_offline("hf://owner/name", tmp_path)
    assert told.startswith("FileError hf://owner/name cannot be fetched: the hub cannot be reached")
    assert "HF_HUB_OFFLINE" in told


class FakeHub:
    """Stands where huggingface_hub's functions stand, with a set of two files, or a fault."""

    def __init__(self, folder, monkeypatch, fault=None, download_fault=None):
        import huggingface_hub

        self.folder, self.fault, self.download_fault = folder, fault, download_fault
        self.fetched = []
        monkeypatch.setattr(huggingface_hub, "HfApi", lambda: self)
        monkeypatch.setattr(huggingface_hub, "hf_hub_download", self.download)

    def list_repo_files(self, repository, repo_type):
        assert repo_type == "dataset"
        if self.fault is not None:
            raise self.fault
        return ["train-0.txt", "train-1.txt"]

    def download(self, repository, name, repo_type):
        if self.download_fault is not None:
            raise self.download_fault
        self.fetched.append(name)
        (self.folder / name).write_text(f"text of {name}")
        return str(self.folder / name)


def test_online_each_file_is_fetched_when_its_turn_comes(tmp_path, monkeypatch):
    hub = FakeHub(tmp_path, monkeypatch)
    documents = read_documents(["hf://owner/name"])
    assert next(documents).text == "text of train-0.txt"
    assert hub.fetched == ["train-0.txt"]
    assert [document.text for document in documents] == ["text of train-1.txt"]


def hub_fault(name, message):
    """One of the library's errors, made without the HTTP response that each release wants of another kind."""
    from huggingface_hub import errors

    kind = getattr(errors, name)
    fault = kind.__new__(kind)
    fault.args = (message,)
    return fault


def test_a_set_that_is_not_there_is_named(tmp_path, monkeypatch):
    FakeHub(tmp_path, monkeypatch, fault=hub_fault("RepositoryNotFoundError", "404"))
    with pytest.raises(FileError, match="There is no data set owner/name on the hub"):
        list(read_documents(["hf://owner/name"]))


def test_a_file_that_is_not_handed_out_is_named(tmp_path, monkeypatch):
    FakeHub(
        tmp_path, monkeypatch, download_fault=hub_fault("GatedRepoError", "You must accept its terms.\nMore")
    )
    with pytest.raises(FileError, match=r"The data set owner/name is handed out only .*/datasets/owner/name"):
        list(read_documents(["hf://owner/name"]))


def test_a_network_that_breaks_off_is_named(tmp_path, monkeypatch):
    FakeHub(tmp_path, monkeypatch, download_fault=ConnectionError("reset by peer"))
    with pytest.raises(FileError, match=r"Fetching .*train-0\.txt failed: reset by peer"):
        list(read_documents(["hf://owner/name"]))
