"""Scores from memory against a forward pass without one, and against `transformers`."""

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import Qwen3Config, Qwen3ForCausalLM

from twofold.models.config import TransformerConfig
from twofold.models.invariance import attention_shapes, same_bits
from twofold.models.language_model import Ask, ContextFull, LanguageModel, MemoryFull
from twofold.models.memory import Part
from twofold.models.paged_attention import groups_of
from twofold.models.torch_model import TorchLanguageModel
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


@settings(deadline=None, max_examples=30)
@example(lengths=[(0, 1)] * 10 + [(0, 300)])
@example(lengths=[(20, 1)] * 10 + [(9_000, 1)])
@given(lengths=st.lists(st.tuples(st.integers(0, 500), st.integers(1, 300)), min_size=1, max_size=30))
def test_at_most_half_of_what_attends_together_is_padding(lengths):
    parts = [Part(i, start, start + new, list(range(1000))) for i, (start, new) in enumerate(lengths)]
    rows = torch.zeros(1, 16_000, 2, 1, 2)
    groups, shapes = groups_of(parts, 1, 16, rows), attention_shapes(rows, 2, False)
    cells = sum(new * (start + new) for start, new in lengths)
    padded, queries = 0, []
    for group in groups:
        B, Q, *_ = group.into_BQKGC.shape
        seen = (group.masks[None] == 0).sum(-1)
        padded += B * Q * int(seen.max())
        assert group.masks[None].shape[-1] == shapes.padded_keys(int(seen.max()))
        queries += range(group.at.start, group.at.stop) if isinstance(group.at, slice) else group.at.tolist()
    assert set(queries) == set(range(sum(new for _, new in lengths)))
    assert padded <= 2 * cells
    if all(new == 1 for _, new in lengths) and max(s for s, _ in lengths) <= 2 * min(s for s, _ in lengths):
        assert len(groups) == 1


@pytest.fixture(params=[1, 2])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


SHAPES = {
    "small": {},
    "one key-value head": dict(num_attention_heads=8, num_key_value_heads=1, head_dim=16, num_hidden_layers=1),
    "three heads for one": dict(num_attention_heads=6, head_dim=32, hidden_size=96, intermediate_size=200),
    "nano": dict(
        num_attention_heads=2, num_key_value_heads=1, head_dim=64, hidden_size=128, intermediate_size=384,
        vocab_size=1000,
    ),
    "own keys": dict(num_attention_heads=3, num_key_value_heads=3, head_dim=128, tie_word_embeddings=False),
    "learned positions": dict(model_type="gpt2", num_attention_heads=2, head_dim=16),
    "biases and a window": dict(
        model_type="qwen2", sliding_window=70, layer_types=("sliding_attention", "full_attention"), head_dim=32,
    ),
    "capped": dict(
        model_type="gemma2", sliding_window=30, layer_types=("sliding_attention", "full_attention"), head_dim=16,
        query_pre_attn_scalar=24, attn_logit_softcapping=5.0, final_logit_softcapping=8.0,
    ),
    "norms after, whole": dict(model_type="olmo2", num_attention_heads=6, hidden_size=96),
    "part of a head turns": dict(model_type="phi3", partial_rotary_factor=0.5, head_dim=24, sliding_window=600),
}  # fmt: skip


def company(model, memory, rng):
    """Asks of 0, 1, 3, 7 or 63 other sequences: the next token of a text, or the whole of one."""
    asks = []
    for _ in range(rng.choice([0, 1, 3, 7, 63], p=[0.2, 0.3, 0.2, 0.2, 0.1])):
        length = int(rng.integers(1, rng.choice([4, 40, 250], p=[0.5, 0.4, 0.1])))
        tokens = rng.integers(0, model.vocab_size, length).tolist()
        asks.append(Ask(memory.new(), tokens, int(rng.integers(0, min(3, length)))))
    if asks and rng.random() < 0.5:
        decodes = [a for a in asks if len(a.tokens) > 1]
        model.scores(memory, [Ask(a.sequence, a.tokens[:-1], 0) for a in decodes])
        asks = [Ask(a.sequence, a.tokens[-1:], min(a.rows, 1)) if len(a.tokens) > 1 else a for a in asks]
    return asks


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("shape", SHAPES)
def test_scores_are_the_same_bits_however_the_tokens_came_in(shape, dtype, threads):
    """Random schedules: alone at once is the reference; then in pieces beside others, after forks and rewinds."""
    if not torch.backends.mkl.is_available():
        pytest.skip("promised where torch uses MKL")
    rng = np.random.default_rng(threads)
    longest = 420 if threads == 1 else 200
    trunk = transformer(7, max_position_embeddings=1024, **SHAPES[shape]).to(dtype)
    exact = same_bits(trunk.output_weight)
    assert exact or dtype == torch.bfloat16  # which processors that multiply tiles have no such shapes for
    plain = TorchLanguageModel(trunk)
    text = rng.integers(0, plain.vocab_size, longest).tolist()
    memory = plain.new_memory()
    expected = plain.scores(memory, [Ask(memory.new(), text, longest)])
    for chunk, page in ((1024, 16), (97, 4), (256, 1))[: 3 if threads == 1 else 1]:
        model = TorchLanguageModel(trunk, chunk=chunk, page_size=page)
        memory = model.new_memory()
        sequence, at = memory.new(), 0
        while at < longest:
            verb = rng.choice(["fork", "rewind", "ask", "ask", "ask"])
            if verb == "fork":
                kept, sequence = sequence, memory.fork(sequence)
                if rng.random() < 0.5:  # what came from elsewhere goes on elsewhere
                    model.scores(memory, [Ask(kept, [1, 2, 3], 0)])
                if rng.random() < 0.5:
                    memory.free(kept)
            elif verb == "rewind":
                at = int(rng.integers(max(0, at - 9), at + 1))
                memory.rewind(sequence, at)
            else:
                count = int(rng.integers(1, 1 + min(longest - at, rng.choice([1, 30, longest]))))
                rows = int(rng.integers(0, count + 1))
                others = company(model, memory, rng)
                place = int(rng.integers(0, len(others) + 1))
                mine = Ask(sequence, text[at : at + count], rows)
                scores = model.scores(memory, [*others[:place], mine, *others[place:]])
                first = sum(ask.rows for ask in others[:place])
                at += count
                differ = (scores[first : first + rows] - expected[at - rows : at]).abs()
                assert not rows or differ.max() <= (0 if exact else 0.3)
                for ask in others:
                    memory.free(ask.sequence)


@pytest.mark.parametrize("shape", ["small", "learned positions", "capped", "norms after, whole"])
def test_a_transformer_that_is_trained_on_or_moved_gives_its_present_scores(shape):
    trunk = transformer(6, **SHAPES[shape])
    names = {name: value.clone() for name, value in trunk.state_dict().items()}
    model = TorchLanguageModel(trunk)
    memory = model.new_memory()

    def check():
        got = model.scores(memory, [Ask(memory.new(), [1, 2, 3], 3)])
        assert (got - without_memory(trunk, [1, 2, 3])).abs().max() <= 1e-4

    check()
    assert all(torch.equal(value, names[name]) for name, value in trunk.state_dict().items())
    optimizer = torch.optim.SGD(trunk.parameters(), lr=0.5)
    trunk(torch.tensor([[1, 2, 3]])).logsumexp(-1).sum().backward()
    optimizer.step()
    assert not torch.equal(
        trunk.model.layers[0].self_attn.k_proj.weight, names["model.layers.0.self_attn.k_proj.weight"]
    )
    check()
    trunk.load_state_dict(names)
    check()
    trunk.double().float()
    check()
    trunk.model.layers[1].mlp.up_proj.weight.data = torch.ones_like(trunk.model.layers[1].mlp.up_proj.weight)
    check()
