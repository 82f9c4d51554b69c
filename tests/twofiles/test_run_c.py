"""run.c, the fast twin of run.py: the same answers, equal to the bit however tokens are grouped, and no crash.

The C compiler is called once per kind of build. `fuzz_run.c` opens doors into the file for these tests.
"""

import ctypes
import os
import random
import shutil
import signal
import subprocess
import sys
import unicodedata
from pathlib import Path
from types import SimpleNamespace

import gguf
import numpy as np
import pexpect
import pytest
import regex
import tokenizers
import torch
import transformers
import xllamacpp
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers

from tests.twofiles.test_run_commands import FAULTS
from twofold.models.config import TransformerConfig
from twofold.models.folder import save_folder
from twofold.models.gguf import read_gguf, write_gguf
from twofold.models.quantize import TensorType
from twofold.models.transformer import Transformer
from twofold.tokens.tokenizer import bytes_only
from twofold.twofiles import run
from twofold.twofiles.export import export

SOURCE = Path(run.__file__).with_name("run.c")
DOORS = Path(__file__).with_name("fuzz_run.c")
COMPILER = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
STRICT = ["-Wall", "-Wextra", "-Werror"]
LINES = 1723  # what is there now; 600 were wished for
TYPES = ["f32", "f16", "bf16", "q8_0"]
IDS = np.random.default_rng(0).integers(0, 440, 100).astype(np.int32)

needs_compiler = pytest.mark.skipif(
    COMPILER is None, reason="run.c needs a C compiler, and none is installed"
)
pytestmark = needs_compiler


class Part(ctypes.Structure):
    _fields_ = [("tokens", ctypes.c_void_p), ("count", ctypes.c_int), ("start", ctypes.c_int),
                ("rows", ctypes.c_int), ("pages", ctypes.c_void_p)]  # fmt: skip


@pytest.fixture(scope="session")
def compiled(tmp_path_factory):
    """A function (name, source, options) -> the compiled file; each is compiled once, without a warning."""
    folder, made = tmp_path_factory.mktemp("compiled"), {}

    def make(name: str, source: Path, *options: str) -> Path:
        if name not in made:
            command = [
                COMPILER,
                *STRICT,
                *options,
                f"-I{SOURCE.parent}",
                str(source),
                "-o",
                str(folder / name),
            ]
            done = subprocess.run([*command, "-lm", "-lpthread"], capture_output=True, text=True, timeout=120)
            assert done.returncode == 0, done.stderr
            assert "warning" not in done.stderr
            made[name] = folder / name
        return made[name]

    return make


@pytest.fixture(scope="session")
def program(compiled) -> Path:
    return compiled("run", SOURCE, "-O1", "-march=native")


def library(path: Path) -> ctypes.CDLL:
    loaded = ctypes.CDLL(str(path))
    loaded.twofold_open.restype = ctypes.c_void_p
    loaded.twofold_open.argtypes = [ctypes.c_char_p, ctypes.c_int, ctypes.c_bool, ctypes.c_char_p]
    loaded.twofold_page_size.restype = ctypes.c_size_t
    loaded.twofold_read.restype = ctypes.c_char_p
    return loaded


@pytest.fixture(scope="session")
def native(compiled) -> ctypes.CDLL:
    return library(compiled("native.so", DOORS, "-O3", "-march=native", "-shared", "-fPIC"))


@pytest.fixture(scope="session")
def portable(compiled) -> ctypes.CDLL:
    return library(compiled("portable.so", DOORS, "-O2", "-DPORTABLE", "-march=native", "-shared", "-fPIC"))


@pytest.fixture(scope="session")
def avx2(compiled) -> ctypes.CDLL:
    if not {"avx2", "fma", "f16c"} <= set(Path("/proc/cpuinfo").read_text().split()):
        pytest.skip("this machine has no AVX2")
    return library(compiled("avx2.so", DOORS, "-O2", "-mavx2", "-mfma", "-mf16c", "-shared", "-fPIC"))


@pytest.fixture(scope="session")
def plain(compiled) -> ctypes.CDLL:
    """For any machine of this family, even one without fused multiply-add."""
    return library(compiled("plain.so", DOORS, "-O0", "-shared", "-fPIC"))


class Opened:
    """A model opened by the library."""

    def __init__(self, lib: ctypes.CDLL, path: Path, *, threads: int = 1, exact: bool = False):
        fault = ctypes.create_string_buffer(512)
        self.lib, self.words = lib, len(read_gguf(path).metadata["tokenizer.ggml.tokens"])
        self.model = lib.twofold_open(str(path).encode(), threads, exact, fault)
        assert self.model, fault.value
        self.model = ctypes.c_void_p(self.model)
        self.page_size = lib.twofold_page_size(self.model)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.lib.twofold_close(self.model)

    def encode(self, text: str | bytes) -> list[int]:
        data = text.encode() if isinstance(text, str) else text
        out = np.zeros(3 * len(data) + 1, np.int32)
        count = self.lib.twofold_encode(self.model, data, ctypes.c_size_t(len(data)),
                                        out.ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(len(out)))  # fmt: skip
        return out[:count].tolist()

    def sequence(self, length: int = 2048):
        """Pages for a sequence, of numbers that are none: the array of pointers, and what they point to."""
        pages = [np.full(self.page_size, 0xFF, np.uint8) for _ in range((length + 15) // 16)]
        return (ctypes.c_void_p * len(pages))(*[page.ctypes.data for page in pages]), pages

    def read(self, *asked) -> np.ndarray:
        """Scores of (tokens, start, rows, pages) of one or more sequences in one pass."""
        tokens = [np.ascontiguousarray(ids, np.int32) for ids, *_ in asked]
        parts = (Part * len(asked))(*[
            Part(ids.ctypes.data, len(ids), start, rows, ctypes.cast(pages, ctypes.c_void_p))
            for ids, (_, start, rows, pages) in zip(tokens, asked, strict=True)
        ])  # fmt: skip
        out = np.full((sum(part.rows for part in parts), self.words), np.nan, np.float32)
        fault = self.lib.twofold_read(self.model, parts, len(parts), out.ctypes.data_as(ctypes.c_void_p))
        assert fault is None, fault
        return out

    def logits(self, ids, cuts=()) -> np.ndarray:
        """Scores [T, V] after each token, read in pieces cut at `cuts`."""
        pages, _keep = self.sequence(len(ids))
        ends = [*cuts, len(ids)]
        return np.concatenate([
            self.read((ids[start:end], start, end - start, pages)) for start, end in zip([0, *cuts], ends, strict=True)
        ])  # fmt: skip


def start(program: Path, *arguments, given: str | bytes = b"", cwd=None, **more):
    given = given.encode() if isinstance(given, str) else given
    done = subprocess.run([str(program), *map(str, arguments)], input=given, capture_output=True, timeout=60, cwd=cwd,
                          **more)  # fmt: skip
    done.out, done.err = done.stdout.decode(), done.stderr.decode()
    return done


def twin(folder: Path, *arguments, given: str = "") -> str:
    """What run.py prints."""
    environment = {"PATH": os.environ["PATH"], "OPENBLAS_NUM_THREADS": "1", "PYTHONUTF8": "1"}
    command = [sys.executable, "run.py", *map(str, arguments)]
    done = subprocess.run(
        command, cwd=folder, input=given.encode(), capture_output=True, env=environment, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


def assert_close(found, expected, tolerance):
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


# ---- The file itself. ----
def test_the_program_is_short_and_not_wide():
    lines = SOURCE.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= LINES
    assert max(map(len, lines)) <= 120


def test_the_model_alone_compiles_as_a_library(compiled):
    path = compiled("alone.so", SOURCE, "-O0", "-DTWOFOLD_LIBRARY", "-shared", "-fPIC")
    assert ctypes.CDLL(str(path)).twofold_read


# ---- The same answers as run.py. ----
@pytest.mark.parametrize("type", TYPES)
def test_the_self_test_passes(type, program, exported):
    done = start(program, "--selftest", "--model", exported("tied", type) / "model.gguf", "--threads", 2)
    assert (done.returncode, done.out[:17]) == (0, "self-test passed:"), done.err


def test_the_self_test_fails_when_a_weight_is_another(program, exported, tmp_path):
    data = bytearray((exported() / "model.gguf").read_bytes())
    data[-5000:-2000] = bytes(3000)
    (tmp_path / "model.gguf").write_bytes(data)
    done = start(program, "selftest", "--model", tmp_path / "model.gguf")
    assert done.returncode == 1
    assert done.err == "run: self-test FAILED: not the tokens of its maker.\n"


@pytest.mark.parametrize("type", TYPES)
@pytest.mark.parametrize("name", ["tied", "untied"])
def test_exact_scores_are_those_of_run_py(name, type, native, exported, opened):
    session = opened(name, type)
    expected = session.model.output.times(session.model.read(IDS.tolist(), run.Memory(session.model)))
    with Opened(native, exported(name, type) / "model.gguf", exact=True) as ours:
        assert_close(ours.logits(IDS), expected, 1e-5)


@pytest.mark.parametrize(("type", "most"), [("f32", 1e-5), ("f16", 1e-5), ("bf16", 1e-2), ("q8_0", 5e-2)])
def test_rounded_scores_are_near_those_of_run_py(type, most, native, exported, opened):
    session = opened("untied", type)
    expected = session.model.output.times(session.model.read(IDS.tolist(), run.Memory(session.model)))
    with Opened(native, exported("untied", type) / "model.gguf") as ours:
        assert_close(ours.logits(IDS), expected, most)


@pytest.mark.parametrize("type", TYPES)
def test_the_best_tokens_are_those_of_run_py(type, program, exported):
    arguments = ["generate", "Once upon a 'time", "--temperature", 0, "--max-tokens", 40, "--model",
                 exported("tied", type) / "model.gguf"]  # fmt: skip
    done = start(program, *arguments, "--exact")
    assert done.out == twin(exported("tied", type), *arguments)
    assert done.err == "[stopped after 40 tokens]\n"


def test_score_and_info_print_what_run_py_prints(program, exported, tmp_path):
    text = "The baker didn't like cats. " * 30 + "🙂 村\n"  # several windows of 128 tokens
    (tmp_path / "story.txt").write_text(text)
    folder = exported("untied", "f16")
    for arguments in (["score", tmp_path / "story.txt"], ["info"]):
        ours = start(program, *arguments, "--model", folder / "model.gguf").out
        theirs = twin(folder, *arguments)
        assert ours.splitlines()[1:] == theirs.splitlines()[1:]
        first, second = ours.split()[0], theirs.split()[0]
        assert first == second or abs(float(first) / float(second) - 1) < 1e-6
    assert start(program, "score", "-", "--model", folder / "model.gguf", given=text).out.endswith(
        "128 tokens\n"
    )


def test_chat_answers_remembers_and_forgets_as_run_py_does(program, exported):
    lines = "Who's there?\n\n  And\tthen? \n/reset\nWho's there?\n"
    arguments = ["chat", "--temperature", 0, "--max-tokens", 6, "--system", "Be brief."]
    folder = exported("tied", "f32")
    done = start(program, *arguments, "--model", folder / "model.gguf", given=lines)
    assert done.returncode == 0
    assert done.out == twin(folder, *arguments, given=lines)
    said = done.out.split("\n> ")
    assert said[1] == said[-2] != said[2]


def test_a_conversation_that_fills_the_context_says_so_and_goes_on(program, exported):
    long = "village " * 60
    done = start(program, "chat", "--max-tokens", 4, "--model", exported() / "model.gguf",
                 given=f"{long}\nHello\n{long}{long}\n/reset\nHello\n")  # fmt: skip
    assert "do not fit" in done.err
    assert "/reset begins a new conversation" in done.err
    assert done.returncode == 0


# ---- Equal to the bit. ----
@pytest.mark.parametrize("type", TYPES)
def test_reading_at_once_in_pieces_or_beside_others_is_the_same_to_the_bit(type, native, exported):
    with Opened(native, exported("untied", type) / "model.gguf") as model:
        whole = model.logits(IDS)
        assert np.isfinite(whole).all()
        for cuts in (range(1, 100), [1, 2, 50], [16, 33], [99]):
            np.testing.assert_array_equal(model.logits(IDS, list(cuts)), whole)
        pages, _keep = model.sequence(100)
        others, _keep_too = model.sequence(100)
        model.read((IDS[:40], 0, 1, pages), (IDS[60:], 0, 0, others))
        found = model.read((IDS[50:55], 40, 0, others), (IDS[40:43], 40, 2, pages))
        np.testing.assert_array_equal(found, whole[41:43])


def test_faults_in_the_library_are_given_back_and_end_no_program(native, exported, tmp_path):
    fault = ctypes.create_string_buffer(512)
    assert native.twofold_open(str(tmp_path / "none").encode(), 1, False, fault) is None
    assert b"No such file" in fault.value
    with Opened(native, exported() / "model.gguf") as model:
        pages, _keep = model.sequence(16)
        for token in (-1, 448, 2**31 - 1):
            with pytest.raises(AssertionError, match=f"there is no token {token}"):
                model.read(([3, token], 0, 1, pages))
        assert np.isfinite(model.read(([3], 0, 1, pages))).all()


@pytest.mark.parametrize("shape", [(72, 10, 2, 20, 100), (50, 1, 1, 6, 33), (96, 2, 2, 130, 64)], ids=str)
def test_widths_that_fill_no_vector_are_computed_alike(shape, native, tmp_path):
    width, heads, kv, head, inner = shape
    config = TransformerConfig(vocab_size=320, hidden_size=width, num_hidden_layers=2, num_attention_heads=heads,
                               num_key_value_heads=kv, head_dim=head, intermediate_size=inner,
                               max_position_embeddings=128)  # fmt: skip
    torch.manual_seed(0)
    model = Transformer(config)
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.15).add_(parameter.ndim == 1)
    save_folder(tmp_path / "hf", model, bytes_only(), chat=True)
    ids = IDS % 256
    for type in ("f32", "q8_0"):
        path = export(tmp_path / "hf", tmp_path / type, type=type).folder / "model.gguf"
        session = run.Session(SimpleNamespace(model=str(path), seed=0))
        expected = session.model.output.times(session.model.read(ids.tolist(), run.Memory(session.model)))
        with Opened(native, path, exact=True) as exact, Opened(native, path) as quick:
            assert_close(exact.logits(ids), expected, 2e-5)
            np.testing.assert_array_equal(quick.logits(ids, [1, 2, 17, 80]), quick.logits(ids))


@pytest.mark.parametrize("type", ["f32", "q8_0"])
def test_two_threads_compute_the_same_as_one_to_the_bit(type, native, exported):
    path = exported("tied", type) / "model.gguf"
    with Opened(native, path) as one, Opened(native, path, threads=2) as two:
        whole = one.logits(IDS)
        np.testing.assert_array_equal(two.logits(IDS), whole)
        np.testing.assert_array_equal(two.logits(IDS, list(range(1, 100))), whole)


@pytest.mark.parametrize("type", TYPES)
def test_vectors_of_any_width_agree(type, native, avx2, portable, plain, exported):
    """Up to the rounding of sums whose order is the same, but not where a compiler joins product and sum."""
    path = exported("untied", type) / "model.gguf"
    with Opened(native, path) as model:
        expected = model.logits(IDS)
    for build in (avx2, portable, plain):
        with Opened(build, path) as one, Opened(build, path, threads=2) as two:
            whole = one.logits(IDS)
            assert_close(whole, expected, 1e-5 if type in ("f32", "f16") else 2e-2)
            np.testing.assert_array_equal(two.logits(IDS, [1, 2, 5, 9, 14, 50, 51]), whole)


def test_the_exponential_is_exact_to_a_few_parts_in_ten_million(native):
    x = np.linspace(-86.9, 87.9, 1 << 16).astype(np.float32)
    out = np.empty_like(x)
    native.door_exponential(x.ctypes.data_as(ctypes.c_void_p), len(x), out.ctypes.data_as(ctypes.c_void_p))
    expected = np.exp(x.astype(np.float64))
    assert (np.abs(out - expected) / expected).max() < 3e-7
    x = np.array([0, -0.0, -200, 200, np.nan, -np.inf, np.inf, *[1] * 9], np.float32)
    out = np.empty_like(x)
    native.door_exponential(x.ctypes.data_as(ctypes.c_void_p), len(x), out.ctypes.data_as(ctypes.c_void_p))
    assert out[0] == out[1] == 1
    assert 0 <= out[2] < 2e-38
    assert out[3] > 1e38
    assert np.isnan(out[4:7]).all()


# ---- Types and families of other people's files. ----
KINDS = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_K", "Q6_K"]


def stored(kind: str, rows: int, width: int, seed: int = 0) -> np.ndarray:
    """Random weights as bytes; the K types, which the package cannot write, as random blocks with small scales."""
    dice = np.random.default_rng(seed)
    theirs = gguf.GGMLQuantizationType[kind]
    if kind not in ("Q4_K", "Q6_K"):
        return gguf.quants.quantize(
            dice.standard_normal((rows, width)).astype(np.float32) * 0.1, theirs
        ).view(np.uint8)
    size, (at, count) = {"Q4_K": (144, (0, 2)), "Q6_K": (210, (208, 1))}[kind]
    blocks = dice.integers(0, 256, (rows * width // 256, size), dtype=np.uint8)
    scales = dice.uniform(0.0005, 0.002, (len(blocks), count)).astype(np.float16)
    blocks[:, at : at + 2 * count] = scales.view(np.uint8)
    return blocks.reshape(rows, -1)


@pytest.mark.parametrize("kind", KINDS)
def test_stored_weights_become_the_numbers_that_gguf_says(kind, native):
    raw = np.ascontiguousarray(stored(kind, 3, 512))
    expected = gguf.quants.dequantize(raw, gguf.GGMLQuantizationType[kind]).reshape(-1)
    found = np.empty(3 * 512, np.float32)
    native.door_unpack(int(gguf.GGMLQuantizationType[kind]), raw.ctypes.data_as(ctypes.c_void_p), len(found),
                       found.ctypes.data_as(ctypes.c_void_p))  # fmt: skip
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("build", ["native", "avx2", "portable"])
def test_products_are_near_those_of_numpy(kind, build, request):
    lib = request.getfixturevalue(build)
    most = {"F32": 1e-6, "F16": 1e-6, "BF16": 3e-3}.get(kind, 1e-2)
    shapes = [(40, 512, 13), (300, 256, 1)] + ([(7, 33, 3)] if kind in ("F32", "F16", "BF16") else [])
    for rows, width, count in shapes:
        raw = np.ascontiguousarray(stored(kind, rows, width))
        weights = gguf.quants.dequantize(raw, gguf.GGMLQuantizationType[kind]).reshape(rows, width)
        x = np.zeros((count, (width + 31) // 32 * 32), np.float32)
        x[:, :width] = np.random.default_rng(1).standard_normal((count, width))
        out = np.full((count, rows), np.nan, np.float32)
        lib.door_product(int(gguf.GGMLQuantizationType[kind]), rows, width, raw.ctypes.data_as(ctypes.c_void_p), count,
                         x.ctypes.data_as(ctypes.c_void_p), out.ctypes.data_as(ctypes.c_void_p), 1)  # fmt: skip
        assert_close(out, x[:, :width] @ weights.T, most)


def interleaved(weight: np.ndarray, heads: int) -> np.ndarray:
    """q or k rows as llama.cpp's converter orders them: pairs as neighbours."""
    rows, width = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, width).swapaxes(1, 2).reshape(rows, width)


NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
}  # fmt: skip


def public_file(
    path: Path, family: str, source: Path, kinds: dict[str, str] | None = None, scaled: bool = False
):
    """A tiny random model of another family, written with the `gguf` package; (transformers' model, its file)."""
    shape = dict(vocab_size=448, hidden_size=256, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                 intermediate_size=512, max_position_embeddings=256, head_dim=40, rope_theta=10_000.0,
                 tie_word_embeddings=family != "llama")  # fmt: skip
    if scaled:
        shape["rope_scaling"] = {"rope_type": "linear", "factor": 4.0}
    config, kind = {
        "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
        "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
    }[family]
    torch.manual_seed(0)
    model = kind(config(**shape)).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.data.normal_(0, 0.5)
        elif parameter.ndim == 1:
            parameter.data.uniform_(0.5, 1.5)
        else:
            parameter.data.normal_(0, 0.08)
    writer = gguf.GGUFWriter(path, family)
    known = read_gguf(source).metadata
    for key in ("model", "pre", "tokens", "token_type", "merges", "bos_token_id", "eos_token_id"):
        value = known[f"tokenizer.ggml.{key}"]
        writer.add_key_value(f"tokenizer.ggml.{key}", *typed(value))
    writer.add_bool("tokenizer.ggml.add_bos_token", False)
    writer.add_context_length(256)
    writer.add_embedding_length(256)
    writer.add_feed_forward_length(512)
    writer.add_block_count(2)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_key_length(40)
    writer.add_value_length(40)
    writer.add_layer_norm_rms_eps(config(**shape).rms_norm_eps)
    writer.add_rope_freq_base(10_000.0)
    writer.add_rope_dimension_count(40)
    if scaled:
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(4.0)
    with torch.no_grad():
        for name, parameter in model.state_dict().items():
            short = theirs(name)
            if short == "output.weight" and family != "llama":
                continue
            weight = parameter.numpy()
            heads = {"attn_q.weight": 4, "attn_k.weight": 2}.get(short.partition(".")[2].partition(".")[2])
            if heads and family == "llama":
                weight = interleaved(weight, heads)
            code = gguf.GGMLQuantizationType[
                (kinds or {}).get(short.split(".")[-2], "F32" if weight.ndim == 1 else "F16")
            ]
            raw = gguf.quants.quantize(np.ascontiguousarray(weight), code)
            writer.add_tensor(short, raw, raw_dtype=code)
            if heads and family == "llama":
                continue
            parameter.copy_(torch.from_numpy(gguf.quants.dequantize(raw, code).reshape(weight.shape).copy()))
        if family == "llama":
            for name, parameter in model.state_dict().items():
                if name.endswith(("q_proj.weight", "k_proj.weight")):
                    parameter.copy_(parameter.half().float())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


def typed(value):
    kinds = gguf.GGUFValueType
    if isinstance(value, str):
        return value, kinds.STRING
    if isinstance(value, int):
        return value, kinds.UINT32
    values = list(value)
    if isinstance(values[0], str):
        return values, kinds.ARRAY, kinds.STRING
    return [int(v) for v in values], kinds.ARRAY, kinds.INT32


def theirs(name: str) -> str:
    ends = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
            "lm_head.weight": "output.weight"}  # fmt: skip
    if name in ends:
        return ends[name]
    _, _, layer, rest = name.split(".", 3)
    stem, _, suffix = rest.rpartition(".")
    return f"blk.{layer}.{NAMES[stem]}.{suffix}"


@pytest.mark.parametrize(
    ("family", "scaled", "kinds", "most"),
    [
        ("llama", False, {}, 1e-4),
        ("qwen2", False, {}, 1e-4),
        ("llama", True, {}, 1e-4),
        ("qwen2", False, {"ffn_down": "Q4_0", "ffn_up": "Q8_0", "attn_v": "F32", "token_embd": "Q8_0"}, 2e-2),
    ],
)
def test_models_of_other_families_score_as_transformers_says(
    family, scaled, kinds, most, native, exported, tmp_path
):
    path = tmp_path / "model.gguf"
    model = public_file(path, family, exported() / "model.gguf", kinds, scaled)
    with torch.no_grad():
        expected = model(torch.from_numpy(IDS[None].astype(np.int64))).logits[0].numpy()
    with Opened(native, path) as ours:
        found = ours.logits(IDS)
        assert_close(found, expected, most)
        np.testing.assert_array_equal(ours.logits(IDS, [1, 17, 18]), found)


def test_llama_cpp_gives_the_same_scores_for_blocks_of_four_bits(native, exported, tmp_path):
    path = tmp_path / "model.gguf"
    public_file(
        path,
        "llama",
        exported() / "model.gguf",
        dict.fromkeys(
            ["attn_q", "attn_k", "attn_v", "ffn_gate", "ffn_up", "ffn_down", "attn_output"], "Q4_0"
        ),
    )
    params = xllamacpp.CommonParams()
    params.model.path, params.n_ctx, params.n_parallel, params.warmup, params.verbosity = (
        str(path),
        256,
        1,
        False,
        -1,
    )
    params.cpuparams.n_threads = 1
    server = xllamacpp.Server(params)
    with Opened(native, path) as ours:
        for prompt in ("Once upon a time", "The baker didn't like cats. 1874"):
            answer = server.handle_completions(
                {"prompt": prompt, "max_tokens": 1, "temperature": 0.0, "n_probs": 5}
            )
            scores = ours.logits(np.array(ours.encode(prompt), np.int32))[-1].astype(np.float64)
            own = scores - scores.max() - np.log(np.exp(scores - scores.max()).sum())
            top = answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
            assert all(abs(one["logprob"] - own[one["id"]]) < 0.1 for one in top)


# ---- Text. ----
HARD = [
    "'s", "'S", "'ſ", "'ſt", "'LL", "'lL", "'Re", "'vE", "'D", "'M", "'T", "’s", "'", "''s", " 's", "\n's", " ", "  ",
    "\n", "\r", "\r\n", "\t", "\x0b", "\x1c", "\x85", "\xa0", "\u1680", "\u2003", "\u2028", "\u3000", "\u200b",
    "\ufeff", "\x00", "\x7f", "a", "Z", "ß", "é", "e\u0301", "İ", "ŉ", "ǅ", "村", "アー", "ก็", "नमस्ते", "٣", "7", "½",
    "Ⅷ", "²", "𝟜", "!", "...", "—", "🙂", "👩‍👩‍👧", "🇫🇷", "\U00013000", "\U0001e900", "\U0003134a", "\ue000", "\uffff",
    "\U0010ffff", "_", '"', "<|im_end|>", "<think>", "ĠĊ", "1234567", "12 34", "a  1", " 5", "\n\n x", "  \n  y",
]  # fmt: skip
texts = st.lists(st.one_of(st.sampled_from(HARD), st.characters(exclude_categories=["Cs"]), st.text(max_size=5)),
                 max_size=30).map("".join)  # fmt: skip


@pytest.fixture
def changed(exported, tmp_path):
    """A function that writes a model with other metadata (None takes a key away); its path."""

    def write(**values) -> Path:
        source = read_gguf(exported("tied", "f16") / "model.gguf")
        metadata = dict(source.metadata)
        for key, value in values.items():
            name = key.replace("__", ".")
            metadata.pop(name, None) if value is None else metadata.update({name: value})
        tensors = [(t.name, TensorType(t.type), t.raw, t.shape) for t in source.tensors.values()]
        write_gguf(tmp_path / "changed.gguf", metadata, tensors)
        return tmp_path / "changed.gguf"

    return write


def test_tokens_are_those_of_run_py_on_hard_text(native, exported, opened):
    twin = opened().tokenizer
    with Opened(native, exported() / "model.gguf") as model:

        @settings(max_examples=400, deadline=None)
        @given(texts)
        def check(text):
            assert model.encode(text) == twin.encode(text)

        check()
        points = [*range(0xD800), *range(0xE000, 0x33480), *range(0xE0000, 0xE0200)]
        random.Random(0).shuffle(points)
        text = "".join(map(chr, points))
        assert model.encode(text) == twin.encode(text)
        for word in ("a" * 100_000, "village" * 10_000, "!" * 50_000, " " * 50_000, "ab" * 25_000 + "é"):
            assert model.encode(word) == twin.encode(word)


def test_bytes_that_are_no_text_become_replacement_characters(native, exported, opened):
    twin, dice = opened().tokenizer, random.Random(0)
    with Opened(native, exported() / "model.gguf") as model:
        for _ in range(300):
            data = bytes(
                dice.choice(b"a\x80\xbf\xc2\xe0\xa0\xed\x9f\xf0\x90\xf4\x8f\xf5\xff") for _ in range(12)
            )
            assert model.encode(data) == twin.encode(data.decode("utf-8", "replace"))


def test_without_the_files_tables_its_own_serve(native, changed, opened):
    tables = {f"twofold__unicode__{name}": None for name in ("letters", "numbers", "spaces")}
    known = [c for c in map(chr, range(0x33480)) if unicodedata.category(c) not in ("Cn", "Cs")]
    random.Random(1).shuffle(known)
    with Opened(native, changed(**tables)) as model:
        assert model.encode("".join(known)) == opened().tokenizer.encode("".join(known))


@pytest.mark.parametrize("name", ["gpt-2", "llama-bpe", "smollm"])
def test_other_patterns_cut_as_their_libraries_do(name, native, changed, opened):
    llama = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
             r"|\s+(?!\S)|\s+")  # fmt: skip
    cut = {
        "gpt-2": pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        "llama-bpe": pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(llama), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]),
        "smollm": pre_tokenizers.Sequence([
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]),
    }[name]  # fmt: skip
    path = changed(tokenizer__ggml__pre=name)
    known = read_gguf(path).metadata
    vocabulary = {piece: i for i, piece in enumerate(known["tokenizer.ggml.tokens"])}
    merges = [tuple(merge.split(" ")) for merge in known["tokenizer.ggml.merges"]]
    bpe = tokenizers.models.BPE(vocabulary, merges, ignore_merges=name == "llama-bpe")
    library_ = tokenizers.Tokenizer(bpe)
    library_.pre_tokenizer = cut
    with Opened(native, path) as model:

        @settings(max_examples=300, deadline=None)
        @given(
            texts.map(lambda text: regex.sub(r"[^\x00-\x7fé🙂村]", "x", text))
        )  # the libraries' Unicode differs
        def check(text):
            assert model.encode(text) == library_.encode(text, add_special_tokens=False).ids

        check()


# ---- As a person uses it. ----
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        *FAULTS,
        (["info", "--model=empty"], "cannot be used"),
        (["generate", "x", "--seed", "99999999999999999999"], "invalid int"),
        (["generate", "x", "--min-p", ""], "invalid float"),
        (["generate", "x", "--threads", "0"], "negative"),
        (["generate", "x", "--model"], "a value must follow"),
        (["generate", "x", "y"], "unrecognized argument"),
        (["generate", "x", "--colour"], "unrecognized argument"),
        (["dance"], "there is no command dance"),
    ],
)
def test_faults_are_told_in_a_line(arguments, message, program, exported, tmp_path):
    for file in ("run.py", "model.gguf"):
        shutil.copy(exported() / file, tmp_path)
    shutil.copy(program, tmp_path / "run")
    (tmp_path / "empty").touch()
    done = start("./run", *arguments, cwd=tmp_path)
    assert done.returncode in (1, 2)
    assert message in done.err
    assert done.err.startswith("run: ")
    assert len(done.err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"general__architecture": "mamba"}, "the family mamba"),
        ({"general__architecture": "\x1b[31mred"}, "the family ?[31mred"),
        ({"qwen3__block_count": 2**31}, "no model that can be computed"),
        ({"qwen3__block_count": 1}, "blk.1.attn_norm.weight, which is not known here"),
        ({"qwen3__embedding_length": 96}, "there must be"),
        ({"qwen3__attention__head_count": 0}, "no model"),
        ({"qwen3__attention__head_count_kv": 3}, "no model"),
        ({"qwen3__rope__freq_base": 0.5}, "no model"),
        ({"qwen3__rope__scaling__type": "yarn"}, "not known here: yarn"),
        ({"qwen3__context_length": None}, "'.context_length' is missing"),
        ({"tokenizer__ggml__pre": "tekken"}, "tekken"),
        ({"tokenizer__ggml__model": "llama"}, "llama"),
        ({"tokenizer__ggml__tokens": ["a", "b"]}, "damaged"),
        ({"tokenizer__ggml__merges": ["ab"]}, "damaged"),
        ({"tokenizer__ggml__bos_token_id": 10**6}, "damaged"),
        ({"tokenizer__ggml__eos_token_id": None}, "eos_token_id"),
        ({"twofold__unicode__letters": np.array([9, 5], np.uint32)}, "twofold.unicode.letters is damaged"),
    ],
)
def test_descriptions_that_cannot_be_are_told_in_a_line(values, message, program, changed):
    done = start(program, "info", "--model", changed(**values))
    assert done.returncode == 1
    assert message in done.err
    assert len(done.err.splitlines()) == 1


def test_weights_that_are_no_numbers_are_told(program, exported, tmp_path):
    for type in TYPES:
        data = bytearray((exported("tied", type) / "model.gguf").read_bytes())
        data[-5000:-2000] = b"\xff" * 3000  # NaN
        (tmp_path / "model.gguf").write_bytes(data)
        done = start(program, "generate", "The", "--model", tmp_path / "model.gguf", "--max-tokens", 3)
        assert (done.returncode, "weights are damaged" in done.err) == (1, True), type


def test_every_cut_is_told(program, exported, tmp_path):
    data = (exported() / "model.gguf").read_bytes()
    for length in (0, 3, 4, 20, 24, 100, 3000, len(data) - 40):
        (tmp_path / "model.gguf").write_bytes(data[:length])
        done = start(program, "info", "--model", tmp_path / "model.gguf")
        assert done.returncode == 1
        assert "model.gguf cannot be used: no GGUF, damaged or cut short?" in done.err


def test_damaged_files_are_told_or_harmless(compiled, tmp_path):
    config = TransformerConfig(vocab_size=320, hidden_size=32, num_hidden_layers=1, num_attention_heads=1,
                               num_key_value_heads=1, head_dim=32, intermediate_size=32,
                               max_position_embeddings=64)  # fmt: skip
    torch.manual_seed(0)
    model = Transformer(config)
    with torch.no_grad():
        for weights in model.parameters():  # all of them: a fresh model's layers add nothing yet
            weights.add_(0.3 * torch.randn_like(weights))
    save_folder(tmp_path / "smallest", model, bytes_only(), chat=True)
    whole = export(tmp_path / "smallest", tmp_path / "two").folder / "model.gguf"
    fuzz = compiled("fuzz", DOORS, "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    limits = {"ASAN_OPTIONS": "max_allocation_size_mb=256:detect_leaks=0"}
    done = subprocess.run([fuzz, whole, tmp_path / "x.gguf", "2000", "1"], stdout=subprocess.DEVNULL, timeout=100,
                          stderr=subprocess.PIPE, env=limits)  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    assert done.stderr.decode().endswith("of 2000 were harmless\n")


def test_a_seed_gives_the_same_text_and_another_seed_another(program, exported):
    arguments = ["generate", "It", "--max-tokens", 20, "--top-k", 50, "--top-p", 0.95, "--min-p", 0.01, "--model",
                 exported("tied", "q8_0") / "model.gguf"]  # fmt: skip
    first, again, other = (start(program, *arguments, "--seed", seed).out for seed in (1, 1, 2))
    assert first == again != other


class Dice:
    """Stands in for run.py's random numbers and keeps what it was asked."""

    def choice(self, order, p):
        self.order, self.p = order, p
        return order[0]


def test_draws_are_of_what_run_py_leaves_after_each_filter(program, exported, opened):
    session = opened("tied", "f32")
    tokenizer = session.tokenizer
    ids = tokenizer.begin + tokenizer.encode("The")
    scores = session.model.output.times(session.model.read(ids, run.Memory(session.model)))[-1]
    for arguments in ({"top_k": 3}, {"top_p": 0.6}, {"min_p": 0.2}):
        options = SimpleNamespace(**{"temperature": 3.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0} | arguments)
        dice = Dice()
        run.choose(scores, options, dice)
        possible = set(dice.order[dice.p > 0].tolist())
        given_ = [f"--{key.replace('_', '-')}={value}" for key, value in arguments.items()]
        for seed in range(12):
            done = start(program, "generate", "The", "--temperature", 3, *given_, "--seed", seed, "--max-tokens", 1,
                         "--model", exported("tied", "f32") / "model.gguf")  # fmt: skip
            said = done.out.removeprefix("The").removesuffix("\n").encode()
            assert said in {tokenizer.bytes[i].decode("utf-8", "replace").encode() for i in possible}


def test_a_prompt_can_come_from_standard_input_be_empty_or_no_text(program, exported):
    model = ["--model", exported() / "model.gguf", "--max-tokens", 3]
    assert start(program, "generate", "-", *model, given="Grüße").out.startswith("Grüße")
    assert start(program, "generate", "-", *model, given=b"caf\xe9").out.startswith("caf\ufffd")
    assert start(program, "generate", "", *model).returncode == 0


def test_without_a_command_and_without_a_terminal_it_shows_its_help(program):
    for arguments in ([], ["--help"]):
        done = start(program, *arguments)
        assert done.returncode == 0
        assert "run score story.txt" in done.out
        assert "--max-tokens" in done.out


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("command", ["chat", "generate -", "score -", "info", ""])
def test_closed_standard_streams_are_no_fault(command, closed, program, exported):
    line = f"exec {program} {command} --max-tokens 2 --model {exported() / 'model.gguf'} {closed}"
    done = subprocess.run(["bash", "-c", line], input=b"Hi.", capture_output=True, timeout=60)
    assert done.returncode == (command == "score -" and "<&-" in closed)  # nothing to score


@pytest.mark.parametrize(
    "arguments", ["generate The --max-tokens 3", "info", "selftest", "score README", "chat"]
)
def test_a_full_disk_under_the_output_is_told(arguments, program, exported, tmp_path):
    (tmp_path / "README").write_text("Some text.")
    line = f"exec {program} {arguments} --model {exported() / 'model.gguf'} > /dev/full"
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, input=b"Hi.\n", capture_output=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr == b"run: cannot go on: No space left on device.\n"


def test_a_reader_that_goes_away_is_no_fault(program, exported):
    read, write = os.pipe()
    os.close(read)
    command = [program, "generate", "The", "--temperature", "3", "--model", exported() / "model.gguf"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, timeout=60)
    os.close(write)
    assert (done.returncode, done.stderr) == (-signal.SIGPIPE, b"")


def test_ctrl_c_ends_an_answer_and_then_the_conversation(program, exported):
    child = pexpect.spawn(str(program), ["--model", str(exported("long", "f32") / "model.gguf"), "--temperature", "0"],
                          timeout=20, encoding="utf-8", codec_errors="replace")  # fmt: skip
    child.delaybeforesend = None  # its best tokens never end the answer, but the context does, soon
    child.expect("Talk with the model")
    child.expect("> ")
    child.sendline("Hello")
    child.expect("Hello\r\n.")
    child.sendcontrol("c")
    child.expect(["stopped", "> "])
    child.expect("> ")
    child.sendcontrol("c")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
