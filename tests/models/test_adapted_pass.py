"""Several adapters in one pass: each sequence's scores are those of the model that its adapter makes."""

import copy
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from twofold.errors import UsageError
from twofold.models.config import TransformerConfig
from twofold.models.folder import load_config, load_weights
from twofold.models.language_model import Ask
from twofold.models.lora import TARGETS, Adapter, LowRank, linears, merge
from twofold.models.token_rows import Rows
from twofold.models.torch_model import TorchLanguageModel
from twofold.models.transformer import Transformer

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from families import ROWS, random_model


def random_adapter(model, seed, *, dora=False, targets=TARGETS, rank=3, scale=0.7):
    generator = torch.Generator().manual_seed(seed)
    changes = {}
    for name, linear in linears(model):
        if name.rpartition(".")[2] in targets:
            outputs, inputs = linear.weight.shape
            a = torch.randn(rank, inputs, generator=generator) * inputs**-0.5
            b = torch.randn(outputs, rank, generator=generator) * 0.3
            length = linear.weight.norm(dim=1) * (0.5 + torch.rand(outputs, generator=generator))
            changes[name] = LowRank(a, b, scale, length if dora else None)
    return Adapter(changes)


def with_tokens(model, adapter, ids):
    """The adapter with rows of its own for these tokens."""
    names = ["model.embed_tokens"] + ["lm_head"] * (not model.config.tie_word_embeddings)
    dice, width = torch.Generator().manual_seed(9), model.config.hidden_size
    values = [torch.randn(len(ids), width, generator=dice) for _ in names]
    rows = {name: Rows(tuple(ids), value) for name, value in zip(names, values, strict=True)}
    return replace(adapter, rows=rows)


def adapters_of(model):
    return {
        "all": random_adapter(model, 1),
        "dora": random_adapter(model, 2, dora=True, rank=5),
        "some": random_adapter(model, 3, targets=("q_proj", "down_proj"), scale=2.0),
        "one": random_adapter(model, 4, targets=("up_proj", "v_proj"), dora=True),
        "tokens": with_tokens(model, random_adapter(model, 5), range(0, model.config.vocab_size, 3)),
    }


@pytest.fixture(params=ROWS)
def model(request, tmp_path):
    random_model(request.param, np.random.default_rng([7, *request.param.encode()])).save_pretrained(tmp_path)
    return load_weights(tmp_path, load_config(tmp_path))


def merged(model, adapter):
    alone = copy.deepcopy(model)
    if adapter is not None:
        merge(alone, adapter)
    return TorchLanguageModel(alone)


def read(model, texts, names, *, cuts):
    """The scores of every text, all read beside each other, in pieces that end at `cuts`."""
    memory = model.new_memory()
    sequences = [memory.new(adapter=name) if name else memory.new() for name in names]
    found = [[] for _ in texts]
    for start, stop in zip([0, *cuts], [*cuts, 99], strict=True):
        numbers = [i for i, text in enumerate(texts) if text[start:stop]]
        asks = [Ask(sequences[i], texts[i][start:stop], len(texts[i][start:stop])) for i in numbers]
        scores = model.scores(memory, asks).split([ask.rows for ask in asks])
        for i, part in zip(numbers, scores, strict=True):
            found[i].append(part)
    return [torch.cat(parts) for parts in found]


def texts_of(model, count):
    rng = np.random.default_rng(0)
    room = min(30, TorchLanguageModel(model).context_length)
    return [
        rng.integers(0, model.config.vocab_size, int(rng.integers(2, room + 1))).tolist()
        for _ in range(count)
    ]


def test_a_pass_over_many_adapters_is_that_of_each_alone(model):
    adapters = adapters_of(model)
    names = [None, *adapters, None, "dora"]
    texts = texts_of(model, len(names))
    expected = [
        read(merged(model, adapters.get(name)), [text], [None], cuts=[])[0]
        for text, name in zip(texts, names, strict=True)
    ]
    many = TorchLanguageModel(model, adapters=adapters)
    for found, wanted in zip(read(many, texts, names, cuts=[1, 2, 7]), expected, strict=True):
        assert torch.allclose(found, wanted, atol=2e-4)
    plain = read(TorchLanguageModel(model), texts[:1], [None], cuts=[])[0]
    for wanted in expected[1:6]:  # and each makes a difference
        length = min(len(plain), len(wanted))
        assert not torch.allclose(wanted[:length], plain[:length], atol=1e-2)


@pytest.mark.skipif(
    not torch.backends.mkl.is_available(), reason="equal bits are promised where torch uses MKL"
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_who_reads_beside_changes_no_bit(dtype):
    torch.manual_seed(0)
    config = TransformerConfig(
        vocab_size=320, hidden_size=64, intermediate_size=192, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, head_dim=32, max_position_embeddings=96,
    )  # fmt: skip
    model = Transformer(config)
    for parameter in model.parameters():
        parameter.data.normal_(std=0.15).add_(float(parameter.ndim == 1))
    adapters = adapters_of(model.to(dtype).eval())
    names = [None, *adapters, None, "dora"]
    texts = texts_of(model, len(names))
    many = TorchLanguageModel(model, adapters=adapters, chunk=8)
    together = read(many, texts, names, cuts=[1, 2, 7])
    for text, name, found in zip(texts, names, together, strict=True):
        assert torch.equal(read(many, [text], [name], cuts=[])[0], found)
        at_once = TorchLanguageModel(model, adapters=adapters)
        assert torch.equal(read(at_once, [text], [name], cuts=[3])[0], found)


def test_last_rows_alone_are_the_same(model):
    adapters = adapters_of(model)
    names = [*adapters, None]
    texts = texts_of(model, len(names))
    many = TorchLanguageModel(model, adapters=adapters)
    whole = read(many, texts, names, cuts=[])
    memory = many.new_memory()
    asks = [
        Ask(memory.new(adapter=name), text, number % 2)
        for number, (text, name) in enumerate(zip(texts, names, strict=True))
    ]
    last = many.scores(memory, asks)
    expected = [text[len(text) - ask.rows :] for text, ask in zip(whole, asks, strict=True)]
    assert torch.allclose(last, torch.cat(expected), atol=1e-4)


def test_forks_and_rewinds_keep_their_adapter(tmp_path):
    random_model("Qwen3", np.random.default_rng(1)).save_pretrained(tmp_path)
    model = load_weights(tmp_path, load_config(tmp_path))
    many = TorchLanguageModel(model, adapters={"a": random_adapter(model, 1)})
    memory = many.new_memory()
    first = memory.new(adapter="a")
    expected = many.scores(memory, [Ask(first, [1, 2, 3, 4], 4)])
    fork = memory.fork(first)
    memory.rewind(fork, 2)
    assert memory.adapter(fork) == "a"
    assert torch.allclose(many.scores(memory, [Ask(fork, [3, 4], 2)]), expected[2:], atol=1e-5)


def test_what_it_cannot_be_is_refused(tmp_path):
    random_model("Mistral", np.random.default_rng(1)).save_pretrained(tmp_path)
    model = load_weights(tmp_path, load_config(tmp_path))
    many = TorchLanguageModel(model, adapters={"a": random_adapter(model, 1)})
    memory = many.new_memory()
    with pytest.raises(ValueError, match="no adapter 'b'"):
        memory.new(adapter="b")
    with pytest.raises(UsageError, match="twofold convert"):
        TorchLanguageModel(model, adapters={"a": Adapter({}, {"lm_head.weight": model.output_weight})})
