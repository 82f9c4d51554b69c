"""Token shards: the tokens of many documents on disk, memory-mapped, whole or not there.

A folder holds `shard-00000.bin`, `shard-00001.bin`, … (token ids, little-endian uint16 or uint32, no
header), `lengths.bin` (tokens of each document, uint32), `bytes.bin` (UTF-8 bytes of each document's
text, uint32) and `manifest.json`, written last, with the size and SHA-256 of every other file. The
folder takes its name in one rename, so a half-written one is never read. Documents never span shards.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from bisect import bisect_right
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np

from twofold.errors import DataError, FileError
from twofold.files import atomic_folder, explained, read_json, sha256, write_json

FORMAT = "twofold token shards"
VERSION = 1
_MAX_SHARDS = 1_000_000
_FLUSH_TOKENS = 1 << 20
_FLUSH_DOCUMENTS = 1 << 14
_MAX_LENGTH = 2**32 - 1


def shard_name(number: int) -> str:
    """The file of shard `number`, from 0."""
    return f"shard-{number:05d}.bin"


def _token_type(vocab_size: int) -> np.dtype:
    return np.dtype("<u2" if vocab_size <= 65536 else "<u4")


class _HashedFile:
    """A file being written, with its size and SHA-256 so far."""

    def __init__(self, path: Path):
        self.file = open(path, "wb")  # noqa: SIM115  open over many calls; closed by close or abandon
        self.size = 0
        self.digest = hashlib.sha256()

    def write(self, data: np.ndarray) -> None:
        raw = data.tobytes()
        self.file.write(raw)
        self.digest.update(raw)
        self.size += len(raw)

    def close(self) -> dict:
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        return {"size": self.size, "sha256": self.digest.hexdigest()}


class _Writer:
    """Gathers documents, checks and writes them some thousands at a time."""

    def __init__(self, folder: Path, vocab_size: int, tokens_per_shard: int):
        self.folder, self.vocab_size, self.tokens_per_shard = folder, vocab_size, tokens_per_shard
        self.dtype = _token_type(vocab_size)
        self.lengths_file = _HashedFile(folder / "lengths.bin")
        self.bytes_file = _HashedFile(folder / "bytes.bin")
        self.shard: _HashedFile | None = None
        self.shards: list[dict] = []
        self.shard_tokens = self.shard_documents = 0
        self.documents = self.tokens = self.text_bytes = 0
        self.waiting: list[np.ndarray] = []
        self.waiting_bytes: list[int] = []
        self.waiting_tokens = 0

    def add(self, tokens: np.ndarray, text_bytes: int) -> None:
        tokens = np.asarray(tokens)
        if tokens.ndim != 1 or not len(tokens) or tokens.dtype.kind not in "iu" or len(tokens) > _MAX_LENGTH:
            number = self.documents + len(self.waiting)
            raise DataError(
                f"Document {number} is not a list of token ids: shape {tokens.shape}, type {tokens.dtype}. "
                "Each document needs at least its start token."
            )
        self.waiting.append(tokens)
        self.waiting_bytes.append(int(text_bytes))
        self.waiting_tokens += len(tokens)
        full = self.shard_tokens + self.waiting_tokens >= self.tokens_per_shard
        if full or self.waiting_tokens >= _FLUSH_TOKENS or len(self.waiting) >= _FLUSH_DOCUMENTS:
            self.flush()

    def flush(self) -> None:
        if not self.waiting:
            return
        tokens = np.concatenate(self.waiting)
        if int(tokens.min()) < 0 or int(tokens.max()) >= self.vocab_size:
            self._refuse_ids()
        sizes = np.array(self.waiting_bytes, np.int64)
        if sizes.min() < 0 or sizes.max() > _MAX_LENGTH:
            raise DataError("A document's number of bytes is below 0 or above 4 GiB; cut it into parts.")
        if self.shard is None:
            self.shard = _HashedFile(self.folder / shard_name(len(self.shards)))
        self.shard.write(tokens.astype(self.dtype))
        self.lengths_file.write(np.array([len(document) for document in self.waiting], "<u4"))
        self.bytes_file.write(sizes.astype("<u4"))
        self.documents += len(self.waiting)
        self.shard_documents += len(self.waiting)
        self.tokens += len(tokens)
        self.shard_tokens += len(tokens)
        self.text_bytes += int(sizes.sum())
        self.waiting, self.waiting_bytes, self.waiting_tokens = [], [], 0
        if self.shard_tokens >= self.tokens_per_shard:
            self.close_shard()

    def _refuse_ids(self) -> None:
        for number, document in enumerate(self.waiting, self.documents):
            wrong = document[(document < 0) | (document >= self.vocab_size)]
            if len(wrong):
                raise DataError(
                    f"Document {number} holds token id {int(wrong[0])}, but the vocabulary has "
                    f"{self.vocab_size} tokens. The tokenizer does not fit."
                )

    def close_shard(self) -> None:
        if self.shard is None:
            return
        counts = {"documents": self.shard_documents, "tokens": self.shard_tokens}
        self.shards.append({**counts, **self.shard.close()})
        self.shard, self.shard_tokens, self.shard_documents = None, 0, 0

    def finish(self) -> dict:
        """Close all files; the manifest's counts and checks."""
        self.flush()
        self.close_shard()
        if not self.documents:
            raise DataError("There are no documents to write as tokens.")
        return {
            "documents": self.documents,
            "tokens": self.tokens,
            "text_bytes": self.text_bytes,
            "shards": self.shards,
            "lengths": self.lengths_file.close(),
            "bytes": self.bytes_file.close(),
        }

    def abandon(self) -> None:
        for file in (self.shard, self.lengths_file, self.bytes_file):
            if file is not None:
                with suppress(
                    OSError
                ):  # a full disk also fails the last flush; the first error is the one told
                    file.file.close()


def write_shards(
    token_arrays: Iterable[np.ndarray],
    folder: str | os.PathLike,
    *,
    vocab_size: int,
    tokenizer_fingerprint: str,
    text_bytes: Iterable[int],
    tokens_per_shard: int = 1 << 26,
) -> Shards:
    """Write documents' tokens as a new folder and open it.

    token_arrays: for each document a 1-D integer array (or list) that begins with the start token.
    text_bytes: for each document, in the same order, the UTF-8 bytes of its text; bits per byte divide
    by it. Both are read in step, once, so both may be generators.
    Raises DataError for ids outside the vocabulary, an empty document, no documents, or unequal counts;
    FileError where the folder cannot be written. After any error nothing readable is left.
    """
    folder = Path(folder)
    if folder.exists():
        raise FileError(f"{folder} exists already; token shards are written into a new folder.")
    with atomic_folder(folder) as partial:
        writer = _Writer(partial, vocab_size, tokens_per_shard)
        try:
            sizes = iter(text_bytes)
            for tokens in token_arrays:
                size = next(sizes, None)
                if size is None:
                    raise DataError("There are more documents than byte counts.")
                writer.add(tokens, size)
            if next(sizes, None) is not None:
                raise DataError("There are fewer documents than byte counts.")
            counts = writer.finish()
        except BaseException:
            writer.abandon()
            raise
        manifest = {
            "format": FORMAT,
            "version": VERSION,
            "dtype": writer.dtype.name,
            "vocab_size": vocab_size,
            "tokenizer_fingerprint": tokenizer_fingerprint,
        }
        write_json(partial / "manifest.json", manifest | counts)
    return Shards.open(folder)


class Shards:
    """Documents' tokens, memory-mapped. `shards[i]` is document i's tokens (read-only, uint16 or uint32).

    lengths: int64 [documents], tokens of each document. document_bytes: int64 [documents], UTF-8 bytes
    of each document's text. text_bytes, total_tokens: their sums.
    """

    def __init__(self, folder: Path, manifest: dict, lengths: np.ndarray, document_bytes: np.ndarray):
        self.folder, self.manifest = folder, manifest
        self.lengths, self.document_bytes = lengths, document_bytes
        self.vocab_size: int = manifest["vocab_size"]
        self.documents = len(lengths)
        self.total_tokens = int(lengths.sum())
        self.text_bytes = int(document_bytes.sum())
        # Where each document begins, counted in tokens over all shards.
        self._offsets = np.zeros(self.documents + 1, np.int64)
        np.cumsum(lengths, out=self._offsets[1:])
        counts = [shard["documents"] for shard in manifest["shards"]]
        self._first_documents = np.concatenate(([0], np.cumsum(counts)))[:-1].tolist()
        self._shard_starts = self._offsets[self._first_documents].tolist()
        self._maps: list[np.ndarray | None] = [None] * len(counts)

    @classmethod
    def open(
        cls, folder: str | os.PathLike, fingerprint: str | None = None, *, verify: bool = False
    ) -> Shards:
        """Open a folder that `write_shards` made. Sizes and counts are always checked; SHA-256 of every
        file and the range of every id only with `verify`. `fingerprint`: that of the tokenizer in use.
        Raises FileError where anything does not fit."""
        folder = Path(folder)
        if not (folder / "manifest.json").is_file():
            raise FileError(
                f"{folder} holds no token shards (no manifest.json). "
                "It was never finished or is another folder; make it again from the text."
            )
        manifest = read_json(folder / "manifest.json")
        try:
            _check_manifest(manifest)
        except (KeyError, TypeError, ValueError) as error:
            raise FileError(f"{folder / 'manifest.json'} is not a valid shard manifest: {error}.") from error
        if fingerprint is not None and fingerprint != manifest["tokenizer_fingerprint"]:
            raise FileError(
                f"The tokens in {folder} were made with another tokenizer (its fingerprint is "
                f"{manifest['tokenizer_fingerprint'][:16]}, this one's is {fingerprint[:16]}). "
                "Use the tokenizer they were made with, or make the shards again."
            )
        for name, entry in _entries(manifest):
            _check_file(folder / name, entry, verify)
        lengths = _read_array(folder / "lengths.bin", manifest["documents"])
        document_bytes = _read_array(folder / "bytes.bin", manifest["documents"])
        _check_counts(folder, manifest, lengths, document_bytes)
        shards = cls(folder, manifest, lengths, document_bytes)
        if verify:
            shards._check_ids()
        return shards

    def __len__(self) -> int:
        return self.documents

    def __getitem__(self, document: int) -> np.ndarray:
        if not 0 <= document < self.documents:
            raise IndexError(f"document {document} of {self.documents}")
        shard = bisect_right(self._first_documents, document) - 1
        tokens = self._maps[shard]
        if tokens is None:
            tokens = self._maps[shard] = self._map(shard)
        start = self._shard_starts[shard]
        return tokens[self._offsets[document] - start : self._offsets[document + 1] - start]

    def _map(self, shard: int) -> np.ndarray:
        path = self.folder / shard_name(shard)
        entry = self.manifest["shards"][shard]
        _check_file(path, entry, verify=False)
        with explained(path, "read"), open(path, "rb") as file:
            mapped = mmap.mmap(file.fileno(), entry["size"], access=mmap.ACCESS_READ)
        return np.frombuffer(mapped, _token_type(self.vocab_size))

    def _check_ids(self) -> None:
        for number in range(len(self._maps)):
            tokens = self._map(number)
            for start in range(0, len(tokens), 1 << 24):
                if int(tokens[start : start + (1 << 24)].max()) >= self.vocab_size:
                    raise FileError(
                        f"{self.folder / shard_name(number)} holds token ids outside its vocabulary of "
                        f"{self.vocab_size}. It is damaged; make the shards again from the text."
                    )


def _whole(value: object, name: str, least: int = 0) -> int:
    if type(value) is not int or not least <= value < 2**62:
        raise ValueError(f"{name} is {str(value)[:40]}, not a whole number from {least}")
    return value


def _entries(manifest: dict) -> list[tuple[str, dict]]:
    entries = [(shard_name(number), shard) for number, shard in enumerate(manifest["shards"])]
    return [*entries, ("lengths.bin", manifest["lengths"]), ("bytes.bin", manifest["bytes"])]


def _check_manifest(manifest: dict) -> None:
    if manifest["format"] != FORMAT:
        raise ValueError("its format is not that of token shards")
    if manifest["version"] != VERSION:
        raise ValueError(f"its version is {manifest['version']!r}, and this program reads {VERSION}")
    vocab_size = _whole(manifest["vocab_size"], "vocab_size", 1)
    if manifest["dtype"] != _token_type(vocab_size).name:
        raise ValueError("its dtype does not follow from vocab_size")
    if not isinstance(manifest["tokenizer_fingerprint"], str):
        raise ValueError("tokenizer_fingerprint is not text")
    documents = _whole(manifest["documents"], "documents", 1)
    tokens = _whole(manifest["tokens"], "tokens", documents)
    _whole(manifest["text_bytes"], "text_bytes")
    if not isinstance(manifest["shards"], list) or not 1 <= len(manifest["shards"]) <= _MAX_SHARDS:
        raise ValueError("shards is not a list of shards")
    for name, entry in _entries(manifest):
        _whole(entry["size"], f"the size of {name}", 1)
        if not isinstance(entry["sha256"], str):
            raise ValueError(f"the sha256 of {name} is not text")
    for entry in manifest["shards"]:
        _whole(entry["documents"], "documents of a shard", 1)
        if (
            _whole(entry["tokens"], "tokens of a shard", 1) * _token_type(vocab_size).itemsize
            != entry["size"]
        ):
            raise ValueError("a shard's size does not follow from its tokens")
    if sum(entry["documents"] for entry in manifest["shards"]) != documents:
        raise ValueError("the shards' documents do not sum to documents")
    if sum(entry["tokens"] for entry in manifest["shards"]) != tokens:
        raise ValueError("the shards' tokens do not sum to tokens")
    for name in ("lengths", "bytes"):
        if manifest[name]["size"] != 4 * documents:
            raise ValueError(f"{name}.bin does not hold one number a document")


def _check_file(path: Path, entry: dict, verify: bool) -> None:
    with explained(path, "read"):
        size = path.stat().st_size
    if size != entry["size"]:
        raise FileError(
            f"{path} has {size} bytes, and its manifest says {entry['size']}. "
            "It is cut short or changed; make the shards again from the text."
        )
    if verify and sha256(path) != entry["sha256"]:
        raise FileError(f"{path} was changed: its SHA-256 differs. Make the shards again from the text.")


def _read_array(path: Path, count: int) -> np.ndarray:
    with explained(path, "read"):
        return np.fromfile(path, "<u4", count=count).astype(np.int64)


def _check_counts(folder: Path, manifest: dict, lengths: np.ndarray, document_bytes: np.ndarray) -> None:
    firsts = np.concatenate(([0], np.cumsum([shard["documents"] for shard in manifest["shards"]])))[:-1]
    if (
        lengths.min() < 1
        or np.add.reduceat(lengths, firsts).tolist() != [shard["tokens"] for shard in manifest["shards"]]
        or int(document_bytes.sum()) != manifest["text_bytes"]
    ):
        raise FileError(
            f"{folder / 'lengths.bin'} or bytes.bin does not fit the shards. "
            "They are damaged; make the shards again from the text."
        )
