"""Every decoder with every kind of mask on one small model, classification, and what is told of them."""

import asyncio
import json
import math
import re

import numpy as np
import pytest
import torch

from twofold.decoding.decoders import (
    Beam,
    BestOf,
    Contrastive,
    DiverseBeam,
    MinimumBayesRisk,
    RequiredWords,
    Sample,
    Speculative,
    StochasticBeam,
)
from twofold.decoding.masks import Choices, Grammar, JsonSchema, PythonMask, Regex
from twofold.decoding.named import DECODERS, read_decoder, read_mask, read_settings
from twofold.decoding.session import LoadedModel
from twofold.errors import TwofoldError, UsageError
from twofold.models.config import TransformerConfig
from twofold.models.torch_model import TorchLanguageModel
from twofold.models.transformer import Transformer
from twofold.text.world import Village, VillageSettings
from twofold.tokens.train import train_tokenizer


@pytest.fixture(scope="module")
def model():
    """Random weights, with tokens of several letters."""
    village = Village(VillageSettings(villagers=6))
    tokenizer = train_tokenizer([document.text for document in village.documents(60_000)], 384)
    torch.manual_seed(0)
    config = TransformerConfig(
        vocab_size=tokenizer.vocab_size, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, intermediate_size=48, max_position_embeddings=128,
    )  # fmt: skip
    transformer = Transformer(config)
    for parameter in transformer.parameters():
        parameter.data.normal_(std=0.2).add_(parameter.ndim == 1)
    stop_ids = (tokenizer.im_end, tokenizer.end_of_text)
    return LoadedModel(TorchLanguageModel(transformer, page_size=4), tokenizer, stop_ids)


def is_record(text):
    value = json.loads(text)
    return set(value) == {"age", "pet"} and 0 <= value["age"] <= 99 and value["pet"] in ("cat", "dog")


SCHEMA = {
    "type": "object",
    "properties": {"age": {"type": "integer", "minimum": 0, "maximum": 99}, "pet": {"enum": ["cat", "dog"]}},
    "required": ["age", "pet"],
    "additionalProperties": False,
}
MASKS = {
    "choices": (Choices(("yes", "no", "nobody")), lambda text: text in ("yes", "no", "nobody")),
    "regex": (Regex(r"(the|a) (cat|dog){1,3}\."), re.compile(r"(the|a) (cat|dog){1,3}\.").fullmatch),
    "json": (JsonSchema(SCHEMA), is_record),
    "grammar": (Grammar('start: "(" start ")" | "12"'), re.compile(r"(\(*)12\)*").fullmatch),
}
DECODERS_TO_TRY = [
    Sample(), Sample(3), BestOf(3), Beam(3, keep=2), DiverseBeam(4, keep=2), StochasticBeam(3),
    MinimumBayesRisk(4), Speculative(ahead=3), Contrastive(3),
]  # fmt: skip


@pytest.mark.parametrize("decoder", DECODERS_TO_TRY, ids=lambda d: type(d).__name__)
@pytest.mark.parametrize("name", MASKS)
def test_every_decoder_keeps_to_every_mask(model, decoder, name):
    mask, is_right = MASKS[name]
    for seed in range(3):
        prompt = model.start("the miller has")
        settings = model.sampling(temperature=1.0, seed=seed)
        for answer in model.answers([prompt], decoder=decoder, mask=mask, settings=settings, max_tokens=90)[
            0
        ]:
            if answer.finish == "stop":
                assert is_right(answer.text), answer.text
            else:
                assert answer.finish == "length"
                assert name in ("json", "grammar")  # whitespace and brackets may go on
            assert answer.log_allowed <= 1e-4


def test_a_mask_in_python_composes_with_beams(model):
    [a] = model.tokenizer.encode("a")
    even = PythonMask(
        start=0,
        advance=lambda count, token: count + 1,
        allowed=lambda count: [a] if count < 6 else [],
        complete=lambda count: count > 0 and count % 2 == 0,
    )
    found = model.answers([model.start("the")], decoder=Beam(4, keep=2), mask=even, max_tokens=20)[0]
    assert {answer.text for answer in found} <= {"aa", "aaaa", "aaaaaa"}


def test_forced_tokens_cost_no_forward_pass_each(model):
    engine = model.engine
    before = engine.steps
    text = model.generate("a", mask=Regex(r"the baker has a (cat|dog) and the miller has a dog"), seed=0)
    assert text.startswith("the baker has a ")
    tokens = len(model.tokenizer.encode(text))
    assert engine.steps - before < tokens
    told = model.answers([model.start("a")], mask=Regex("the baker"), settings=model.sampling(seed=0))[0][0]
    logs = [choice.log_probability for choice in told.choices]
    scored = model.answers(
        [model.start("a")], mask=PythonMask(
            start=0, advance=lambda n, token: n + 1,
            allowed=lambda n: [told.tokens[n]] if n < len(told.tokens) else [],
            complete=lambda n: n == len(told.tokens),
        ), settings=model.sampling(seed=0),
    )[0][0]  # fmt: skip
    assert logs == pytest.approx([c.log_probability for c in scored.choices[: len(logs)]], abs=1e-5)


def test_the_allowed_mass_is_what_the_model_gives_the_allowed_tokens(model):
    prompt = model.start("the miller has")
    mask = Choices(("yes", "no"))
    answer = model.answers([prompt], mask=mask, settings=model.sampling(temperature=1.0, seed=0))[0][0]
    logits = model.model.transformer(torch.tensor([prompt]))[0, -1, : model.tokenizer.vocab_size].detach()
    allowed = mask.compile(model.vocabulary).allowed()
    expected = logits.log_softmax(-1)[torch.from_numpy(allowed.copy())].logsumexp(0)
    assert answer.choices[0].allowed == pytest.approx(float(expected), abs=1e-4)


@pytest.mark.parametrize("decoder", [Sample(), Beam(2), Speculative(ahead=2), BestOf(2), Contrastive(2)])
def test_every_decoder_notes_the_mass_and_the_alternatives(model, decoder):
    mask = Regex("(a|b|the )+\\.")
    settings = model.sampling(temperature=1.0, seed=1)
    prompt = model.start("the miller")
    [answer] = model.answers(
        [prompt], decoder=decoder, mask=mask, settings=settings, max_tokens=12, alternatives=3
    )[0]
    state, tokens = mask.compile(model.vocabulary), list(prompt)
    for choice in answer.choices:
        logits = model.model.transformer(torch.tensor([tokens]))[0, -1, : model.engine.vocab_size].detach()
        logs = logits.log_softmax(-1)
        allowed = logs[torch.from_numpy(state.allowed().copy())].logsumexp(0)
        assert choice.log_probability == pytest.approx(float(logs[choice.token]), abs=1e-3)
        assert choice.allowed in (
            pytest.approx(float(allowed), abs=1e-3), pytest.approx(choice.log_probability, abs=1e-3),
        )  # fmt: skip
        assert [token for token, _ in choice.alternatives] == logs.topk(3).indices.tolist()
        tokens.append(choice.token)
        if choice.token not in model.stop_ids:
            state = state.advance(choice.token)


def test_masked_samples_follow_the_model_within_the_mask(model):
    """The first choice between two single tokens comes as often as the model says."""
    prompt = model.start("the")
    [a], [b] = model.tokenizer.encode("q"), model.tokenizer.encode("z")
    logits = model.model.transformer(torch.tensor([prompt]))[0, -1].detach()
    expected = float((logits[a] - torch.logaddexp(logits[a], logits[b])).exp())
    settings = model.sampling(temperature=1.0, seed=0)
    answers = model.answers([prompt], decoder=Sample(2000), mask=Choices(("q", "z")), settings=settings)[0]
    share = np.mean([answer.text == "q" for answer in answers])
    assert abs(share - expected) < 5 * math.sqrt(expected * (1 - expected) / 2000)


def test_required_words_are_there(model):
    for words in (("cat",), ("dog", "miller"), ("zebra",)):
        text = model.generate("the", decoder=RequiredWords(words, width=6), max_tokens=30)
        assert all(word in text for word in words)
    with pytest.raises(TwofoldError, match="'miller'"):
        model.generate("the", decoder=RequiredWords(("miller",), width=6), max_tokens=1)
    with pytest.raises(UsageError):
        RequiredWords(())


def test_required_words_with_a_mask(model):
    mask = Regex("(a|b|cat| ){1,12}")
    text = model.generate("the", decoder=RequiredWords(("cat",), width=6), mask=mask, max_tokens=30)
    assert "cat" in text
    assert re.fullmatch("(a|b|cat| ){1,12}", text)


def log_probability(model, prompt, tokens):
    logits = model.model.transformer(torch.tensor([[*prompt, *tokens]]))[
        0, :, : model.engine.vocab_size
    ].detach()
    logs = logits.double().log_softmax(-1)
    return sum(float(logs[len(prompt) - 1 + i, token]) for i, token in enumerate(tokens))


def test_choices_have_their_exact_probabilities(model):
    choices = ["yes", "no, never", " the dog"]
    prompt = model.start("has a cat:")
    logs = np.array([log_probability(model, prompt, model.tokenizer.encode(c)) for c in choices])
    expected = np.exp(logs) / np.exp(logs).sum()
    found = model.choose("has a cat:", choices)
    assert list(found) == choices
    assert list(found.values()) == pytest.approx(expected.tolist(), rel=1e-4)
    logs = np.array(
        [
            np.logaddexp.reduce(
                [log_probability(model, prompt, [*model.tokenizer.encode(c), s]) for s in model.stop_ids]
            )
            for c in ["no", "nobody"]
        ]
    )
    expected = np.exp(logs) / np.exp(logs).sum()
    assert list(model.choose("has a cat:", ["no", "nobody"], ends=True).values()) == pytest.approx(
        expected.tolist(), rel=1e-4
    )


def test_choices_that_cannot_be_compared_are_refused(model):
    for choices in (["one"], ["a", ""], ["a", "a"], ["no", "nobody"]):
        with pytest.raises(UsageError):
            model.choose("the", choices)


@pytest.mark.parametrize("batch", [1, 2, 4, 8])
def test_answers_are_the_same_to_the_bit_beside_others(model, batch):
    prompts = [
        model.start(text) for text in ("the cat", "a", "12 to", "the baker has a dog", "no", "", "ya", "x")
    ]
    alone = LoadedModel(model.model, model.tokenizer, model.stop_ids)
    for decoder in (Sample(), Beam(3), Speculative(ahead=2)):
        settings = [model.sampling(temperature=0.9, seed=i) for i in range(batch)]
        together = model.answers(prompts[:batch], decoder=decoder, settings=settings, max_tokens=12)
        for i in range(batch):
            alone.__dict__.pop("engine", None)  # nothing is cached
            one = alone.answers(
                prompts[i : i + 1], decoder=decoder, settings=settings[i : i + 1], max_tokens=12
            )
            logs = [choice.log_probability for choice in one[0][0].choices]
            assert [c.log_probability for c in together[i][0].choices] == logs
            assert together[i][0].tokens == one[0][0].tokens


# from Python


def test_several_answers_are_a_list_and_one_is_a_text(model):
    options = dict(max_tokens=6, seed=0)
    assert isinstance(model.generate("the", **options), str)
    assert [type(x) for x in model.generate("the", decoder=Sample(2), **options)] == [str, str]
    both = model.generate(["the", "a"], decoder=Beam(2, keep=2), **options)
    assert [len(texts) for texts in both] == [2, 2]


@pytest.mark.parametrize("decoder", [None, Beam(3), Speculative(), BestOf(2)])
def test_a_stream_joins_to_the_text_also_in_an_event_loop(model, decoder):
    options = dict(decoder=decoder, max_tokens=15, seed=0, temperature=1.0)
    expected = model.generate("the cat", **options)
    assert "".join(model.stream("the cat", **options)) == expected

    async def listen():
        return "".join([piece async for piece in model.stream_async("the cat", **options)])

    async def many():
        return await asyncio.gather(*(listen() for _ in range(3)))

    assert asyncio.run(many()) == [expected] * 3


def test_answers_come_in_order_each_as_soon_as_it_can(model):
    prompts = [model.start(text) for text in ("the", "a", "no")]
    settings = model.sampling(seed=0)
    each = model.each(prompts, settings=settings, max_tokens=9)
    first = next(each)
    assert first[0].tokens == model.answers(prompts[:1], settings=settings, max_tokens=9)[0][0].tokens
    assert len(list(each)) == 2


def test_words_stand_for_tokens_in_settings(model):
    tokenizer = model.tokenizer
    [token] = tokenizer.encode("q")
    settings = model.sampling(bias={"q": 2.5}, banned=["z"], bad_words=["cat"])
    assert settings.bias == ((token, 2.5),)
    assert settings.banned == tuple(tokenizer.encode("z"))
    assert set(settings.bad_words) == {tuple(tokenizer.encode("cat")), tuple(tokenizer.encode(" cat"))}
    with pytest.raises(UsageError, match="has to be one"):
        model.sampling(banned=["a long way"])
    with pytest.raises(UsageError, match="no setting heat"):
        model.generate("the", heat=2)


def test_a_stream_left_early_frees_its_pages(model):
    held = model.engine.tree.memory
    model.engine.close()
    before = held.pages_made - len(held._free)
    stream = model.stream("the", max_tokens=50, seed=0)
    next(stream)
    stream.close()
    model.engine.close()
    assert held.pages_made - len(held._free) == before == 0


# by name


def test_decoders_masks_and_settings_are_read_by_name():
    assert read_decoder("beam:width=8,length_penalty=0.6,early_stopping=never") == Beam(8, 1, 0.6, "never")
    assert read_decoder("sample") == Sample()
    assert read_decoder("required-words:words=bread+river") == RequiredWords(("bread", "river"))
    assert read_mask("choices:yes|no") == Choices(("yes", "no"))
    assert read_mask("regex:a:b") == Regex("a:b")
    assert read_settings(["top_n_sigma=1.5", "bias=a:-2+b:3", "bad_words=x+y", "mirostat=2"]) == {
        "top_n_sigma": 1.5, "bias": {"a": -2.0, "b": 3.0}, "bad_words": ["x", "y"], "mirostat": 2,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("read", "text", "says"),
    [
        (read_decoder, "beem", "There are: sample"), (read_decoder, "beam:wide=3", "It has: width"),
        (read_decoder, "beam:width=two", "must be a number"), (read_decoder, "beam:width=0", "1 or more"),
        (read_decoder, "required-words", "needs more settings: words="), (read_mask, "colour:red", "choices:"),
        (read_mask, "regex", "There are"), (lambda text: read_settings([text]), "heat=2", "temperature"),
        (lambda text: read_settings([text]), "mirostat=two", "cannot be"),
    ],
)  # fmt: skip
def test_names_that_do_not_exist_are_told_with_those_that_do(read, text, says):
    with pytest.raises(UsageError, match=says):
        read(text)


def test_every_decoder_with_a_name_can_be_made():
    for name in DECODERS:
        read_decoder(name + (":words=a" if name == "required-words" else ""))
