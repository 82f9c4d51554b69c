"""run.c behind `LanguageModel`: the scores of torch, the same bits however they are asked for."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

import twofold
from twofold.decoding.decoders import Beam, Sample, Speculative, StochasticBeam
from twofold.decoding.masks import Regex
from twofold.decoding.session import LoadedModel
from twofold.errors import FileError, UsageError
from twofold.models.c_library import COMPILERS, NoCompiler, library
from twofold.models.c_model import CLanguageModel
from twofold.models.config import TransformerConfig
from twofold.models.folder import load_folder, save_folder
from twofold.models.language_model import Ask, ContextFull
from twofold.models.torch_model import TorchLanguageModel
from twofold.models.transformer import Transformer
from twofold.tokens.tokenizer import bytes_only
from twofold.twofiles.export import export

pytestmark = pytest.mark.skipif(not any(map(shutil.which, COMPILERS)), reason="there is no C compiler here")
TOKENIZER = bytes_only()
SHAPES = [  # heads, key-value heads, head width, width, inner
    (4, 2, 16, 64, 96), (2, 1, 32, 96, 160), (3, 3, 64, 64, 64), (8, 2, 8, 32, 224),
]  # fmt: skip


@pytest.fixture(scope="module", params=SHAPES, ids=str)
def both(request, tmp_path_factory):
    """(config, torch's model, the folder of the same model's .gguf)."""
    torch.manual_seed(0)
    heads, kv, head, width, inner = request.param
    config = TransformerConfig(
        vocab_size=TOKENIZER.vocab_size, hidden_size=width, num_hidden_layers=3, num_attention_heads=heads,
        num_key_value_heads=kv, head_dim=head, intermediate_size=inner, max_position_embeddings=200,
    )  # fmt: skip
    model = Transformer(config)
    for parameter in model.parameters():
        parameter.data.normal_(std=0.2).add_(parameter.ndim == 1)
    folder = tmp_path_factory.mktemp("c")
    save_folder(folder / "model", model, TOKENIZER, chat=False)
    return config, TorchLanguageModel(model), folder


def opened(both, kind="f32", **options):
    config, _, folder = both
    path = folder / kind / "model.gguf"
    if not path.is_file():
        export(folder / "model", folder / kind, type=kind)
    return CLanguageModel(path, config, **options)


def text(length, seed=0):
    return np.random.default_rng(seed).integers(0, 256, length).tolist()


def all_scores(model, tokens):
    memory = model.new_memory()
    return np.asarray(model.scores(memory, [Ask(memory.new(), tokens, len(tokens))]))


def test_scores_are_those_of_torch(both):
    tokens = text(150)
    expected = all_scores(both[1], tokens)
    assert np.abs(all_scores(opened(both), tokens) - expected).max() < 2e-4


@pytest.mark.parametrize("kind", ["bf16", "q8_0"])
def test_rounded_weights_give_nearly_the_same(both, kind):
    tokens = text(80)
    expected = all_scores(both[1], tokens)
    found = all_scores(opened(both, kind), tokens)
    assert np.abs(found - expected).max() < 0.15 * np.abs(expected).max()
    assert np.sqrt(np.square(found - expected).mean()) < 0.06 * expected.std()
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.998


@pytest.mark.parametrize("kind", ["f32", "q8_0", "bf16"])
def test_the_same_bits_alone_beside_others_in_pieces_and_with_other_threads(both, kind):
    tokens, others = text(90), [text(n, n) for n in (1, 17, 60)]
    model = opened(both, kind, threads=1)
    expected = all_scores(model, tokens)
    for threads, chunk in ((1, 7), (2, 256), (3, 33)):
        again = opened(both, kind, threads=threads, chunk=chunk)
        memory = again.new_memory()
        beside = [Ask(memory.new(), other, 1) for other in others]
        asks = [beside[0], Ask(memory.new(), tokens[:40], 40), *beside[1:]]
        assert np.array_equal(again.scores(memory, asks)[1:41], expected[:40])
        sequence = memory.new()
        again.scores(memory, [Ask(sequence, tokens[:33], 0)])
        fork = memory.fork(sequence)
        rows = again.scores(memory, [Ask(fork, tokens[33:34]), Ask(sequence, tokens[33:35], 2)])
        assert np.array_equal(rows[0], expected[33])
        assert np.array_equal(rows[1:], expected[33:35])
        memory.rewind(sequence, 20)
        assert np.array_equal(again.scores(memory, [Ask(sequence, tokens[20:90], 70)]), expected[20:])


def test_every_kind_of_decoder_runs_on_it(both):
    _, theirs, _ = both
    ours = LoadedModel(opened(both), TOKENIZER, (TOKENIZER.end_of_text, TOKENIZER.im_end))
    torch_model = LoadedModel(theirs, TOKENIZER, ours.stop_ids)
    for decoder in (Sample(), Beam(3), Speculative(ahead=2), StochasticBeam(2)):
        for mask in (None, Regex("[a-z ]{3,20}")):
            options = dict(decoder=decoder, mask=mask, max_tokens=20, temperature=0.8, seed=1)
            assert ours.generate("the cat", **options) == torch_model.generate("the cat", **options)


def test_wrong_calls_are_told_and_change_nothing(both):
    model = opened(both)
    memory = model.new_memory()
    sequence = memory.new()
    with pytest.raises(ValueError, match="vocabulary"):
        model.scores(memory, [Ask(sequence, [10**6])])
    with pytest.raises(ContextFull):
        model.scores(memory, [Ask(sequence, [1] * 201)])
    assert memory.length(sequence) == 0
    with pytest.raises(ContextFull):
        opened(both, context_length=5).scores(memory, [Ask(sequence, [1] * 6)])
    with pytest.raises(UsageError, match="201 tokens was asked for"):
        opened(both, context_length=201)


def test_what_is_no_model_is_told(both, tmp_path):
    path = tmp_path / "no.gguf"
    path.write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(FileError, match=r"no\.gguf"):
        CLanguageModel(path, both[0])


def test_without_a_compiler_there_is_a_clear_message(monkeypatch):
    library.cache_clear()
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(NoCompiler, match="torch engine"):
        library()
    monkeypatch.delenv("CC")
    library.cache_clear()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_live_weights_are_computed_without_a_file_and_again_when_they_change(both, dtype):
    folder = both[2]
    transformer, _ = load_folder(folder / "model", dtype=dtype)
    model, tokens = CLanguageModel.live(transformer, threads=2), text(60)
    kind = "f32" if dtype == torch.float32 else "bf16"
    first = all_scores(model, tokens)
    if dtype == torch.float32:  # a file keeps its norms in float32
        assert np.array_equal(first, all_scores(opened(both, kind), tokens))
    with torch.no_grad():
        for parameter in transformer.parameters():
            parameter.mul_(1.25)
    model.refresh()
    again = all_scores(model, tokens)
    expected = all_scores(TorchLanguageModel(transformer), tokens)
    tolerance = 2e-4 if dtype == torch.float32 else 0.1 * np.abs(expected).max()
    assert np.abs(again - expected).max() < tolerance < np.abs(again - first).max()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_folder_opens_without_an_export(both, precision):
    threads = torch.get_num_threads()
    folder = both[2] / "model"
    plain = twofold.load(folder, precision=precision, context_length=70)
    quick = twofold.load(folder, engine="c", precision=precision, context_length=70)
    torch.set_num_threads(threads)
    assert isinstance(quick.model, CLanguageModel)
    assert (quick.name, quick.stop_ids, quick.model.context_length) == (plain.name, plain.stop_ids, 70)
    expected, tokens = all_scores(plain.model, text(60)), text(60)
    tolerance = 2e-4 if precision == "float32" else 0.1 * np.abs(expected).max()
    assert np.abs(all_scores(quick.model, tokens) - expected).max() < tolerance


def test_weights_that_lie_otherwise_are_refused():
    config = TransformerConfig(
        vocab_size=320, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2,
        head_dim=16, intermediate_size=64, model_type="llama",
    )  # fmt: skip
    with pytest.raises(UsageError, match="Export the model"):
        CLanguageModel.live(Transformer(config))
    with pytest.raises(UsageError, match="float16"):
        CLanguageModel.live(Transformer(replace(config, model_type="qwen3")).half())
