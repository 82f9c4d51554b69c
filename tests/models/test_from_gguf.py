"""A GGUF opened as a model of ours: names, tokenizer, and what is refused."""

import gguf
import numpy as np
import pytest

from twofold.errors import FileError
from twofold.models.from_gguf import gguf_name, hf_name, open_gguf
from twofold.models.gguf import write_gguf
from twofold.models.load import load_model
from twofold.models.quantize import TensorType
from twofold.tokens.tokenizer import bytes_only
from twofold.twofiles.export import tokenizer_metadata

SHAPES = {
    "token_embd": (320, 32), "output_norm": (32,), "blk.0.attn_norm": (32,), "blk.0.ffn_norm": (32,),
    "blk.0.attn_q": (32, 32), "blk.0.attn_k": (32, 32), "blk.0.attn_v": (32, 32),
    "blk.0.attn_output": (32, 32), "blk.0.attn_q_norm": (32,), "blk.0.attn_k_norm": (32,),
    "blk.0.ffn_gate": (64, 32), "blk.0.ffn_up": (64, 32), "blk.0.ffn_down": (32, 64),
}  # fmt: skip


def whole() -> dict:
    metadata = {
        "general.architecture": "qwen3", "qwen3.context_length": 64, "qwen3.embedding_length": 32,
        "qwen3.block_count": 1, "qwen3.feed_forward_length": 64, "qwen3.attention.head_count": 1,
        "qwen3.attention.head_count_kv": 1, "qwen3.attention.key_length": 32,
        "qwen3.attention.value_length": 32, "qwen3.rope.freq_base": 10_000.0,
        "qwen3.attention.layer_norm_rms_epsilon": 1e-6,
    }  # fmt: skip
    return metadata | tokenizer_metadata(bytes_only(), 320, chat=True)


def written(path, metadata, extra=()):
    dice = np.random.default_rng(0)
    tensors = [
        (f"{name}.weight", TensorType.F32, dice.standard_normal(shape).astype(np.float32), shape)
        for name, shape in SHAPES.items()
    ]
    write_gguf(path, metadata, [*tensors, *extra])
    return path


def test_names_are_llama_cpps_both_ways():
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN3, 1)
    for theirs in [*(f"{name}.weight" for name in SHAPES), "output.weight"]:
        assert names.get_name(hf_name(theirs), try_suffixes=(".weight",)) == theirs
        assert gguf_name(hf_name(theirs)) == theirs


def test_a_whole_file_opens(tmp_path):
    contents = open_gguf(written(tmp_path / "m.gguf", whole()))
    assert contents.config["rms_norm_eps"] == 1e-6
    assert contents.config["tie_word_embeddings"]
    assert contents.config["vocab_size"] == 320
    assert contents.chat
    assert contents.stop_ids == (contents.tokenizer.im_end, contents.tokenizer.end_of_text)
    assert contents.weights.keys() == {hf_name(f"{name}.weight") for name in SHAPES}
    assert all(weight.dtype == np.float32 for weight in contents.weights.values())


def test_an_output_matrix_of_its_own_is_kept(tmp_path):
    output = np.zeros((320, 32), np.float32)
    path = written(tmp_path / "m.gguf", whole(), [("output.weight", TensorType.Q8_0, output, output.shape)])
    contents = open_gguf(path)
    assert not contents.config["tie_word_embeddings"]
    assert contents.weights["lm_head.weight"].shape == (320, 32)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("general.architecture", "llama", "family 'llama'"),
        ("general.architecture", None, "general.architecture"),
        ("qwen3.block_count", None, "qwen3.block_count"),
        ("qwen3.block_count", "many", "qwen3.block_count"),
        ("qwen3.attention.value_length", 16, "differ in width"),
        ("qwen3.attention.value_length", [32, 32], "differ in width"),
        ("qwen3.rope.scaling.type", "yarn", "rotary"),
        ("qwen3.rope.scaling.type", [0, 0], "rotary"),
        ("tokenizer.ggml.model", "llama", "not supported"),
        ("tokenizer.ggml.pre", "gpt-2", "not supported"),
        ("tokenizer.ggml.tokens", ["a"], "do not fit"),
        ("tokenizer.ggml.merges", None, "merges"),
        ("tokenizer.ggml.merges", ["a b"], "merges"),
        ("tokenizer.ggml.token_type", [1] * 320, "special token"),
        ("tokenizer.ggml.eos_token_id", "x", "eos_token_id"),
    ],
)
def test_what_cannot_be_opened_is_named(key, value, message, tmp_path):
    metadata = whole() | {key: value}
    if value is None:
        del metadata[key]
    with pytest.raises(FileError, match=message):
        open_gguf(written(tmp_path / "m.gguf", metadata))


def test_tensors_of_another_model_or_type_are_named(tmp_path):
    bias = ("blk.0.attn_q.bias", TensorType.F32, np.zeros(32, np.float32), (32,))
    with pytest.raises(FileError, match=r"attn_q\.bias"):
        open_gguf(written(tmp_path / "a.gguf", whole(), [bias]))
    packed = ("output.weight", 12, bytes(320 * 144), (320, 256))
    with pytest.raises(FileError, match="Q4_K"):
        open_gguf(written(tmp_path / "b.gguf", whole(), [packed]))


@pytest.mark.parametrize("value", [2**31, 2**58, 2**63])
@pytest.mark.parametrize(
    "key", ["embedding_length", "feed_forward_length", "attention.head_count", "block_count"]
)
def test_sizes_that_the_file_does_not_hold_are_not_made(key, value, tmp_path):
    with pytest.raises(FileError, match=r"describes|must be from 1"):
        load_model(written(tmp_path / "m.gguf", whole() | {f"qwen3.{key}": value}))


def test_weights_that_are_no_numbers_are_refused(tmp_path):
    output = np.zeros((320, 32), np.float32)
    output[5, 5] = np.nan
    path = written(
        tmp_path / "m.gguf", whole(), [("output.weight", TensorType.F32, output.tobytes(), (320, 32))]
    )
    with pytest.raises(FileError, match=r"lm_head\.weight holds NaN or infinity"):
        load_model(path)
