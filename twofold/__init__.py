"""Twofold: the whole life of a large language model in one small codebase."""

__version__ = "0.1.0"
