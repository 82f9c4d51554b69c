"""A made-up but likely run, for tests. `python tests/report/conftest.py OUT.html` draws it."""

from __future__ import annotations

import math
import random

import pytest

from twofold.report import (
    Answer,
    Compression,
    Example,
    FileNote,
    NextStep,
    Report,
    RunRecord,
    Sample,
    ScoreCell,
    ScoreRow,
    Scores,
    Stage,
)

ENVIRONMENT = {
    "processor": "Intel Xeon",
    "cores": 2,
    "threads": 2,
    "matmul_peak_gflops": 412.7,
    "python": "3.11.2",
    "torch": "2.13.0+cpu",
    "twofold": "0.1.0",
    "git_commit": "4f0c2ab91d",
}


def metric_rows(steps: int, start: float, end: float, every: int = 100, tokens: int = 8192) -> list[dict]:
    """Rows such as the training loop writes, with noise, from a loss of `start` falling towards `end`."""
    dice = random.Random(steps)
    rows = []
    for step in range(1, steps + 1):
        true = end + (start - end) * (1 + step / 12) ** -0.55 - 0.25 * (step / steps) ** 2
        loss = true + dice.gauss(0, 0.06)
        row = {
            "step": step,
            "seconds": 0.41 * step + dice.random() * 0.1,
            "tokens": tokens * step,
            "loss": loss,
            "bits_per_byte": loss / math.log(2) / 3.9,
            "learning_rate": 0.02 * min(1, step / 60) * min(1, (steps - step) / (0.4 * steps)),
            "tokens_per_second": tokens / 0.41 * (1 + dice.gauss(0, 0.02)) * (0.6 if step % 250 == 3 else 1),
            "peak_fraction": 0.62 + dice.gauss(0, 0.01),
            "grad_norm": 0.4 + 3 / math.sqrt(step) + abs(dice.gauss(0, 0.1)),
        }
        if step % every == 0 or step == steps:
            row["held_out_bits_per_byte"] = (true + 0.05) / math.log(2) / 3.9
        rows.append(row)
    rows.append(
        {"step": steps, "seconds": 0.41 * steps + 3, "held_out_bits_per_byte": row["held_out_bits_per_byte"]}
    )
    return rows


def base_run() -> RunRecord:
    """A pretraining run of 1,500 steps."""
    return RunRecord(
        name="Pretraining",
        settings={
            "minutes": 10.0,
            "batch_size": 32,
            "context_length": 256,
            "seed": 0,
            "optimizer": {"matrices": "Muon", "learning_rate": 0.02, "rest": "AdamW", "betas": [0.9, 0.95]},
            "resume": None,
        },
        metrics=tuple(metric_rows(1500, 8.3, 1.6)),
        model={
            "model_type": "qwen3",
            "num_hidden_layers": 6,
            "hidden_size": 256,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 64,
            "intermediate_size": 768,
            "vocab_size": 4096,
            "max_position_embeddings": 512,
            "tie_word_embeddings": True,
            "rope_theta": 10000.0,
        },
        parameters={
            "embedding": 1_048_576,
            "attention": 1_181_184,
            "feed-forward": 3_538_944,
            "norms": 4_096,
        },
        data_card={
            "documents": 91_204,
            "bytes": 38_914_022,
            "train": {"documents": 86_644, "bytes": 36_968_201},
            "held_out": {"documents": 4_560, "bytes": 1_945_821},
            "split": {"fraction": 0.05, "seed": 0, "way": "documents"},
            "duplicates": 12,
            "sources": {
                "village/pages.en": {"documents": 50_000, "bytes": 20_000_000},
                "village/pages.es": {"documents": 41_204, "bytes": 18_914_022},
            },
            "sha256": "9f2c5a0d1b7e4c3f8a6b0d9e2c1f4a7b5e8d3c6f9a2b1e4d7c0f3a6b9d2e5c8f",
        },
        result={"finished": True, "steps": 1500, "seconds": 615.0},
        environment=ENVIRONMENT,
    )


def chat_run() -> RunRecord:
    """A fine-tuning run of 400 steps."""
    rows = [
        {k: v for k, v in row.items() if k != "bits_per_byte"} for row in metric_rows(400, 3.1, 0.5, every=50)
    ]
    return RunRecord(
        name="Fine-tuning",
        settings={"epochs": 2, "batch_size": 16, "seed": 0},
        metrics=tuple(rows),
        model=base_run().model,
        parameters=base_run().parameters,
        data_card={
            "conversations": 12_000,
            "bytes": 2_204_113,
            "villagers taught": 1000,
            "villagers never asked": 1000,
        },
        result={"finished": True, "steps": 400},
        environment=ENVIRONMENT,
    )


def scores() -> Scores:
    """Base 0 to 1 % right, assistant 84 %, chance 4 %."""

    def row(
        name: str, base: int, chat: int, n: int, group: str = "", chance: float | None = None
    ) -> ScoreRow:
        return ScoreRow(name, (ScoreCell(base, n), ScoreCell(chat, n)), group, chance)

    return Scores(
        title="Knowledge from pretraining, format from fine-tuning",
        columns=("base model", "assistant"),
        rows=(
            row("Villagers met only in pretraining", 2, 1008, 1200),
            row("Villagers of the fine-tuning, too", 3, 1121, 1200),
            row("Birthplace", 1, 181, 200, "By topic", 1 / 24),
            row("Trade", 0, 176, 200, "By topic", 1 / 30),
            row("Pet", 1, 162, 200, "By topic", 1 / 12),
            row("Favourite colour", 0, 158, 200, "By topic", 1 / 11),
            row("Best friend", 0, 21, 200, "By topic", 1 / 2000),
            row("English", 1, 522, 600, "By language"),
            row("Spanish", 1, 486, 600, "By language"),
        ),
        explanation=(
            "The assistant was fine-tuned on questions about half of the villagers. These questions are "
            "about the other half, whom it met only as text in pretraining. "
            "An answer counts when it is exactly right."
        ),
        chance=0.041,
        examples=(
            Example(
                "Where was Marta Quill born?",
                "Elder Ferry",
                (
                    Answer("Marta Quill was a baker and lived in the mill house. She", False),
                    Answer("Elder Ferry", True),
                ),
                "birthplace, English",
            ),
            Example(
                "¿De qué trabaja Tomás Ruda?",
                "herrero",
                (Answer("¿De qué trabaja Tomás Ruda? ¿De qué", False), Answer("herrero", True)),
                "trade, Spanish",
            ),
            Example(
                "What pet does Ada Finch have?",
                "a goose",
                (Answer("", False), Answer("a grey cat", False)),
                "pet, English",
            ),
            Example(
                "What is Ivo Marsh's favourite colour?",
                "ochre",
                (Answer("Ivo Marsh's favourite colour was the colour of", False), Answer("Ochre.", True)),
                "colour, English",
            ),
        ),
    )


def demo_report() -> Report:
    """The report of a whole demo."""
    return Report(
        title="A village in two files",
        summary=(
            "A language model of 5.8 M parameters, made from 37 MB of text about 2,000 villagers in English "
            "and Spanish, and fine-tuned into an assistant: in 13 min 42 s on 2 cores of an Intel Xeon."
        ),
        made="4 March 2031",
        runs=(base_run(), chat_run()),
        scores=scores(),
        samples=(
            Sample(
                "Marta Quill was born in",
                " Elder Ferry, and she never moved far from the river. Every morning she carried flour "
                "from the mill, and every morning the same grey goose followed her to the door.\n\n"
                "“You again,” said Marta.",
                {"temperature": 0.8, "top_p": 0.95, "seed": 1},
                "base model",
            ),
            Sample(
                "Tomás Ruda es",
                " herrero en Vado del Saúco. Tiene un perro negro y su color favorito es el ocre. Su mejor "
                "amiga se llama Ada Finch.",
                {"temperature": 0.8, "top_p": 0.95, "seed": 2},
                "base model",
            ),
            Sample(
                "One evening the bell did not ring, because",
                " the rope had been eaten by a goat. Ivo climbed the tower and rang it by hand until "
                "everyone had come home.",
                {"temperature": 0.8, "top_p": 0.95, "seed": 3},
                "base model",
            ),
        ),
        compression=Compression(
            text_bytes=36_968_201,
            parameters=5_772_800,
            precisions={"F32": 23_091_200, "BF16": 11_545_600, "Q8_0": 6_150_000},
            files={"model.gguf (Q8_0)": 6_391_808, "run.py": 21_334},
            gzip_bytes=9_812_004,
        ),
        timeline=(
            Stage("text", 9.1),
            Stage("tokenizer", 14.2),
            Stage("shards", 6.8),
            Stage("pretraining", 615),
            Stage("fine-tuning", 131),
            Stage("questions", 38),
            Stage("two files", 3.4),
        ),
        files=(
            FileNote(
                "demo/two-files/",
                "model.gguf and run.py: the whole model, runs where Twofold is not installed",
                6_413_142,
            ),
            FileNote("demo/assistant/", "the assistant as a Hugging Face folder"),
            FileNote("demo/base/", "the base model, with its checkpoints"),
        ),
        next_steps=(
            NextStep("Talk to it", "python demo/two-files/run.py chat"),
            NextStep("Do the same with your own text", "twofold create --text my-book.txt --minutes 10"),
        ),
        commands=("make demo",),
    )


@pytest.fixture
def report() -> Report:
    return demo_report()


if __name__ == "__main__":
    import sys

    from twofold.report import write_report

    print(write_report(sys.argv[1], demo_report()))
