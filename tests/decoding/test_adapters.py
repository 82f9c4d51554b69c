"""Requests by several adapters in one engine: each gets what its own model says, whoever runs beside it."""

import copy

import pytest
import torch

import twofold
from twofold.decoding.decoders.beam import Beam
from twofold.decoding.decoders.sample import BestOf, Sample
from twofold.decoding.engine import Engine
from twofold.decoding.sampling import Sampling
from twofold.errors import UsageError
from twofold.models.adapter_files import save_adapter
from twofold.models.config import TransformerConfig
from twofold.models.folder import save_folder
from twofold.models.lora import LoraSettings, attach, attached
from twofold.models.transformer import Transformer
from twofold.tokens.tokenizer import bytes_only

NAMES = ("a", "b", "c")
GREEDY = Sampling(temperature=0)
PROMPT = "The same long beginning, of more than a page, for all of them: "


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("adapters")
    torch.manual_seed(0)
    config = TransformerConfig(
        vocab_size=320, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        head_dim=16, intermediate_size=96, max_position_embeddings=160,
    )  # fmt: skip
    model = Transformer(config)
    for parameter in model.parameters():
        parameter.data.normal_(std=0.2).add_(parameter.ndim == 1)
    save_folder(home / "base", model, bytes_only(), chat=False)
    for seed, name in enumerate(NAMES):
        changed, settings = copy.deepcopy(model), LoraSettings(rank=2 + seed, alpha=8, dora=name == "b")
        attach(changed, settings, seed)
        for parameter_name, parameter in changed.named_parameters():
            if parameter_name.endswith("lora.b"):
                parameter.data.normal_(std=0.2)
        (home / name).mkdir()
        save_adapter(home / name, attached(changed), changed, settings, str(home / "base"))
    return home


@pytest.fixture(scope="module")
def model(home):
    return twofold.load(home / "base", adapters={name: home / name for name in NAMES})


@pytest.fixture(scope="module")
def alone(home):
    """Each adapter merged into a model by itself; None: the base."""
    return {None: twofold.load(home / "base"), **{name: twofold.load(home / name) for name in NAMES}}


def test_each_is_a_model_of_its_own(model, alone):
    texts = {name: model.adapters[name].generate(PROMPT, temperature=0, max_tokens=20) for name in NAMES}
    texts[None] = model.generate(PROMPT, temperature=0, max_tokens=20)
    assert texts == {name: one.generate(PROMPT, temperature=0, max_tokens=20) for name, one in alone.items()}
    assert len(set(texts.values())) == 4
    scores = [one.score(PROMPT).log_probability for one in (model, *model.adapters.values())]
    assert scores == pytest.approx([one.score(PROMPT).log_probability for one in alone.values()], rel=1e-4)


@pytest.mark.parametrize("decoder", [Sample(), Beam(width=3), BestOf(n=3)], ids=lambda d: type(d).__name__)
@pytest.mark.parametrize("pages", [None, 24])
def test_requests_of_all_share_every_pass_and_none_sees_the_others(model, alone, decoder, pages):
    """Also with little memory, where requests wait and are read again, and with the beginnings kept from before."""
    engine = Engine(model.model, pages=pages, vocab_size=model.tokenizer.vocab_size)
    prompts = [model.start(PROMPT + word) for word in ("one", "two", "")]
    asked = [(name, prompt) for prompt in prompts for name in (None, *NAMES)]
    options = {
        "settings": Sampling(temperature=0.7, seed=3),
        "max_tokens": 12,
        "token_bytes": model.tokenizer.token_bytes,
    }
    expected = {}
    for name, prompt in asked:
        single = Engine(alone[name].model, vocab_size=model.tokenizer.vocab_size)
        expected[name, tuple(prompt)] = [
            a.branch.chosen for a in single.submit(prompt, decoder, **options).result()
        ]
    for _ in range(2):  # the second time from what the first left in memory
        steps = engine.steps
        requests = [engine.submit(prompt, decoder, adapter=name, **options) for name, prompt in asked]
        for (name, prompt), request in zip(asked, requests, strict=True):
            assert [a.branch.chosen for a in request.result()] == expected[name, tuple(prompt)]
        if pages is None and isinstance(decoder, Sample):
            assert engine.steps - steps < 24  # twelve tokens for each of twelve requests
    assert engine.tree.cache.found > 0
    engine.close()
    assert not engine.tree.memory._held


def test_what_one_adapter_read_is_not_taken_for_anothers(model):
    engine = Engine(model.model, vocab_size=model.tokenizer.vocab_size)
    prompt = model.start(PROMPT)
    for name in (None, *NAMES):
        before = engine.tree.cache.found
        engine.submit(prompt, Sample(), settings=GREEDY, max_tokens=1, adapter=name).result()
        assert engine.tree.cache.found == before
        engine.submit(prompt, Sample(), settings=GREEDY, max_tokens=1, adapter=name).result()
        assert engine.tree.cache.found > before


def test_an_adapter_that_is_not_there_is_named(model, alone):
    engine = Engine(model.model)
    with pytest.raises(UsageError, match=r"no adapter 'd'\. It has: a, b, c"):
        engine.submit([1], Sample(), settings=GREEDY, adapter="d")
    with pytest.raises(UsageError, match="opened without any"):
        Engine(alone["a"].model).submit([1], Sample(), settings=GREEDY, adapter="a")
