"""Texts out of Parquet files, in bounded memory.

Column chunks are streamed page by page, and strings stay dictionary-coded until each is used, so neither
a row group of gigabytes nor one long string repeated a million times fills the memory. Page headers are
read beforehand, because a page is unpacked as a whole to the size that its header claims.
Format: https://parquet.apache.org/docs/file-format/ (page headers are Thrift's compact protocol).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import IO, Any

from twofold.errors import UsageError
from twofold.text.formats import TEXT_FIELDS, Text
from twofold.text.reading import BadFile

_LARGEST_PAGE = 1 << 28
_ROWS_AT_ONCE = 256


def parquet_texts(path: str | os.PathLike, name: str, text_field: str | None) -> Iterator[Text]:
    """The texts of a Parquet file's text column; `line` is the row, from 1. Null is an empty text."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise UsageError(
            f"Reading {name} needs pyarrow. Install it: pip install 'twofold[parquet]'."
        ) from error
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        if size == 0:
            raise BadFile(name, "is empty")
        file.seek(0)
        if file.read(4) != b"PAR1":
            raise BadFile(name, "is named .parquet but is not a Parquet file")
        try:
            parquet = pq.ParquetFile(file)
            field = _text_column(parquet.schema_arrow, name, text_field)
            _check_pages(file, size, parquet.metadata, field, name)
            streamed = pq.ParquetFile(
                file,
                read_dictionary=[field],
                buffer_size=1 << 20,
                pre_buffer=False,
                metadata=parquet.metadata,
            )
            row = 1
            for batch in streamed.iter_batches(_ROWS_AT_ONCE, columns=[field], use_threads=False):
                for value in batch.column(0):
                    text = value.as_py()
                    yield Text("" if text is None else text, row)
                    row += 1
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            raise BadFile(name, f"is a damaged or unreadable Parquet file ({reason})") from error


def _text_column(schema: Any, name: str, text_field: str | None) -> str:
    """The column to read: `text_field`, else the first of the usual names that holds strings."""
    import pyarrow.types as types

    def is_text(column: Any) -> bool:
        kind = column.type.value_type if types.is_dictionary(column.type) else column.type
        return types.is_string(kind) or types.is_large_string(kind)

    texts = [column.name for column in schema if is_text(column)]
    wanted = (text_field,) if text_field is not None else TEXT_FIELDS
    found = next((field for field in wanted if field in texts), None)
    if found is None:
        names = ", ".join(schema.names[:8]) or "none"
        raise BadFile(
            name, f"has no column of texts named {' or '.join(wanted)}; its columns are: {names[:200]}"
        )
    return found


def _check_pages(file: IO[bytes], size: int, metadata: Any, field: str, name: str) -> None:
    """Refuse a file with a page of the column `field` that would unpack to more than 256 MiB."""
    for group in range(metadata.num_row_groups):
        columns = (metadata.row_group(group).column(n) for n in range(metadata.num_columns))
        column = next(column for column in columns if column.path_in_schema == field)
        starts = [column.data_page_offset, column.dictionary_page_offset or column.data_page_offset]
        place, end = min(starts), min(starts) + column.total_compressed_size
        if not 0 <= place <= end <= size:
            raise BadFile(name, "is a damaged Parquet file (a column lies outside the file)")
        while place < end:
            file.seek(place)
            header = file.read(1 << 15)
            try:
                length, unpacked, packed = _page_header(header)
            except (IndexError, ValueError) as error:
                raise BadFile(name, "is a damaged Parquet file (a page header cannot be read)") from error
            if unpacked > _LARGEST_PAGE:
                raise BadFile(name, f"has a page of {unpacked >> 20} MiB, more than {_LARGEST_PAGE >> 20}")
            place += length + packed


def _page_header(data: bytes) -> tuple[int, int, int]:
    """A page header's own length, and the page's unpacked and packed bytes."""
    reader = _Thrift(data)
    numbers = reader.struct(depth=0)
    unpacked, packed = numbers.get(2, -1), numbers.get(3, -1)
    if unpacked < 0 or packed < 0:
        raise ValueError("a page without sizes")
    return reader.place, unpacked, packed


class _Thrift:
    """As much of Thrift's compact protocol as it takes to walk over one struct."""

    def __init__(self, data: bytes):
        self.data, self.place = data, 0

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.data[self.place]
            self.place += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
            if shift > 63:
                raise ValueError("a number too long")

    def struct(self, depth: int) -> dict[int, int]:
        """Walk over a struct; its integer fields by number."""
        if depth > 8:
            raise ValueError("nested too deeply")
        numbers: dict[int, int] = {}
        field = 0
        while True:
            head = self.data[self.place]
            self.place += 1
            kind = head & 15
            if kind == 0:
                return numbers
            if head >> 4:
                field += head >> 4
            else:
                field = self._signed()
            if kind in (4, 5, 6):
                numbers[field] = self._signed()
            else:
                self.skip(kind, depth)

    def _signed(self) -> int:
        value = self.varint()
        return (value >> 1) ^ -(value & 1)

    def skip(self, kind: int, depth: int) -> None:
        if kind in (1, 2):  # true, false
            return
        if kind == 3:
            self.place += 1
        elif kind in (4, 5, 6):
            self.varint()
        elif kind == 7:
            self.place += 8
        elif kind == 8:
            length = self.varint()
            self.place += length
        elif kind in (9, 10):
            self._skip_list(depth)
        elif kind == 12:
            self.struct(depth + 1)
        else:
            raise ValueError("an unknown type")

    def _skip_list(self, depth: int) -> None:
        if depth > 8:
            raise ValueError("nested too deeply")
        head = self.data[self.place]
        self.place += 1
        count = head >> 4 if head >> 4 != 15 else self.varint()
        for _ in range(count):
            self.data[self.place]  # every member takes a byte; stop a lying count here
            if head & 15 in (1, 2):
                self.place += 1
            else:
                self.skip(head & 15, depth + 1)
