"""Files that are either whole or not there.

Everything Twofold writes and later reads back goes through `atomic_write` or `atomic_folder`:
the bytes go to a `*.partial` neighbour, are flushed to the disk, and take their name in one rename.
A kill at any moment leaves the old file, the new file, or a `*.partial` that nobody reads.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from twofold.errors import FileError

# Of a JSON file from elsewhere: 3 bytes there can be 70 in memory. Gemma's tokens are 1.9 million values.
MOST_VALUES = 3 << 20
_REASONS = {
    errno.ENOSPC: "the disk is full; free some space and run the same command again",
    errno.EDQUOT: "your disk quota is used up; free some space and run the same command again",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.EACCES: "permission denied; choose another folder or change its permissions",
    errno.EPERM: "permission denied; choose another folder or change its permissions",
    errno.ENOENT: "there is no such file or folder",
    errno.ENOTDIR: "a part of this path is a file, not a folder",
    errno.EEXIST: "a file of that name is in the way",
    errno.EISDIR: "this is a folder, and a file was expected",
    errno.EFBIG: "the file system does not hold files this large",
}


def explain(error: OSError, path: str | os.PathLike, doing: str) -> FileError:
    """The FileError that tells a person what an OSError means. `doing`: "read", "write"."""
    reason = _REASONS.get(error.errno or 0, error.strerror or str(error))
    return FileError(f"Cannot {doing} {os.fspath(path)}: {reason}.")


@contextmanager
def explained(path: str | os.PathLike, doing: str) -> Iterator[None]:
    """Turn any OSError of the block into a FileError about `path`."""
    try:
        yield
    except OSError as error:
        raise explain(error, path, doing) from error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_write(path: str | os.PathLike, mode: str = "w") -> Iterator[IO[Any]]:
    """Open `path` for writing ("w" text in UTF-8, or "wb"); it appears whole when the block ends.

    Raises FileError (disk full, read-only, ...); the file that was there before is then untouched.
    """
    path = Path(path)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    with explained(path, "write"):
        if path.exists() and not (path.is_file() or path.is_dir()):  # a rename would take its place
            raise FileError(f"Cannot write {path}: it is a device or a pipe, and a file was expected.")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(partial, mode, encoding=None if "b" in mode else "utf-8") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
            _sync_folder(path.parent)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


@contextmanager
def atomic_folder(path: str | os.PathLike) -> Iterator[Path]:
    """Give a fresh folder to fill; it takes the name `path` when the block ends.

    `path` must not exist yet. Raises FileError as `atomic_write` does.
    """
    path = Path(path)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    with explained(path, "write"):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            yield partial
            for file in partial.iterdir():
                _sync_folder(file)
            _sync_folder(partial)
            os.rename(partial, path)
            _sync_folder(path.parent)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Write `value` as indented JSON, atomically. Non-finite numbers are an error, never `NaN`."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with atomic_write(path) as file:
        file.write(text)


def read_json(path: str | os.PathLike) -> Any:
    """Read a JSON file. Raises FileError with the place of the fault."""
    with explained(path, "read"):
        data = Path(path).read_bytes()
    return parse_json(data, path)


def read_foreign_json(path: str | os.PathLike, largest: int) -> Any:
    """Read a JSON file from a stranger: a plain file of at most `largest` bytes, with no more values in it than
    memory is sure to hold. Raises FileError."""
    path = Path(path)
    with explained(path, "read"):
        if path.exists() and not path.is_file():  # a pipe or a device may have no end
            raise FileError(f"{path} is not a file; a JSON file was expected.")
        with open(path, "rb") as file:
            data = file.read(largest + 1)
    if len(data) > largest:
        raise FileError(f"{path} has more than {largest:,} bytes: too large for what it should hold.")
    return parse_foreign_json(data, path)


def parse_foreign_json(data: bytes, path: str | os.PathLike) -> Any:
    """The value in the bytes of `path`, as `read_foreign_json` gives it."""
    if sum(map(data.count, (b",", b"[", b"{"))) > MOST_VALUES:
        raise FileError(f"{path} holds more than {MOST_VALUES:,} values: too many for what it should hold.")
    return parse_json(data, path)


def parse_json(data: bytes, path: str | os.PathLike) -> Any:
    """The value in the bytes of `path`. Raises FileError with the place of the fault."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise FileError(f"{path} is not valid JSON ({error}). It may be cut short or damaged.") from error


@contextmanager
def as_written(path: str | os.PathLike) -> Iterator[None]:
    """Around the use of what a JSON file of ours holds: another shape than was written is a FileError."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise FileError(
            f"{path} is damaged: it is JSON, and does not hold what was written there ({error}). "
            "Remove it, and run the same command again."
        ) from error


def sha256(path: str | os.PathLike) -> str:
    """Hex SHA-256 of a file's bytes, read in pieces."""
    with explained(path, "read"), open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
