"""A model as two files: `model.gguf`, which holds all that was learned, and `run.py`, which uses it.

Key idea: nothing is left behind. Configuration, tokenizer, chat template and weights go into the GGUF as in
any other (`models/to_gguf.py`), so every GGUF reader opens it. Beside them go keys of ours that others ignore:
the Unicode ranges that the tokenizer's pattern means (so that `run.py` needs no Unicode library of the right
age), and a digest of a greedy continuation, with which any machine can check that it has the file whole and
computes with it what the maker's machine did.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, get_args

import numpy as np

from twofold.errors import UsageError
from twofold.files import atomic_write, explained
from twofold.models.convert import load_contents
from twofold.models.from_gguf import Contents
from twofold.models.gguf import read_gguf, write_gguf
from twofold.models.quantize import TensorType
from twofold.models.to_gguf import plan
from twofold.twofiles import run
from twofold.twofiles.texts import modelfile, read_me

Type = Literal["q8_0", "q4_0", "f16", "bf16", "f32"]  # what run.py can use
FAMILIES = ("llama", "qwen2", "qwen3")  # general.architecture of what run.py and run.c can compute
FILES = ("run.py", "run.c", "Modelfile", "README.txt", "model.gguf")  # the last makes the export whole

# The self-test's prompts: words, digits, signs, scripts. The one that the model is surest about is kept.
SELFTEST_PROMPTS = (
    "Once upon a time, in 1874, there wasn't a village",
    'Who are you?\n\n  I\'m "Zoë" (née Müller), 42 years old; Грета, 村田 and 🙂 know me!',
    "The",
    "¿Dónde vive la panadera?",
)
_SELFTEST_TOKENS = 64
# A chosen token must lead by so much that another machine's rounding (about 1e-5 of a score) cannot turn it.
_CLEAR_LEAD = 0.01


@dataclass(frozen=True)
class Exported:
    """What was written. `selftest_tokens`: how long the stored continuation is (0: there is none)."""

    folder: Path
    parameters: int
    bytes: int
    type: str
    chat: bool
    selftest_tokens: int


def export(
    model: str | Path | Contents, folder: str | Path, *, type: Type = "q8_0", name: str | None = None
) -> Exported:
    """Write `model` (a run folder, a Hugging Face folder, a .gguf, or its contents) as two files.

    Into `folder`, besides `model.gguf` and `run.py`: `run.c`, its twin for speed, a `Modelfile` for Ollama, and
    `README.txt`. An export that is there already is replaced. `type` is a recipe of `models/recipes.py`; `name`
    is what other programs show (default: the folder's).
    Raises FileError when the model cannot be read or the folder not written, UsageError for what cannot be.
    """
    folder = Path(folder)
    if type not in get_args(Type):
        raise UsageError(f"There is no type {type!r}; {', '.join(get_args(Type))} can be written.")
    contents = model if isinstance(model, Contents) else load_contents(model)
    check_folder(folder)
    name = name or os.path.basename(os.path.realpath(folder))
    planned = plan(contents, type, name=name)
    family = planned.metadata["general.architecture"]
    if family not in FAMILIES:
        raise UsageError(
            f"run.py computes {', '.join(FAMILIES)}, not {family}. `twofold convert` writes its .gguf."
        )
    metadata = planned.metadata | unicode_ranges()
    path = folder / "model.gguf"
    unchecked = folder / "model.gguf.unchecked.partial"
    try:
        write_gguf(unchecked, metadata, planned.entries())
        selftest, selftest_tokens = compute_selftest(unchecked)
        source = Path(run.__file__)
        with explained(source, "read"):
            programs = {path.name: path.read_text("utf-8") for path in (source, source.with_suffix(".c"))}
        texts = {
            **programs,
            "Modelfile": modelfile(chat=contents.chat, context=contents.config.max_position_embeddings),
            "README.txt": read_me(name, chat=contents.chat),
        }
        for file_name, text in texts.items():
            with atomic_write(folder / file_name) as file:
                file.write(text)
        tensors = read_gguf(unchecked).tensors.values()
        write_gguf(path, metadata | selftest, [(t.name, TensorType(t.type), t.raw, t.shape) for t in tensors])
    finally:
        with suppress(OSError):
            unchecked.unlink()
    return Exported(
        folder=folder,
        parameters=contents.config.count_parameters(),
        bytes=path.stat().st_size,
        type=type,
        chat=contents.chat,
        selftest_tokens=selftest_tokens,
    )


def check_folder(folder: Path) -> None:
    """Raise UsageError rather than write over files that no export made."""
    with explained(folder, "read"):
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"{folder} is a file; name a folder for the two files.")
        there = [name for name in FILES if (folder / name).exists()]
    if there and "model.gguf" not in there:
        raise UsageError(
            f"{folder} holds a {there[0]} that is not of an export; name another folder, for example "
            f"{folder / 'two-files'}."
        )


def unicode_ranges() -> dict[str, np.ndarray]:
    """What the pattern's \\p{L}, \\p{N} and \\s mean to the encoder in use: uint32 [first, last, first, …].

    Asked of the encoder itself, because Unicode grows: each library knows the version of its year.
    """
    import tiktoken

    points = [*range(0xD800), *range(0xE000, 0x110000)]  # all but surrogates, which no text holds
    everything = "".join(map(chr, points))
    bytes_alone = {bytes([byte]): byte for byte in range(256)}
    tables = {}
    for name, pattern in (("letters", r"\p{L}"), ("numbers", r"\p{N}"), ("spaces", r"\s")):
        # what the pattern does not match, this encoder leaves out; the rest comes back as its bytes
        encoder = tiktoken.Encoding(name, pat_str=pattern, mergeable_ranks=bytes_alone, special_tokens={})
        found = np.array([ord(c) for c in bytes(encoder.encode_ordinary(everything)).decode()], np.uint32)
        gaps = np.flatnonzero(np.diff(found) != 1)
        firsts, lasts = found[np.r_[0, gaps + 1]], found[np.r_[gaps, len(found) - 1]]
        tables[f"twofold.unicode.{name}"] = np.stack([firsts, lasts], axis=1).reshape(-1)
    return tables


def compute_selftest(path: Path) -> tuple[dict[str, Any], int]:
    """The self-test's keys for the model at `path`, computed by `run.py` itself, and how long the continuation is.

    The continuation is cut before the first token whose lead over the runner-up is not clear, so that
    another machine's rounding cannot fail it; of the prompts, the one that gets furthest is taken. Raises
    UsageError for a model that `run.py` cannot use.
    """
    try:
        session = run.Session(SimpleNamespace(model=str(path), seed=None))
    except run.Problem as problem:
        raise UsageError(
            f"run.py cannot use this model: {problem}. `twofold convert` writes its .gguf."
        ) from problem
    best: tuple[int, str] = (0, "")
    for prompt in SELFTEST_PROMPTS:
        length = len(session.tokenizer.begin) + len(session.tokenizer.encode(prompt))
        count = min(_SELFTEST_TOKENS, session.model.context - length)
        if count < 1:
            continue
        _, leads = session.greedy(prompt, count)
        clear = next((i for i, lead in enumerate(leads) if not lead > _CLEAR_LEAD), count)
        best = max(best, (clear, prompt), key=lambda pair: pair[0])
        if clear == _SELFTEST_TOKENS:
            break
    count, prompt = best
    if not count:
        return {}, 0
    tokens, _ = session.greedy(prompt, count)
    return {"twofold.selftest.prompt": prompt, "twofold.selftest.tokens": np.array(tokens, np.uint32)}, count
