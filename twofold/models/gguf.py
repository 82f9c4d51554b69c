"""GGUF, the parameter file: one file with the configuration, the tokenizer and the weights.

Layout, little-endian: "GGUF", version, counts; metadata as typed key-value pairs; one line a tensor
(name, dimensions with the fastest first, type, offset); then the tensors, each at a multiple of 32 bytes.
Reading maps the file and believes nothing: every count and length is held against the bytes that are
there before anything is allocated, so a damaged or hostile file costs a message, never memory or time.
Source: the GGUF specification (ggml-org/ggml, docs/gguf.md), version 3.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from twofold.errors import FileError, UsageError
from twofold.files import atomic_write, explained
from twofold.models.quantize import BLOCKS, TYPE_NAMES, TensorType, dequantize, quantize, row_bytes

MAGIC = b"GGUF"
VERSION = 3
ALIGNMENT = 32  # bytes; what we write, and the default when a file does not say
MAX_NAME = 63  # bytes of a tensor's name that ggml can hold
MAX_READ = 255  # of one that we read, for other programs hold more
MAX_KEY = 65535  # bytes of a metadata key, by the specification
MAX_HEAD = 128 << 20  # bytes before the tensors; a file of holes has as many as it likes, for nothing
MAX_ITEMS = 1 << 22  # of all arrays; four for each token of the largest vocabularies
MAX_DEPTH = 4  # arrays in arrays in arrays …; real files nest none

_STRING, _ARRAY, _BOOL = 8, 9, 7
_SCALARS = {0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "?", 10: "<u8",
            11: "<i8", 12: "<f8"}  # fmt: skip
_LARGEST = float(np.finfo(np.float32).max)
_NUMBER_OF = {np.dtype(code): number for number, code in _SCALARS.items()}

Data = np.ndarray | bytes | Callable[[], np.ndarray | bytes]


@dataclass(frozen=True)
class Tensor:
    """One tensor as it lies in the file. `shape` is NumPy's: rows first, the contiguous width last."""

    name: str
    type: int
    shape: tuple[int, ...]
    raw: np.ndarray  # uint8 [..., bytes of a row], mapped, read-only

    def float32(self) -> np.ndarray:
        """A fresh float32 copy of shape `shape`. Raises UsageError for types we do not decode."""
        return dequantize(self.raw, self.type)


@dataclass(frozen=True)
class GGUF:
    """A checked, mapped file. `metadata` maps keys to int, float, bool, str, NumPy arrays of numbers, or
    lists (of strings, or of further arrays)."""

    path: Path
    version: int
    metadata: dict[str, Any]
    tensors: dict[str, Tensor]


def read_gguf(path: str | os.PathLike) -> GGUF:
    """Open and check a GGUF file of version 2 or 3. Raises FileError that names the fault."""
    path = Path(path)
    with explained(path, "read"):
        if path.exists() and not path.is_file():
            raise FileError(f"{path} is not a file; a .gguf file was expected.")
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if file.read(4) != MAGIC:
                raise FileError(f"{path} is not a GGUF file: it does not begin with the letters GGUF.")
            mapped = np.memmap(file, dtype=np.uint8, mode="r").view(np.ndarray)
    if len(mapped) != size:
        raise FileError(f"{path} changed while it was read; try again.")
    reader = _Reader(path, mapped)
    reader.position = 4
    version = reader.number(4)
    if version not in (2, 3):
        order = " (its bytes are in big-endian order)" if version in (2 << 24, 3 << 24) else ""
        raise FileError(f"{path} is GGUF version {version}{order}; little-endian versions 2 and 3 open.")
    tensor_count, key_count = reader.number(10), reader.number(10)
    reader.expect(key_count, 13, "metadata entries")  # length 8, key 0, type 4, value 1
    reader.expect(tensor_count, 24, "tensors")  # length 8, name 0, dimensions 4, type 4, offset 8

    metadata: dict[str, Any] = {}
    for _ in range(key_count):
        key = reader.string("a metadata key", MAX_KEY)
        if key in metadata:
            reader.refuse(f"the key {key[:80]!r} appears twice")
        metadata[key] = reader.value(reader.number(4), repr(key[:80]))
    alignment = metadata.get("general.alignment", ALIGNMENT)
    if type(alignment) is not int or not 8 <= alignment <= 1 << 20 or alignment & (alignment - 1):
        reader.refuse(
            f"general.alignment is {str(alignment)[:40]!r}, and should be a power of two from 8 to 1048576"
        )

    entries = [reader.tensor_entry() for _ in range(tensor_count)]
    start = -(-reader.position // alignment) * alignment
    tensors: dict[str, Tensor] = {}
    end = 0
    for name, kind, shape, offset, length in sorted(entries, key=lambda entry: entry[3]):
        if name in tensors:
            reader.refuse(f"there are two tensors named {name!r}")
        if offset % alignment:
            reader.refuse(f"tensor {name!r} lies at {offset}, not a multiple of {alignment}")
        if offset < end:
            reader.refuse(f"tensor {name!r} overlaps another")
        end = offset + length
        if start + end > size:
            reader.refuse(f"tensor {name!r} should end at byte {start + end}, and the file has {size}")
        raw = mapped[start + offset : start + end].reshape(*shape[:-1], row_bytes(kind, shape[-1]))
        tensors[name] = Tensor(name, kind, shape, raw)
    ordered = {name: tensors[name] for name, *_ in entries}
    return GGUF(path, version, metadata, ordered)


class _Reader:
    """A cursor over the mapped bytes that never steps past their end."""

    def __init__(self, path: Path, mapped: np.ndarray) -> None:
        self.path = path
        self.bytes = memoryview(mapped)
        self.position = 0
        self.items = 0  # of arrays

    def refuse(self, fault: str) -> NoReturn:
        raise FileError(f"{self.path} is damaged or was cut short: {fault}.")

    def expect(self, count: int, size: int, what: str) -> None:
        """Refuse unless `count` things of at least `size` bytes can still follow."""
        if count * size > len(self.bytes) - self.position:
            self.refuse(f"it announces {count} {what}, more than its {len(self.bytes)} bytes can hold")

    def take(self, count: int, what: str) -> memoryview:
        self.expect(count, 1, f"bytes of {what}")
        if self.position + count > MAX_HEAD:
            self.refuse(f"{what} ends behind the first {MAX_HEAD:,} bytes, which is as far as is looked")
        self.position += count
        return self.bytes[self.position - count : self.position]

    def number(self, kind: int) -> Any:
        """One scalar of a metadata type, as a Python number."""
        code = _SCALARS[kind]
        data = self.take(np.dtype(code).itemsize, "a number")
        if kind == _BOOL and data[0] > 1:
            self.refuse(f"a truth value is {data[0]}, and should be 0 or 1")
        return np.frombuffer(data, code)[0].item()

    def string(self, what: str, most: int | None = None) -> str:
        length = struct.unpack("<Q", self.take(8, what))[0]
        if most is not None and length > most:
            self.refuse(f"{what} is {length} bytes long; {most} is the most")
        try:
            return str(self.take(length, what), "utf-8")
        except UnicodeDecodeError:
            return self.refuse(f"{what} is not UTF-8 text")

    def strings(self, count: int, what: str) -> list[str]:
        """So many strings: what takes time in a file of many tokens."""
        data, at, end, texts = self.bytes, self.position, min(len(self.bytes), MAX_HEAD), []
        length_at = struct.Struct("<Q").unpack_from
        try:
            for _ in range(count):
                start = at + 8
                at = start + length_at(data, at)[0] if start <= end else start
                if at > end:
                    self.refuse(f"{what} ends beyond byte {end:,}")
                texts.append(str(data[start:at], "utf-8"))
        except UnicodeDecodeError:
            self.refuse(f"{what} is not UTF-8 text")
        self.position = at
        return texts

    def value(self, kind: int, key: str, depth: int = 0) -> Any:
        """A metadata value of type `kind`; `key` is for messages."""
        if kind == _STRING:
            return self.string(f"the value of {key}")
        if kind in _SCALARS:
            return self.number(kind)
        if kind != _ARRAY:
            self.refuse(f"{key} has the unknown type {kind}")
        inner, count = self.number(4), self.number(10)
        if inner in _SCALARS:
            code = np.dtype(_SCALARS[inner])
            self.expect(count, code.itemsize, f"numbers in {key}")
            data = self.take(count * code.itemsize, key)
            if inner == _BOOL and count and max(data) > 1:
                self.refuse(f"a truth value in {key} is neither 0 nor 1")
            return np.frombuffer(data, code).copy()
        if depth == MAX_DEPTH:
            self.refuse(f"{key} nests arrays more than {MAX_DEPTH} deep")
        self.expect(count, 8 if inner == _STRING else 12, f"entries in {key}")
        self.items += count
        if self.items > MAX_ITEMS:
            self.refuse(f"its arrays hold {self.items:,} items; {MAX_ITEMS:,} are the most")
        if inner == _STRING:
            return self.strings(count, f"a text of {key}")
        return [self.value(inner, key, depth + 1) for _ in range(count)]

    def tensor_entry(self) -> tuple[str, int, tuple[int, ...], int, int]:
        """(name, type, shape, offset, bytes) of one tensor."""
        name = self.string("a tensor's name", MAX_READ)
        dimensions = self.number(4)
        if not 1 <= dimensions <= 4:
            self.refuse(f"tensor {name!r} has {dimensions} dimensions; 1 to 4 can be")
        shape = tuple(self.number(10) for _ in range(dimensions))[::-1]
        kind, offset = self.number(4), self.number(10)
        if kind not in BLOCKS:
            raise FileError(f"{self.path}: tensor {name!r} is of an unknown type ({kind}).")
        weights, size = BLOCKS[kind]
        elements = 1
        for length in shape:
            elements *= length
        if not elements:
            self.refuse(f"tensor {name!r} has a dimension of 0")
        if shape[-1] % weights:
            self.refuse(
                f"tensor {name!r} has rows of {shape[-1]}, no multiple of {TYPE_NAMES[kind]}'s {weights}"
            )
        length = elements // weights * size
        if offset + length > len(self.bytes):
            self.refuse(f"tensor {name!r} would end beyond the end of the file")
        return name, kind, shape, offset, length


def write_gguf(
    path: str | os.PathLike,
    metadata: Mapping[str, Any],
    tensors: Iterable[tuple[str, TensorType, Data, tuple[int, ...]]],
) -> None:
    """Write a GGUF file of version 3; it appears whole or not at all.

    metadata: bool, int (uint32, or wider where it must be), float (float32), str, lists of str, and NumPy
    scalars and arrays, whose dtype says the type. Lists of int become int32, lists of float float32.
    tensors: (name, type, data, shape); data is float32 of that shape, or bytes already encoded, or a
    function that returns either and is called when its turn comes, so that memory holds one at a time.
    Raises FileError when the file cannot be written, UsageError when a value has no place in a GGUF.
    """
    tensors = list(tensors)
    head = header(metadata, [(name, kind, shape) for name, kind, _, shape in tensors])
    with atomic_write(path, "wb") as file:
        file.write(head)
        for name, kind, data, shape in tensors:
            data = data() if callable(data) else data
            if isinstance(data, np.ndarray) and data.dtype != np.uint8:
                if data.shape != tuple(shape):
                    raise UsageError(f"Tensor {name!r} has shape {data.shape}, announced as {tuple(shape)}.")
                data = quantize(data, kind)
            data = memoryview(np.ascontiguousarray(data)).cast("B") if isinstance(data, np.ndarray) else data
            length = _length(kind, shape)
            if len(data) != length:
                raise UsageError(f"Tensor {name!r} has {len(data)} bytes; its shape and type need {length}.")
            file.write(data)
            file.write(bytes(_padded(length) - length))


def header(metadata: Mapping[str, Any], tensors: Iterable[tuple[str, TensorType, tuple[int, ...]]]) -> bytes:
    """A GGUF up to its tensors, of which each is (name, type, shape). Raises UsageError as `write_gguf` does."""
    tensors = list(tensors)
    head = bytearray(MAGIC + struct.pack("<IQQ", VERSION, len(tensors), len(metadata)))
    for key, value in metadata.items():
        head += _string(key)
        kind, encoded = _encode(key, value)
        head += struct.pack("<I", kind) + encoded
    offset, seen = 0, set()
    for name, kind, shape in tensors:
        if not 1 <= len(shape) <= 4 or min(shape) < 1:
            raise UsageError(
                f"Tensor {name!r} has the shape {shape}; 1 to 4 dimensions of at least 1 can be."
            )
        if len(name.encode()) > MAX_NAME or name in seen:
            raise UsageError(f"The tensor name {name!r} is longer than {MAX_NAME} bytes, or given twice.")
        seen.add(name)
        head += _string(name) + struct.pack("<I", len(shape))
        head += struct.pack(f"<{len(shape)}QIQ", *shape[::-1], kind, offset)
        offset += _padded(_length(kind, shape))
    head += bytes(_padded(len(head)) - len(head))
    return bytes(head)


def _padded(length: int) -> int:
    return -(-length // ALIGNMENT) * ALIGNMENT


def _length(kind: TensorType, shape: tuple[int, ...]) -> int:
    """Bytes of a tensor."""
    rows = 1
    for size in shape[:-1]:
        rows *= size
    return rows * row_bytes(kind, shape[-1])


def _string(text: str) -> bytes:
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UsageError(f"{text!r} cannot be written: it is not proper Unicode text.") from error
    return struct.pack("<Q", len(data)) + data


def _encode(key: str, value: Any) -> tuple[int, bytes]:
    """(metadata type, bytes) of a value."""
    if isinstance(value, str):
        return _STRING, _string(value)
    if isinstance(value, np.generic) and value.dtype in _NUMBER_OF:
        return _NUMBER_OF[value.dtype], value.tobytes()
    if isinstance(value, bool):
        return _BOOL, struct.pack("<B", value)
    if isinstance(value, int):
        for code in ("<u4", "<i4", "<u8", "<i8"):
            limits = np.iinfo(code)
            if limits.min <= value <= limits.max:
                return _NUMBER_OF[np.dtype(code)], np.array(value, code).tobytes()
    if isinstance(value, float) and abs(value) <= _LARGEST:
        return 6, struct.pack("<f", value)
    if isinstance(value, list):
        if all(isinstance(item, str) for item in value):
            return _ARRAY, struct.pack("<IQ", _STRING, len(value)) + b"".join(map(_string, value))
        if all(isinstance(item, int) and -(2**31) <= item < 2**31 for item in value):
            value = np.array(value, "<i4")
        elif all(isinstance(item, float) and abs(item) <= _LARGEST for item in value):
            value = np.array(value, "<f4")
    if isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype in _NUMBER_OF:
        return _ARRAY, struct.pack("<IQ", _NUMBER_OF[value.dtype], len(value)) + value.tobytes()
    raise UsageError(f"The metadata value of {key!r} ({type(value).__name__}) has no place in a GGUF file.")
