"""One stage by itself: pretraining on any text, fine-tuning on any conversations.

Each leaves a run folder that ends in a report; the text's corpus and tokens lie in its `data/`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from twofold.create.conversations import chat_data, usual_steps
from twofold.create.prepare import prepare_tokens, pretraining_data
from twofold.create.questions import write_samples
from twofold.errors import FileError, UsageError
from twofold.files import read_json, write_json
from twofold.models.load import load_frozen, load_model
from twofold.models.lora import LoraSettings
from twofold.models.transformer import Transformer
from twofold.report import report_of_run, write_report
from twofold.text.corpus import STORE, Corpus, build_corpus
from twofold.text.sources import ReadReport, read_documents
from twofold.tokens.conversations import ConversationReport, read_conversations
from twofold.tokens.tokenizer import Tokenizer
from twofold.training.adapting import NewAdapter
from twofold.training.loop import train
from twofold.training.machine import best_device, choose_precision
from twofold.training.parallel import STARTERS, Layout, join
from twofold.training.presets import plan
from twofold.training.progress import Progress
from twofold.training.run_folder import finished
from twofold.training.settings import FINETUNING, TrainSettings
from twofold.training.shapes import PRESETS

LONGEST_ROW = 1024  # tokens, however long a context the model has


def pretrain(
    run: Path,
    text: Sequence[str],
    settings: dict[str, Any],
    *,
    preset: str | None = None,
    tokenizer: Path | None = None,
    bad_files: str = "refuse",
    resume: bool = False,
    progress: Progress | None = None,
    layout: Layout | None = None,
) -> Path:
    """Pretrain a fresh model on `text` (files, folders, -, hf://…, or one corpus folder); return its report.

    settings: those of TrainSettings that were chosen; the rest follow from the preset and this machine.
    """
    TrainSettings(**settings)  # refuse what cannot be before any work is done
    ranks = join()
    resume = ranks.goes_on(run, resume)
    if not ranks.began(run):
        ranks.first_does(lambda: _check_new(run, resume))
        ranks.begin(run)

    def prepare() -> dict[str, Any]:
        corpus = _corpus(run / "data" / "text", text, bad_files)
        shape = _decide(run / "data" / "plan.json", settings, preset, ranks.world)
        if not (run / "data" / "tokens").is_dir():
            given = None if tokenizer is None else Tokenizer.load(tokenizer)
            prepare_tokens(corpus, run / "data" / "tokens", PRESETS[shape["preset"]].vocab_size, given)
        return {**shape, "card": corpus.card}

    made = ranks.first_does(prepare)
    shape, tokens = PRESETS[made["preset"]], run / "data" / "tokens"
    chosen = TrainSettings(**{"batch_rows": made["batch_rows"], "row_tokens": shape.row_tokens} | settings)
    its_tokenizer = Tokenizer.load(tokens)
    config = shape.config(its_tokenizer.vocab_size)
    config = replace(config, max_position_embeddings=max(config.max_position_embeddings, chosen.row_tokens))
    with torch.device("meta"):
        model = Transformer(config)
    data = pretraining_data(tokens, its_tokenizer, chosen, made["card"])
    train(
        run,
        model,
        its_tokenizer,
        data,
        chosen,
        name="Pretraining",
        resume=resume,
        progress=progress,
        layout=layout,
    )

    def present() -> Path:
        write_samples(run, None, _corpus(run / "data" / "text", text, bad_files))
        return write_report(run / "report.html", report_of_run(run))

    return ranks.first_does(present)


def finetune(
    run: Path,
    model: Path,
    chat: Sequence[Path],
    settings: dict[str, Any],
    *,
    bad_files: str = "refuse",
    resume: bool = False,
    progress: Progress | None = None,
    layout: Layout | None = None,
    adapter: LoraSettings | None = None,
) -> Path:
    """Fine-tune the model at `model` on the conversations in `chat`; return the new run's report. With `adapter`,
    only an adapter beside it is trained, which is what the run then holds."""
    ranks = join()
    resume = ranks.goes_on(run, resume)
    if not ranks.began(run):
        ranks.first_does(lambda: _check_new(run, resume))
    transformer, tokenizer, info = load_model(model) if adapter is None else load_frozen(model)
    base = str(info.path.resolve() if model.exists() else model)  # the hub's name, as it was asked for
    report = ConversationReport()
    conversations = list(read_conversations(chat, on_bad=bad_files, report=report))
    row = min(transformer.config.max_position_embeddings, LONGEST_ROW)
    usual = settings.get("steps") is None and settings.get("minutes") is None
    chosen = TrainSettings(**FINETUNING | {"row_tokens": row} | settings | ({"steps": 1} if usual else {}))
    if chosen.row_tokens > transformer.config.max_position_embeddings:
        raise UsageError(
            f"Rows of {chosen.row_tokens} tokens do not fit this model: its context holds "
            f"{transformer.config.max_position_embeddings}."
        )
    data = chat_data(conversations, tokenizer, chosen)
    if usual:
        chosen = replace(chosen, steps=usual_steps(data))
    data.card["reading"] = str(report)
    train(
        run,
        transformer,
        tokenizer,
        data,
        chosen,
        name="Fine-tuning",
        chat=True,
        resume=resume,
        progress=progress,
        layout=layout,
        adapter=None if adapter is None else NewAdapter(adapter, base),
    )
    return ranks.first_does(lambda: write_report(run / "report.html", report_of_run(run)))


def _check_new(run: Path, resume: bool) -> None:
    """Refuse before any work is done, not after."""
    if resume and not run.is_dir():
        raise UsageError(f"There is no run to go on with in {run}.")
    if resume or not run.exists():
        return
    if not run.is_dir():
        raise UsageError(f"{run} is a file. Choose a folder for --output.")
    # A person's own text may lie in data.
    others = any(path.name not in ("data", STARTERS) for path in run.iterdir())
    if others or any((run / "data" / name).exists() for name in ("text", "tokens", "plan.json")):
        what = "something" if others else "what an earlier try has read"
        what = "a finished run" if finished(run) else what
        raise UsageError(
            f"{run} already holds {what}. Go on with it by --resume, or choose another --output."
        )


def _corpus(folder: Path, text: Sequence[str], bad_files: str) -> Corpus:
    if len(text) == 1 and (Path(text[0]) / STORE).is_file():
        return Corpus.open(text[0])
    if folder.is_dir():
        return Corpus.open(folder)
    if not text:
        raise UsageError("Say what to learn from: files, folders, - for standard input, or a corpus folder.")
    report = ReadReport()
    try:
        return build_corpus(read_documents(text, on_bad=bad_files, report=report), folder, report=report)
    except BaseException:
        with suppress(OSError):  # which may hold more than this
            folder.parent.rmdir()
        raise


def _decide(path: Path, settings: dict[str, Any], preset: str | None, processes: int) -> dict[str, Any]:
    """The preset and batch, chosen once and kept for a resume."""
    if path.is_file():
        kept = read_json(path)
        if not isinstance(kept, dict) or kept.get("preset") not in PRESETS:
            raise FileError(f"{path} is damaged. Remove it to have the plan made anew.")
        if preset not in (None, kept["preset"]):
            raise UsageError(
                f"This run was planned as {kept['preset']}, not {preset}. Choose another --output."
            )
        return kept
    device = best_device()
    minutes = settings.get("minutes") or 10.0
    decided = plan(
        minutes, device, choose_precision(settings.get("precision", "auto"), device), preset, processes
    )
    write_json(path, {"preset": decided.preset, "batch_rows": decided.batch_rows})
    return read_json(path)
