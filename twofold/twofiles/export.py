"""A model as two files: `model.gguf`, which holds all that was learned, and `run.py`, which uses it.

Key idea: nothing is left behind. Configuration, tokenizer, chat template and weights go into the GGUF under
the names that llama.cpp's own converter gives them, so every GGUF reader opens it. Beside them go keys of
ours that others ignore: the Unicode ranges that the tokenizer's pattern means (so that `run.py` needs no
Unicode library of the right age), and a digest of a greedy continuation, with which any machine can check
that it has the file whole and computes with it what the maker's machine did.
Source of the names: llama.cpp, `convert_hf_to_gguf.py` and `gguf-py/gguf/constants.py`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, get_args

import numpy as np

from twofold.errors import FileError, UsageError
from twofold.files import atomic_write, explained
from twofold.models.from_gguf import (
    CONFIG_KEYS,
    CONTROL,
    NORMAL,
    UNUSED,
    USER_DEFINED,
    Contents,
    gguf_name,
    open_gguf,
)
from twofold.models.gguf import read_gguf, write_gguf
from twofold.models.quantize import BLOCKS, TensorType, quantize
from twofold.tokens.chat import CHAT_TEMPLATE
from twofold.tokens.tokenizer import Tokenizer
from twofold.tokens.vocabulary import PRE_TOKENIZER
from twofold.twofiles import run
from twofold.twofiles.texts import modelfile, read_me

Type = Literal["q8_0", "f16", "bf16", "f32"]
_FILE_TYPES = {"f32": 0, "f16": 1, "q8_0": 7, "bf16": 32}  # llama.cpp's llama_ftype
_QUANTIZATION_VERSION = 2  # of ggml's block formats
FILES = ("run.py", "Modelfile", "README.txt", "model.gguf")  # the last makes the export whole

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

    Into `folder`, besides `model.gguf` and `run.py`: a `Modelfile` for Ollama, and `README.txt`. An export
    that is there already is replaced. Norms stay float32; matrices whose rows are not whole blocks of 32
    become f16 under "q8_0". `name` is what other programs show (default: the folder's).
    Raises FileError when the model cannot be read or the folder not written, UsageError for what cannot be.
    """
    folder = Path(folder)
    if type not in get_args(Type):
        raise UsageError(f"There is no type {type!r}; {', '.join(get_args(Type))} can be written.")
    contents = model if isinstance(model, Contents) else load_contents(model)
    check_folder(folder)
    name = name or os.path.basename(os.path.realpath(folder))
    metadata = metadata_of(contents, type=type, name=name)
    path = folder / "model.gguf"
    unchecked = folder / "model.gguf.unchecked.partial"
    try:
        write_gguf(unchecked, metadata, tensors_of(contents, type))
        selftest = compute_selftest(unchecked)
        with explained(run.__file__, "read"):
            program = Path(run.__file__).read_text(encoding="utf-8")
        context = int(metadata["qwen3.context_length"])
        texts = {
            "run.py": program,
            "Modelfile": modelfile(chat=contents.chat, context=context),
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
        parameters=sum(weight.size for weight in _matrices(contents).values()),
        bytes=path.stat().st_size,
        type=type,
        chat=contents.chat,
        selftest_tokens=selftest.get("twofold.selftest.tokens", 0),
    )


def load_contents(path: str | Path) -> Contents:
    """Everything that an export needs of the model at `path`. Raises FileError."""
    path = Path(path)
    if path.is_file() and path.suffix == ".gguf":
        return open_gguf(path)
    from twofold.models.load import load_model

    model, tokenizer, info = load_model(path)
    weights = {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}
    return Contents(model.config.to_hf(), weights, tokenizer, info.stop_ids, info.chat)


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


def metadata_of(contents: Contents, *, type: Type, name: str) -> dict[str, Any]:
    """The metadata of `model.gguf`, without the self-test."""
    config, tokenizer = contents.config, contents.tokenizer
    rows = contents.weights["model.embed_tokens.weight"].shape[0]
    if not tokenizer.vocab_size <= rows:
        raise FileError(f"The tokenizer has {tokenizer.vocab_size:,} tokens and the model {rows:,}.")
    parameters = sum(weight.size for weight in _matrices(contents).values())
    metadata: dict[str, Any] = {
        "general.architecture": "qwen3",
        "general.type": "model",
        "general.name": name,
        "general.size_label": f"{parameters / 1e6:.0f}M" if parameters < 1e9 else f"{parameters / 1e9:.1f}B",
        "general.file_type": _FILE_TYPES[type],
        "general.quantization_version": _QUANTIZATION_VERSION,
        "qwen3.vocab_size": rows,
    }
    for ours, theirs in CONFIG_KEYS.items():
        value = config[ours]
        metadata[f"qwen3.{theirs}"] = float(value) if ours in ("rope_theta", "rms_norm_eps") else int(value)
    metadata["qwen3.attention.value_length"] = int(config["head_dim"])
    metadata["qwen3.rope.dimension_count"] = int(config["head_dim"])
    return metadata | tokenizer_metadata(tokenizer, rows, chat=contents.chat) | unicode_ranges()


def tokenizer_metadata(tokenizer: Tokenizer, rows: int, *, chat: bool) -> dict[str, Any]:
    """The tokenizer's part; `rows` of the embedding beyond its tokens are named as unused."""
    kinds = [NORMAL] * tokenizer.vocab_size + [UNUSED] * (rows - tokenizer.vocab_size)
    for token in tokenizer.added:
        kinds[token.id] = CONTROL if token.special else USER_DEFINED
    padding = [f"[PAD{token}]" for token in range(tokenizer.vocab_size, rows)]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": PRE_TOKENIZER,
        "tokenizer.ggml.tokens": [*tokenizer.pieces, *padding],
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.merges": list(tokenizer.merges),
        "tokenizer.ggml.bos_token_id": tokenizer.end_of_text,
        "tokenizer.ggml.eos_token_id": tokenizer.im_end if chat else tokenizer.end_of_text,
        "tokenizer.ggml.padding_token_id": tokenizer.end_of_text,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.chat_template": CHAT_TEMPLATE,
    }


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


def tensors_of(contents: Contents, type: Type) -> Iterator[tuple[str, TensorType, Any, tuple[int, ...]]]:
    """(name, type, data, shape) of each tensor, encoded only when its turn to be written comes."""
    for name, weight in _matrices(contents).items():
        kind = TensorType[type.upper()] if weight.ndim == 2 else TensorType.F32
        if weight.shape[-1] % BLOCKS[kind][0]:
            kind = TensorType.F16
        yield gguf_name(name), kind, lambda w=weight, k=kind: quantize(w, k), weight.shape


def _matrices(contents: Contents) -> Mapping[str, np.ndarray]:
    """The weights, without an output matrix that is the embedding's."""
    if contents.config["tie_word_embeddings"]:
        return {name: w for name, w in contents.weights.items() if name != "lm_head.weight"}
    return contents.weights


def compute_selftest(path: Path) -> dict[str, Any]:
    """The self-test's keys for the model at `path`, computed by `run.py` itself.

    The continuation is cut before the first token whose lead over the runner-up is not clear, so that
    another machine's rounding cannot fail it; of the prompts, the one that gets furthest is taken.
    """
    session = run.Session(SimpleNamespace(model=str(path), seed=None))
    best: tuple[int, str] = (0, "")
    for prompt in SELFTEST_PROMPTS:
        length = len(session.tokenizer.begin) + len(session.tokenizer.encode(prompt))
        count = min(_SELFTEST_TOKENS, session.model.context - length)
        if count < 1:
            continue
        _, leads = session.fingerprint(prompt, count)
        clear = next((i for i, lead in enumerate(leads) if not lead > _CLEAR_LEAD), count)
        best = max(best, (clear, prompt), key=lambda pair: pair[0])
        if clear == _SELFTEST_TOKENS:
            break
    count, prompt = best
    if not count:
        return {}
    digest, _ = session.fingerprint(prompt, count)
    return {
        "twofold.selftest.prompt": prompt,
        "twofold.selftest.tokens": count,
        "twofold.selftest.sha256": digest,
    }
