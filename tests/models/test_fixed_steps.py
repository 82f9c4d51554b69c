"""Steps in shapes that repeat, recorded and replayed: the same scores as plain ones.

Here a trace of torch's calls, with the tensors they read and write, stands for a CUDA graph.
"""

import gc
import weakref

import numpy as np
import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from tests.models.test_torch_model import SHAPES, transformer
from twofold.models import torch_model
from twofold.models.language_model import Ask
from twofold.models.torch_model import TorchLanguageModel


class Trace:
    """A recorder: what a computation called, without the Python around it."""

    def __init__(self):
        self.records = self.replays = 0

    def __call__(self, compute):
        self.records += 1
        calls = make_fx(compute)()
        answers = [torch.full_like(answer, torch.nan) for answer in calls()]

        def replay():
            self.replays += 1
            for answer, value in zip(answers, calls(), strict=True):
                answer.copy_(value)

        return replay, answers


@pytest.fixture
def trace(monkeypatch):
    made = Trace()
    monkeypatch.setattr(torch_model, "recorder", lambda device: made)
    return made


@pytest.mark.parametrize("shape", SHAPES)
def test_replayed_steps_give_the_scores_of_plain_ones(shape, trace, monkeypatch):
    """Sequences that come, fork, go on alone or together, and end; the memory grows meanwhile."""
    rng = np.random.default_rng(0)
    one, two = (transformer(3, max_position_embeddings=600, **SHAPES[shape]) for _ in range(2))
    recorded = TorchLanguageModel(one, page_size=4)
    scores = recorded.scores(memory := recorded.new_memory(), [Ask(first := memory.new(), [1], 1)])
    monkeypatch.setattr(torch_model, "recorder", lambda device: None)
    plain = TorchLanguageModel(two, page_size=4)
    other = plain.new_memory()
    pairs = [(first, other.new())]
    assert (plain.scores(other, [Ask(pairs[0][1], [1], 1)]) - scores).abs().max() < 1e-4
    for step in range(150):
        verb = rng.choice(["new", "fork", "free"]) if step % 3 == 0 else ""
        if verb == "new" and len(pairs) < 9:
            tokens = rng.integers(0, plain.vocab_size, rng.integers(1, 150)).tolist()
            pairs.append((memory.new(), other.new()))
            for model, its, sequence in zip((recorded, plain), (memory, other), pairs[-1], strict=True):
                model.scores(its, [Ask(sequence, tokens, 0)])
        elif verb == "fork":
            pairs.append((memory.fork(pairs[0][0]), other.fork(pairs[0][1])))
        elif verb == "free" and len(pairs) > 2:
            for its, sequence in zip((memory, other), pairs.pop(1), strict=True):
                its.free(sequence)
        some = [pair for pair in pairs if rng.random() < 0.7]
        tokens = rng.integers(0, plain.vocab_size, (len(some), 1)).tolist()
        mine = recorded.scores(memory, [Ask(a, t, 1) for (a, _), t in zip(some, tokens, strict=True)])
        others = plain.scores(other, [Ask(b, t, 1) for (_, b), t in zip(some, tokens, strict=True)])
        assert mine.shape == others.shape
        assert not some or (mine - others).abs().max() < 1e-4
    assert trace.replays > 60
    assert trace.records < 40


def test_answers_are_the_callers_own_and_weights_those_of_now(trace):
    trunk = transformer(4)
    model = TorchLanguageModel(trunk)
    memory = model.new_memory()
    sequence = memory.new()
    kept = [model.scores(memory, [Ask(sequence, [7], 1)])]
    for _ in range(3):
        memory.rewind(sequence, 0)
        kept.append(model.scores(memory, [Ask(sequence, [7], 1)]))
        kept[-1].sub_(1)
    assert trace.replays == 3
    assert all((row + 1 - kept[0]).abs().max() < 1e-5 for row in kept[1:])
    with torch.no_grad():
        trunk.output_weight.mul_(2)  # in place: nothing moves
    memory.rewind(sequence, 0)
    assert (model.scores(memory, [Ask(sequence, [7], 1)]) - 2 * kept[0]).abs().max() > 1e-3
    trunk.load_state_dict({name: value.clone() for name, value in transformer(5).state_dict().items()})
    memory.rewind(sequence, 0)
    now = model.scores(memory, [Ask(sequence, [7], 1)])
    trunk.double().float()  # what was recorded lies elsewhere now
    for _ in range(3):
        memory.rewind(sequence, 0)
        assert (model.scores(memory, [Ask(sequence, [7], 1)]) - now).abs().max() < 1e-5
    assert trace.records == 2


def test_a_memory_that_is_given_up_is_free(trace):
    model = TorchLanguageModel(transformer(4))
    # a trace keeps the tensors it reads, as a CUDA graph does not: only what is computed plainly is looked at
    memory = model.new_memory()
    model.scores(memory, [Ask(memory.new(), [7], 1)])
    rows = weakref.ref(memory.rows)
    del memory
    gc.collect()
    assert rows() is None
    memory = model.new_memory()
    assert model.scores(memory, [Ask(memory.new(), [7], 1)]).isfinite().all()
