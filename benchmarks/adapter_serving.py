"""Eight requests by eight adapters at once, beside one adapter, none, and PEFT's own mixed batches.

    python benchmarks/adapter_serving.py [--width 512] [--layers 8] [--rank 16] [--rounds 5] [--quick]

A random Qwen3 model and random adapters to all of its layers' matrices, written once by PEFT and opened by both. Every
way writes the same number of tokens greedily after the same prompts, in turns in one process; figures are medians over
the rounds, and what is written with eight adapters must be the same tokens as PEFT's before anything is believed.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import peft
import torch
import transformers

import twofold  # noqa: F401 - sets how threads wait, before torch makes any
from twofold.decoding.decoders import Sample
from twofold.decoding.engine import Engine
from twofold.decoding.sampling import Sampling
from twofold.models.adapter_files import read_adapter
from twofold.models.folder import load_config, load_weights
from twofold.models.lora import TARGETS
from twofold.models.torch_model import TorchLanguageModel

Way = Callable[[], list[list[int]]]
PROMPT = 32  # tokens


def made(options: argparse.Namespace, folder: Path) -> peft.PeftModel:
    """A model with as many adapters as requests, and all of them in `folder`."""
    torch.manual_seed(0)
    config = transformers.Qwen3Config(
        vocab_size=4096, hidden_size=options.width, intermediate_size=3 * options.width,
        num_hidden_layers=options.layers, num_attention_heads=options.width // 64,
        num_key_value_heads=max(1, options.width // 128), head_dim=64, max_position_embeddings=1024,
        pad_token_id=0, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    model = transformers.Qwen3ForCausalLM(config).eval()
    model.save_pretrained(folder / "base")
    settings = peft.LoraConfig(r=options.rank, lora_alpha=2 * options.rank, target_modules=list(TARGETS))
    adapted = peft.get_peft_model(model, settings, adapter_name="a0")
    for number in range(1, options.requests):
        adapted.add_adapter(f"a{number}", settings)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.02)
    adapted.save_pretrained(folder / "adapters")
    return adapted.eval()


def ways(options: argparse.Namespace, theirs: peft.PeftModel, folder: Path) -> dict[str, Way]:
    """Each way as a function that writes and returns the tokens."""
    rng = np.random.default_rng(0)
    prompts = rng.integers(1, 4096, (options.requests, PROMPT)).tolist()
    names = [f"a{number}" for number in range(options.requests)]
    base = load_weights(folder / "base", load_config(folder / "base"))
    adapters = {name: read_adapter(folder / "adapters" / name, base.config) for name in names}
    model = TorchLanguageModel(base, adapters=adapters)

    def ours(asked: list[str | None]) -> Way:
        def write() -> list[list[int]]:
            engine = Engine(model, cached=0)
            requests = [
                engine.submit(p, Sample(), settings=Sampling(temperature=0), max_tokens=options.tokens, adapter=name)
                for p, name in zip(prompts, asked, strict=True)
            ]  # fmt: skip
            return [list(request.result()[0].branch.chosen) for request in requests]

        return write

    def peers() -> list[list[int]]:
        rows = torch.tensor(prompts)
        with torch.no_grad():
            out = theirs.generate(
                input_ids=rows, attention_mask=torch.ones_like(rows), adapter_names=names, do_sample=False,
                max_new_tokens=options.tokens, min_new_tokens=options.tokens,
            )  # fmt: skip
        return out[:, PROMPT:].tolist()

    return {
        "none": ours([None] * options.requests),
        "one for all": ours(["a0"] * options.requests),
        "one for each": ours(names),
        "one for each, PEFT": peers,
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--requests", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a small model, one round")
    options = parser.parse_args()
    if options.quick:
        options.width, options.layers, options.tokens, options.rounds = 128, 2, 16, 1
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        found = ways(options, made(options, Path(folder)), Path(folder))
        if found["one for each"]() != found["one for each, PEFT"]():
            raise SystemExit("Twofold and PEFT wrote different tokens: nothing was measured.")
        seconds: dict[str, list[float]] = {name: [] for name in found}
        for _ in range(options.rounds):
            for name, write in found.items():
                begun = time.perf_counter()
                write()
                seconds[name].append(time.perf_counter() - begun)
    print(
        f"torch {torch.__version__}, peft {peft.__version__}, {torch.get_num_threads()} threads; "
        f"width {options.width}, {options.layers} layers, rank {options.rank}, {options.requests} requests of "
        f"{options.tokens} tokens\n"
    )
    print("| adapters | tokens a second | to none |")
    print("|---|---|---|")
    for name, times in seconds.items():
        ratio = statistics.median(n / t for n, t in zip(seconds["none"], times, strict=True))
        speed = options.requests * options.tokens / statistics.median(times)
        print(f"| {name} | {speed:,.0f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
