"""Two experiments on a model: how often greedy choice misses a better text, and what temperature does.

    python benchmarks/decoding_experiments.py MODEL CORPUS --prompts 200 --output decoding.md

CORPUS is what `twofold text` leaves; prompts are the first PROMPT tokens of held-out documents, or of stretches of
long ones. Texts have LENGTH tokens, none ends sooner, so that texts of one length are compared and no length penalty
matters. "Better" is a higher log-probability under the model, which is not the same as better to read.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

import torch

import twofold
from twofold.decoding.decoders import Beam, Sample
from twofold.decoding.session import Completion, LoadedModel
from twofold.files import atomic_write
from twofold.text.corpus import Corpus
from twofold.training.machine import environment

PROMPT, LENGTH, SAMPLES = 24, 20, 8


def prompts_of(model: LoadedModel, corpus: Corpus, most: int) -> list[list[int]]:
    """Token prompts, spread over the held-out side."""
    found: list[list[int]] = []
    for document in corpus.documents("held_out"):
        tokens = model.tokenizer.encode(document)
        step = max(4 * PROMPT, len(tokens) // 40)
        found += [tokens[at : at + PROMPT] for at in range(0, len(tokens) - PROMPT, step)]
    stride = max(1, len(found) // most)
    return [[model.tokenizer.end_of_text, *tokens] for tokens in found[::stride][:most]]


def run(model: LoadedModel, prompts: list[list[int]], decoder, **sampling) -> list[list[Completion]]:
    settings = model.sampling(banned=model.stop_ids, **sampling)
    return model.answers(prompts, decoder=decoder, settings=settings, max_tokens=LENGTH)


def greedy_against_beams(model: LoadedModel, prompts: list[list[int]], widths: list[int]) -> list[str]:
    """How often a beam finds a text that is more probable than the greedy one, and by how much."""
    greedy = [some[0].log_probability for some in run(model, prompts, Sample(), temperature=0)]
    lines = [
        "| beam | finds a better text than greedy | gain where it does, nats | a worse one | scored branches |",
        "|---|---|---|---|---|",
    ]
    for width in widths:
        found = [
            some[0].log_probability
            for some in run(model, prompts, Beam(width, length_penalty=0.0, early_stopping="never"))
        ]
        gains = [b - a for a, b in zip(greedy, found, strict=True)]
        better = [gain for gain in gains if gain > 1e-3]
        worse = sum(gain < -1e-3 for gain in gains)
        mean = statistics.fmean(better) if better else 0.0
        lines.append(
            f"| {width} | {100 * len(better) / len(gains):.0f}% of {len(gains)} | {mean:.2f} | "
            f"{100 * worse / len(gains):.0f}% | {width}x |"
        )
        print(lines[-1], file=sys.stderr)
    return lines


def temperatures(model: LoadedModel, prompts: list[list[int]], values: list[float]) -> list[str]:
    """Diversity and likelihood of samples."""
    lines = [
        "| temperature | log-probability a token, nats | different pairs of tokens among 8 samples | "
        "4-grams repeated within a text | different texts among 8 |",
        "|---|---|---|---|---|",
    ]
    for value in values:
        answers = run(model, prompts, Sample(SAMPLES), temperature=value, seed=0)
        likelihood = statistics.fmean(a.log_probability / len(a.tokens) for some in answers for a in some)
        pairs = statistics.fmean(distinct([a.tokens for a in some], 2) for some in answers)
        repeated = statistics.fmean(1 - distinct([a.tokens], 4) for some in answers for a in some)
        different = statistics.fmean(len({tuple(a.tokens) for a in some}) for some in answers)
        lines.append(
            f"| {value:g} | {likelihood:.3f} | {100 * pairs:.0f}% | {100 * repeated:.1f}% | {different:.1f} |"
        )
        print(lines[-1], file=sys.stderr)
    return lines


def distinct(texts: list[list[int]], n: int) -> float:
    """Different n-grams over all n-grams."""
    grams = [tuple(text[i : i + n]) for text in texts for i in range(len(text) - n + 1)]
    return len(set(grams)) / max(1, len(grams))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("corpus", type=Path, help="a corpus folder, from `twofold text`")
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--widths", type=int, nargs="+", default=[2, 4, 8, 16, 32])
    parser.add_argument("--temperatures", type=float, nargs="+", default=[0.25, 0.5, 0.75, 1.0, 1.25, 1.5])
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    model = twofold.load(arguments.model)
    corpus = Corpus.open(arguments.corpus)
    prompts = prompts_of(model, corpus, arguments.prompts)
    size = sum(p.numel() for p in model.model.transformer.parameters())
    processor = environment(torch.device("cpu"), torch.float32)["processor"]
    text = "\n\n".join(
        [
            f"{processor}; {size / 1e6:.2f} M parameters; {len(prompts)} prompts of {PROMPT} tokens, "
            f"texts of {LENGTH}.",
            "\n".join(greedy_against_beams(model, prompts, arguments.widths)),
            "\n".join(temperatures(model, prompts, arguments.temperatures)),
        ]
    )
    print(text)
    if arguments.output:
        with atomic_write(arguments.output) as file:
            file.write(text + "\n")


if __name__ == "__main__":
    main()
