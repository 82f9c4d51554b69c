"""The loop learns, measures truly, stops and goes on without a trace, and explains what goes wrong."""

import itertools
import json
import math
import signal

import pytest
import torch

from twofold.errors import Interrupted, TrainingError, UsageError
from twofold.models.folder import load_folder
from twofold.training.batches import RowBatches
from twofold.training.loop import Data
from twofold.training.objectives import next_token
from twofold.training.run_folder import read_rows
from twofold.training.settings import TrainSettings


def weights(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


class StopAt:
    """Progress that presses Ctrl-C when a step is reached."""

    def __init__(self, step):
        self.step = step

    def tell(self, message):
        pass

    def update(self, row):
        if row["step"] >= self.step:
            signal.raise_signal(signal.SIGINT)

    def close(self):
        pass


def test_it_learns(run_training, tmp_path):
    record, _ = run_training(tmp_path / "run", steps=60)
    rows = [row for row in read_rows(tmp_path / "run" / "metrics.jsonl") if "loss" in row]
    assert rows[0]["loss"] > 4
    assert rows[-1]["loss"] < 2
    assert record["result"]["held_out_bits_per_byte"] < 2.5
    assert record["result"]["tokens"] > 50 * 8 * 30


def test_the_run_folder_opens_as_a_model(run_training, tmp_path, tokenizer):
    _, model = run_training(tmp_path / "run", steps=3)
    loaded, its_tokenizer = load_folder(tmp_path / "run")
    assert same(weights(loaded), weights(model))
    assert its_tokenizer.fingerprint == tokenizer.fingerprint
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_held_out_bits_per_byte_is_what_the_scores_say(run_training, tmp_path, shards, tokenizer):
    """Counted again document by document, token by token, in float64."""
    record, model = run_training(tmp_path / "run", steps=5, precision="float32")
    nats = n_bytes = 0.0
    for document in range(len(shards["held_out"])):
        ids = torch.tensor(shards["held_out"][document].astype("int64"))
        pieces = [ids[start : start + 33] for start in range(0, len(ids) - 1, 32)]
        for piece in pieces:
            with torch.no_grad():
                logs = model(piece[None, :-1])[0].double().log_softmax(-1)
            nats -= float(sum(log[target] for log, target in zip(logs, piece[1:], strict=True)))
        n_bytes += len(tokenizer.decode(ids[1:].tolist()).encode())
    assert record["result"]["held_out_bytes"] == n_bytes
    assert record["result"]["held_out_bits_per_byte"] == pytest.approx(nats / math.log(2) / n_bytes, rel=1e-5)


def test_the_same_seed_gives_the_same_weights(run_training, tmp_path):
    assert same(
        weights(run_training(tmp_path / "a", steps=8)[1]), weights(run_training(tmp_path / "b", steps=8)[1])
    )


@pytest.mark.parametrize("stop", [1, 10, 25])
def test_stopped_and_resumed_reaches_bit_identical_weights(run_training, tmp_path, stop):
    straight, model = run_training(tmp_path / "straight", log_steps=1)
    with pytest.raises(Interrupted, match="--resume"):
        run_training(tmp_path / "stopped", log_steps=1, progress=StopAt(stop))
    assert not (tmp_path / "stopped" / "run.json").exists()
    resumed, again = run_training(tmp_path / "stopped", log_steps=1, resume=True)
    assert same(weights(model), weights(again))
    straight_rows, resumed_rows = (
        read_rows(tmp_path / name / "metrics.jsonl") for name in ("straight", "stopped")
    )
    for mine, other in zip(straight_rows, resumed_rows, strict=True):
        assert [mine.get(key) for key in ("step", "loss", "grad_norm", "held_out_bits_per_byte")] == [
            other.get(key) for key in ("step", "loss", "grad_norm", "held_out_bits_per_byte")
        ]
    del straight["result"]["seconds"], resumed["result"]["seconds"]
    assert straight["result"] == resumed["result"]


def test_a_row_of_metrics_in_which_a_run_was_stopped_is_of_all_its_steps(run_training, tmp_path):
    calls = itertools.count(1)

    def stopping(model, batch):
        if next(calls) == 13:
            signal.raise_signal(signal.SIGINT)
        return next_token(model, batch)

    run_training(tmp_path / "straight", log_steps=10)
    with pytest.raises(Interrupted, match="at step 13 "):
        run_training(tmp_path / "stopped", log_steps=10, objective=stopping)
    run_training(tmp_path / "stopped", log_steps=10, resume=True)
    losses = [
        [row["loss"] for row in read_rows(tmp_path / name / "metrics.jsonl") if "loss" in row]
        for name in ("straight", "stopped")
    ]
    assert losses[0] == losses[1]
    assert len(losses[0]) > 1


def test_micro_batches_change_nothing_but_rounding(run_training, tmp_path):
    whole = run_training(tmp_path / "whole", steps=4, precision="float32")[1]
    parts = run_training(tmp_path / "parts", steps=4, precision="float32", micro_rows=3)[1]
    for name, tensor in weights(whole).items():
        assert torch.allclose(tensor, parts.state_dict()[name], atol=2e-3), name


def test_a_loss_that_is_not_finite_stops_with_an_explanation_and_keeps_the_checkpoint(run_training, tmp_path):
    def explodes(model, batch):
        loss = next_token(model, batch)
        explodes.calls += 1
        return loss * float("nan") if explodes.calls == 13 else loss

    explodes.calls = 0
    with pytest.raises(TrainingError, match=r"step 13.*nan.*step-00000010"):
        run_training(tmp_path / "run", objective=explodes, checkpoint_steps=5)
    record, _ = run_training(tmp_path / "run", resume=True, checkpoint_steps=5)
    assert record["result"]["steps"] == 30


def test_a_finished_run_is_returned_as_it_is(run_training, tmp_path):
    first, _ = run_training(tmp_path / "run", steps=3)
    assert run_training(tmp_path / "run", steps=3, resume=True)[0] == json.loads(json.dumps(first))


def test_another_runs_folder_is_not_overwritten(run_training, tmp_path):
    run_training(tmp_path / "run", steps=3)
    with pytest.raises(UsageError, match="already holds a run"):
        run_training(tmp_path / "run", steps=3)
    (tmp_path / "run" / "run.json").unlink()
    with pytest.raises(UsageError, match="steps: 3 before, 4 now"):
        run_training(tmp_path / "run", steps=4, resume=True)


def test_minutes_set_a_number_of_steps_that_can_be_asked_for_again(run_training, tmp_path):
    by_clock, model = run_training(tmp_path / "clock", steps=None, minutes=0.05)
    steps = by_clock["result"]["steps"]
    assert steps >= 1
    assert by_clock["result"]["seconds"] < 60
    _, again = run_training(tmp_path / "steps", steps=steps)
    assert same(weights(model), weights(again))


def test_the_decay_that_the_text_decides_is_written_down_and_can_be_asked_for(run_training, tmp_path, data):
    _, model = run_training(tmp_path / "own")
    decay = json.loads((tmp_path / "own" / "settings.json").read_text())["weight_decay"]
    assert decay == TrainSettings(steps=1).for_text(data.batches.epoch(1)).weight_decay > 0
    _, asked = run_training(tmp_path / "asked", weight_decay=decay)
    _, without = run_training(tmp_path / "without", weight_decay=0.0)
    assert same(weights(model), weights(asked))
    squares = [sum(p.square().sum() for p in m.parameters()) for m in (model, without)]
    assert squares[0] < 0.9 * squares[1]


def test_rows_without_targets_are_no_error(run_training, tmp_path, data):
    class Empty(RowBatches):
        def step(self, step):
            batch = super().step(step)
            batch.targets.fill_(-100)
            return batch

    empty = Data(Empty(data.batches.packed, 8))
    record, model = run_training(tmp_path / "run", steps=2, data=empty)
    assert record["result"]["tokens"] == 0
    assert all(torch.isfinite(p).all() for p in model.parameters())
