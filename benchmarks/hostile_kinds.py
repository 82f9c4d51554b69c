"""The kinds of files that `hostile_files.py` damages: valid ones, how they are damaged, and the doors they come to.

A case is `kind:seed`: the same dice make the same files, on every machine. `try_case` makes them, brings them to
the doors, and says what came of it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import hostile_mutations as mutations
import hostile_samples as samples
import numpy as np
from hostile_formats import gguf_file, protobuf_file, safetensors_file
from hostile_samples import Files

from twofold.errors import TwofoldError
from twofold.models.config import TransformerConfig
from twofold.models.describe import describe
from twofold.models.folder import load_config, load_info, load_weights
from twofold.models.from_gguf import read_tokenizer
from twofold.models.gguf import read_gguf
from twofold.models.importance import read_importance
from twofold.models.inventory import in_folders
from twofold.models.language_model import Ask
from twofold.models.load import load_model
from twofold.models.torch_model import TorchLanguageModel
from twofold.models.transformer import Transformer
from twofold.models.weight_files import INDEX, WEIGHTS
from twofold.tokens.tokenizer import Tokenizer
from twofold.twofiles import run

TEXT = "The  cat, 12 the\n\t<s>é水 <think>"
SLOW = 5.0  # seconds that a case may take
LONGEST_MESSAGE = 1_500  # characters
MOST_MEMORY = 500 << 20  # bytes that a case may take beside what the process has


# ---- doors -----------------------------------------------------------------------------------------------


def use_tokenizer(tokenizer: Tokenizer) -> None:
    """What everybody does with a tokenizer that opened."""
    ids = tokenizer.encode(TEXT, start=True)
    tokenizer.decode(ids)
    tokenizer.decode(range(min(tokenizer.vocab_size, 40)), specials=True)
    tokenizer.encode_named(TEXT)
    assert len(tokenizer.fingerprint) == 64


def use_model(model: Transformer) -> None:
    """One pass, behind the interface that everything decodes through."""
    language_model = TorchLanguageModel(model)
    memory = language_model.new_memory()
    tokens = [0, language_model.vocab_size - 1][: language_model.context_length]
    scores = language_model.scores(memory, [Ask(memory.new(), tokens)])
    assert scores.shape == (1, language_model.vocab_size)


def look_at(path: Path) -> None:
    """A description, and what it says against a file."""
    found = describe(path)
    for text in (found.kind, *found.notes, *found.faults):
        assert not (fault := _of_message(text, ("",))), fault


def open_model(path: Path) -> None:
    """All of a model, a pass and its tokenizer."""
    model, tokenizer, info = load_model(path)
    use_model(model)
    use_tokenizer(tokenizer)
    assert isinstance(info.stop_ids, tuple)


def open_two_files(path: Path) -> None:
    """What run.py does before it says its first word."""
    with np.errstate(all="ignore"):  # as run.py has it
        file = run.File(str(path))
        model, tokenizer = run.Model(file), run.Tokenizer(file)
        tokens = tokenizer.begin + tokenizer.encode("the cat")
        next(
            model.continuation(tokens[: model.context - 1], run.Memory(model), lambda scores: scores.argmax())
        )


def open_chat(path: Path) -> None:
    """A conversation through the model's own template."""
    chat = Tokenizer.load(path).chat
    if chat is not None:
        chat.encode([{"role": "user", "content": "the cat"}, {"role": "assistant", "content": "a"}], True)


def open_weights(path: Path) -> None:
    """The weights of a folder with the configuration that they were made for."""
    use_model(load_weights(path, _config()))


@cache
def _config() -> TransformerConfig:
    return samples.config_of("llama")


@cache
def _tokenizer() -> Tokenizer:
    return samples.pieces_tokenizer()


# ---- kinds -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """`files`: valid ones, of which a case takes one. `damaged`: which of its files may be damaged, and how.
    `doors`: what is asked of the path `at` within the case's folder; the last says whether it opened."""

    name: str
    files: Callable[[], list[Files]]
    damaged: dict[str, mutations.Mutator]
    doors: tuple[Callable[[Path], Any], ...]
    at: str = ""
    share: int = 1  # of all cases
    slow: float = SLOW
    names: tuple[str, ...] = ()  # what a message may name instead of a path


def _json(name: str, contents: Callable[[], Any]) -> Callable[[], list[Files]]:
    return lambda: [{name: json.dumps(content).encode()} for content in contents()]


def _gguf(contents: Callable[[], Any]) -> Callable[[], list[Files]]:
    return lambda: [{"model.gguf": data} for data in contents()]


def _folders(**changes: Any) -> Callable[[], list[Files]]:
    return lambda: [samples.folder_of(_config(), _tokenizer(), **changes)]


def _model_folders() -> list[Files]:
    made = [
        samples.folder_of(samples.config_of(kind), _tokenizer())
        for kind in ("llama", "gpt2", "phi3", "gemma3_text")
    ]
    return [*made, samples.folder_of(_config(), _tokenizer(), shards=True)]


def _beside_tokenizer() -> list[Files]:
    content = json.dumps(samples.byte_level()).encode()
    config, special = samples.tokenizer_config(), {"eos_token": "</s>", "unk_token": {"content": "<s>"}}
    template = config["chat_template"].encode()
    templates = [{"name": "default", "template": "{{ messages }}"}, {"name": "tool", "template": ""}]
    named = {**config, "chat_template": templates}
    return [
        {
            "tokenizer.json": content,
            "tokenizer_config.json": json.dumps(each).encode(),
            "chat_template.jinja": template,
            "special_tokens_map.json": json.dumps(special).encode(),
        }
        for each in (config, named)
    ]


def _templates() -> list[Files]:
    files = _beside_tokenizer()[0]
    return [{name: files[name] for name in ("tokenizer.json", "chat_template.jinja")}]


def _pairs() -> list[Files]:
    model = samples.byte_level()["model"]
    merges = "#version: 0.2\n" + "\n".join(" ".join(pair) for pair in model["merges"]) + "\n"
    return [{"vocab.json": json.dumps(model["vocab"]).encode(), "merges.txt": merges.encode()}]


def _piece_models() -> list[Files]:
    return [{"tokenizer.model": samples.write_model(model)} for model in samples.piece_models()]


def _shards() -> dict[str, mutations.Mutator]:
    return {INDEX: mutations.json_file, "model-00001-of-00002.safetensors": safetensors_file,
            "model-00002-of-00002.safetensors": safetensors_file}  # fmt: skip


_ELSEWHERE = (
    "../case/model-00001-of-00002.safetensors", "/etc/passwd", "/dev/zero", "config.json", "x/../y.safetensors", "",
    "model-00001-of-00002.safetensors\0", "model-00003-of-00002.safetensors", "..", "a" * 300 + ".safetensors",
    "model.safetensors.index.json", "~/x.safetensors", "C:\\x.safetensors", "http://x/y.safetensors", 7, None,
    "model-00001-of-00002.bin", "modèle.safetensors", "MODEL-00001-OF-00002.safetensors", "-.safetensors",
)  # fmt: skip


def _index_file(dice: Random, data: bytes) -> bytes:
    """Shards that are no names of this folder."""
    index = json.loads(data)
    if dice.random() < 0.5:
        return mutations.dump(dice, mutations.change(dice, index))
    for name in dice.sample(list(index["weight_map"]), dice.choice([1, 1, 5])):
        index["weight_map"][name] = dice.choice(_ELSEWHERE)
    return mutations.dump(dice, index)


_TOKENIZER = (lambda path: use_tokenizer(Tokenizer.load(path)),)
KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("gguf", _gguf(lambda: [samples.gguf_of_all_types()]), {"model.gguf": gguf_file},
             (look_at,), "model.gguf", 30),
        Kind("gguf-model", _gguf(samples.gguf_models), {"model.gguf": gguf_file},
             (look_at, open_model), "model.gguf", 6),
        Kind("gguf-tokenizer", _gguf(samples.gguf_of_tokenizers), {"model.gguf": gguf_file},
             (lambda path: use_tokenizer(read_tokenizer(read_gguf(path))),), "model.gguf", 14),
        Kind("run.py", _gguf(samples.gguf_two_files), {"model.gguf": gguf_file}, (open_two_files,),
             "model.gguf", 6),
        Kind("imatrix", _gguf(lambda: [samples.importance_matrix()]), {"model.gguf": gguf_file},
             (read_importance,), "model.gguf", 16),
        Kind("imatrix-old", _gguf(lambda: [samples.old_importance_matrix()]), {"model.gguf": mutations.damage},
             (read_importance,), "model.gguf", 4),
        Kind("config.json", _json("config.json", samples.configs), {"config.json": mutations.json_file},
             (lambda path: look_at(path / "config.json"), load_config), "", 60),
        Kind("safetensors", _folders(), {WEIGHTS: safetensors_file},
             (look_at, open_weights), "", 10),
        Kind("index.json", _folders(shards=True), {**_shards(), INDEX: _index_file}, (look_at, open_weights), "", 10),
        Kind("generation", _folders(), {"generation_config.json": mutations.json_file},
             (lambda path: load_info(path, _tokenizer()),), "", 10),
        Kind("tokenizer.json", _json("tokenizer.json", samples.tokenizer_jsons),
             {"tokenizer.json": mutations.json_file}, _TOKENIZER, "", 24),
        Kind("tokenizer-config", _beside_tokenizer,
             {"tokenizer_config.json": mutations.json_file, "special_tokens_map.json": mutations.json_file,
              "chat_template.jinja": mutations.damage}, _TOKENIZER, "", 8),
        Kind("chat-template", _templates, {"chat_template.jinja": mutations.template}, (open_chat,), "", 2,
             2 * SLOW + 1, ("chat template",)),
        Kind("vocab-merges", _pairs, {"vocab.json": mutations.json_file, "merges.txt": mutations.lines_file},
             _TOKENIZER, "", 10),
        Kind("ranks", lambda: [{f"{samples.RANK_NAME}.tiktoken": samples.rank_file()}],
             {f"{samples.RANK_NAME}.tiktoken": mutations.lines_file}, _TOKENIZER, "", 2),
        Kind("sentencepiece", _piece_models, {"tokenizer.model": protobuf_file}, _TOKENIZER, "", 12),
        Kind("folder", _model_folders,
             {"config.json": mutations.json_file, WEIGHTS: safetensors_file, **_shards(),
              "tokenizer.model": protobuf_file, "tokenizer_config.json": mutations.json_file,
              "generation_config.json": mutations.json_file},
             (look_at, lambda path: list(in_folders([path])), open_model), "", 3),
        Kind("adapter", lambda: list(samples.adapters()),
             {"adapter/adapter_config.json": mutations.json_file,
              "adapter/adapter_model.safetensors": safetensors_file},
             (look_at, open_model), "adapter", 10),
        Kind("pickles", _model_folders, {}, (look_at, lambda path: list(in_folders([path])), open_model), "", 3),
    )
}  # fmt: skip


@cache
def valid_files(kind: str) -> list[Files]:
    """The valid files of a kind, made once. Raises what a door does that they do not open."""
    made = KINDS[kind].files()
    for files in made:
        with tempfile.TemporaryDirectory() as folder:
            for name, content in files.items():
                mutations.place(Path(folder) / name, content)
            for door in KINDS[kind].doors:
                try:
                    door(Path(folder) / KINDS[kind].at)
                except TwofoldError:
                    if door is not load_config:  # of families that are only described
                        raise
    return made


# ---- a case ----------------------------------------------------------------------------------------------


def make_case(kind: str, seed: int, canary: str) -> Files:
    """The files of a case."""
    dice, what = Random(f"{kind}:{seed}"), KINDS[kind]
    files = dict(dice.choice(valid_files(kind)))
    if kind == "pickles":
        return _with_pickles(dice, files, canary)
    there = [name for name in what.damaged if name in files]
    for name in dice.sample(there, min(len(there), dice.choice([1, 1, 1, 2]))):
        choice = dice.random()
        if choice < 0.62:
            files[name] = what.damaged[name](dice, files[name])
        elif choice < 0.92:
            others = [data for data in dice.choice(valid_files(kind)).values() if isinstance(data, bytes)]
            files[name] = mutations.damage(dice, files[name], others)
        elif choice < 0.96:
            files[name] = mutations.damage(dice, what.damaged[name](dice, files[name]))
        elif choice < 0.9602:
            files[name + dice.choice(["", ".gz"])] = mutations.bomb(dice)
        elif choice < 0.98:
            files[name] = mutations.stand_in(dice, files[name], canary)
        elif choice < 0.99:
            files[name] = mutations.hole(dice, what.damaged[name](dice, files[name]))
    if len(files) > 1 and dice.random() < 0.02:
        files.pop(dice.choice(list(files)))
    if isinstance(found := files.get("chat_template.jinja"), bytes):
        files["chat_template.jinja"] = found.replace(b"CANARY", canary.encode())
    return files


_PICKLES = (
    "pytorch_model.bin model.pt model.pth consolidated.00.pth model.ckpt adapter_model.bin tokenizer.pkl optimizer.pt "
    "pytorch_model-00001-of-00002.bin training_args.bin tokenizer.json config.json rng_state.pth model.gguf MODEL.BIN "
    "generation_config.json"
)


def _with_pickles(dice: Random, files: Files, canary: str) -> Files:
    """Pickles in the place of files, under their names or others that stand for weights."""
    weights = [name for name in files if name.endswith((".safetensors", INDEX))]
    for name in weights if dice.random() < 0.8 else ():
        del files[name]
    for name in dice.sample([*_PICKLES.split(), *weights], dice.choice([1, 2, 4])):
        files[name] = dice.choice(mutations.pickle_bombs(canary))
    if dice.random() < 0.3:
        shard = dice.choice(["pytorch_model.bin", "../pytorch_model.bin", "model.pt"])
        index = json.dumps({"weight_map": {"lm_head.weight": shard}})
        files[dice.choice([INDEX, "pytorch_model.bin.index.json"])] = index.encode()
    return files


@dataclass(frozen=True)
class Outcome:
    """What came of a case. `fault`: what should not have been, or nothing."""

    opened: bool
    message: str
    seconds: float
    memory: int
    fault: str = ""


def try_case(kind: str, seed: int, place: Path, canary: Path, log: int | None = None) -> Outcome:
    """Make a case's files in the folder `place`, bring them to the doors, and take them away. `log`: a file
    descriptor of what the process prints, which should be nothing."""
    what = KINDS[kind]
    folder = place / "case"
    folder.mkdir()
    try:
        for name, content in make_case(kind, seed, str(canary)).items():
            if isinstance(content, mutations.Link) and content.target == "@self":
                content = mutations.Link(name)
            mutations.place(folder / name, content)
        printed = os.fstat(log).st_size if log is not None else 0
        outcome = _at_the_doors(what, folder)
        fault = outcome.fault
        if canary.exists():
            canary.unlink()
            fault = "a pickle or a template ran: it made the canary"
        if log is not None and os.fstat(log).st_size > printed:
            fault = fault or f"it printed: {os.pread(log, 2000, printed).decode(errors='replace')}"
        if outcome.seconds > what.slow:
            fault = fault or f"it took {outcome.seconds:.1f} s"
        if outcome.memory > MOST_MEMORY:
            fault = fault or f"it took {outcome.memory / 1e6:,.0f} MB"
        return Outcome(outcome.opened, outcome.message, outcome.seconds, outcome.memory, fault)
    finally:
        shutil.rmtree(folder)


def _at_the_doors(what: Kind, folder: Path) -> Outcome:
    opened, message, fault = False, "", ""
    before = _reset_peak()
    start = time.perf_counter()
    for door in what.doors:
        opened = True
        try:
            with _strict():
                door(folder / what.at if what.at else folder)
        except (TwofoldError, run.Problem) as error:
            opened, message = False, str(error)
            fault = fault or _of_message(message, (str(folder), *what.names))
        except BaseException as error:  # also MemoryError, SystemExit, and the panics of libraries in Rust
            opened, message = False, type(error).__name__
            fault = fault or "".join(traceback.format_exception(error))[-3000:]
    seconds = time.perf_counter() - start
    return Outcome(opened, message.replace(str(folder), "…"), seconds, max(0, _peak() - before), fault)


def _of_message(message: str, names: tuple[str, ...]) -> str:
    """What is wrong with a message that a person should read."""
    if not any(name in message for name in names):
        return f"a message that names no file: {message[:500]}"
    if not message.replace("\n", "").replace("\t", "").isprintable():
        return f"a message that a terminal would obey: {message[:500]!r}"
    if len(message) > LONGEST_MESSAGE:
        return f"a message of {len(message):,} characters: {message[:500]}"
    return ""


@contextmanager
def _strict() -> Iterator[None]:
    """Warnings are errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def _reset_peak() -> int:
    """Bytes that the process holds now, from which its peak is counted (Linux)."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    return _peak()


def _peak() -> int:
    with open("/proc/self/status", "rb") as file:
        return int(file.read().partition(b"VmHWM:")[2].split()[0]) << 10


_QUOTED = re.compile(
    r"""'(?:[^'\\]|\\.)*' | "[^"]*" | \[[^\]]*\] | -?\d[\d,.]*(?:e[+-]?\d+)? | \b(?:nan|inf|None|True|False)\b""",
    re.X,
)


def kind_of_message(message: str) -> str:
    """A message without the names and numbers in it."""
    return _QUOTED.sub("#", message)[:200]
