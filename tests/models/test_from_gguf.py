"""A GGUF opened as a model of ours: names, tokenizer, and what is refused."""

import numpy as np
import pytest

from twofold.errors import FileError
from twofold.models.from_gguf import open_gguf
from twofold.models.gguf import write_gguf
from twofold.models.load import load_model
from twofold.models.quantize import TensorType
from twofold.tokens.gguf import to_metadata
from twofold.tokens.tokenizer import bytes_only

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
    return metadata | to_metadata(bytes_only(), 320, chat=True)


def written(path, metadata, extra=()):
    dice = np.random.default_rng(0)
    tensors = [
        (f"{name}.weight", TensorType.F32, dice.standard_normal(shape).astype(np.float32), shape)
        for name, shape in SHAPES.items()
    ]
    write_gguf(path, metadata, [*tensors, *extra])
    return path


def test_a_whole_file_opens(tmp_path):
    contents = open_gguf(written(tmp_path / "m.gguf", whole()))
    assert contents.config.rms_norm_eps == 1e-6
    assert contents.config.tie_word_embeddings
    assert contents.config.vocab_size == 320
    assert contents.chat
    assert contents.stop_ids == (contents.tokenizer.im_end, contents.tokenizer.end_of_text)
    assert len(contents.weights) == len(SHAPES)
    assert contents.shapes == {name: weight.shape for name, weight in contents.weights.items()}
    assert contents.shapes["model.layers.0.mlp.down_proj.weight"] == SHAPES["blk.0.ffn_down"]
    assert all(weight.dtype == np.float32 for weight in contents.weights.values())


def test_an_output_matrix_of_its_own_is_kept(tmp_path):
    output = np.zeros((320, 32), np.float32)
    path = written(tmp_path / "m.gguf", whole(), [("output.weight", TensorType.Q8_0, output, output.shape)])
    contents = open_gguf(path)
    assert not contents.config.tie_word_embeddings
    assert contents.weights["lm_head.weight"].shape == (320, 32)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("general.architecture", "mamba", "family 'mamba'"),
        ("general.architecture", None, "family 'None'"),
        ("general.architecture", 5, "family '5'"),
        ("qwen3.block_count", None, "qwen3.block_count"),
        ("qwen3.block_count", "many", "qwen3.block_count"),
        ("qwen3.attention.value_length", 16, "differ in width"),
        ("qwen3.attention.value_length", [32, 32], "value_length"),
        ("qwen3.rope.scaling.type", "su", "rotary"),
        ("qwen3.rope.scaling.type", [0, 0], "scaling.type"),
        ("qwen3.rope.scaling.type", "longrope", "tables"),
        ("qwen3.rope.dimension_count", 16, "part turns"),
        ("qwen3.rope.freq_base", np.float32("nan"), "rope_theta"),
        ("qwen3.feed_forward_length", np.array([64, 65], np.uint32), "layer to layer"),
        ("qwen3.attention.head_count_kv", np.array([], np.uint32), "head_count_kv"),
        ("qwen3.attention.sliding_window", -1, "sliding_window"),
        ("tokenizer.ggml.model", "bert", "does not open"),
        ("tokenizer.ggml.pre", "scissors", "not known here"),
        ("tokenizer.ggml.tokens", [1], "tokens"),
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
    for name in ("blk.0.ssm_a.weight", "blk.00.attn_q.weight", "blk.0.attn_q", "ssm_a.weight"):
        other = (name, TensorType.F32, np.zeros((32, 32), np.float32), (32, 32))
        with pytest.raises(FileError, match=name):
            open_gguf(written(tmp_path / "a.gguf", whole(), [other]))
    bias = ("blk.0.attn_q.bias", TensorType.F32, np.zeros(32, np.float32), (32,))
    with pytest.raises(FileError, match="describes"):
        load_model(written(tmp_path / "b.gguf", whole(), [bias]))
    packed = ("output.weight", 16, bytes(320 * 66), (320, 256))
    with pytest.raises(FileError, match="IQ2_XXS"):
        load_model(written(tmp_path / "c.gguf", whole(), [packed]))


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
