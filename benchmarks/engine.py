"""What the engine costs beside a bare loop, what branches and shared beginnings save, and `transformers` beside it.

    python benchmarks/engine.py                                    # a random model of nano's shape
    python benchmarks/engine.py --model demo/assistant --output engine.md
    python benchmarks/engine.py --device cuda                      # and with --plain, without recorded steps

All on the same weights in one process, in turns; figures are medians over the rounds of ratios within a round. The
bare loop asks the same `TorchLanguageModel` for the same tokens and takes the best of each row; the engine decodes the
same greedily, with stop tokens and log-probabilities; the texts must be equal before anything is believed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import twofold
from twofold.decoding.decoders import Beam, Sample
from twofold.decoding.engine import Engine
from twofold.decoding.sampling import Sampling
from twofold.files import atomic_write
from twofold.models import torch_model
from twofold.models.c_model import CLanguageModel
from twofold.models.folder import save_folder
from twofold.models.gguf import read_gguf
from twofold.models.gguf_config import read_config
from twofold.models.language_model import Ask, LanguageModel
from twofold.models.torch_model import TorchLanguageModel
from twofold.models.transformer import Transformer
from twofold.tokens.tokenizer import bytes_only
from twofold.training.machine import environment
from twofold.training.shapes import PRESETS
from twofold.twofiles.export import export

GREEDY = Sampling(temperature=0)


def random_folder(folder: Path, preset: str) -> Path:
    """A Hugging Face folder of a random model that never ends a text by itself for long."""
    torch.manual_seed(0)
    config = replace(PRESETS[preset].config(PRESETS[preset].vocab_size), max_position_embeddings=2048)
    save_folder(folder, Transformer(config), bytes_only(config.vocab_size), chat=False)
    return folder


def prompts_of(count: int, length: int, most: int) -> list[list[int]]:
    return np.random.default_rng(0).integers(0, most, (count, length)).tolist()


def bare(model: TorchLanguageModel, prompts: list[list[int]], tokens: int) -> tuple[float, list[list[int]]]:
    """Seconds for the tokens after the prompts, and the texts."""
    memory = model.new_memory()
    sequences = [memory.new() for _ in prompts]
    texts: list[list[int]] = [[] for _ in prompts]
    best = (
        model.scores(memory, [Ask(s, p) for s, p in zip(sequences, prompts, strict=True)]).argmax(-1).tolist()
    )
    started = time.perf_counter()
    for _ in range(tokens):
        for text, token in zip(texts, best, strict=True):
            text.append(token)
        asks = [Ask(s, (token,)) for s, token in zip(sequences, best, strict=True)]
        best = model.scores(memory, asks).argmax(-1).tolist()
    return time.perf_counter() - started, texts


def engine_run(
    model: TorchLanguageModel, prompts: list[list[int]], tokens: int, settings: Sampling = GREEDY
) -> tuple[float, list[list[int]]]:
    """The same through the engine."""
    engine = Engine(model, cached=0)
    requests = [
        engine.submit(p, Sample(), settings=settings, max_tokens=tokens + 1, stop_ids=[model.vocab_size - 1])
        for p in prompts
    ]
    while not all(request.task.has_told for request in requests):
        engine.step()
    started = time.perf_counter()
    while not all(request.done for request in requests):
        engine.step()
    return time.perf_counter() - started, [
        [choice.token for choice in request.take()][:tokens] for request in requests
    ]


def turns(rounds: int, *ways: Callable[[], float]) -> list[float]:
    """The time of each way: the first one's median, and for the others that times the median of their ratios to
    it, round by round; a machine that is slower for a while is so for all ways of a round."""
    times = [[way() for way in ways] for _ in range(rounds + 1)][1:]
    first = statistics.median(row[0] for row in times)
    return [first * statistics.median(row[i] / row[0] for row in times) for i in range(len(ways))]


def overhead(model: TorchLanguageModel, rounds: int, tokens: int) -> list[str]:
    """Engine against bare loop, by batch."""
    lines = [
        "| requests at once | bare loop, tokens/s | engine, tokens/s | a token costs more by |",
        "|---|---|---|---|",
    ]
    for batch in (1, 8, 64):
        prompts = prompts_of(batch, 32, 256)
        (_, a), (_, b) = bare(model, prompts, tokens), engine_run(model, prompts, tokens)
        if a != b:
            raise SystemExit("The engine and the bare loop do not say the same.")
        plain, engine = turns(
            rounds,
            lambda p=prompts: bare(model, p, tokens)[0],
            lambda p=prompts: engine_run(model, p, tokens)[0],
        )
        total = batch * tokens
        lines.append(
            f"| {batch} | {total / plain:,.0f} | {total / engine:,.0f} | {100 * (engine / plain - 1):.1f}% |"
        )
    return lines


def branches(model: TorchLanguageModel, rounds: int, tokens: int) -> list[str]:
    """Several branches of one request against one."""

    def run(decoder) -> float:
        engine = Engine(model, cached=0)
        settings = replace(GREEDY, temperature=1.0, seed=0) if isinstance(decoder, Sample) else GREEDY
        started = time.perf_counter()
        engine.submit([1] * 32, decoder, settings=settings, max_tokens=tokens).result()
        return time.perf_counter() - started

    ways = {"one sample": (Sample(), 1), "8 samples": (Sample(8), 8), "beam of 8": (Beam(8), 8)}
    times = turns(rounds, *(lambda d=decoder: run(d) for decoder, _ in ways.values()))
    lines = ["| branches | tokens/s in all | against one |", "|---|---|---|"]
    first = tokens / times[0]
    for (name, (_, count)), seconds in zip(ways.items(), times, strict=True):
        speed = count * tokens / seconds
        lines.append(f"| {name} | {speed:,.0f} | {speed / first:.2f}x |")
    return lines


def shared(model: TorchLanguageModel, rounds: int) -> list[str]:
    """A shared beginning of 1,000 tokens: time to the first token of 8 requests, against one."""
    [begin] = prompts_of(1, 1000, 256)

    def run(count: int, cached: int) -> float:
        engine = Engine(model, cached=cached)
        started = time.perf_counter()
        requests = [
            engine.submit([*begin, i, 7, i], Sample(), settings=GREEDY, max_tokens=1) for i in range(count)
        ]
        for request in requests:
            request.result()
        return time.perf_counter() - started

    one, eight, apart = turns(rounds, lambda: run(1, 1 << 16), lambda: run(8, 1 << 16), lambda: run(8, 0))
    return [
        "| requests of 1,003 tokens that share 1,000 | seconds to the first token of all | against one |",
        "|---|---|---|",
        f"| 1 | {one:.3f} | 1.00x |",
        f"| 8 | {eight:.3f} | {eight / one:.2f}x |",
        f"| 8, nothing kept | {apart:.3f} | {apart / one:.2f}x |",
    ]


def in_c(folder: Path, out: Path, threads: int) -> CLanguageModel:
    """The same weights, float32, computed by run.c."""
    export(folder, out, type="f32")
    path = out / "model.gguf"
    return CLanguageModel(path, read_config(read_gguf(path)), threads=threads)


def against_transformers(
    folder: Path, models: dict[str, LanguageModel], rounds: int, tokens: int, device: str
) -> list[str]:
    """Greedy text of 1 and 8 prompts of one length."""
    from transformers import AutoModelForCausalLM

    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval().to(device)

    def run_theirs(prompts: list[list[int]]) -> float:
        tensor = torch.tensor(prompts, device=device)
        started = time.perf_counter()
        theirs.generate(
            tensor, attention_mask=torch.ones_like(tensor), max_new_tokens=tokens, min_new_tokens=tokens,
            do_sample=False, pad_token_id=0,
        ).tolist()  # fmt: skip
        return time.perf_counter() - started

    def run_ours(model: LanguageModel, prompts: list[list[int]]) -> float:
        engine = Engine(model, cached=0)
        threads = torch.get_num_threads()
        torch.set_num_threads(1 if isinstance(model, CLanguageModel) else threads)  # as `twofold.load` does
        started = time.perf_counter()
        requests = [engine.submit(p, Sample(), settings=GREEDY, max_tokens=tokens) for p in prompts]
        for request in requests:
            request.result()
        seconds = time.perf_counter() - started
        torch.set_num_threads(threads)
        return seconds

    lines = [
        "| requests at once | program | tokens/s | against `transformers.generate` |",
        "|---|---|---|---|",
    ]
    for batch in (1, 8):
        prompts = prompts_of(batch, 32, 256)
        ways = {"`transformers.generate`": lambda p=prompts: run_theirs(p)}
        ways |= {name: lambda m=model, p=prompts: run_ours(m, p) for name, model in models.items()}
        times = turns(rounds, *ways.values())
        for name, seconds in zip(ways, times, strict=True):
            lines.append(
                f"| {batch} | {name} | {batch * tokens / seconds:,.0f} | {times[0] / seconds:.2f}x |"
            )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", type=Path, help="a Hugging Face folder, or a run's")
    parser.add_argument("--preset", choices=PRESETS, default="nano", help="shape of the random model")
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--plain", action="store_true", help="on a GPU, do not record steps as CUDA graphs")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--quick", action="store_true", help="one round of few tokens")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.tokens, arguments.rounds = 16, 1
    if arguments.plain:
        torch_model.recorder = lambda device: None
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.model or random_folder(Path(temporary) / "model", arguments.preset)
        loaded = twofold.load(folder, device=arguments.device, precision="float32")
        model = loaded.model
        size = sum(p.numel() for p in model.transformer.parameters())
        models = {"Twofold": model}
        if arguments.device == "cpu":
            models["Twofold, run.c"] = in_c(folder, Path(temporary) / "c", arguments.threads)
        machine = environment(torch.device(arguments.device), torch.float32)
        parts = [
            f"{machine['processor']}, {arguments.threads} threads, torch {torch.__version__}; {size / 1e6:.2f} M "
            f"parameters, float32, {arguments.tokens} tokens after prompts of 32, median of {arguments.rounds}.",
            *(
                "\n".join(lines)
                for lines in (
                    overhead(model, arguments.rounds, arguments.tokens),
                    branches(model, arguments.rounds, arguments.tokens),
                    shared(model, arguments.rounds) if model.context_length > 1010 else [],
                    against_transformers(
                        folder, models, arguments.rounds, arguments.tokens, arguments.device
                    ),
                )
                if lines
            ),
        ]
    text = "\n\n".join(parts) + "\n"
    print(text)
    if arguments.output:
        with atomic_write(arguments.output) as file:
            file.write(text)
    print("done", file=sys.stderr)


if __name__ == "__main__":
    main()
