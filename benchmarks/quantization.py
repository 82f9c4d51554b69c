"""What fewer bits a weight cost: every type that `twofold convert` writes, as one Markdown table.

    python benchmarks/quantization.py demo/base book.txt
    python benchmarks/quantization.py demo/base book.txt --calibrate other.txt

A model is converted to each type, as it is and with scales chosen by what a text says matters, and each file is
measured on a text against the model itself: bits per byte, the divergence of its predictions in nats per token, and
how often both would choose the same token. Without --calibrate, the first half of the text says what matters and the
second measures.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import twofold
from twofold.evaluation.compare import evaluate
from twofold.models.convert import convert, load_contents
from twofold.models.importance import measure_importance, rows_of_text
from twofold.models.load import load_model
from twofold.models.recipes import RECIPES

PLAIN = ("f32", "f16", "bf16", "q8_0")  # no importance changes these


def main() -> None:
    """Convert, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("text")
    parser.add_argument("--calibrate", help="a text that says what matters")
    parser.add_argument("--characters", type=int, default=200_000, help="of the text to measure by")
    parser.add_argument("--types", nargs="+", choices=RECIPES, default=RECIPES)
    options = parser.parse_args()
    text = Path(options.text).read_text(encoding="utf-8")
    if options.calibrate:
        known = Path(options.calibrate).read_text(encoding="utf-8")
    else:
        known, text = text[: len(text) // 2], text[len(text) // 2 :]
    text = text[: options.characters]
    importance = measured(options.model, known[: 2 * options.characters])
    contents, original = load_contents(options.model), twofold.load(options.model)
    print(
        f"| type | MB | bits per weight | seconds | bits/byte | KL, nats/token | same choice |\n|{'---|' * 7}"
    )
    with tempfile.TemporaryDirectory() as folder:
        for recipe in options.types:
            for weighed in (False,) if recipe in PLAIN else (False, True):
                path = Path(folder) / f"{recipe}-{weighed}.gguf"
                start = time.perf_counter()
                done = convert(contents, path, type=recipe, importance=importance if weighed else None)
                seconds = time.perf_counter() - start
                found = evaluate(twofold.load(path), text, against=original)
                print(
                    f"| {recipe}{' + importance' if weighed else ''} | {done.bytes / 1e6:.2f} | "
                    f"{done.bits_per_weight:.2f} | {seconds:.1f} | {found.bits_per_byte:.4f} | "
                    f"{found.divergence:.5f} ± {found.divergence_error:.5f} | {found.agreement:.2%} |",
                    flush=True,
                )
                path.unlink()
    own = f"the model itself: {found.other_bits_per_byte:.4f} bits/byte"
    print(f"\n{found.tokens:,} tokens, {found.bytes:,} bytes; {own}.", file=sys.stderr)


def measured(path: str, text: str) -> dict:
    """What matters to the model at `path`, by a text."""
    model, tokenizer, _ = load_model(path)
    return measure_importance(model, rows_of_text(tokenizer, text, model.config.max_position_embeddings))


if __name__ == "__main__":
    main()
