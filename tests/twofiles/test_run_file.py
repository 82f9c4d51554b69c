"""run.py's reader and run.py's draw: damaged files give a Problem, chances are transformers'."""

import random
import shutil
from types import SimpleNamespace

import gguf
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import MinPLogitsWarper, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from twofold.models.gguf import read_gguf, write_gguf
from twofold.models.quantize import TensorType, quantize
from twofold.tokens.tokenizer import bytes_only
from twofold.twofiles import run
from twofold.twofiles.export import export


def values_equal(ours, theirs) -> bool:
    return list(ours) == list(theirs) if isinstance(theirs, list | np.ndarray) else ours == theirs


@pytest.mark.parametrize("type", ["f32", "f16", "bf16", "q8_0"])
def test_it_reads_what_the_products_reader_reads(type, exported):
    path = exported("untied", type) / "model.gguf"
    ours, theirs = run.File(path), read_gguf(path)
    assert ours.values.keys() == theirs.metadata.keys()
    assert all(values_equal(ours.values[key], value) for key, value in theirs.metadata.items())
    assert ours.tensors.keys() == theirs.tensors.keys()
    for name, tensor in theirs.tensors.items():
        found = ours.tensors[name]
        assert found.shape == tensor.shape
        np.testing.assert_array_equal(found.rows(slice(None)).reshape(tensor.shape), tensor.float32())
        np.testing.assert_array_equal(
            found.rows([0, 0]), np.stack([tensor.float32().reshape(-1, tensor.shape[-1])[0]] * 2)
        )


def test_it_reads_what_the_gguf_package_writes(tmp_path):
    path = tmp_path / "theirs.gguf"
    writer = gguf.GGUFWriter(path, "qwen3")
    writer.add_array("words", ["a", "ü", ""])
    writer.add_array("numbers", [1, 2, 3])
    writer.add_float64("real", 1e-300)
    writer.add_bool("yes", True)
    array = np.random.default_rng(0).standard_normal((3, 512)).astype(np.float32)
    for kind in (TensorType(number) for number in run.BLOCKS):
        theirs = gguf.GGMLQuantizationType[kind.name]
        writer.add_tensor(kind.name, quantize(array, kind), raw_dtype=theirs)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    file = run.File(path)
    assert file.values["words"] == ["a", "ü", ""]
    assert file.values["numbers"].tolist() == [1, 2, 3]
    assert file.values["real"] == 1e-300
    assert file.values["yes"] is True
    for kind in (TensorType(number) for number in run.BLOCKS):
        theirs = gguf.GGMLQuantizationType[kind.name]
        expected = gguf.quants.dequantize(quantize(array, kind), theirs)
        np.testing.assert_array_equal(file.tensors[kind.name].rows(slice(None)), expected)


def test_a_type_it_does_not_know_is_named(tmp_path):
    write_gguf(tmp_path / "k.gguf", {}, [("t", 12, bytes(144), (1, 256))])
    with pytest.raises(run.Problem, match="type 12"):
        run.File(tmp_path / "k.gguf")


@pytest.fixture(scope="module")
def smallest(tmp_path_factory):
    """The smallest whole model: 320 byte tokens, one layer of width 32."""
    from twofold.models.config import TransformerConfig
    from twofold.models.folder import save_folder
    from twofold.models.transformer import Transformer

    folder = tmp_path_factory.mktemp("smallest")
    config = TransformerConfig(vocab_size=320, hidden_size=32, num_hidden_layers=1, num_attention_heads=1,
                               num_key_value_heads=1, head_dim=32, intermediate_size=32,
                               max_position_embeddings=64)  # fmt: skip
    torch.manual_seed(0)
    save_folder(folder / "hf", Transformer(config), bytes_only(), chat=True)
    return export(folder / "hf", folder / "two").folder / "model.gguf"


def survive(path) -> bool:
    """Whether the damaged file opens and computes; anything but that or a Problem is raised."""
    options = SimpleNamespace(model=str(path), seed=0)
    try:
        session = run.Session(options)
        with np.errstate(all="ignore"):  # a weight may have become huge
            session.model.read(
                session.tokenizer.begin + session.tokenizer.encode("It's 5"), run.Memory(session.model)
            )
    except run.Problem:
        return False
    return True


def test_flipped_bits_are_a_problem_or_harmless(smallest, tmp_path):
    data = smallest.read_bytes()
    head = len(data) - sum(tensor.raw.nbytes for tensor in read_gguf(smallest).tensors.values())
    dice = random.Random(0)
    path = tmp_path / "x.gguf"
    opened = 0
    for _ in range(700):
        changed = bytearray(data)
        for _ in range(dice.choice([1, 1, 3])):
            changed[dice.randrange(head)] ^= 1 << dice.randrange(8)
        path.write_bytes(changed)
        opened += survive(path)
    assert 0 < opened < 700


def test_lying_numbers_are_a_problem_or_harmless(smallest, tmp_path):
    data = smallest.read_bytes()
    head = len(data) - sum(tensor.raw.nbytes for tensor in read_gguf(smallest).tensors.values())
    dice = random.Random(1)
    path = tmp_path / "x.gguf"
    lies = [b"\xff" * 8, b"\xff" * 4, bytes(8), b"\xff" * 7 + b"\x7f", bytes(7) + b"\x10", b"\x09\0\0\0"]
    for _ in range(700):
        changed = bytearray(data)
        lie = dice.choice(lies)
        at = dice.randrange(head)
        changed[at : at + len(lie)] = lie
        path.write_bytes(changed[: len(data)])
        survive(path)


def test_every_cut_is_a_problem(smallest, tmp_path):
    data = smallest.read_bytes()
    path = tmp_path / "x.gguf"
    for length in [*range(0, 400), *range(400, len(data) - 32, 997)]:
        path.write_bytes(data[:length])
        with pytest.raises(run.Problem):
            run.File(path)


@pytest.mark.parametrize(
    "alignment", [0, 24, True, 32.0, "32", np.array([32], "<u4"), np.array([8, 32], "<u4")]
)
def test_an_alignment_that_is_none_is_a_problem(alignment, tmp_path):
    path = tmp_path / "x.gguf"
    write_gguf(path, {"general.alignment": alignment}, [("t", TensorType.F32, bytes(4), (1, 1))])
    with pytest.raises(run.Problem, match="alignment"):
        run.File(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("general.architecture", "llama"),
        ("general.architecture", 5),
        ("qwen3.block_count", 2),
        ("qwen3.block_count", 0),
        ("qwen3.block_count", 2**31),
        ("qwen3.embedding_length", 64),
        ("qwen3.attention.head_count", 0),
        ("qwen3.attention.head_count_kv", 3),
        ("qwen3.attention.key_length", 31),
        ("qwen3.rope.freq_base", 0.0),
        ("qwen3.rope.freq_base", float("nan")),
        ("qwen3.rope.freq_base", "x"),
        ("qwen3.attention.layer_norm_rms_epsilon", -1.0),
        ("qwen3.context_length", None),
        ("qwen3.context_length", 3),
        ("qwen3.rope.scaling.type", "yarn"),
        ("qwen3.rope.scaling.type", np.zeros(2)),
        ("qwen3.attention.head_count_kv", True),
        ("tokenizer.ggml.tokens", ["a"]),
    ],
)
def test_an_impossible_description_is_a_problem(key, value, smallest):
    file = run.File(smallest)
    file.values[key] = value
    if value is None:
        del file.values[key]
    with pytest.raises(run.Problem):
        run.Model(file)


class Dice:
    """Stands in for the random numbers and keeps what it was asked."""

    def choice(self, order, p):
        self.order, self.p = order, p
        return order[0]


@settings(max_examples=200, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.floats(0.1, 3),
    st.integers(0, 25),
    st.floats(0.05, 1),
    st.floats(0, 0.5),
)
def test_chances_are_those_of_transformers(seed, temperature, top_k, top_p, min_p):
    scores = (np.random.default_rng(seed).standard_normal(20) * 3).astype(np.float32)
    options = SimpleNamespace(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    dice = Dice()
    run.choose(scores, options, dice)
    found = np.zeros(20)
    found[dice.order] = dice.p

    warped = TemperatureLogitsWarper(temperature)(None, torch.from_numpy(scores).double()[None])
    if top_k:
        warped = TopKLogitsWarper(top_k)(None, warped)
    warped = TopPLogitsWarper(top_p)(None, warped)
    warped = MinPLogitsWarper(min_p)(None, warped)
    np.testing.assert_allclose(found, warped[0].softmax(-1).numpy(), atol=1e-6)


def test_temperature_0_takes_the_best_and_draws_follow_their_chances():
    scores = np.log(np.array([0.1, 0.6, 0.3], np.float32))
    options = SimpleNamespace(temperature=0.0, top_k=0, top_p=1.0, min_p=0.0)
    assert run.choose(scores, options, None) == 1
    options.temperature = 1.0
    dice = np.random.default_rng(0)
    counts = np.bincount([run.choose(scores, options, dice) for _ in range(4000)], minlength=3) / 4000
    np.testing.assert_allclose(counts, [0.1, 0.6, 0.3], atol=0.03)


def test_a_public_style_file_without_our_keys_opens(exported, tmp_path):
    """No Unicode tables, no first token wanted, a padded vocabulary: as Qwen's own files are."""
    source = read_gguf(exported("tied", "f16") / "model.gguf")
    metadata = {k: v for k, v in source.metadata.items() if not k.startswith("twofold.")}
    metadata["tokenizer.ggml.add_bos_token"] = False
    path = tmp_path / "model.gguf"
    tensors = [(t.name, TensorType(t.type), t.raw, t.shape) for t in source.tensors.values()]
    write_gguf(path, metadata, tensors)
    shutil.copy(run.__file__, tmp_path)
    session = run.Session(SimpleNamespace(model=str(path), seed=0, text=str(tmp_path / "t"), prompt="", max_tokens=2,
                                          temperature=0.0))  # fmt: skip
    assert session.tokenizer.begin == []
    session.options.text = ""
    with pytest.raises(run.Problem, match="text to begin with"):
        session.generate()
    (tmp_path / "t").write_text("A village by the sea, " * 40)
    session.options.text = str(tmp_path / "t")
    session.score()
    with pytest.raises(run.Problem, match="no self-test"):
        session.selftest()
