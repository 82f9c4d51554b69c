"""What matters, measured by hand on a small model, and read from llama.cpp's kind of file."""

import struct

import gguf
import numpy as np
import pytest
import torch

from twofold.errors import FileError, UsageError
from twofold.models.config import TransformerConfig
from twofold.models.gguf import write_gguf
from twofold.models.importance import measure_importance, read_importance
from twofold.models.quantize import TensorType
from twofold.models.transformer import Transformer

ROWS = [[1, 2, 3, 4, 5], [9, 8, 7]]


def model(kind="qwen3", **more):
    torch.manual_seed(0)
    config = TransformerConfig(
        vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2,
        head_dim=16, intermediate_size=48, max_position_embeddings=64, model_type=kind, **more,
    )  # fmt: skip
    made = Transformer(config).eval()
    for parameter in made.parameters():
        parameter.data.normal_(0, 0.3)
    return made


@pytest.mark.parametrize("tied", [True, False])
def test_it_is_the_mean_square_of_what_is_multiplied(tied):
    transformer = model(tie_word_embeddings=tied)
    found = measure_importance(transformer, ROWS)
    first = transformer.model.layers[0]
    with torch.no_grad():
        starts = [first.input_layernorm(transformer.model.embed_tokens(torch.tensor(row))) for row in ROWS]
        ends = [transformer.hidden(torch.tensor([row]))[0] for row in ROWS]
    for name, inputs in (("blk.0.attn_q", starts), ("token_embd" if tied else "output", ends)):
        expected = torch.cat(inputs).double().square().mean(0).numpy()
        np.testing.assert_allclose(found[f"{name}.weight"], expected, rtol=1e-5)
    np.testing.assert_array_equal(found["blk.0.attn_q.weight"], found["blk.0.attn_v.weight"])
    assert {name: len(squares) for name, squares in found.items() if "blk.1" in name} == {
        "blk.1.attn_q.weight": 32, "blk.1.attn_k.weight": 32, "blk.1.attn_v.weight": 32, "blk.1.attn_output.weight": 32,
        "blk.1.ffn_gate.weight": 32, "blk.1.ffn_up.weight": 32, "blk.1.ffn_down.weight": 48,
    }  # fmt: skip


def test_matrices_that_a_file_joins_have_one():
    found = measure_importance(model("gpt2"), ROWS)
    assert {name for name in found if "blk.0" in name} == {
        f"blk.0.{stem}.weight" for stem in ("attn_qkv", "attn_output", "ffn_up", "ffn_down")
    }


def test_it_leaves_no_hooks_and_tells_how_far_it_is():
    transformer, told = model(), []
    measure_importance(transformer, ROWS, told.append)
    assert told == [5, 8]
    assert not any(module._forward_pre_hooks for module in transformer.modules())


def test_no_text_measures_nothing():
    with pytest.raises(UsageError, match="no text"):
        measure_importance(model(), [])


def test_an_imatrix_is_read(tmp_path):
    sums = np.arange(32, dtype=np.float32)
    writer = gguf.GGUFWriter(tmp_path / "i.gguf", "")
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", ["book.txt"])
    writer.add_uint32("imatrix.chunk_count", 2)
    for name, count in (("blk.0.attn_q.weight", 8), ("blk.0.ffn_up.weight", 0)):
        writer.add_tensor(f"{name}.in_sum2", sums[None])
        writer.add_tensor(f"{name}.counts", np.array([[count]], np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = read_importance(tmp_path / "i.gguf")
    assert list(found) == ["blk.0.attn_q.weight"]  # of the other, nothing is known
    np.testing.assert_array_equal(found["blk.0.attn_q.weight"], sums / 8)


def old(*entries, count=None, end=b""):
    """A file as llama.cpp wrote them before: (name, calls, values) each."""
    data = struct.pack("<i", len(entries) if count is None else count)
    for name, calls, values in entries:
        values = np.asarray(values, "<f4")
        data += struct.pack("<i", len(name)) + name.encode() + struct.pack("<ii", calls, len(values))
        data += values.tobytes()
    return data + end


def test_an_imatrix_of_the_form_before_is_read(tmp_path):
    means = np.arange(32, dtype=np.float32)
    entries = ("blk.0.attn_q.weight", 7, means * 7), ("blk.0.ffn_up.weight", 0, means)
    for end in (b"", struct.pack("<ii", 7, 8) + b"book.txt"):
        (tmp_path / "i.dat").write_bytes(old(*entries, end=end))
        found = read_importance(tmp_path / "i.dat")
        assert list(found) == ["blk.0.attn_q.weight"]
        np.testing.assert_allclose(found["blk.0.attn_q.weight"], means, rtol=1e-6)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "GGUF"),
        (b"abc", "cut short"),
        (b"hello there", "the number of its entries"),
        (old(("a", 1, [1.0]), count=2), "cut short"),
        (old(("a", 1, [1.0]), count=-1), "-1 stands"),
        (old(("a", 1, [1.0]))[:-1], "cut short"),
        (old(("a" * 257, 1, [1.0])), "length of a name"),
        (old(("a", -1, [1.0])), "a number of calls"),
        (old(("a", 1, [1.0]), ("a", 1, [1.0])), "twice"),
        (old(("a", 1, [1.0, -1.0])), "no sum of squares"),
        (old(("a", 1, [np.nan])), "no sum of squares"),
        (old(("a", 0, [1.0])), "no imatrix"),
        (struct.pack("<ii", 1, 1) + b"a" + struct.pack("<ii", 1, (1 << 24) + 1), "a number of columns"),
        (struct.pack("<ii", 1, 1) + b"a" + struct.pack("<ii", 1, 1 << 24), "cut short"),
    ],
    ids=str,
)
def test_what_is_none_of_the_form_before_is_refused(data, message, tmp_path):
    (tmp_path / "i.dat").write_bytes(data)
    with pytest.raises(FileError, match=message):
        read_importance(tmp_path / "i.dat")


def tensor(name, values, shape=None):
    values = np.asarray(values, np.float32)
    return name, TensorType.F32, values.tobytes(), shape or values.shape


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ([], "no imatrix"),
        ([tensor("a.weight", np.ones(4))], "no imatrix"),
        ([tensor("a.in_sum2", np.ones(4))], "one count"),
        ([tensor("a.in_sum2", np.ones(4)), tensor("a.counts", np.ones(2))], "one count"),
        ([tensor("a.in_sum2", np.ones((2, 4))), tensor("a.counts", np.ones(1))], "one matrix"),
        ([tensor("a.in_sum2", [1, -1]), tensor("a.counts", [1])], "no sum of squares"),
        ([tensor("a.in_sum2", [1, np.nan]), tensor("a.counts", [1])], "no sum of squares"),
        ([tensor("a.in_sum2", [1, np.inf]), tensor("a.counts", [1])], "no sum of squares"),
        ([tensor("a.in_sum2", [1, 1]), tensor("a.counts", [-1])], "no sum of squares"),
        ([tensor("a.in_sum2", [1, 1]), tensor("a.counts", [np.nan])], "no sum of squares"),
        ([("a.in_sum2", 16, bytes(66), (256,)), tensor("a.counts", [1])], "other than F32"),
    ],
    ids=str,
)
def test_what_is_no_imatrix_is_refused(tensors, message, tmp_path):
    write_gguf(tmp_path / "i.gguf", {}, tensors)
    with pytest.raises(FileError, match=message):
        read_importance(tmp_path / "i.gguf")
