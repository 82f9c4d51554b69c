"""Twofold: the whole life of a large language model in one small codebase."""

import os

__version__ = "0.1.0"

# Threads that wait for each other by spinning lose most of their time when another program wants a core; those
# that sleep at once lose a fifth of it when none does. So: spin a little (some microseconds), then sleep
# (docs/log.md). OpenMP reads this once, when torch is first loaded.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")

_WHERE = {"load": "twofold.decoding.load"}  # public names and where they live, loaded when first used


def __getattr__(name: str):
    if name not in _WHERE:
        raise AttributeError(f"module 'twofold' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_WHERE])
