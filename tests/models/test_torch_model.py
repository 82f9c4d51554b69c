"""Scores from memory against a forward pass without one, and against `transformers`."""

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import Qwen3Config, Qwen3ForCausalLM

from twofold.models.config import TransformerConfig
from twofold.models.language_model import Ask, ContextFull, LanguageModel, MemoryFull
from twofold.models.torch_model import TorchLanguageModel, _groups, _Part
from twofold.models.transformer import Transformer

V, CONTEXT = 61, 48


def transformer(seed=0, **changes):
    sizes = dict(
        vocab_size=V, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        head_dim=8, intermediate_size=48, max_position_embeddings=CONTEXT,
    )  # fmt: skip
    torch.manual_seed(seed)
    model = Transformer(TransformerConfig(**{**sizes, **changes}))
    for parameter in model.parameters():
        parameter.data.normal_(std=0.2).add_(parameter.ndim == 1)
    return model


MODELS = {kv: transformer(kv, num_key_value_heads=kv, tie_word_embeddings=kv == 2) for kv in (1, 2, 4)}


@torch.no_grad()
def without_memory(model, tokens):
    return model(torch.tensor([tokens]))[0]


def test_it_is_a_language_model():
    assert isinstance(TorchLanguageModel(MODELS[2]), LanguageModel)


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(),
    kv=st.sampled_from([1, 2, 4]),
    page=st.sampled_from([1, 4, 16]),
    chunk=st.sampled_from([5, 16, 1024]),
)
def test_scores_equal_the_forward_pass_without_memory(data, kv, page, chunk):
    """Random ragged asks, forks, rewinds and frees, in any order."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    model = TorchLanguageModel(MODELS[kv], chunk=chunk, page_size=page)
    memory = model.new_memory()
    texts = {memory.new(): []}
    for _ in range(12):
        verb = rng.choice(["new", "fork", "rewind", "free", "ask", "ask", "ask"])
        chosen = [s for s in texts if rng.random() < 0.6]
        if verb == "new":
            texts[memory.new()] = []
        for sequence in chosen if verb != "ask" else []:
            if verb == "fork" and len(texts) < 12:
                texts[memory.fork(sequence)] = list(texts[sequence])
            if verb == "free":
                memory.free(sequence)
                del texts[sequence]
            if verb == "rewind":
                length = int(rng.integers(0, len(texts[sequence]) + 1))
                memory.rewind(sequence, length)
                del texts[sequence][length:]
        if verb == "ask":
            asks = []
            for sequence in chosen:
                most = min(CONTEXT - len(texts[sequence]), int(rng.choice([1, 3, 30])))
                if most:
                    tokens = rng.integers(0, V, rng.integers(1, most + 1)).tolist()
                    asks.append(Ask(sequence, tokens, int(rng.integers(0, len(tokens) + 1))))
            scores = model.scores(memory, asks)
            assert scores.dtype == torch.float32
            assert scores.shape == (sum(ask.rows for ask in asks), V)
            row = 0
            for ask in asks:
                texts[ask.sequence] += ask.tokens
                if ask.rows:
                    expected = without_memory(MODELS[kv], texts[ask.sequence])[-ask.rows :]
                    assert (scores[row : row + ask.rows] - expected).abs().max() <= 1e-4
                row += ask.rows


def test_decoding_equals_transformers():
    """A prompt, then token by token, beside another sequence; the oracle sees the whole text at once."""
    ours = MODELS[2]
    theirs = Qwen3ForCausalLM(Qwen3Config(**ours.config.to_hf())).eval()
    theirs.load_state_dict(ours.state_dict(), strict=False)
    theirs.tie_weights()
    model = TorchLanguageModel(ours)
    memory = model.new_memory()
    texts = torch.randint(0, V, (2, 40), generator=torch.Generator().manual_seed(1)).tolist()
    first, second = memory.new(), memory.new()
    seen = [[], []]
    scores = model.scores(memory, [Ask(first, texts[0][:9]), Ask(second, texts[1][:30])])
    for at in range(10):
        for index in range(2):
            seen[index].append(scores[index])
        scores = model.scores(memory, [Ask(first, [texts[0][9 + at]]), Ask(second, [texts[1][30 + at]])])
    with torch.no_grad():
        expected = theirs(torch.tensor(texts)).logits
    assert (torch.stack(seen[0]) - expected[0, 8:18]).abs().max() <= 1e-4
    assert (torch.stack(seen[1]) - expected[1, 29:39]).abs().max() <= 1e-4


def test_the_last_scores_come_again_after_rewinding_by_one():
    model = TorchLanguageModel(MODELS[2])
    memory = model.new_memory()
    sequence = memory.new()
    first = model.scores(memory, [Ask(sequence, [1, 2, 3])])
    memory.rewind(sequence, 2)
    assert (model.scores(memory, [Ask(sequence, [3])]) - first).abs().max() <= 1e-5


def test_scores_may_be_changed_by_the_caller():
    model = TorchLanguageModel(MODELS[2])
    memory = model.new_memory()
    scores = model.scores(memory, [Ask(memory.new(), [1, 2])])
    scores[:, 3] = float("-inf")
    assert not scores.requires_grad


@pytest.mark.parametrize(
    ("tokens", "rows", "word"),
    [([], 0, "ask of 0"), ([1], 2, "2 rows"), ([1], -1, "rows"), ([V], 1, "vocabulary"), ([-1], 1, "vocab")],
)
def test_a_wrong_ask_is_refused_and_nothing_changes(tokens, rows, word):
    model = TorchLanguageModel(MODELS[2])
    memory = model.new_memory()
    good, bad = memory.new(), memory.new()
    with pytest.raises(ValueError, match=word):
        model.scores(memory, [Ask(good, [1, 2]), Ask(bad, tokens, rows)])
    assert memory.length(good) == 0


def test_a_sequence_cannot_be_asked_twice_at_once():
    model = TorchLanguageModel(MODELS[2])
    memory = model.new_memory()
    sequence = memory.new()
    with pytest.raises(ValueError, match="twice"):
        model.scores(memory, [Ask(sequence, [1]), Ask(sequence, [2])])


def test_the_context_has_an_end():
    model = TorchLanguageModel(MODELS[2])
    memory = model.new_memory()
    sequence = memory.new()
    model.scores(memory, [Ask(sequence, [1] * CONTEXT)])
    with pytest.raises(ContextFull, match=f"{CONTEXT + 1} tokens .* {CONTEXT}"):
        model.scores(memory, [Ask(sequence, [1])])
    assert memory.length(sequence) == CONTEXT


def test_a_full_memory_changes_nothing_and_can_be_used_again():
    model = TorchLanguageModel(MODELS[2], page_size=4)
    memory = model.new_memory(pages=3)
    first, second = memory.new(), memory.new()
    model.scores(memory, [Ask(first, list(range(6)))])
    with pytest.raises(MemoryFull):
        model.scores(memory, [Ask(first, [6]), Ask(second, [1] * 5)])
    assert (memory.length(first), memory.length(second), memory.pages_free()) == (6, 0, 1)
    scores = model.scores(memory, [Ask(first, [6]), Ask(second, [1] * 4)])
    assert (scores[0] - without_memory(MODELS[2], list(range(7)))[-1]).abs().max() <= 1e-4


def test_a_pass_that_breaks_leaves_the_sequences_as_they_were(monkeypatch):
    model = TorchLanguageModel(transformer(5), chunk=4)
    memory = model.new_memory()
    first = memory.new()
    model.scores(memory, [Ask(first, [1, 2, 3])])
    second = memory.fork(first)
    asks = [Ask(first, [4] * 6), Ask(second, [5])]
    calls = []

    def interrupted(hidden):
        calls.append(len(hidden))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(model.transformer, "logits", interrupted)
        with pytest.raises(KeyboardInterrupt):
            model.scores(memory, asks)
    assert calls
    assert memory.length(first) == memory.length(second) == 3
    scores = model.scores(memory, asks)
    for row, text in ((0, [1, 2, 3] + [4] * 6), (1, [1, 2, 3, 5])):
        assert (scores[row] - without_memory(model.transformer, text)[-1]).abs().max() <= 1e-4


def test_half_precision_scores_are_float32():
    model = TorchLanguageModel(transformer(3).bfloat16(), page_size=4)
    memory = model.new_memory()
    first, second = memory.new(), memory.new()
    scores = model.scores(memory, [Ask(first, [1, 2, 3, 4, 5]), Ask(second, [7])])
    assert scores.dtype == torch.float32
    scores = model.scores(memory, [Ask(first, [6]), Ask(second, [8])])
    assert (scores[0] - without_memory(model.transformer, [1, 2, 3, 4, 5, 6])[-1].float()).abs().max() < 0.2


@settings(deadline=None)
@example(lengths=[(0, 1)] * 10 + [(0, 300)])
@example(lengths=[(20, 1)] * 10 + [(9_000, 1)])
@given(lengths=st.lists(st.tuples(st.integers(0, 500), st.integers(1, 300)), min_size=1, max_size=30))
def test_at_most_half_of_what_attends_together_is_padding(lengths):
    parts = [_Part(i, start, start + new, list(range(1000))) for i, (start, new) in enumerate(lengths)]
    groups = _groups(parts, 16, torch.zeros(0))
    cells = sum(new * (start + new) for start, new in lengths)
    padded, queries = 0, []
    for group in groups:
        if isinstance(group.at, slice):
            part = next(p for p, at in zip(parts, _starts(lengths), strict=True) if at == group.at.start)
            padded += (part.stop - part.start) * part.stop
            queries += range(group.at.start, group.at.stop)
        else:
            padded += group.mask.numel()
            queries += group.at.flatten().tolist()
    assert set(queries) == set(range(sum(new for _, new in lengths)))
    assert padded <= 2 * cells + 16 * len(queries)  # whole pages are read
    if all(new == 1 for _, new in lengths) and max(s for s, _ in lengths) <= 2 * min(s for s, _ in lengths):
        assert len(groups) == 1


def _starts(lengths):
    return [sum(new for _, new in lengths[:i]) for i in range(len(lengths))]
