"""The parameter file: equal to what the `gguf` package reads and writes, and unharmed by hostile bytes."""

import os
import struct
import time
import tracemalloc
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twofold.errors import FileError, UsageError
from twofold.models.gguf import read_gguf, write_gguf
from twofold.models.quantize import BLOCKS, WRITABLE, TensorType, quantize

METADATA = {
    "general.architecture": "qwen3",
    "a.yes": True,
    "a.count": 7,
    "a.long": 2**40,
    "a.below": -3,
    "a.real": 0.5,
    "a.wide": np.float64(1e-300),
    "a.text": "Grüße, 村 🙂",
    "a.empty": "",
    "a.words": ["", "a", "Ġvillage", "ſ"],
    "a.none": [],
    "a.kinds": [1, 3, -4],
    "a.scores": np.array([0.25, -1.0], np.float32),
    "a.ranges": np.array([65, 90, 0x10FFFF], np.uint32),
    "a.flags": np.array([True, False]),
}


def weights(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def tensors():
    for seed, kind in enumerate(WRITABLE):
        yield f"blk.{seed}.{kind.name}", kind, weights(6, 256, seed=seed), (6, 256)
    yield "norm.weight", TensorType.F32, lambda: weights(7, seed=9), (7,)
    yield "deep", TensorType.F16, weights(2, 3, 4, 5), (2, 3, 4, 5)
    yield "ready", TensorType.Q8_0, quantize(weights(2, 32), TensorType.Q8_0).tobytes(), (2, 32)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    write_gguf(tmp_path / "model.gguf", METADATA, tensors())
    return tmp_path / "model.gguf"


def same(ours, theirs) -> bool:
    if isinstance(ours, np.ndarray):
        return ours.tolist() == list(theirs)
    return ours == theirs and type(ours) is type(theirs)


def test_what_we_write_the_gguf_package_reads(written):
    reader = gguf.GGUFReader(written)
    for key, value in METADATA.items():
        if key == "a.none":
            continue  # the package has no reading for an empty array
        expected = value.item() if isinstance(value, np.generic) else value
        found = reader.fields[key].contents()
        assert list(found) == list(expected) if isinstance(expected, np.ndarray) else found == expected, key
    expected = list(tensors())
    assert [t.name for t in reader.tensors] == [name for name, *_ in expected]
    for theirs, (_, kind, data, shape) in zip(reader.tensors, expected, strict=True):
        data = data() if callable(data) else data
        assert theirs.tensor_type == kind
        assert tuple(theirs.shape.tolist()) == shape[::-1]
        raw = np.frombuffer(data, np.uint8) if isinstance(data, bytes) else quantize(data, kind).ravel()
        np.testing.assert_array_equal(np.ascontiguousarray(theirs.data).view(np.uint8).ravel(), raw)


def test_what_the_gguf_package_writes_we_read(tmp_path):
    path = tmp_path / "theirs.gguf"
    writer = gguf.GGUFWriter(path, "qwen3")
    writer.add_uint8("u8", 255)
    writer.add_int8("i8", -128)
    writer.add_uint16("u16", 65535)
    writer.add_int16("i16", -2)
    writer.add_uint32("u32", 2**32 - 1)
    writer.add_int32("i32", -(2**31))
    writer.add_uint64("u64", 2**64 - 1)
    writer.add_int64("i64", -(2**63))
    writer.add_float32("f32", 1e-6)
    writer.add_float64("f64", 1e-300)
    writer.add_bool("yes", True)
    writer.add_string("text", "Grüße\n村")
    writer.add_array("words", ["a", "ü", ""])
    writer.add_array("numbers", [1, 2, 3])
    writer.add_array("reals", [0.5, 1.5])
    arrays = {kind.name: weights(4, 64, seed=3) for kind in WRITABLE if not kind.name.endswith("_K")}
    for name, array in arrays.items():
        kind = gguf.GGMLQuantizationType[name]
        raw = gguf.quants.quantize(array, kind)
        writer.add_tensor(name, raw, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    file = read_gguf(path)
    expected = {
        "u8": 255, "i8": -128, "u16": 65535, "i16": -2, "u32": 2**32 - 1, "i32": -(2**31), "u64": 2**64 - 1,
        "i64": -(2**63), "f32": float(np.float32(1e-6)), "f64": 1e-300, "yes": True, "text": "Grüße\n村",
        "words": ["a", "ü", ""],
    }  # fmt: skip
    for key, value in expected.items():
        assert same(file.metadata[key], value), key
    assert file.metadata["numbers"].tolist() == [1, 2, 3]
    assert file.metadata["reals"].tolist() == [0.5, 1.5]
    for name, array in arrays.items():
        kind = gguf.GGMLQuantizationType[name]
        assert file.tensors[name].shape == (4, 64)
        expected = gguf.quants.dequantize(gguf.quants.quantize(array, kind), kind)
        np.testing.assert_array_equal(file.tensors[name].float32(), expected)


def test_what_we_write_we_read(written):
    file = read_gguf(written)
    assert file.version == 3
    assert list(file.metadata) == list(METADATA)
    for key, value in METADATA.items():
        value = np.array(value, np.int32) if key == "a.kinds" else value
        value = value.item() if isinstance(value, np.generic) else value
        if isinstance(value, np.ndarray):
            assert file.metadata[key].dtype == value.dtype
            np.testing.assert_array_equal(file.metadata[key], value)
        else:
            assert same(file.metadata[key], value), key
    assert list(file.tensors) == [name for name, *_ in tensors()]
    np.testing.assert_array_equal(file.tensors["norm.weight"].float32(), weights(7, seed=9))


def test_tensors_are_mapped_not_loaded(written):
    raw = read_gguf(written).tensors["norm.weight"].raw
    assert not raw.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        raw[0] = 1


def test_tensors_of_types_we_do_not_decode_are_still_measured(tmp_path):
    path = tmp_path / "k.gguf"
    write_gguf(path, {}, [("t", 16, bytes(2 * 66), (2, 256))])
    tensor = read_gguf(path).tensors["t"]
    assert tensor.shape == (2, 256)
    assert tensor.raw.shape == (2, 66)
    with pytest.raises(UsageError, match="IQ2_XXS"):
        tensor.float32()


@pytest.mark.parametrize(
    "value", ["\ud800", 2**64, -(2**63) - 1, 1e39, [1, "a"], [2**31], None, np.zeros((2, 2)), np.float16(1)]
)
def test_values_with_no_place_in_the_format_are_refused(tmp_path, value):
    with pytest.raises(UsageError):
        write_gguf(tmp_path / "x.gguf", {"key": value}, [])
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    "tensor",
    [
        ("t" * 64, TensorType.F32, weights(2), (2,)),
        ("t", TensorType.F32, weights(2), (3,)),
        ("t", TensorType.F32, b"123", (1,)),
        ("t", TensorType.Q8_0, weights(2, 33), (2, 33)),
        ("t", TensorType.F32, b"", (0,)),
        ("t", TensorType.F32, b"", ()),
    ],
)
def test_tensors_that_do_not_fit_their_announcement_are_refused(tmp_path, tensor):
    with pytest.raises(UsageError):
        write_gguf(tmp_path / "x.gguf", {}, [tensor])
    assert not any(tmp_path.iterdir())


# --- Damaged and hostile files: a FileError, or a file that can be used; never anything else. ---


def survive(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    try:
        file = read_gguf(path)
    except FileError:
        return
    for tensor in file.tensors.values():
        try:
            array = tensor.float32()
        except UsageError:
            continue  # became a type we do not decode
        assert array.shape == tensor.shape


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> bytes:
    """A file with one of everything that is as short as can be."""
    path = tmp_path_factory.mktemp("small") / "s.gguf"
    metadata = {"s": "ab", "b": True, "i": 5, "w": ["x", "yz"], "n": np.array([1, 2], np.uint16),
                "f": np.array([True])}  # fmt: skip
    write_gguf(path, metadata, [("q", TensorType.Q8_0, weights(1, 32), (1, 32)),
                                ("h", TensorType.F16, weights(2, 2), (2, 2))])  # fmt: skip
    return path.read_bytes()


def test_every_truncation_is_refused(small, tmp_path):
    path = tmp_path / "x.gguf"
    last = len(small) - 24  # the padding after the last tensor (8 of 32 bytes used) may be missing
    for length in range(last):
        path.write_bytes(small[:length])
        with pytest.raises(FileError):
            read_gguf(path)


def test_every_flipped_bit_is_survived(small, tmp_path):
    path = tmp_path / "x.gguf"  # all but the tensors' own bytes, which may be anything
    for position in range(8 * (len(small) - 96)):
        data = bytearray(small)
        data[position // 8] ^= 1 << position % 8
        survive(path, bytes(data))


@settings(max_examples=1000, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 10_000),
            st.sampled_from(
                [b"\xff" * 8, b"\xff" * 4, b"\0" * 8, b"\xff" * 7 + b"\x7f", b"\0\0\0\x80", b"\x09\0\0\0",
                 struct.pack("<IQ", 9, 2), struct.pack("<Q", 2**61), struct.pack("<Q", 1 << 32), b"\x01"]
            ),
        ),
        min_size=1, max_size=4,
    ),
    st.integers(0, 200),
)  # fmt: skip
def test_lying_sizes_are_survived(edits, cut):
    import tempfile

    data = bytearray(SMALL)
    for position, replacement in edits:
        position %= len(data)
        data[position : position + len(replacement)] = replacement
    with tempfile.TemporaryDirectory() as folder:
        survive(Path(folder) / "x.gguf", bytes(data[: len(data) - cut]))


def _make_small() -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s.gguf"
        write_gguf(path, {"w": ["x", "yz"], "n": np.array([1, 2], np.uint16), "i": 5},
                   [("q", TensorType.Q8_0, weights(1, 32), (1, 32))])  # fmt: skip
        return path.read_bytes()


SMALL = _make_small()


def key(name: bytes, kind: int, value: bytes) -> bytes:
    return struct.pack("<Q", len(name)) + name + struct.pack("<I", kind) + value


def entry(name: bytes, dimensions: list[int], kind: int, offset: int) -> bytes:
    head = struct.pack("<Q", len(name)) + name + struct.pack("<I", len(dimensions))
    return head + struct.pack(f"<{len(dimensions)}QIQ", *dimensions, kind, offset)


def file(keys: list[bytes], entries: list[bytes], data: int = 4096, version: int = 3) -> bytes:
    head = b"GGUF" + struct.pack("<IQQ", version, len(entries), len(keys)) + b"".join(keys + entries)
    return head + bytes(-len(head) % 32 + data)


DEEP = b"".join(struct.pack("<IQ", 9, 1) for _ in range(100_000))
HOSTILE = {
    "empty": (b"", "letters GGUF"),
    "another format": (b"PK\x03\x04" + bytes(100), "letters GGUF"),
    "only the magic": (b"GGUF", "cut short"),
    "version 1": (file([], [], version=1), "version 1"),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
    "a count beyond the file": (b"GGUF" + struct.pack("<IQQ", 3, 2**60, 0), "more than its"),
    "a key count beyond the file": (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**63), "more than its"),
    "a string longer than the file": (file([key(b"k", 8, struct.pack("<Q", 2**62))], []), "more than its"),
    "a key that is too long": (file([key(b"k" * 70000, 7, b"\1")], []), "65535 is the most"),
    "text that is not UTF-8": (file([key(b"k", 8, struct.pack("<Q", 2) + b"\xff\xfe")], []), "not UTF-8"),
    "an unknown value type": (file([key(b"k", 13, b"")], []), "unknown type 13"),
    "an array beyond the file": (file([key(b"k", 9, struct.pack("<IQ", 10, 2**61))], []), "more than its"),
    "many empty strings": (file([key(b"k", 9, struct.pack("<IQ", 8, 2**32))], []), "more than its"),
    "arrays nested deep": (file([key(b"k", 9, DEEP)], []), "deep"),
    "an array of an unknown type": (file([key(b"k", 9, struct.pack("<IQ", 99, 1))], []), "unknown type 99"),
    "a truth value of 2": (file([key(b"k", 7, b"\2")], []), "truth value"),
    "a key twice": (file([key(b"k", 7, b"\1")] * 2, []), "twice"),
    "an alignment of 0": (file([key(b"general.alignment", 4, bytes(4))], []), "power of two"),
    "an alignment of text": (file([key(b"general.alignment", 8, bytes(8))], []), "power of two"),
    "an alignment that is huge": (
        file([key(b"general.alignment", 4, struct.pack("<I", 1 << 31))], []), "power of two"),
    "no dimensions": (file([], [entry(b"t", [], 0, 0)]), "0 dimensions"),
    "five dimensions": (file([], [entry(b"t", [1] * 5, 0, 0)]), "5 dimensions"),
    "a dimension of 0": (file([], [entry(b"t", [4, 0], 0, 0)]), "dimension of 0"),
    "sizes whose product overflows": (file([], [entry(b"t", [2**32, 2**32, 4], 0, 0)]), "beyond the end"),
    "an offset that overflows": (file([], [entry(b"t", [4], 0, 2**64 - 32)]), "beyond the end"),
    "an unknown tensor type": (file([], [entry(b"t", [4], 77, 0)]), "unknown type"),
    "a removed tensor type": (file([], [entry(b"t", [32], 4, 0)]), "unknown type"),
    "rows of half a block": (file([], [entry(b"t", [48], 8, 0)]), "no multiple"),
    "an offset out of step": (file([], [entry(b"t", [4], 0, 4)]), "multiple of 32"),
    "tensors that overlap": (file([], [entry(b"t", [64], 0, 0), entry(b"u", [4], 0, 32)]), "overlaps"),
    "a tensor twice": (file([], [entry(b"t", [4], 0, 0), entry(b"t", [4], 0, 32)]), "two tensors"),
    "a tensor cut short": (file([], [entry(b"t", [1024], 0, 32)]), "should end at"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_by_name_and_at_once(name, tmp_path):
    data, message = HOSTILE[name]
    path = tmp_path / "x.gguf"
    path.write_bytes(data)
    start = time.process_time()
    with pytest.raises(FileError, match=message):
        read_gguf(path)
    assert time.process_time() - start < 1


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(FileError, match="no such file"):
        read_gguf(tmp_path / "none.gguf")
    with pytest.raises(FileError, match="not a file"):
        read_gguf(tmp_path)
    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(FileError, match="not a file"):
        read_gguf(tmp_path / "pipe.gguf")


@pytest.mark.parametrize("kind", sorted(BLOCKS))
def test_any_bytes_of_any_type_are_survived(kind, tmp_path):
    """Every type that the format knows, with rows of one block and of many, and bytes as they come."""
    width, size = BLOCKS[kind]
    dice = np.random.default_rng(kind)
    for rows, blocks in ((1, 1), (3, 5)):
        data = dice.integers(0, 256, rows * blocks * size, dtype=np.uint8).tobytes()
        head = file([], [entry(b"t", [blocks * width, rows], kind, 0)], data=0)
        survive(tmp_path / "x.gguf", head + data)
        survive(tmp_path / "x.gguf", head + data[:-1])


@pytest.mark.parametrize("kind", [2, 3, 6, 7, 8, 10, 11, 12, 13, 14, 20, 23])
def test_rows_of_half_a_block_are_refused(kind, tmp_path):
    path = tmp_path / "x.gguf"
    path.write_bytes(file([], [entry(b"t", [BLOCKS[kind][0] // 2, 2], kind, 0)]))
    with pytest.raises(FileError, match="no multiple"):
        read_gguf(path)


def test_one_very_long_row_takes_no_more_memory_than_its_weights(tmp_path):
    path = tmp_path / "x.gguf"
    blocks = 20_000  # a row of five million weights
    path.write_bytes(file([], [entry(b"t", [256 * blocks], 12, 0)], data=144 * blocks))
    tensor = read_gguf(path).tensors["t"]
    tracemalloc.start()
    assert tensor.float32().shape == (256 * blocks,)
    assert tracemalloc.get_traced_memory()[1] < 1.5 * 4 * 256 * blocks
    tracemalloc.stop()


def test_the_file_is_whole_or_absent(tmp_path):
    def fails():
        raise KeyboardInterrupt

    path = tmp_path / "x.gguf"
    write_gguf(path, {"old": True}, [])
    with pytest.raises(KeyboardInterrupt):
        write_gguf(path, {}, [("t", TensorType.F32, fails, (2,))])
    assert read_gguf(path).metadata == {"old": True}
    assert list(tmp_path.iterdir()) == [path]
