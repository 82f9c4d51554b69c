"""`twofold train` and `twofold finetune`: one stage of a model's life each."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter

from twofold.errors import UsageError
from twofold.training.settings import FINETUNING

if TYPE_CHECKING:
    from twofold.models.lora import LoraSettings
    from twofold.training.parallel import Layout

Output = Annotated[Path, Parameter(name=["--output", "-o"])]
Texts = Annotated[tuple[str, ...], Parameter(negative_iterable=())]
Chats = Annotated[tuple[Path, ...], Parameter(consume_multiple=True, negative_iterable=())]


@Parameter(name="*", group=Group("Many processes", sort_key=99))
@dataclass(frozen=True)
class Processes:
    """How the command is started in many processes, and how the model lies in their memory."""

    shards: int = 1
    """Processes that hold one copy of the weights between them (FSDP); 1: each has its own. It changes no result."""
    tensor: int = 1
    """Processes that divide each matrix product among them: for models too large for --shards alone, within a machine.
    Processes = replicas × shards × tensor."""
    recompute: bool = False
    """Keep less of the forward pass, and compute it again in the backward pass: less memory, a third more work."""
    launcher: Literal["torchrun", "slurm", "ray"] | None = None
    """Do not train here: print what starts this command in many processes, as a line for torchrun, a SLURM job, or
    a job for a Ray cluster."""
    nodes: int = 1
    """For --launcher: machines."""
    processes: int = 1
    """For --launcher: processes on each of them, one for each GPU."""
    restarts: int = 3
    """For --launcher: how often to start again after a process died; the run goes on from its last checkpoint."""
    cpu: bool = False
    """For --launcher: ask for no GPUs."""
    submit: bool = False
    """For --launcher: run what it prints, by torchrun, sbatch, or ray job submit."""

    def layout(self) -> Layout:
        """The part that training itself wants to know."""
        from twofold.training.parallel import Layout

        return Layout(self.shards, self.tensor, self.recompute)

    def launch(self, output: Path) -> int | None:
        """Print or submit the command line that is being run, as --launcher says; its exit code. None without."""
        from twofold.cli.app import words
        from twofold.training.launch import Launch, script, submit, without

        if self.launcher is None:
            return None
        launch = Launch(self.launcher, self.nodes, self.processes, self.restarts, self.cpu)
        valued = ("--launcher", "--nodes", "--processes", "--restarts")
        text = script(launch, without(words, valued, ("--cpu", "--submit")), output)
        if self.submit:
            return submit(launch, text)
        print(text, end="")
        return 0


ALONE = Processes()


@Parameter(name="*", group=Group("An adapter", sort_key=98))
@dataclass(frozen=True)
class AdapterOptions:
    """An adapter to train beside a model that stays as it is: small, quick, and many for one model."""

    lora: int | None = None
    """Train a LoRA adapter of this rank (8 or 16 are usual) in PEFT's format, not the model. The matrices of a .gguf
    stay in its few bits a weight (QLoRA)."""
    lora_alpha: float = 32.0
    """How strongly it changes the model: by this over the rank."""
    lora_lr: float | None = None
    """Learning rate of AdamW, for the adapter; less for wider models unless given: 0.0005 · (2000 / width)^0.78."""
    lora_dropout: float = 0.0
    """Share of its inputs left out in training."""
    lora_targets: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative_iterable=())] = ()
    """Which of each layer's matrices it changes, such as q_proj v_proj; all of them unless given."""
    rslora: Annotated[bool, Parameter(negative="")] = False
    """Divide alpha by the root of the rank, not by the rank: for large ranks."""
    dora: Annotated[bool, Parameter(negative="")] = False
    """Learn the length of each output apart from its direction (DoRA)."""

    def settings(self) -> LoraSettings | None:
        """What they ask for; None for no adapter."""
        from twofold.models.lora import TARGETS, LoraSettings

        if self.lora is None:
            if self != AdapterOptions():
                raise UsageError("Say of which rank the adapter shall be: --lora 16.")
            return None
        return LoraSettings(
            rank=self.lora,
            alpha=self.lora_alpha,
            rslora=self.rslora,
            dora=self.dora,
            dropout=self.lora_dropout,
            targets=self.lora_targets or TARGETS,
        )


NO_ADAPTER = AdapterOptions()


def train(
    text: Texts = (),
    /,
    *,
    output: Output,
    minutes: float | None = None,
    steps: int | None = None,
    preset: Literal["nano", "micro", "mini", "small", "medium", "large"] | None = None,
    tokenizer: Path | None = None,
    batch_rows: int | None = None,
    micro_rows: int | None = None,
    row_tokens: int | None = None,
    matrix_lr: float = 0.02,
    embedding_lr: float = 0.01,
    weight_decay: float | None = None,
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    compile: Literal["auto", "yes", "no"] = "auto",
    checkpoint_seconds: float = 60.0,
    bad_files: Literal["refuse", "skip"] = "refuse",
    resume: bool = False,
    seed: int = 0,
    many: Processes = ALONE,
) -> int:
    """Pretrain a model on text, from nothing.

    Reads the text, holds a part of it out, trains a tokenizer (or takes one), and learns to predict each next
    token. The folder gets the model as a Hugging Face folder, metrics.jsonl, and a report.html.

    Ctrl-C saves and stops; the same command with --resume goes on, to exactly the same weights on a CPU.

    Parameters
    ----------
    text
        Files, folders, - for standard input, hf://name, or a corpus folder from `twofold text`.
    output
        The run folder to make.
    minutes
        How long to train; 10 unless --steps is given. The size follows from it and from this machine's speed.
    steps
        How many optimizer steps, instead.
    preset
        The model's size by name.
    tokenizer
        A folder with a tokenizer to use, instead of training one.
    batch_rows
        Rows for each step.
    micro_rows
        Rows for each forward pass; fewer need less memory and change nothing else.
    row_tokens
        Tokens in a row.
    matrix_lr
        Learning rate of Muon, for the matrices.
    embedding_lr
        Learning rate of AdamW, for the embedding.
    weight_decay
        How fast weights shrink. Unless given, by the text: little where it is long, much where it is read many times.
    precision
        Of the matrix products; auto takes what this machine measures faster.
    compile
        Compile the step with torch.compile, for which a C++ compiler must be there. auto tries it on runs of some
        minutes, takes what is faster, and remembers.
    checkpoint_seconds
        Time between checkpoints: the most that a killed run loses.
    bad_files
        What to do with a file that cannot be read: stop, or leave it out and count it.
    resume
        Go on with the run in the folder.
    seed
        Of the weights and of the data's order.
    """
    if (code := many.launch(output)) is not None:
        return code
    from twofold.create.single import pretrain
    from twofold.training.progress import progress_for

    minutes = 10.0 if minutes is None and steps is None else minutes
    settings = _chosen(
        minutes=minutes, steps=steps, batch_rows=batch_rows, micro_rows=micro_rows,
        row_tokens=row_tokens, matrix_lr=matrix_lr, embedding_lr=embedding_lr, norm_lr=embedding_lr,
        weight_decay=weight_decay, precision=precision, compile=compile, checkpoint_seconds=checkpoint_seconds,
        seed=seed,
    )  # fmt: skip
    page = pretrain(
        output,
        text,
        settings,
        preset=preset,
        tokenizer=tokenizer,
        bad_files=bad_files,
        resume=resume,
        progress=progress_for("Pretraining"),
        layout=many.layout(),
    )
    return _end(output, page, ["generate", str(output), "Once upon a time"])


def finetune(
    model: Path,
    /,
    *,
    chat: Chats,
    output: Output,
    minutes: float | None = None,
    steps: int | None = None,
    batch_rows: int = 16,
    micro_rows: int | None = None,
    row_tokens: int | None = None,
    matrix_lr: float = FINETUNING["matrix_lr"],
    embedding_lr: float = FINETUNING["embedding_lr"],
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    compile: Literal["auto", "yes", "no"] = "auto",
    checkpoint_seconds: float = 60.0,
    bad_files: Literal["refuse", "skip"] = "refuse",
    resume: bool = False,
    seed: int = 0,
    adapter: AdapterOptions = NO_ADAPTER,
    many: Processes = ALONE,
) -> int:
    """Fine-tune a model on conversations: from one that goes on with text to an assistant.

    Learns the assistant's turns alone. Takes JSON lines with `messages` (as OpenAI has them), Alpaca's
    instruction, input and output, or ShareGPT's conversations, plain or as .gz or .zst.

    With --lora the model stays as it is, and a small adapter beside it learns (and rows for special tokens that the
    model never met, such as the ends of turns). What comes of it opens like any model (its base must stay where it
    is); `twofold convert` makes one model of the two.

    Ctrl-C saves and stops; the same command with --resume goes on, to exactly the same weights on a CPU.

    Parameters
    ----------
    model
        A run folder, a Hugging Face folder, a model of the hub (owner/name), or a .gguf for an adapter.
    chat
        Files of conversations.
    output
        The run folder to make.
    minutes
        How long to train, instead of three times over the conversations (and 150 steps at the least).
    steps
        How many optimizer steps, instead.
    batch_rows
        Rows for each step.
    micro_rows
        Rows for each forward pass; fewer need less memory and change nothing else.
    row_tokens
        Tokens in a row; the model's context unless given.
    matrix_lr
        Learning rate of Muon, for the matrices.
    embedding_lr
        Learning rate of AdamW, for the embedding.
    precision
        Of the matrix products; auto takes what this machine measures faster.
    compile
        Compile the step with torch.compile, for which a C++ compiler must be there. auto tries it on runs of some
        minutes, takes what is faster, and remembers.
    checkpoint_seconds
        Time between checkpoints: the most that a killed run loses.
    bad_files
        What to do with a record that cannot be read: stop, or leave it out and count it.
    resume
        Go on with the run in the folder.
    seed
        Of the data's order.
    """
    if (code := many.launch(output)) is not None:
        return code
    from twofold.create.single import finetune as tune
    from twofold.training.progress import progress_for

    settings = _chosen(
        minutes=minutes, steps=steps, batch_rows=batch_rows, micro_rows=micro_rows,
        row_tokens=row_tokens, matrix_lr=matrix_lr, embedding_lr=embedding_lr, norm_lr=embedding_lr,
        precision=precision, compile=compile, checkpoint_seconds=checkpoint_seconds, seed=seed,
        adapter_lr=adapter.lora_lr,
    )  # fmt: skip
    page = tune(
        output,
        model,
        chat,
        settings,
        bad_files=bad_files,
        resume=resume,
        progress=progress_for("Fine-tuning"),
        layout=many.layout(),
        adapter=adapter.settings(),
    )
    return _end(output, page, ["chat", str(output)])


def _chosen(**settings: Any) -> dict[str, Any]:
    """The settings that are set."""
    return {name: value for name, value in settings.items() if value is not None}


def _end(run: Path, page: Path, then: list[str]) -> int:
    """Where things are, and how to go on: with the words of a command, or in two files."""
    from twofold.training.parallel import join, leave

    if join().first:
        print(f"{run}: done. The report: {page.resolve().as_uri()}", file=sys.stderr)
        print(f"Go on with:  {shlex.join(['twofold', *then])}", file=sys.stderr)
        print(
            f"             {shlex.join(['twofold', 'export', str(run), '-o', 'two-files'])}", file=sys.stderr
        )
    leave()
    return 0
