"""Generation over a model of a few lines that is no torch model, and over a small Transformer."""

import itertools

import numpy as np
import pytest
import torch

from twofold.decoding.generate import generate
from twofold.decoding.sampling import Sampling
from twofold.errors import TwofoldError, UsageError
from twofold.models.config import TransformerConfig
from twofold.models.language_model import ContextFull, LanguageModel
from twofold.models.torch_model import TorchLanguageModel
from twofold.models.transformer import Transformer

GREEDY = Sampling(temperature=0)


class ListMemory:
    """Sequences as lists: a memory with nothing to page."""

    page_size = 1

    def __init__(self):
        self.lists = {}
        self.numbers = itertools.count()

    def new(self, source=None):
        return self._keep([])

    def fork(self, sequence):
        return self._keep(list(self.lists[sequence]))

    def _keep(self, tokens):
        number = next(self.numbers)
        self.lists[number] = tokens
        return number

    def rewind(self, sequence, length):
        del self.lists[sequence][length:]

    def free(self, sequence):
        del self.lists[sequence]

    def length(self, sequence):
        return len(self.lists[sequence])

    def pages_free(self):
        return None

    def pages_needed(self, appends):
        return 0


class TableModel:
    """A bigram table as a LanguageModel, in NumPy: row t of `table` scores what follows token t."""

    def __init__(self, table, context_length=50):
        self.table = np.asarray(table, np.float32)
        self.vocab_size = len(self.table)
        self.context_length = context_length
        self.read = 0

    def new_memory(self, pages=None):
        return ListMemory()

    def scores(self, memory, questions):
        rows = []
        for ask in questions:
            if memory.length(ask.sequence) + len(ask.tokens) > self.context_length:
                raise ContextFull("too long")
            memory.lists[ask.sequence] += ask.tokens
            self.read += len(ask.tokens)
            rows += [self.table[token] for token in ask.tokens[len(ask.tokens) - ask.rows :]]
        return np.array(rows)


def counter(size=10, **options):
    """The token after t is t + 1, around."""
    return TableModel(np.roll(np.eye(size) * 30, 1, axis=1), **options)


def random_table(seed=0, size=12):
    return TableModel(np.random.default_rng(seed).normal(size=(size, size)) * 2)


def by_request(choices, count):
    texts = [[] for _ in range(count)]
    for choice in choices:
        texts[choice.index].append(choice.token)
    return texts


def test_the_toy_is_a_language_model():
    assert isinstance(counter(), LanguageModel)


def test_greedy_counts():
    choices = list(generate(counter(), [[3], [1, 7]], settings=GREEDY, max_tokens=4))
    assert by_request(choices, 2) == [[4, 5, 6, 7], [8, 9, 0, 1]]
    assert [c.finish for c in choices if c.index == 0] == [None, None, None, "length"]
    assert all(-1e-6 < c.log_probability <= 0 for c in choices)


def test_a_stop_token_ends_its_request_and_no_other():
    choices = list(generate(counter(), [[3], [5]], settings=GREEDY, max_tokens=5, stop_ids=[7]))
    assert by_request(choices, 2) == [[4, 5, 6, 7], [6, 7]]
    assert [c.finish for c in choices if c.token == 7] == ["stop", "stop"]


def test_the_context_ends_a_request():
    choices = list(generate(counter(context_length=6), [[0, 1, 2], [5] * 6], settings=GREEDY))
    assert by_request(choices, 2) == [[3, 4, 5, 6], [6]]
    assert [c.finish for c in choices if c.finish] == ["context", "context"]


def test_a_prompt_longer_than_the_context_is_told_with_both_counts():
    with pytest.raises(UsageError, match=r"7 tokens.*context holds 6"):
        generate(counter(context_length=6), [[0] * 7])


@pytest.mark.parametrize(
    ("prompts", "options"),
    [([[]], {}), ([[1]], {"max_tokens": -1}), ([[1]], {"settings": []}), ([[1]], {"width": 0})],
)
def test_impossible_requests_are_told_at_once(prompts, options):
    with pytest.raises(UsageError):
        generate(counter(), prompts, **options)


def test_no_prompts_and_no_tokens_give_nothing():
    assert list(generate(counter(), [])) == []
    assert list(generate(counter(), [[1]], max_tokens=0)) == []


def test_equal_prompts_are_read_once():
    model = counter()
    choices = generate(model, [[1, 2, 3]] * 5, settings=Sampling(seed=0), max_tokens=1)
    assert len(list(choices)) == 5
    assert model.read == 3


def test_requests_that_wait_get_their_turn():
    model = counter()
    prompts = [[i % 10] for i in range(25)]
    choices = list(generate(model, prompts, settings=GREEDY, max_tokens=3, width=4, stop_ids=[2]))
    expected = []
    for (start,) in prompts:
        text = [(start + i) % 10 for i in (1, 2, 3)]
        expected.append(text[: text.index(2) + 1] if 2 in text else text)
    assert by_request(choices, 25) == expected


@pytest.mark.parametrize("end", ["exhausted", "closed", "broken"])
def test_every_sequence_is_freed_however_it_ends(end):
    model, memory = random_table(), ListMemory()
    kept = memory.new()
    choices = generate(model, [[1], [1], [2]], max_tokens=4, memory=memory, width=2)
    next(choices)
    assert len(memory.lists) > 1
    if end == "broken":
        model.scores = None
        with pytest.raises(TypeError):
            list(choices)
    elif end == "closed":
        choices.close()
    else:
        assert len(list(choices)) == 11
    assert list(memory.lists) == [kept]


def test_scores_that_are_not_numbers_are_told_and_sequences_freed():
    table = np.zeros((4, 4))
    table[2, 1] = np.nan
    memory = ListMemory()
    with pytest.raises(TwofoldError, match="not numbers"):
        list(generate(TableModel(table), [[0], [2]], memory=memory, max_tokens=2))
    assert not memory.lists


def test_padding_of_the_vocabulary_is_never_chosen():
    table = np.zeros((12, 12))
    table[:, 9:] = 50
    choices = generate(TableModel(table), [[0]] * 8, max_tokens=5, choices_of=9)
    assert all(choice.token < 9 for choice in choices)


def test_sampling_follows_the_table():
    """A chain of order one: how often each token follows each must be what the table says."""
    model = random_table(size=4)
    counts = np.zeros((4, 4))
    settings = Sampling(temperature=1.0, seed=1)
    texts = by_request(generate(model, [[0]] * 600, settings=settings, max_tokens=40, width=600), 600)
    for text in texts:
        for a, b in itertools.pairwise([0, *text]):
            counts[a, b] += 1
    found = counts / counts.sum(1, keepdims=True)
    expected = torch.from_numpy(model.table).softmax(-1).numpy()
    assert np.abs(found - expected).max() < 0.03


def transformer():
    torch.manual_seed(0)
    config = TransformerConfig(
        vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        head_dim=8, intermediate_size=48, max_position_embeddings=64,
    )  # fmt: skip
    model = Transformer(config)
    for parameter in model.parameters():
        parameter.data.normal_(std=0.3).add_(parameter.ndim == 1)
    return TorchLanguageModel(model, page_size=4)


@pytest.mark.parametrize("model", [random_table(size=50), transformer()], ids=["table", "transformer"])
def test_a_request_says_the_same_alone_and_beside_others(model):
    rng = np.random.default_rng(0)
    prompts = [rng.integers(0, 50, rng.integers(1, 20)).tolist() for _ in range(9)]
    prompts[4] = prompts[2]
    settings = [
        Sampling(temperature=t, top_k=k, top_p=p, seed=seed)
        for seed, (t, k, p) in enumerate(itertools.product([0, 0.7, 1.5], [None, 5, 20], [0.9]))
    ]
    together = by_request(
        generate(model, prompts, settings=settings, max_tokens=20, stop_ids=[3], width=5), 9
    )
    for prompt, own, text in zip(prompts, settings, together, strict=True):
        assert by_request(generate(model, [prompt], settings=own, max_tokens=20, stop_ids=[3]), 1) == [text]


def test_one_seed_for_all_gives_each_request_its_own():
    texts = by_request(generate(random_table(), [[1]] * 4, settings=Sampling(seed=7), max_tokens=12), 4)
    assert len({tuple(text) for text in texts}) == 4
    alone = by_request(generate(random_table(), [[1]], settings=Sampling(seed=9), max_tokens=12), 1)
    assert alone[0] == texts[2]


def test_log_probabilities_are_the_models_own_whatever_the_settings():
    model = random_table()
    settings = Sampling(temperature=0.3, top_k=2, seed=0)
    last = 1
    for choice in generate(model, [[1]], settings=settings, max_tokens=20):
        expected = torch.from_numpy(model.table[last]).log_softmax(-1)[choice.token]
        assert choice.log_probability == pytest.approx(float(expected), abs=1e-5)
        last = choice.token
