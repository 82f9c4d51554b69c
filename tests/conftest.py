"""What holds for every test: one torch thread, no network, a home folder of its own, no colour. And a hub to fetch
models from."""

import hashlib
import json
import os
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import pytest

# Before anything imports torch or the hub's libraries: they read these once.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
for name in ("FORCE_COLOR", "NO_COLOR", "TWOFOLD_DEBUG", "COLUMNS"):
    os.environ.pop(name, None)


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory, monkeypatch):
    """Nothing a test does reads or writes the home folder of the person who runs it."""
    home = tmp_path_factory.getbasetemp() / "home"
    home.mkdir(exist_ok=True)
    monkeypatch.setenv("HOME", str(home))
    for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "HF_HOME"):
        monkeypatch.delenv(name, raising=False)


class Hub:
    """A hub on this computer: repositories as {name: bytes}, served as huggingface_hub asks for them.

    `cut` files end after so many bytes, `refused` repositories answer (status, X-Error-Code), `asked` are the
    paths that were asked for.
    """

    def __init__(self):
        self.files, self.commits, self.cut, self.refused, self.asked = {}, {}, {}, {}, []
        hub = self

        class Answer(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def do_GET(self):
                hub.answer(self)

            do_HEAD = do_GET

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    def publish(self, repository, files, commit="a"):
        """Put a repository there; its commit is that letter, 40 times."""
        self.files[repository], self.commits[repository] = dict(files), 40 * commit

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def answer(self, request):
        path = urlsplit(unquote(request.path)).path
        self.asked.append(path)
        match = re.fullmatch(r"/(api/models/)?([^/]+/[^/]+)(?:/(revision|tree|resolve)/(.+))?", path)
        _, repository, verb, rest = match.groups() if match else (None, None, None, "")
        if repository in self.refused:
            status, code = self.refused[repository]
            return self.send(request, b"", status, {"X-Error-Code": code, "X-Error-Message": code})
        if repository not in self.files:
            return self.send(request, b"", 404, {"X-Error-Code": "RepoNotFound"})
        files, commit = self.files[repository], self.commits[repository]
        if rest and rest.split("/")[0] not in ("main", commit):
            return self.send(request, b"", 404, {"X-Error-Code": "RevisionNotFound"})
        if verb == "resolve":
            name = rest.partition("/")[2]
            if name not in files:
                return self.send(request, b"", 404, {"X-Error-Code": "EntryNotFound"})
            etag = hashlib.sha1(files[name]).hexdigest()
            return self.send(
                request, files[name], 200, {"ETag": f'"{etag}"', "X-Repo-Commit": commit}, self.cut.get(name)
            )
        names = [
            {"path": n, "rfilename": n, "size": len(d), "type": "file", "oid": n} for n, d in files.items()
        ]
        listing = names if verb == "tree" else {"id": repository, "sha": commit, "siblings": names}
        return self.send(request, json.dumps(listing).encode(), 200, {"Content-Type": "application/json"})

    def send(self, request, data, status, headers, cut=None):
        start = int(re.sub(r"\D", "", request.headers.get("Range", "0").partition("-")[0]) or 0)
        end = request.headers.get("Range", "").partition("-")[2]
        data = data[start : int(end) + 1 if end else None]
        if "Range" in request.headers and status == 200:
            status = 206
        request.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            request.send_header(name, value)
        if cut is not None:
            request.send_header("Connection", "close")
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(data[: None if cut is None else max(0, cut - start)])
        if cut is not None:
            request.close_connection = True


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub that huggingface_hub asks in this test, with an empty cache."""
    from huggingface_hub import constants, file_download

    hub = Hub()
    for name, value in {
        "ENDPOINT": hub.address,
        "HUGGINGFACE_CO_URL_TEMPLATE": hub.address + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_OFFLINE": False,
        "HF_HUB_CACHE": str(tmp_path / "cache"),
        "HF_HUB_DISABLE_PROGRESS_BARS": True,
    }.items():
        monkeypatch.setattr(constants, name, value)
        monkeypatch.setattr(file_download, name, value, raising=False)  # a copy of it, in older releases
    yield hub
    hub.close()


def pytest_make_parametrize_id(config, val, argname):
    """Bytes have no name: gzip writes the time into them, and workers would not agree on what the tests are called."""
    return argname if isinstance(val, bytes) else None
