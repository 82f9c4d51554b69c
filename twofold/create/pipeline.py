"""`create`: from text to two files and a report, stage by stage.

Each stage leaves a whole folder or file, or nothing; a stage whose result is there is passed over. So a
run that was stopped or killed anywhere goes on with the same command. What was decided on the way
(`plan.json`) and how long each stage took (`timeline.json`) is kept beside the results.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import torch

from twofold.create.conversations import chat_data, continuations, usual_steps
from twofold.create.page import make_report
from twofold.create.prepare import has, prepare_tokens, pretraining_data
from twofold.create.questions import first_conversation, measure_questions, village_questions, write_samples
from twofold.create.settings import CreateSettings
from twofold.errors import FileError, TwofoldError, UsageError
from twofold.files import as_written, read_json, write_json
from twofold.models.folder import load_folder
from twofold.models.transformer import Transformer
from twofold.text.corpus import Corpus, build_corpus
from twofold.text.documents import Conversation
from twofold.text.sources import ReadReport, read_documents
from twofold.text.world import Village, VillageSettings
from twofold.tokens.conversations import read_conversations
from twofold.tokens.tokenizer import Tokenizer
from twofold.training.loop import train
from twofold.training.machine import best_device, choose_precision, keep_pages
from twofold.training.presets import COMPILED, Plan, plan
from twofold.training.progress import Progress, duration, progress_for
from twofold.training.run_folder import finished
from twofold.training.settings import FINETUNING, TrainSettings
from twofold.training.shapes import PRESETS
from twofold.twofiles.export import export

FINETUNE_TOKENS = 1_200_000  # answers and all, that an assistant is fine-tuned on
FINETUNE_SHARE, LARGEST_SHARE = 0.1, 0.2  # of the minutes, for them: at the least, and at the most
TOKENS_PER_VILLAGER = 100_000  # of training, for a model to know all about them (docs/log.md)
FEWEST, MOST = 40, 2000  # villagers, unless a number is given
VILLAGE_TOKENS = 2048  # of vocabulary: a made-up world has fewer words than the real one
VILLAGE_HELD_OUT = 0.02  # of the village's bytes; the questions measure more than this does


@dataclass
class Work:
    """One folder in the making. `say` prints a line for the person; `watch` makes a run's live view."""

    folder: Path
    settings: CreateSettings
    say: Callable[[str], None] = print
    watch: Callable[[str], Progress] = progress_for
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str, what: str) -> Iterator[None]:
        """Announce a stage, and add the time it takes to the timeline."""
        self.say(f"{name}: {what}")
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - start, 1)
            write_json(self.folder / "timeline.json", self.seconds)

    def village(self, decided: dict[str, Any]) -> Village | None:
        """The made-up world, or None where text was given."""
        if self.settings.text:
            return None
        return Village(VillageSettings(villagers=decided["villagers"], seed=self.settings.seed))


def create(
    folder: str | os.PathLike,
    settings: CreateSettings | None = None,
    *,
    say: Callable[[str], None] = print,
    watch: Callable[[str], Progress] = progress_for,
) -> Path:
    """Make everything in `folder`, or go on where it stands; return the report's path.

    Raises UsageError when the folder holds something else or work begun with other settings; Interrupted
    after Ctrl-C; and what the stages raise. Whatever was finished stays.
    """
    work = Work(Path(folder), settings or CreateSettings(), say, watch)
    claim(work)
    keep_pages()
    try:
        decided = decide(work)
        village = work.village(decided)
        corpus = gather(work, village)
    except TwofoldError:
        if not has(work.folder / "text"):  # nothing is made yet: other settings may try again
            for name in ("create.json", "plan.json", "timeline.json"):
                (work.folder / name).unlink(missing_ok=True)
        raise
    tokenizer = tokenize(work, corpus, decided)
    pretrain(work, corpus, tokenizer, decided)
    finetune(work, corpus, village, tokenizer, decided)
    measure(work, village)
    package(work)
    with work.stage("Report", "one page about all of it"):
        page = make_report(work.folder, work.settings, village)
    if not has(work.folder / "talk.json"):
        write_json(work.folder / "talk.json", first_conversation(work.folder / "assistant", village, corpus))
    return page


def claim(work: Work) -> None:
    """Make the folder this work's own, or check that it is the one to go on with."""
    path = work.folder / "create.json"
    settings = work.settings.to_json()
    if not path.is_file():
        if work.folder.is_dir() and any(work.folder.iterdir()):
            raise UsageError(
                f"{work.folder} holds other things, and nothing was changed. Choose an empty or a new --output."
            )
        if work.folder.exists() and not work.folder.is_dir():
            raise UsageError(f"{work.folder} is a file. Choose a folder for --output.")
        write_json(path, settings)
        return
    before = read_json(path)
    if not isinstance(before, dict):
        raise FileError(f"{path} is damaged. Bring it back from a copy, or choose another --output.")
    changed = [name for name in {**before, **settings} if before.get(name) != settings.get(name)]
    if changed:
        lines = "".join(
            f"\n  {name}: {before.get(name)} before, {settings.get(name)} now" for name in changed
        )
        raise UsageError(
            f"The work in {work.folder} was begun with other settings:{lines}\n"
            "Give the same again to go on with it, or another --output to begin anew."
        )
    timeline = work.folder / "timeline.json"
    if has(timeline):
        with as_written(timeline):
            work.seconds = {name: seconds + 0.0 for name, seconds in read_json(timeline).items()}
    work.say(f"Going on in {work.folder}")


def gather(work: Work, village: Village | None) -> Corpus:
    """Stage 1: documents, the held-out ones set apart before anything is trained."""
    folder, settings = work.folder / "text", work.settings
    if has(folder):
        return Corpus.open(folder)
    if village is not None:
        what = f"a made-up village of {len(village.villagers)} people, {settings.megabytes:g} MB about them"
        with work.stage("Text", what):
            documents = village.documents(int(settings.megabytes * 1e6))
            return build_corpus(documents, folder, held_out=VILLAGE_HELD_OUT, seed=settings.seed)
    with work.stage("Text", f"reading {', '.join(settings.text)}"):
        report = ReadReport()
        documents = read_documents(settings.text, on_bad=settings.bad_files, report=report)
        corpus = build_corpus(documents, folder, seed=settings.seed, report=report)
        work.say(f"  {report}")
        return corpus


def decide(work: Work) -> dict[str, Any]:
    """The plan: sizes of model, batch and village for this machine and the minutes. Made once, kept in plan.json."""
    path = work.folder / "plan.json"
    if has(path):
        kept = read_json(path)
        if not isinstance(kept, dict) or not {"preset", "batch_rows", "villagers"} <= kept.keys():
            raise FileError(f"{path} is damaged. Bring it back from a copy, or choose another --output.")
        return kept
    device = best_device()
    precision = choose_precision("auto", device)
    minutes = work.settings.minutes * (1 - FINETUNE_SHARE)
    most_tokens = None if work.settings.text else VILLAGE_TOKENS
    decided = plan(minutes, device, precision, work.settings.preset, most_tokens=most_tokens)
    villagers = work.settings.villagers
    if villagers is None:
        villagers = min(max(decided.tokens // TOKENS_PER_VILLAGER, FEWEST), MOST)
    shape = decided.shape.config()
    share = share_for_answers(decided, work.settings.minutes)
    write_json(path, {**asdict(decided), "villagers": villagers, "finetune_share": share})
    work.say(
        f"Plan: a {decided.preset!r} model of about {shape.count_parameters() / 1e6:.1f} M parameters, "
        f"{decided.tokens / 1e6:.1f} M tokens expected in {duration(60 * minutes)} on this machine "
        f"({decided.flops / 1e9:.0f} GFLOP/s in {str(precision).removeprefix('torch.')})"
    )
    return read_json(path)


def share_for_answers(decided: Plan, minutes: float) -> float:
    """What part of the minutes the assistant gets: what its tokens take, uncompiled, within limits."""
    shape = decided.shape
    speed = decided.flops / COMPILED / shape.config().flops_per_token(shape.row_tokens)
    return min(max(FINETUNE_TOKENS / speed / (60 * minutes), FINETUNE_SHARE), LARGEST_SHARE)


def finetune_share(decided: dict[str, Any]) -> float:
    """Of the minutes, that for the assistant."""
    return decided.get("finetune_share", FINETUNE_SHARE)


def tokenize(work: Work, corpus: Corpus, decided: dict[str, Any]) -> Tokenizer:
    """Stage 2: the tokenizer, and all documents as tokens."""
    folder = work.folder / "tokens"
    if has(folder):
        return Tokenizer.load(folder)
    size = decided.get("vocab_size", VILLAGE_TOKENS)  # plans of before hold none
    with work.stage("Tokens", f"a byte-level BPE tokenizer of {size:,} tokens"):
        return prepare_tokens(corpus, folder, size)


def train_settings(work: Work, decided: dict[str, Any], minutes: float) -> TrainSettings:
    """The training defaults with this work's size, seed and time."""
    return TrainSettings(
        minutes=minutes,
        batch_rows=decided["batch_rows"],
        row_tokens=PRESETS[decided["preset"]].row_tokens,
        seed=work.settings.seed,
    )


def pretrain(work: Work, corpus: Corpus, tokenizer: Tokenizer, decided: dict[str, Any]) -> None:
    """Stage 3: knowledge."""
    run = work.folder / "base"
    if finished(run) is None:
        settings = train_settings(work, decided, work.settings.minutes * (1 - finetune_share(decided)))
        data = pretraining_data(work.folder / "tokens", tokenizer, settings, corpus.card)
        torch.manual_seed(work.settings.seed)
        model = Transformer(PRESETS[decided["preset"]].config(tokenizer.vocab_size))
        with work.stage("Pretraining", "next-token prediction on all of the text"):
            train(
                run,
                model,
                tokenizer,
                data,
                settings,
                name="Pretraining",
                resume=True,
                progress=work.watch("Pretraining"),
            )
    write_samples(run, work.village(decided), corpus)


def finetune(
    work: Work, corpus: Corpus, village: Village | None, tokenizer: Tokenizer, decided: dict[str, Any]
) -> None:
    """Stage 4: the form of a conversation."""
    run = work.folder / "assistant"
    if finished(run) is not None:
        return
    settings = train_settings(work, decided, work.settings.minutes * finetune_share(decided))
    settings = replace(settings, **FINETUNING)
    model, _ = load_folder(work.folder / "base")
    conversations = list(chat_source(work, corpus, village))
    with work.stage("Fine-tuning", f"{len(conversations):,} conversations, learned on the answers alone"):
        data = chat_data(conversations, tokenizer, settings)
        steps, done = usual_steps(data), finished(work.folder / "base")["result"]
        if steps * done["seconds"] / done["steps"] < 60 * settings.minutes:
            settings = replace(settings, minutes=None, steps=steps)
        train(
            run,
            model,
            tokenizer,
            data,
            settings,
            name="Fine-tuning",
            chat=True,
            resume=True,
            progress=work.watch("Fine-tuning"),
        )


def chat_source(work: Work, corpus: Corpus, village: Village | None) -> Iterator[Conversation]:
    """The village's conversations, those of the --chat files, or continuations of the text itself."""
    settings = work.settings
    if village is not None:
        return village.conversations(settings.conversations)
    if settings.chat:
        return read_conversations(settings.chat, on_bad=settings.bad_files)
    drawn = continuations(corpus.documents("train"), settings.conversations)
    first = list(islice(drawn, 1))
    if first:
        return chain(first, drawn)
    raise UsageError(
        "No conversations could be drawn from this text (it has no sentences of ordinary length). "
        "Give some with --chat FILE."
    )


def measure(work: Work, village: Village | None) -> None:
    """Stage 5: the same questions before and after fine-tuning."""
    path = work.folder / "scores.json"
    if village is None or has(path):
        return
    with work.stage("Questions", "put to the base model and to the assistant"):
        questions = village_questions(village, work.settings.questions)
        write_json(path, measure_questions(work.folder, questions, work.say))


def package(work: Work) -> None:
    """Stage 6: two files."""
    folder = work.folder / "two-files"
    if has(folder / "run.py") and has(folder / "model.gguf"):
        return
    with work.stage("Two files", "parameters, and the program that runs them"):
        export(work.folder / "assistant", folder, type=work.settings.type, name=work.folder.resolve().name)
