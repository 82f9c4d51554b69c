"""Twofold: the whole life of a large language model in one small codebase."""

__version__ = "0.1.0"

_WHERE = {"load": "twofold.decoding.session"}  # public names and where they live, loaded when first used


def __getattr__(name: str):
    if name not in _WHERE:
        raise AttributeError(f"module 'twofold' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_WHERE])
