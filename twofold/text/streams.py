"""Bytes in, in bounded pieces: plain, gzip or zstd; then lines, or checked UTF-8 text.

Nothing here holds more than some megabytes, whatever a file claims: decompression is stepped, a zstd
frame may ask for a window of at most 128 MiB, and a file that unpacks to hundreds of times its size is
refused as a bomb. Every fault is a `BadFile` that says what and where.
"""

from __future__ import annotations

import codecs
import zlib
from collections.abc import Iterable, Iterator
from typing import IO

from twofold.text.reading import BadFile

_CHUNK = 1 << 20
_ZSTD_STEP = 1 << 11  # a zstd block of 4 bytes can stand for 128 KiB, so 2 KiB of input for 64 MiB
_ZSTD_WINDOW = 1 << 27
_BOMB_BYTES = 1 << 28
_BOMB_RATIO = 400

GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_KINDS = {  # what a file that is not text often is, by its first bytes
    GZIP: "gzip data; its name should end in .gz",
    ZSTD: "zstd data; its name should end in .zst",
    b"PAR1": "a Parquet file; its name should end in .parquet",
    b"PK\x03\x04": "a zip archive; unpack it first",
    b"%PDF": "a PDF; extract its text first",
    b"\xff\xfe": "UTF-16 text; convert it first: iconv -f UTF-16 -t UTF-8",
    b"\xfe\xff": "UTF-16 text; convert it first: iconv -f UTF-16 -t UTF-8",
}
# C0 control characters that text does not hold; tab, newline, form feed, return and escape are left out.
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\f\r\x1b"))


def disguise(head: bytes) -> str | None:
    """What the first bytes of a file show it to be, if it is something other than UTF-8 text."""
    return next((kind for magic, kind in _KINDS.items() if head.startswith(magic)), None)


def compression_of(head: bytes) -> str | None:
    """The compression that the first bytes show: "gz", "zst" or None."""
    return "gz" if head.startswith(GZIP) else "zst" if head.startswith(ZSTD) else None


class ByteSource:
    """A stream of chunks that can be looked into before it is read."""

    def __init__(self, chunks: Iterable[bytes]):
        self._chunks = iter(chunks)
        self._held = b""

    def peek(self, count: int) -> bytes:
        """The first `count` bytes, or all where there are fewer; they stay."""
        while len(self._held) < count:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            self._held += chunk
        return self._held[:count]

    def __iter__(self) -> Iterator[bytes]:
        held, self._held = self._held, b""
        if held:
            yield held
        yield from self._chunks

    def lines(self, longest: int) -> Iterator[tuple[int, bytes | None]]:
        """Pairs of line number (from 1) and line without its newline; None for one above `longest` bytes."""
        number, rest, skipping = 1, b"", False
        for chunk in self:
            first, *others = chunk.split(b"\n")
            if not skipping:
                rest += first
            if not others:
                if len(rest) > longest:
                    rest, skipping = b"", True
                continue
            yield number, None if skipping or len(rest) > longest else rest
            for line in others[:-1]:
                number += 1
                yield number, line if len(line) <= longest else None
            number += 1
            rest, skipping = others[-1], False
        if rest or skipping:
            yield number, None if skipping or len(rest) > longest else rest


def file_chunks(file: IO[bytes]) -> Iterator[bytes]:
    """A file's bytes, a megabyte at a time."""
    while chunk := file.read(_CHUNK):
        yield chunk


def unpacked(source: ByteSource, name: str, compression: str | None) -> ByteSource:
    """The source's bytes, decompressed ("gz", "zst") or as they are (None). A name that promises another
    compression than the bytes show is refused."""
    if compression is None:
        return source
    magic, unpack = {"gz": (GZIP, _gunzip), "zst": (ZSTD, _unzstd)}[compression]
    head = source.peek(len(magic))
    if not head:
        raise BadFile(name, "is empty")
    if head != magic and not (compression == "zst" and _is_skippable_frame(head)):
        raise BadFile(name, f"is named .{compression} but does not hold {compression} data")
    return ByteSource(unpack(source, name))


def _is_skippable_frame(head: bytes) -> bool:
    return head[1:] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50


class _BombGuard:
    """Counts bytes in and out of a decompressor."""

    def __init__(self, name: str):
        self.name, self.packed, self.unpacked = name, 0, 0

    def check(self, out: bytes) -> bytes:
        self.unpacked += len(out)
        if self.unpacked > _BOMB_BYTES and self.unpacked > _BOMB_RATIO * self.packed:
            raise BadFile(
                self.name,
                f"unpacks to more than {_BOMB_RATIO} times its size, as a decompression bomb does; "
                "if you trust it, unpack it yourself",
            )
        return out


def _gunzip(source: ByteSource, name: str) -> Iterator[bytes]:
    guard = _BombGuard(name)
    member: zlib._Decompress | None = None
    for chunk in source:
        guard.packed += len(chunk)
        while chunk:
            if member is None:
                chunk = chunk.lstrip(b"\0")  # padding between or behind members
                if not chunk:
                    break
                member = zlib.decompressobj(wbits=31)
            out = _inflate(member, chunk, name)
            if out:
                yield guard.check(out)
            chunk = member.unconsumed_tail
            if member.eof:
                chunk, member = member.unused_data, None
    while member is not None and not member.eof:
        # The last input can be used up while output still waits inside.
        out = _inflate(member, b"", name)
        if not out:
            raise BadFile(name, "is cut short: its gzip data ends too early")
        yield guard.check(out)


def _inflate(member: zlib._Decompress, chunk: bytes, name: str) -> bytes:
    try:
        return member.decompress(chunk, _CHUNK)
    except zlib.error as error:
        raise BadFile(name, f"holds damaged gzip data ({error})") from error


def _unzstd(source: ByteSource, name: str) -> Iterator[bytes]:
    import zstandard

    guard = _BombGuard(name)
    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
    frame = None
    for chunk in source:
        for start in range(0, len(chunk), _ZSTD_STEP):
            step = chunk[start : start + _ZSTD_STEP]
            guard.packed += len(step)
            while step:
                if frame is None:
                    frame = decompressor.decompressobj()
                try:
                    out = frame.decompress(step)
                except zstandard.ZstdError as error:
                    raise BadFile(name, f"holds damaged or unreadable zstd data ({error})") from error
                if out:
                    yield guard.check(out)
                step = b""
                if frame.eof:
                    step, frame = frame.unused_data, None
    if frame is not None:
        raise BadFile(name, "is cut short: its zstd data ends too early")


def check_no_binary(data: bytes, name: str) -> None:
    """Refuse bytes that are no text: NUL, or more control characters than text has."""
    if b"\0" in data:
        raise BadFile(name, "is not text: it holds NUL bytes")
    controls = len(data) - len(data.translate(None, _CONTROLS))
    if controls > 16 + len(data) // 100:
        raise BadFile(name, "is not text: it holds many control characters")


def text_chunks(source: ByteSource, name: str) -> Iterator[str]:
    """UTF-8 text in pieces: without byte order mark, with \\n line ends."""
    head = source.peek(4)
    kind = disguise(head)
    if kind is not None:
        raise BadFile(name, f"is not UTF-8 text: it is {kind}")
    decoder = codecs.getincrementaldecoder("utf-8")()
    line, pending = 1, ""
    first = True
    for chunk in source:
        check_no_binary(chunk, name)
        text = pending + _decode(decoder, chunk, name, line)
        line += chunk.count(b"\n")
        if first and text:
            text, first = text.removeprefix("\ufeff"), False
        pending = ""
        if text.endswith("\r"):  # its \n may come with the next chunk
            text, pending = text[:-1], "\r"
        yield text.replace("\r\n", "\n") if "\r" in text else text
    yield pending + _decode(decoder, b"", name, line, final=True)


def _decode(
    decoder: codecs.IncrementalDecoder, chunk: bytes, name: str, line: int, *, final: bool = False
) -> str:
    try:
        return decoder.decode(chunk, final)
    except UnicodeDecodeError as error:
        line += error.object[: error.start].count(b"\n")
        byte = error.object[error.start]
        raise BadFile(name, f"is not valid UTF-8: byte 0x{byte:02x} in line {line}") from error
