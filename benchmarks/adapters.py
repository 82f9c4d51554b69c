"""What an adapter learns of what fine-tuning all of the model learns, and what it costs: questions about the village.

    twofold create --output demo
    python benchmarks/adapters.py demo [--steps 150] [--ways full r=16 r=16,dora r=16,base=q4_0] [--seeds 3]

DEMO is what `twofold create` leaves. Its base is fine-tuned on the same conversations, once for each way and seed:
`full`, or an adapter by its settings (r, alpha, lr, rslora, dora, targets=q_proj+v_proj), over the base as it is or in
a GGUF of a type (base=q4_0). Then it is asked about villagers whom the conversations leave out. The seconds of a step
stand beside those of `full` in the same round.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

import twofold
from twofold.create.conversations import chat_data
from twofold.evaluation.exact_match import ask
from twofold.files import read_json
from twofold.models.convert import convert
from twofold.models.load import load_frozen, load_model
from twofold.models.lora import TARGETS, LoraSettings
from twofold.text.world import Village, VillageSettings
from twofold.training.adapting import NewAdapter
from twofold.training.loop import train
from twofold.training.settings import FINETUNING, TrainSettings

WAYS = (
    "full", "r=1", "r=4", "r=16", "r=64", "r=16,targets=q_proj+v_proj", "r=64,rslora", "r=16,dora",
    "r=16,base=q8_0", "r=16,base=q4_k_m", "r=16,base=q4_0",
)  # fmt: skip


class Result(NamedTuple):
    """One run. `loss`: nats a token of its last steps; `size`: bytes of what it leaves."""

    right: int
    loss: float
    seconds: float
    parameters: int
    size: int


def read_way(text: str) -> tuple[LoraSettings | None, float | None, str | None]:
    """The adapter, its rate, and the type of its base; None where nothing is said."""
    if text == "full":
        return None, None, None
    values = dict(part.partition("=")[::2] for part in text.split(","))
    settings = LoraSettings(
        rank=int(values["r"]),
        alpha=float(values.get("alpha", LoraSettings.alpha)),
        rslora="rslora" in values,
        dora="dora" in values,
        targets=tuple(values["targets"].split("+")) if "targets" in values else TARGETS,
    )
    return settings, float(values["lr"]) if "lr" in values else None, values.get("base")


def run(
    demo: Path, village: Village, way: str, options: argparse.Namespace, seed: int, folder: Path
) -> Result:
    """Fine-tune in one way and ask."""
    adapter, rate, base_type = read_way(way)
    base = demo / "base"
    if base_type is not None:
        base = folder / f"{base_type}.gguf"
        if not base.exists():
            convert(demo / "base", base, type=base_type)
    model, tokenizer, _ = load_model(base) if adapter is None else load_frozen(base)
    changed = FINETUNING | ({} if rate is None else {"adapter_lr": rate})
    settings = TrainSettings(
        steps=options.steps, row_tokens=min(model.config.max_position_embeddings, 256), seed=seed, compile="no",
        checkpoint_seconds=1e9, **changed,
    )  # fmt: skip
    data = chat_data(list(village.conversations(6000)), tokenizer, settings)
    out = folder / "run"
    progress, begun = _Last(), time.perf_counter()
    new = None if adapter is None else NewAdapter(adapter, str(base))
    train(out, model, tokenizer, data, settings, chat=True, progress=progress, adapter=new)
    seconds = (time.perf_counter() - begun) / options.steps
    learned = sum(p.numel() for p in model.parameters() if p.requires_grad)
    answers = ask(twofold.load(out), village.questions("held_out", "en", options.questions))
    size = sum(path.stat().st_size for path in out.glob("*.safetensors"))
    for path in sorted(out.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    out.rmdir()
    return Result(
        sum(a.right for a in answers), statistics.mean(progress.losses[-3:]), seconds, learned, size
    )


class _Last:
    """Progress that keeps the losses."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def tell(self, message: str) -> None:
        """Nothing is shown."""

    def update(self, row: dict[str, Any]) -> None:
        """Keep its loss."""
        if "loss" in row:
            self.losses.append(row["loss"])

    def close(self) -> None:
        """Nothing is open."""


def rows(demo: Path, options: argparse.Namespace) -> Iterator[tuple[str, list[Result]]]:
    """All runs, way by way; the seeds in turn, so that a slow hour touches all alike."""
    villagers = read_json(demo / "plan.json")["villagers"]
    village = Village(VillageSettings(villagers=villagers, seed=read_json(demo / "create.json")["seed"]))
    found: dict[str, list[Result]] = {way: [] for way in options.ways}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(options.seeds):
            for way in options.ways:
                found[way].append(run(demo, village, way, options, seed, Path(folder)))
                print(f"# {way}, seed {seed}: {found[way][-1]}", flush=True)
    yield from found.items()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("demo", type=Path)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--ways", nargs="+", default=WAYS)
    options = parser.parse_args()
    torch.manual_seed(0)
    found = list(rows(options.demo, options))
    asked = len(next(iter(found))[1]) and options.questions
    print(
        f"\ntorch {torch.__version__}, {options.steps} steps, {options.seeds} seeds, {asked} questions at most\n"
    )
    print("| way | learns | file, kB | right | loss | seconds a step, of full |")
    print("|---|---|---|---|---|---|")
    full = next((results for way, results in found if way == "full"), None)
    for way, results in found:
        right = statistics.mean(r.right for r in results)
        spread = f" ± {statistics.stdev(r.right for r in results):.0f}" if len(results) > 1 else ""
        ratio = (
            "-" if full is None
            else f"{statistics.mean(r.seconds / f.seconds for r, f in zip(results, full, strict=True)):.2f}"
        )  # fmt: skip
        print(
            f"| {way} | {results[0].parameters:,} | {results[0].size / 1000:,.0f} | {right:.0f}{spread} | "
            f"{statistics.mean(r.loss for r in results):.3f} | {ratio} |"
        )


if __name__ == "__main__":
    main()
