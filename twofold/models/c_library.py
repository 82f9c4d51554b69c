"""run.c as a library: compiled once for this machine, kept in the user's cache.

The second file of the two is also an engine of this package. It is compiled when it is first asked for, with
the C compiler that is there, for the processor that is there; what was compiled is found again by the digest of
the source, the compiler and the processor.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from importlib.resources import files
from pathlib import Path

from twofold.errors import TwofoldError

COMPILERS = ("cc", "gcc", "clang")
FLAGS = ("-O3", "-march=native", "-DTWOFOLD_LIBRARY", "-shared", "-fPIC")
FAULT = 512  # bytes of an error's text


class NoCompiler(TwofoldError):
    """run.c cannot be compiled here."""


class Part(ctypes.Structure):
    """Tokens more of one sequence: `count` of them from position `start`; the last `rows` are asked for."""

    _fields_ = (
        ("tokens", ctypes.POINTER(ctypes.c_int)),
        ("count", ctypes.c_int),
        ("start", ctypes.c_int),
        ("rows", ctypes.c_int),
        ("pages", ctypes.POINTER(ctypes.c_void_p)),
    )


@cache
def library() -> ctypes.CDLL:
    """The compiled library. Raises NoCompiler, saying what is missing or what the compiler said."""
    source = files("twofold") / "twofiles" / "run.c"
    compiler = os.environ.get("CC") or next(filter(shutil.which, COMPILERS), None)
    if compiler is None or shutil.which(compiler) is None:
        raise NoCompiler(
            "There is no C compiler here (cc, gcc or clang), which the C engine needs. Install one, or use "
            "the torch engine, which gives the same answers."
        )
    code = source.read_bytes()
    key = hashlib.sha256(b"\0".join([code, repr((compiler, FLAGS, _processor())).encode()])).hexdigest()[:24]
    built = _cache() / f"run-{key}.so"
    if not built.is_file():
        _compile(compiler, code, built)
    found = ctypes.CDLL(str(built))
    found.twofold_open.restype = ctypes.c_void_p
    found.twofold_open.argtypes = (ctypes.c_char_p, ctypes.c_int, ctypes.c_bool, ctypes.c_char_p)
    pointers = ctypes.POINTER(ctypes.c_void_p)
    found.twofold_take.restype = ctypes.c_void_p
    found.twofold_take.argtypes = (ctypes.c_char_p, ctypes.c_size_t, pointers, ctypes.c_int, ctypes.c_char_p)
    found.twofold_take_again.restype = ctypes.c_char_p
    found.twofold_take_again.argtypes = (ctypes.c_void_p,)
    found.twofold_read.restype = ctypes.c_char_p  # what went wrong, or None
    found.twofold_read.argtypes = (ctypes.c_void_p, ctypes.POINTER(Part), ctypes.c_int, ctypes.c_void_p)
    found.twofold_page_size.restype = ctypes.c_size_t
    found.twofold_page_size.argtypes = (ctypes.c_void_p,)
    found.twofold_close.restype = None
    found.twofold_close.argtypes = (ctypes.c_void_p,)
    return found


def _compile(compiler: str, code: bytes, built: Path) -> None:
    """Compile into `built`, which is whole or absent."""
    with tempfile.TemporaryDirectory(dir=built.parent) as folder:
        source, result = Path(folder) / "run.c", Path(folder) / "run.so"
        source.write_bytes(code)
        command = [compiler, *FLAGS, str(source), "-o", str(result), "-lm", "-lpthread"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        if done.returncode:
            raise NoCompiler(f"{compiler} cannot compile run.c:\n{done.stderr.strip()[:2000]}")
        result.replace(built)


def _cache() -> Path:
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "twofold"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _processor() -> str:
    """What -march=native depends on."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("flags", "Features")):
                return line
    except OSError:
        pass
    return platform.machine() + platform.processor()
