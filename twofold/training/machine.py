"""What this machine can do, measured, and how to make torch use it.

Two things matter on CPUs beside the arithmetic itself: the allocator giving pages back after every step
(page faults cost small models up to a quarter of their time), and bfloat16, which is several times
faster where the processor has it and a hundred times slower where it is emulated. So: keep the pages,
and measure.
"""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

import torch

import twofold


@cache
def keep_pages() -> bool:
    """Tell glibc's allocator to keep freed memory instead of returning it. True if it could be told."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_TOP_PAD = -3, -1, -2  # malloc.h
    return all(
        (
            mallopt(M_MMAP_THRESHOLD, 1 << 30),
            mallopt(M_TRIM_THRESHOLD, 2**31 - 1),
            mallopt(M_TOP_PAD, 1 << 26),
        )
    )


def best_device() -> torch.device:
    """A CUDA GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@cache
def matmul_peak(dtype: torch.dtype, device: str = "cpu") -> float:
    """FLOP/s of square matrix products in `dtype`: the best of a few short tries, about 0.3 s in all."""
    size = 8192 if device == "cuda" else 1536  # rows of 1,024 numbers crowd the same lines of a cache
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))

    def one() -> float:
        start = time.perf_counter()
        (a @ b).sum().item()
        return time.perf_counter() - start

    best, spent = one(), 0.0
    if best > 0.3:  # emulated: one look is enough
        return 2 * size**3 / best
    while spent < 0.3:
        seconds = one()
        best, spent = min(best, seconds), spent + seconds
    return 2 * size**3 / best


def choose_precision(wish: str, device: torch.device) -> torch.dtype:
    """The dtype of the matrix products: what was wished for, or ("auto") what measures faster here.

    bfloat16 must win by a half to be chosen: it costs some accuracy and casts on the way.
    """
    if wish != "auto":
        return getattr(torch, wish)
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    faster = matmul_peak(torch.bfloat16) > 1.5 * matmul_peak(torch.float32)
    return torch.bfloat16 if faster else torch.float32


def environment(device: torch.device, precision: torch.dtype) -> dict[str, Any]:
    """What a reader of the figures must know: processor, threads, versions, measured peak."""
    return {
        "processor": _processor(),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "precision": str(precision).removeprefix("torch."),
        "matmul_peak_gflops": round(matmul_peak(precision, device.type) / 1e9, 1),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "twofold": twofold.__version__,
        "git_commit": _git_commit(),
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return f"{line.split(':', 1)[1].strip()} ({torch.backends.cpu.get_cpu_capability()})"
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _git_commit() -> str | None:
    """The commit of the source tree this runs from, None when installed elsewhere."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        found = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "--short", "HEAD"],
            capture_output=True,
            text=True,
            timeout=5,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None
