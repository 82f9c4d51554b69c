"""How fast a model answers: foretold from what this machine was measured to do, and measured on the model itself.

The machine is measured through the engines themselves, on a model of random weights too large for the processor's
caches: how fast weights go through products with few tokens, and with many, and what a layer costs beside that.
`models/cost.py` makes of these what a model of any size would do. The best of a few tries counts, as what the machine
can do; other programs that compute at the same time slow both.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import torch

from twofold.models.config import TransformerConfig
from twofold.models.cost import BITS, Rates, Shape, Speed, prefill_flops
from twofold.models.language_model import Ask, LanguageModel
from twofold.models.quantize import TensorType, quantize
from twofold.models.torch_model import TorchLanguageModel
from twofold.models.transformer import Transformer

PROBE_TOKENS = 256  # of a prompt; a GPU gets more
TRY = 0.15  # seconds for each thing that is measured of the machine
CACHES = 96_000_000  # bytes
_SMALL, _MANY = 64, 16  # width and layers of a model that does little but go from layer to layer
_SHORT = 16  # tokens before those whose time counts, and the least prompt


@cache
def torch_rates(dtype: torch.dtype, device: str, batch: int) -> Rates:
    """What torch does here in `dtype`, for 1 and `batch` texts at once; about a second on a CPU."""
    large = device != "cpu"
    config = _probe(4096, 4, large) if large else _probe(1024, _layers(dtype.itemsize), large)
    small = _probe(_SMALL, _MANY, large)
    models = (_random_model(each, dtype, device) for each in (small, config))
    return _rates(models, config, 4 * PROBE_TOKENS if large else PROBE_TOKENS, batch, dtype.itemsize)


@cache
def c_rates(recipe: str, batch: int) -> Rates:
    """What run.c does here with weights by one of `models/recipes.py`. Raises NoCompiler, or FileError where it does
    not read them."""
    weight = BITS[recipe] / 8
    config = _probe(1024, _layers(weight), False)
    with tempfile.TemporaryDirectory() as folder:
        models = (
            _c_model(Path(folder) / f"{each.hidden_size}.gguf", each, its)
            for each, its in ((_probe(_SMALL, _MANY, False), "f16"), (config, recipe))
        )
        return _rates(models, config, PROBE_TOKENS, batch, weight)


def measure(model: LanguageModel, length: int, batch: int, seconds: float = 6.0) -> tuple[Speed, int]:
    """(the speed, tokens of the prompt it was measured with): `length`, or as many as about `seconds` allow.

    A prompt of random tokens is read, then one token more, alone and by `batch` texts together."""
    length = min(length, model.context_length - 1)
    tried = min(_SHORT, length)
    pace = _seconds(model, tried, 1)[0] / tried
    if (
        length > _SHORT and (_SHORT**2 + _SHORT) * pace < seconds / 4
    ):  # many tokens have another pace than few
        tried = min(_SHORT**2, length)
        pace = _seconds(model, tried, 1)[0] / tried
    length = max(min(_SHORT, length), min(length, int(seconds / 2 / pace / (batch + 1))))
    alone = _seconds(model, length, 1, seconds / 6)
    together = _seconds(model, length, batch, seconds / 6)[1] if batch > 1 else None
    return Speed(length / alone[0], 1 / alone[1], batch / together if together else None), length


def free_memory(device: str) -> int | None:
    """Bytes that a model could take here; None where the system does not tell."""
    if device.startswith("cuda"):
        return torch.cuda.mem_get_info(device)[0]
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return None


def _seconds(model: LanguageModel, length: int, batch: int, budget: float = TRY) -> tuple[float, float]:
    """(to read a prompt of `length` tokens, for one more token of each of `batch` texts after it)."""
    numbers = np.random.default_rng(0).integers(0, model.vocab_size, (batch, length)).tolist()
    memory = model.new_memory()

    def read() -> None:
        sequence = memory.new()
        model.scores(memory, [Ask(sequence, numbers[0])])
        memory.free(sequence)

    def step() -> None:
        model.scores(memory, [Ask(sequence, [1]) for sequence in texts])
        for sequence in texts:
            memory.rewind(sequence, length)

    prompt = _fastest(read, budget)
    texts = [memory.new() for _ in range(batch)]
    for sequence, tokens in zip(texts, numbers, strict=True):
        model.scores(memory, [Ask(sequence, tokens)])
    return prompt, _fastest(step, budget)


def _fastest(run: Callable[[], None], budget: float) -> float:
    """Seconds of the fastest of a few runs; of one alone where that takes several times the budget."""
    spent = took = _took(run)
    best = took if took > 4 * budget else float("inf")  # else the first only warms up
    while spent < budget or best == float("inf"):
        took = _took(run)
        best, spent = min(best, took), spent + took
    return best


def _took(run: Callable[[], None]) -> float:
    start = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _rates(
    models: Iterator[LanguageModel], config: TransformerConfig, tokens: int, batch: int, weight: float
) -> Rates:
    """Of two models: one so small that it does little but go from layer to layer, and one of `config`."""
    prompt, one = _seconds(next(models), tokens, 1)
    layer, token = one / _MANY, max(0.0, prompt - one) / (_MANY * tokens)
    model, shape = next(models), Shape.of(config)
    beside = len(shape.layers) * layer
    prompt, one = _seconds(model, tokens, 1)
    steps = {1: one, batch: one if batch == 1 else _seconds(model, _SHORT, batch)[1]}
    return Rates(
        {size: shape.matrices * weight / max(step - beside, step / 4) for size, step in steps.items()},
        prefill_flops(shape, tokens) / max(prompt - beside - len(shape.layers) * tokens * token, prompt / 4),
        layer,
        token,
    )


def _layers(weight: float) -> int:
    """How many layers of width 1024 are more than caches hold, at so many bytes a weight."""
    return math.ceil(CACHES / (weight * 13 * 1024 * 1024))


def _probe(width: int, layers: int, large: bool) -> TransformerConfig:
    head = min(width, 128)
    return TransformerConfig(
        vocab_size=1024, hidden_size=width, num_hidden_layers=layers, num_attention_heads=width // head,
        num_key_value_heads=max(1, width // head // 4), head_dim=head, intermediate_size=3 * width,
        max_position_embeddings=8 * PROBE_TOKENS if large else 2 * PROBE_TOKENS,
    )  # fmt: skip


def _random_model(config: TransformerConfig, dtype: torch.dtype, device: str) -> TorchLanguageModel:
    with torch.device(device):
        return TorchLanguageModel(Transformer(config).to(dtype).eval())


def _c_model(path: Path, config: TransformerConfig, recipe: str) -> LanguageModel:
    from twofold.models.c_model import CLanguageModel

    _write_probe(path, config, recipe)
    return CLanguageModel(path, config)


def _write_probe(path: Path, config: TransformerConfig, recipe: str) -> None:
    """A .gguf of random weights: some rows, repeated."""
    from twofold.models.from_gguf import Contents
    from twofold.models.gguf import write_gguf
    from twofold.models.to_gguf import plan
    from twofold.tokens.tokenizer import bytes_only

    with torch.device("meta"):
        shapes = {name: tuple(tensor.shape) for name, tensor in Transformer(config).state_dict().items()}
    tokenizer = bytes_only(config.vocab_size)
    weights = {
        name: np.broadcast_to(np.float32(1), shape) for name, shape in shapes.items()
    }  # one number each
    planned = plan(
        Contents(config, weights, tokenizer, (tokenizer.end_of_text,), False), recipe, name="probe"
    )
    random = np.random.default_rng(0)

    def rows(kind: TensorType, shape: tuple[int, ...]) -> np.ndarray:
        some = quantize(random.uniform(-0.05, 0.05, (32, shape[-1])).astype(np.float32), kind)
        return np.tile(some.view(np.uint8).reshape(32, -1), (shape[0] // 32, 1))

    entries = [
        (
            each.name,
            each.type,
            (lambda e=each: rows(e.type, e.shape)) if len(each.shape) > 1 else each.encode,
            each.shape,
        )
        for each in planned.tensors
    ]
    write_gguf(path, planned.metadata, entries)
