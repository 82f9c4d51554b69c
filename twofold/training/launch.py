"""The same command on many processes: as a torchrun command, a SLURM job, or a job for a Ray cluster.

Each is a text that a person can read, keep, change and run; `submit` runs it for them. Nothing of a cluster is
needed to write one.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from twofold.errors import TwofoldError, UsageError

Kind = Literal["torchrun", "slurm", "ray"]
PORT = 29400  # where the processes of several nodes meet
PATIENCE = "--shutdown-timeout 270"  # seconds to save in when told to stop, of the 300 that a SLURM job gets
ANEW = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1"  # after a death the nodes meet on a fresh port, with nothing of before


@dataclass(frozen=True)
class Launch:
    """Where a command is to run, and how often it is started again after a process died."""

    kind: Kind
    nodes: int = 1
    processes: int = 1  # on each node: one for each GPU
    restarts: int = 3
    cpu: bool = False  # ask for no GPUs

    def __post_init__(self) -> None:
        """Raise UsageError for what cannot be."""
        for name in ("nodes", "processes"):
            if getattr(self, name) < 1:
                raise UsageError(f"--{name} must be at least 1, and is {getattr(self, name)}.")


def script(launch: Launch, arguments: list[str], output: Path) -> str:
    """The text to run for `twofold ARGUMENTS`, which leaves its run in the folder `output`."""
    return {"torchrun": _torchrun, "slurm": _slurm, "ray": _ray}[launch.kind](launch, arguments, output)


def without(arguments: list[str], valued: Iterable[str], flags: Iterable[str]) -> list[str]:
    """The words of a command line less these options: `valued` ones take one value, `flags` none."""
    kept, words = [], iter(arguments)
    for word in words:
        if word in valued:
            next(words, None)
        elif word not in flags and word.partition("=")[0] not in valued:
            kept.append(word)
    return kept


def submit(launch: Launch, text: str) -> int:
    """Run a script of `script`'s: here, by `sbatch`, or by `ray job submit`; return the exit code."""
    program, *arguments = {
        "torchrun": ["sh", "-c", text],
        "slurm": ["sbatch"],
        "ray": ["ray", "job", "submit", "--", sys.executable, "-c", text],
    }[launch.kind]
    beside = os.path.dirname(sys.executable)  # of an environment that is not active
    found = shutil.which(program) or shutil.which(program, path=beside)
    if found is None:
        raise TwofoldError(
            f"There is no {program} here. Run this where the cluster is, or save the script and take it there."
        )
    given = text if launch.kind == "slurm" else None
    return subprocess.run([found, *arguments], input=given, text=True, check=False).returncode


def _torchrun(launch: Launch, arguments: list[str], output: Path) -> str:
    command = shlex.join(["-m", "twofold", *arguments])
    threads = f"OMP_NUM_THREADS={max((os.cpu_count() or 1) // launch.processes, 1)} " if launch.cpu else ""
    line = f"{threads}{shlex.quote(sys.executable)} -m torch.distributed.run "
    line += f"--nproc-per-node {launch.processes} --max-restarts {launch.restarts} {PATIENCE} "
    if launch.nodes == 1:
        return f"{line}--master-addr 127.0.0.1 --master-port {PORT} \\\n  {command}\n"
    meet = f"--rdzv-backend c10d --rdzv-id twofold --rdzv-endpoint FIRST-NODE:{PORT}"
    return (
        f"# On each of the {launch.nodes} nodes, the same line, with the first one's name for FIRST-NODE:\n"
        f"{ANEW} {line}--nnodes {launch.nodes} {meet} \\\n  {command}\n"
    )


def _slurm(launch: Launch, arguments: list[str], output: Path) -> str:
    resume = "--resume" if "--resume" in arguments else ""
    command = shlex.join(["-m", "twofold", *without(arguments, (), ["--resume"])])
    run, begun = shlex.quote(str(output)), shlex.quote(str(output / "settings.json"))
    asks = "" if launch.cpu else f"#SBATCH --gpus-per-node={launch.processes}\n"
    return f"""#!/bin/sh
#SBATCH --job-name=twofold
#SBATCH --nodes={launch.nodes}
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task={launch.processes * (1 if launch.cpu else 8)}
{asks}#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=TERM@300
# Five minutes before its time is over the job is told, saves and stops. The same job goes on with the run.

resume={resume}
if test -f {begun} || test -n "$SLURM_RESTART_COUNT" -a -d {run}; then resume=--resume; fi
export {ANEW}
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$(({PORT} + SLURM_JOB_ID % 3000))  # other jobs may begin on the same node
srun --cpus-per-task="$SLURM_CPUS_PER_TASK" {shlex.quote(sys.executable)} -m torch.distributed.run \\
  --nnodes {launch.nodes} --nproc-per-node {launch.processes} --max-restarts {launch.restarts} {PATIENCE} \\
  --rdzv-backend c10d --rdzv-id "$SLURM_JOB_ID" --rdzv-endpoint "$first:$port" \\
  {command} $resume
"""


def _ray(launch: Launch, arguments: list[str], output: Path) -> str:
    return f'''"""Twofold on a Ray cluster. The run's folder must lie on storage that all nodes share."""

import os

from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

FOLDER = {os.getcwd()!r}
ARGUMENTS = {without(arguments, (), ["--resume"])!r}


def work():
    from twofold.__main__ import main

    os.chdir(FOLDER)
    begun = {"--resume" in arguments} or os.path.isfile({str(output / "settings.json")!r})
    if code := main([*ARGUMENTS, *(["--resume"] if begun else [])]):
        raise SystemExit(code)


TorchTrainer(
    work,
    scaling_config=ScalingConfig(num_workers={launch.nodes * launch.processes}, use_gpu={not launch.cpu}),
    run_config=RunConfig(failure_config=FailureConfig(max_failures={launch.restarts})),
).fit()
'''
