"""The report of a whole `create`: what the stages left, gathered into one record."""

from __future__ import annotations

import shlex
import zlib
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from twofold.create.questions import GROUPS, LANGUAGES, MODELS
from twofold.create.settings import CreateSettings
from twofold.files import as_written, read_json
from twofold.hub import PREFIX
from twofold.report import (
    Answer,
    Compression,
    Example,
    FileNote,
    KeyFigure,
    NextStep,
    Report,
    RunRecord,
    Sample,
    ScoreCell,
    ScoreRow,
    Scores,
    Stage,
    load_run_record,
    save_report,
    write_report,
)
from twofold.report.quantities import duration, short, size, whole
from twofold.text.corpus import Corpus
from twofold.text.world import Village

EXAMPLES = 12  # questions printed for each group
GZIP_LEVEL = 9


def make_report(folder: Path, settings: CreateSettings, village: Village | None) -> Path:
    """Write report.json and report.html into `folder`; return the page's path."""
    base = load_run_record(folder / "base")
    assistant = load_run_record(folder / "assistant")
    corpus = Corpus.open(folder / "text")
    timeline = read_json(folder / "timeline.json") if (folder / "timeline.json").is_file() else {}
    with as_written(folder / "scores.json"):
        scores = village_scores(folder / "scores.json", village)
    with as_written(folder / "base" / "samples.json"):
        shown = samples(folder)
    report = Report(
        title="A village, learned"
        if village
        else f"A model of {', '.join(Path(t).name for t in settings.text)}",
        summary=summary(base, corpus, village, settings, sum(timeline.values())),
        made=datetime.now(UTC).strftime("%d %B %Y"),
        figures=figures(base, scores),
        runs=(base, assistant),
        scores=scores,
        samples=shown,
        compression=compression(folder, base, corpus),
        timeline=tuple(Stage(name, seconds) for name, seconds in timeline.items()),
        files=files(folder),
        next_steps=next_steps(folder),
        commands=(command(folder, settings),),
    )
    save_report(folder / "report.json", report)
    return write_report(folder / "report.html", report)


def summary(
    base: RunRecord, corpus: Corpus, village: Village | None, settings: CreateSettings, seconds: float
) -> str:
    """What was made of what, in how long, on what."""
    text = size(corpus.card["train"]["bytes"])
    environment = base.environment
    learned = short(base.result.get("tokens", 0))
    fetched = any(source.startswith(PREFIX) for source in settings.text)
    origin = (
        f"{text} of text about a made-up village of {len(village.villagers)} people, in "
        f"{' and '.join(LANGUAGES[name] for name in village.settings.languages)}"
        if village
        else f"{text} of text"
    )
    return (
        f"From {origin}, a tokenizer of {whole(base.model['vocab_size'])} tokens and a language model of "
        f"{short(sum(base.parameters.values()))} parameters, pretrained on {learned} tokens, "
        f"fine-tuned into an assistant, and taken away as two files. All of it took {duration(seconds)} on "
        f"{environment.get('cores')} cores of {environment.get('processor')}{'' if fetched else ', with no network'}."
    )


def figures(base: RunRecord, scores: Scores | None) -> tuple[KeyFigure, ...]:
    """The large numbers at the top."""
    shown = []
    if scores is not None:
        before, after = scores.rows[0].cells
        shown.append(
            KeyFigure(
                f"{after.fraction:.0%}", "exactly right about people met only in pretraining",
                f"{before.fraction:.0%} before fine-tuning, {scores.rows[0].chance:.0%} by chance",
            )
        )  # fmt: skip
    bits = base.result.get("held_out_bits_per_byte")
    if bits is not None:
        shown.append(KeyFigure(f"{bits:.3f}", "bits per byte of held-out text", "8 without a model"))
    shown.append(KeyFigure(short(sum(base.parameters.values())), "parameters"))
    shown.append(KeyFigure(short(base.result.get("tokens", 0)), "tokens learned from"))
    return tuple(shown)


def village_scores(path: Path, village: Village | None) -> Scores | None:
    """scores.json as the report's table: all groups, then the headline group by topic, then examples."""
    if village is None or not path.is_file():
        return None
    groups: dict[str, Any] = read_json(path)["groups"]
    rows, examples = [], []
    for key, group in groups.items():
        name, _, language = key.partition("/")
        asked = group["questions"]
        label = f"{GROUPS[name]}, {LANGUAGES[language]}"
        rows.append(ScoreRow(label, cells(asked), group="Who and how", chance=group["chance"]))
        for one in asked[:EXAMPLES] if name != "taught" else []:
            answers = tuple(Answer(one[m]["text"], one[m]["right"]) for m in MODELS)
            examples.append(Example(one["question"], one["accepted"][0], answers, label))
    first = groups[f"held_out/{village.settings.languages[0]}"]["questions"]
    for topic in dict.fromkeys(one["topic"] for one in first):
        of_topic = [one for one in first if one["topic"] == topic]
        rows.append(
            ScoreRow(
                topic.replace("_", " "), cells(of_topic), group="People met only in pretraining, by fact",
                chance=1 / village.choices(topic),
            )
        )  # fmt: skip
    taught = len(village.split("taught"))
    return Scores(
        title="Knowledge comes with pretraining, format with fine-tuning",
        columns=("base model", "assistant"),
        rows=tuple(rows),
        explanation=(
            f"Pretraining told of all {len(village.villagers)} villagers. Fine-tuning asked about {taught} of them, "
            "chosen by the seed, and showed how an answer looks. The questions of the first row are about the "
            "others: their names were never in any conversation. Both models are asked in the same chat form, "
            "once, greedily; an answer counts when it equals the expected sentence, or the bare fact."
        ),
        chance=rows[0].chance,
        examples=tuple(examples),
    )


def cells(asked: list[dict[str, Any]]) -> tuple[ScoreCell, ...]:
    """How many each model got right."""
    return tuple(ScoreCell(sum(one[name]["right"] for one in asked), len(asked)) for name in MODELS)


def samples(folder: Path) -> tuple[Sample, ...]:
    """The base model's samples."""
    path = folder / "base" / "samples.json"
    if not path.is_file():
        return ()
    return tuple(
        Sample(
            one["prompt"], one["continuation"],
            {key: value for key, value in one.items() if key not in ("prompt", "continuation")}, "base model",
        )
        for one in read_json(path)
    )  # fmt: skip


def compression(folder: Path, base: RunRecord, corpus: Corpus) -> Compression:
    """The text's bytes beside the parameters' and the two files'."""
    count = sum(base.parameters.values())
    two = {name: (folder / "two-files" / name).stat().st_size for name in ("model.gguf", "run.py")}
    precisions = {"F32": 4 * count, "F16": 2 * count, "Q8_0": count * 34 // 32}
    return Compression(
        corpus.card["train"]["bytes"], count, precisions, two, gzip_size(corpus.documents("train"))
    )


def gzip_size(texts: Iterable[str]) -> int:
    """Bytes of all texts as one gzip stream, without holding it."""
    packer = zlib.compressobj(GZIP_LEVEL, wbits=16 + zlib.MAX_WBITS)
    total = sum(len(packer.compress(text.encode())) for text in texts)
    return total + len(packer.flush())


def files(folder: Path) -> tuple[FileNote, ...]:
    """What lies where."""
    notes = {
        "two-files/model.gguf": "the parameter file: weights, tokenizer and chat template",
        "two-files/run.py": "the program that runs it: Python and NumPy, nothing else",
        "assistant": "the assistant, as a Hugging Face folder",
        "base": "the base model, before fine-tuning",
        "tokens": "the tokenizer, and the text as tokens",
        "text": "the text, its held-out part, and the data card",
        "scores.json": "every question and every answer",
    }
    return tuple(
        FileNote(path, what, (folder / path).stat().st_size if (folder / path).is_file() else None)
        for path, what in notes.items()
        if (folder / path).exists()
    )


def next_steps(folder: Path) -> tuple[NextStep, ...]:
    """How to go on."""
    return (
        NextStep("Talk with the assistant", shlex.join(["twofold", "chat", str(folder)])),
        NextStep(
            "Talk with it where Twofold is not installed",
            shlex.join(["python", f"{folder}/two-files/run.py"]),
        ),
        NextStep("Make a model of your own text", "twofold create --text FILE … --minutes 30 --output mine"),
    )


def command(folder: Path, settings: CreateSettings) -> str:
    """The command line that makes the same again."""
    words = ["twofold", "create", "--output", str(folder)]
    default = CreateSettings()
    for name, value in settings.to_json().items():
        before = default.to_json()[name]
        if value != before:
            flag = "--" + name.replace("_", "-")
            words += [flag, *map(str, value if isinstance(value, list) else [value])]
    return shlex.join(words)
