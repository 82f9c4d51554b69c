"""What `--launcher` prints is what starts the run: run here, with stand-ins for a cluster's own programs."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from twofold.__main__ import main
from twofold.errors import TwofoldError, UsageError
from twofold.files import read_json
from twofold.training.launch import PORT, Launch, script, submit, without

TRAIN = ["train", "book.txt", "-o", "a run", "--steps", "6", "--preset", "nano", "--row-tokens", "32"]
TRAIN += ["--batch-rows", "4", "--precision", "float32", "--compile", "no"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a small book, and programs named as a cluster's that do the same on this machine."""
    dice = random.Random(0)
    words = ["".join(dice.choices("abdefghiklmnoprstuw", k=5)) for _ in range(200)]
    lines = (" ".join(dice.choices(words, k=9)) + ".\n\n" for _ in range(3000))
    (tmp_path / "book.txt").write_text("".join(lines))
    for name, body in {"scontrol": "echo 127.0.0.1", "srun": 'shift; exec "$@"', "sbatch": "exec sh"}.items():
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n{body}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "2")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_JOB_NODELIST", "here")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def test_a_torchrun_line_trains(folder, capsys):
    assert main([*TRAIN, "--launcher", "torchrun", "--processes", "2", "--cpu"]) == 0
    line = capsys.readouterr().out
    assert "--launcher" not in line
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert read_json(folder / "a run" / "run.json")["environment"]["processes"] == 2
    assert (folder / "a run" / "report.html").is_file()
    assert done.stderr.count("done. The report") == 1  # one process speaks
    assert "twofold generate 'a run' 'Once upon a time'" in done.stderr


def test_a_folder_that_was_refused_is_refused_again_after_each_restart(folder, capsys):
    assert main(TRAIN) == 0
    before = {path: path.read_bytes() for path in (folder / "a run").rglob("*") if path.is_file()}
    capsys.readouterr()
    assert main([*TRAIN, "--launcher", "torchrun", "--processes", "2", "--cpu"]) == 0
    line = capsys.readouterr().out.replace(str(PORT), str(free_port()))
    line = line.replace("--max-restarts 3", "--max-restarts 1")
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    assert done.stderr.count("already holds a finished run") >= 2  # the first time, and once more
    assert {path: path.read_bytes() for path in (folder / "a run").rglob("*") if path.is_file()} == before


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_line_for_each_of_two_nodes_outlives_a_death_on_one(folder, capsys):
    train = [*TRAIN[:5], "60", *TRAIN[6:], "--checkpoint-seconds", "0.01"]
    assert main([*train, "--launcher", "torchrun", "--nodes", "2", "--cpu"]) == 0
    meet = f"127.0.0.1:{free_port()}"
    line = "exec env " + capsys.readouterr().out.split("\n", 1)[1].replace(f"FIRST-NODE:{PORT}", meet)
    nodes = [subprocess.Popen(["sh", "-c", line], stderr=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        patience = time.monotonic() + 60
        while not list(folder.glob("a run/checkpoints/step-????????")):
            assert time.monotonic() < patience
            time.sleep(0.1)
        for node in nodes:
            (worker,) = Path(f"/proc/{node.pid}/task/{node.pid}/children").read_text().split()
            if b"\0RANK=0\0" in Path(f"/proc/{worker}/environ").read_bytes():
                os.kill(int(worker), signal.SIGKILL)
        said = [node.communicate(timeout=120)[1] for node in nodes]
    finally:
        for node in nodes:
            node.terminate()
            node.wait()
    assert [node.returncode for node in nodes] == [0, 0], said
    assert "going on from step" in "".join(said)


def test_a_submitted_slurm_job_trains_and_the_same_job_goes_on(folder):
    command = [
        sys.executable,
        "-m",
        "twofold",
        *TRAIN,
        "--launcher=slurm",
        "--processes=2",
        "--cpu",
        "--submit",
    ]
    for _ in range(2):  # the second finds a finished run, which is no fault
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
    assert read_json(folder / "a run" / "run.json")["result"]["steps"] == 6


def test_a_ray_job_is_a_python_program_that_names_the_run(tmp_path):
    text = script(Launch("ray", nodes=2, processes=4), ["train", "it's", "-o", "x"], tmp_path / "x")
    compile(text, "job.py", "exec")
    assert "num_workers=8, use_gpu=True" in text
    assert repr(["train", "it's", "-o", "x"]) in text


def test_a_job_told_to_resume_says_so_once(tmp_path):
    text = script(Launch("slurm"), ["train", "--resume", "-o", "x"], tmp_path / "x")
    assert "\nresume=--resume\n" in text
    assert "twofold train -o x $resume\n" in text
    text = script(Launch("ray"), ["train", "--resume", "-o", "x"], tmp_path / "x")
    assert repr(["train", "-o", "x"]) in text
    assert "begun = True or" in text


def test_a_job_asks_for_what_it_uses(tmp_path):
    text = script(Launch("slurm", nodes=3, processes=8), ["train"], tmp_path)
    assert "#SBATCH --nodes=3\n" in text
    assert "#SBATCH --gpus-per-node=8\n" in text
    assert "--nnodes 3 --nproc-per-node 8" in text
    assert 'srun --cpus-per-task="$SLURM_CPUS_PER_TASK"' in text  # which srun itself no longer reads
    assert "gpus" not in script(Launch("slurm", cpu=True), ["train"], tmp_path)


def test_without_takes_options_out_with_their_values():
    words = ["train", "--nodes", "2", "a b", "--cpu", "--processes=4", "-o", "x"]
    assert without(words, ["--nodes", "--processes"], ["--cpu"]) == ["train", "a b", "-o", "x"]


def test_what_cannot_be_launched_is_said(monkeypatch, tmp_path):
    with pytest.raises(UsageError, match="--nodes must be at least 1"):
        Launch("slurm", nodes=0)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TwofoldError, match="no sbatch here"):
        submit(Launch("slurm"), "")
