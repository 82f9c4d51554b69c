"""Many processes train the model that one process trains: the same loss at every step, the same weights, and a
run that goes on with another number of them, also when one was killed."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from twofold.errors import UsageError
from twofold.files import read_json
from twofold.training.checkpoints import list_checkpoints
from twofold.training.optimizers import orthogonalize
from twofold.training.parallel import Layout, Ranks, spread
from twofold.training.run_folder import read_rows

CHILD = """
import json, os, sys
import torch
torch.set_num_threads(1)
from twofold.models.config import TransformerConfig
from twofold.models.transformer import Transformer
from twofold.text.held_out import HeldOutRows
from twofold.text.packing import PackedRows
from twofold.text.shards import Shards
from twofold.tokens.tokenizer import bytes_only
from twofold.training.batches import RowBatches
from twofold.training.loop import Data, train
from twofold.training.parallel import Layout, join, leave
from twofold.training.progress import Silent
from twofold.training.settings import TrainSettings

run, folder, given, layout = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), json.loads(sys.argv[4])
stop = given.pop("stop", None)
class Speak(Silent):
    def update(self, row):
        sys.stdout.write(f"step {row['step']}\\n")
        sys.stdout.flush()
        if stop and row["step"] >= stop:
            os.kill(os.getpid(), 15)
ranks = join()
sys.stdout.write(f"pid {ranks.rank} {os.getpid()}\\n")  # in one piece
sys.stdout.flush()
tokenizer = bytes_only()
with torch.device("meta"):
    model = Transformer(TransformerConfig(vocab_size=tokenizer.vocab_size, hidden_size=30, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, head_dim=16, intermediate_size=66, max_position_embeddings=32,
        tie_word_embeddings=given.pop("tied", True)))
held_out = HeldOutRows(Shards.open(folder + "/held_out"), 32)
data = Data(RowBatches(PackedRows(Shards.open(folder + "/train"), 32, seed=1), 8), held_out, held_out)
settings = TrainSettings(**{"batch_rows": 8, "row_tokens": 32, "log_steps": 1, "precision": "float32", "seed": 3,
    "evaluations": 2, **given})
try:
    train(run, model, tokenizer, data, settings, resume=os.path.isdir(run), progress=Speak(),
          layout=Layout(**layout))
except BaseException as error:
    print(type(error).__name__, str(error)[:200], flush=True)
    if type(error).__name__ != "Interrupted":
        raise
leave()
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.fixture
def launch(shards, tmp_path):
    """Start the child in `processes` processes; `restarts` of them all when one dies."""
    child = tmp_path / "child.py"
    child.write_text(CHILD)

    def start(name, processes, layout=None, restarts=0, wait=True, **settings):
        arguments = [str(tmp_path / name), str(shards["train"].folder.parent)]
        arguments += [json.dumps({"steps": 12, **settings}), json.dumps(layout or {})]
        torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--max-restarts"]
        torchrun += [str(restarts), "--master-addr", "127.0.0.1", "--master-port", str(free_port())]
        command = [sys.executable, *(torchrun if processes > 1 else []), str(child), *arguments]
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            command,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        if not wait:
            return process
        out = process.communicate(timeout=180)[0]
        assert process.returncode == 0, out
        return out

    started = []
    yield start
    for process in started:
        process.stdout.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def curve(run):
    rows = read_rows(run / "metrics.jsonl")
    return [row["loss"] for row in rows if "loss" in row], [
        row["held_out_bits_per_byte"] for row in rows if "held_out_bits_per_byte" in row
    ]


def assert_same_run(one, other, rel=2e-4):
    (losses, looks), (their_losses, their_looks) = curve(one), curve(other)
    assert (len(losses), len(looks)) == (12, 3)
    assert their_losses == pytest.approx(losses, rel=rel)
    assert their_looks == pytest.approx(looks, rel=rel)
    a, b = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
    assert {k: v.shape for k, v in a.items()} == {k: v.shape for k, v in b.items()}
    for name in a:
        assert torch.allclose(a[name], b[name], atol=2e-3), name


@pytest.mark.parametrize(
    ("processes", "layout"),
    [
        (2, {}),
        (2, {"shards": 2}),
        (2, {"tensor": 2}),
        (4, {"shards": 2, "recompute": True}),
        (4, {"shards": 4}),
        (4, {"shards": 2, "tensor": 2}),
    ],
)
def test_the_same_run_on_any_number_of_processes(launch, tmp_path, processes, layout):
    launch("one", 1)
    launch("many", processes, layout, micro_rows=1)
    record = read_json(tmp_path / "many" / "run.json")
    assert record["environment"]["processes"] == processes
    assert record["environment"]["shards"] == layout.get("shards", 1)
    assert record["result"]["tokens"] == read_json(tmp_path / "one" / "run.json")["result"]["tokens"]
    assert_same_run(tmp_path / "one", tmp_path / "many")


@pytest.mark.parametrize("layout", [{"shards": 2}, {"tensor": 2, "recompute": True}])
def test_an_untied_output_matrix_is_shared_out_too(launch, tmp_path, layout):
    launch("one", 1, tied=False)
    launch("many", 2, layout, tied=False)
    assert_same_run(tmp_path / "one", tmp_path / "many")


@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling takes a C++ compiler")
@pytest.mark.parametrize("layout", [{"shards": 2, "recompute": True}, {"tensor": 2}])
def test_compiled_blocks_give_the_same_run(launch, tmp_path, layout):
    launch("one", 1)
    launch("many", 2, layout, compile="yes")
    assert read_json(tmp_path / "many" / "run.json")["result"]["compiled"] is True
    assert_same_run(tmp_path / "one", tmp_path / "many")


def test_a_run_goes_on_with_fewer_processes(launch, tmp_path):
    launch("one", 1)
    out = launch("many", 4, {"shards": 2, "tensor": 2}, stop=4)
    assert "Interrupted" in out
    assert [path.name for path in list_checkpoints(tmp_path / "many")] == ["step-00000004"]
    launch("many", 2, {"tensor": 2}, stop=8)
    assert "step-00000008" in [path.name for path in list_checkpoints(tmp_path / "many")]
    launch("many", 1)
    assert_same_run(tmp_path / "one", tmp_path / "many")


def test_a_killed_process_is_survived(launch, tmp_path):
    launch("one", 1)
    process = launch("many", 2, {"shards": 2}, restarts=1, wait=False, checkpoint_steps=2)
    pids, killed, lines = {}, False, []
    for line in process.stdout:
        lines.append(line)
        words = line.split()
        if words[:1] == ["pid"]:
            pids[int(words[1])] = int(words[2])
        if words[:2] == ["step", "5"] and not killed:
            killed = True
            os.kill(pids[1], signal.SIGKILL)
    assert process.wait(timeout=60) == 0, "".join(lines)
    assert killed
    assert sum(line.startswith("pid") for line in lines) == 4  # two processes, started twice
    assert_same_run(tmp_path / "one", tmp_path / "many")


def test_without_a_restart_a_killed_process_ends_the_run_soon(launch, tmp_path):
    process = launch("many", 2, wait=False, steps=2000, checkpoint_steps=2)
    pids, start = {}, None
    for line in process.stdout:
        words = line.split()
        if words[:1] == ["pid"]:
            pids[int(words[1])] = int(words[2])
        if words[:2] == ["step", "5"]:
            start = time.monotonic()
            os.kill(pids[0], signal.SIGKILL)
    assert process.wait(timeout=60) != 0
    assert time.monotonic() - start < 60
    assert list_checkpoints(tmp_path / "many")


def test_what_cannot_be_shared_out_is_refused():
    with pytest.raises(UsageError, match="multiple of the processes"):
        Ranks(world=3).rows(8)
    with pytest.raises(UsageError, match="do not divide"):
        spread(None, Ranks(world=4), Layout(shards=3))
    with pytest.raises(UsageError, match="do not divide"):
        spread(None, Ranks(world=1), Layout(shards=2))


def test_rows_are_each_given_once():
    shares = [Ranks(rank, 4).rows(8) for rank in range(4)]
    assert [first + i for first, count in shares for i in range(count)] == list(range(8))


def test_no_matrices_are_orthogonalised_to_none():
    assert orthogonalize(torch.zeros(0, 4, 6)).shape == (0, 4, 6)
