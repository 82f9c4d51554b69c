"""SIGKILL at random moments, also while a checkpoint is being written: the run survives every time."""

import random
import subprocess
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import load_file

from twofold.training.checkpoints import list_checkpoints
from twofold.training.run_folder import read_rows

KILLS = 4

CHILD = """
import sys, numpy as np, torch
torch.set_num_threads(1)
from pathlib import Path
from twofold.models.config import TransformerConfig
from twofold.models.transformer import Transformer
from twofold.text.packing import PackedRows
from twofold.text.shards import Shards
from twofold.tokens.tokenizer import bytes_only
from twofold.training import checkpoints
from twofold.training.batches import RowBatches
from twofold.training.loop import Data, train
from twofold.training.settings import TrainSettings

run, shards, slow = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "slow"
if slow:  # long writes, so that many kills fall into one
    import time
    write = checkpoints.write_parts
    def write_slowly(path, tensors):
        write(path, tensors)
        time.sleep(0.03)
    checkpoints.write_parts = write_slowly
torch.manual_seed(0)
tokenizer = bytes_only()
model = Transformer(TransformerConfig(vocab_size=tokenizer.vocab_size, hidden_size=32, num_hidden_layers=1,
    num_attention_heads=1, num_key_value_heads=1, head_dim=16, intermediate_size=32, max_position_embeddings=32))
data = Data(RowBatches(PackedRows(Shards.open(shards), 32), 4))
settings = TrainSettings(steps=80, batch_rows=4, row_tokens=32, checkpoint_steps=2, log_steps=1)
print("ready", flush=True)
train(run, model, tokenizer, data, settings, resume=True)
"""


def start(run: Path, shards: Path, pace: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(run), str(shards), pace], stdout=subprocess.PIPE, text=True
    )


def half_written(run: Path) -> list[Path]:
    return [path for path in (run / "checkpoints").glob("*.partial") if (path / "model.safetensors").exists()]


def wait_until(condition, child: subprocess.Popen) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert child.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_killed_again_and_again_it_still_reaches_the_same_weights(shards, tmp_path):
    folder = shards["train"].folder
    straight = start(tmp_path / "straight", folder, "fast")
    assert straight.communicate(timeout=120)[0] == "ready\n"
    assert straight.returncode == 0

    dice = random.Random(5)
    run, partials = tmp_path / "killed", 0
    for kill in range(KILLS):
        child = start(run, folder, "slow")
        before = list_checkpoints(run)
        assert child.stdout.readline() == "ready\n"
        if kill % 2:  # in the middle of a write
            wait_until(lambda: half_written(run), child)
        else:  # anywhere after the first steps
            wait_until(lambda before=before: list_checkpoints(run) != before, child)
            time.sleep(dice.random() * 0.3)
        child.kill()
        assert child.wait(timeout=60) == -9
        child.stdout.close()
        partials += bool(half_written(run))
        assert not before or list_checkpoints(run), "a kill lost every checkpoint"
    assert partials >= KILLS // 2
    last = start(run, folder, "fast")
    assert last.communicate(timeout=120)[0] == "ready\n"
    assert last.returncode == 0
    a, b = (load_file(path / "model.safetensors") for path in (tmp_path / "straight", run))
    assert all(torch.equal(a[name], b[name]) for name in a)
    steps = [row["step"] for row in read_rows(run / "metrics.jsonl") if "loss" in row]
    assert steps == list(range(1, 81))
