"""The one training loop. An objective and batches go in; a run folder comes out.

It owns accumulation, precision, clipping, schedule, optimizer, checkpoints, resuming, evaluation,
metrics and progress, once for every method. Its state is a few numbers: batches are a function of the
step, so a run that was stopped anywhere and resumed takes the same steps as one that never stopped, bit
for bit on a CPU with the same number of threads.
"""

from __future__ import annotations

import contextlib
import math
import shutil
import time
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from twofold.errors import Interrupted, TrainingError
from twofold.files import write_json
from twofold.models.transformer import Transformer, causal_attention
from twofold.text.held_out import HeldOutRows
from twofold.tokens.tokenizer import Tokenizer
from twofold.training.adapting import NewAdapter, learned, write_model
from twofold.training.attention import CpuAttention
from twofold.training.batches import Batches, split_batch
from twofold.training.checkpoints import list_checkpoints, load_checkpoint, save_checkpoint
from twofold.training.compiling import (
    GAIN,
    WORTH_TRYING,
    Computation,
    Remembered,
    can_compile,
    seconds_of,
)
from twofold.training.evaluate import held_out_bits_per_byte
from twofold.training.machine import choose_precision, environment, keep_pages, matmul_peak
from twofold.training.objectives import Batch, Objective, next_token
from twofold.training.optimizers import Optimizer
from twofold.training.parallel import Layout, gathered, join, spread, whole
from twofold.training.progress import Progress, Silent
from twofold.training.run_folder import Metrics, claim, finished
from twofold.training.settings import TrainSettings, rate_share
from twofold.training.stopping import deaths_explained, stop_signals

_REPLAN = (0.05, 0.15, 0.3)  # shares of the run at which the number of steps is set anew from the clock


@dataclass
class State:
    """Where a run stands: all there is to resume besides tensors."""

    step: int = 0  # optimizer steps done
    tokens: int = 0  # targets learned from
    seconds: float = 0.0  # time spent, over all its stretches
    steps: int = 0  # steps planned
    compiled: bool | None = None  # whether the step is; None while undecided
    start_seconds: float = 0.0  # time before the first step
    replanned: int = 0  # how many of _REPLAN are behind
    nats: float = 0.0  # since the last row of metrics
    counted: int = 0  # targets since then


@dataclass(frozen=True)
class Data:
    """What to learn from, and what to be measured by. `bytes_per_token` turns nats a token into bits a byte."""

    batches: Batches
    held_out: HeldOutRows | None = None  # the whole of it, scored at the end
    held_out_glance: HeldOutRows | None = None  # a small part, scored now and then
    bytes_per_token: float | None = None
    card: dict[str, Any] | None = None


def train(
    run: str | Path,
    model: Transformer,
    tokenizer: Tokenizer,
    data: Data,
    settings: TrainSettings,
    *,
    name: str = "Training",
    objective: Objective = next_token,
    chat: bool = False,
    resume: bool = False,
    progress: Progress | None = None,
    layout: Layout | None = None,
    adapter: NewAdapter | None = None,
) -> dict[str, Any]:
    """Train `model` in place until the settings say it is enough; return what `run.json` then holds.

    With `adapter`, the model is frozen; the adapter beside it is trained, and it alone is written. A model on the
    meta device, of which no process holds more than its share, gets fresh weights from the seed. Started by torchrun,
    all its processes train one model, laid out as `layout` says; the first one writes. With `resume`, an unfinished
    run in the folder goes on and a finished one is returned as it is (with its weights in `run`, not in `model`, as
    after a run of many processes). Raises Interrupted after Ctrl-C or SIGTERM, everything saved; TrainingError when
    the loss is no longer finite; UsageError and FileError about the folder.
    """
    run, ranks, layout = Path(run), join(), layout or Layout()
    settings = settings.for_text(data.batches.epoch(1))
    resume = ranks.goes_on(run, resume)
    if resume and (done := ranks.agree(finished(run))) is not None:
        return done
    speak = progress if ranks.first and progress else Silent()
    card = {} if adapter is None else adapter.attach(model, layout, settings.seed, tokenizer, data, speak)
    asked = {"name": name, **settings.to_json(), "model": asdict(model.config), **card}
    ranks.first_does(lambda: claim(run, asked, resume))
    ranks.begin(run)
    again = "The same command" if resume else "The same command with --resume"
    loop = _Loop(run, model, data, settings, objective, speak, again, layout)
    try:
        with deaths_explained(ranks.world == 1, again):
            loop.go()
            result = loop.finish()
            weights = gathered(learned(model), ranks)
            ranks.first_does(lambda: write_model(run, model, tokenizer, weights, adapter, chat=chat))
    finally:
        loop.close()
    record = {
        "name": name,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": model.config.to_hf(),
        "parameters": model.config.parameters_by_part(),
        "data": data.card or {},
        "result": result,
        **card,
        "environment": environment(loop.device, loop.precision)
        | {"processes": ranks.world, **asdict(layout)},
    }
    ranks.first_does(lambda: write_json(run / "run.json", record))
    if ranks.first:
        shutil.rmtree(run / "checkpoints", ignore_errors=True)
    return record


class _Loop:
    """The moving parts of one call of `train`."""

    def __init__(
        self,
        run: Path,
        model: Transformer,
        data: Data,
        settings: TrainSettings,
        objective: Objective,
        progress: Progress,
        again: str,
        layout: Layout,
    ) -> None:
        keep_pages()
        self.ranks = replace(join(), tensor=layout.tensor)
        self.again = again  # what goes on with the run, for people
        self.run, self.model, self.data, self.settings, self.progress = run, model, data, settings, progress
        self.share = self.ranks.rows(settings.batch_rows) if self.ranks.world > 1 else None
        self.device = self.ranks.device
        self.precision = self.ranks.agree(choose_precision(settings.precision, self.device))
        self.peak = self.ranks.agree(matmul_peak(self.precision, self.device.type)) * self.ranks.world
        self.root = spread(model, self.ranks, layout, settings.seed)
        model.train()
        self.optimizer = Optimizer(model, settings, self.precision)
        found = load_checkpoint(run, model, self.optimizer, progress.tell, self.ranks)
        self.state = State(**{key: (found or {}).get(key, new) for key, new in asdict(State()).items()})
        if found is not None:
            progress.tell(f"going on from step {self.state.step:,}")
        model.keep_rotary(settings.row_tokens)
        if self.device.type == "cpu":
            model.attend = CpuAttention(settings.row_tokens, self.precision)
        blocks = model.model.layers if self.root else ()
        self.computation = Computation(self.through(objective), blocks)
        self.metrics = Metrics(run / "metrics.jsonl", self.state.step) if self.ranks.first else None
        self.flops_per_token = model.config.flops_per_token(settings.row_tokens)
        if not model.output_weight.requires_grad:  # of a frozen matrix no gradient is computed
            self.flops_per_token *= 2 / 3
        self.began = time.perf_counter() - self.state.seconds
        self.saved_at = time.perf_counter()
        self.places, self.busy = 0, 0.0  # since the last row of metrics
        self.next: tuple[int, Batch] | None = None  # made while the device still computes

    def close(self) -> None:
        """Put away what is open; the model is left ready for inference."""
        if self.metrics is not None:
            self.metrics.close()
        self.progress.close()
        self.model.attend = causal_attention
        self.model.eval()

    def seconds(self) -> float:
        """Time spent on this run, over all its stretches."""
        return time.perf_counter() - self.began

    def autocast(self) -> contextlib.AbstractContextManager:
        """The precision of the matrix products."""
        if self.precision is torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.precision)

    def through(self, objective: Objective) -> Objective:
        """The objective itself, or as the module that the processes share computes it."""
        if self.root is None:
            return objective
        return lambda model, batch: self.root(objective, batch.padded(self.ranks.tensor))

    # One step.

    def batch(self, step: int) -> Batch:
        """This process's rows of a step."""
        if self.next is None or self.next[0] != step:
            self.next = step, self.data.batches.step(step, *(self.share or ()))
        return self.next[1]

    def gradients(self, batch: Batch) -> tuple[float, float, int]:
        """Leave the whole batch's gradient on the parameters: (nats in all, its norm, targets), over all
        processes."""
        count = int(self.ranks.sum(batch.count())[0])
        nats = torch.zeros((), dtype=torch.float64, device=self.device)
        for part in split_batch(batch, self.settings.micro_rows):
            with self.autocast():
                loss = self.computation.loss_of(self.model, part.to(self.device))
            (loss / max(count, 1)).backward()
            nats += loss.detach()
        norm = whole(torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip))
        self.batch(self.state.step + 1)
        return self.ranks.sum(float(nats))[0], float(norm), count

    def step(self) -> dict[str, Any] | None:
        """One optimizer step; a row of metrics when one is due."""
        start = time.perf_counter()
        state, settings = self.state, self.settings
        batch = self.batch(state.step)
        nats, norm, count = self.gradients(batch)
        if not (math.isfinite(nats) and math.isfinite(norm)):
            self.explain_divergence(nats, norm)
        share = rate_share(state.step, state.steps, settings)
        self.optimizer.step(share)
        self.model.zero_grad(set_to_none=True)
        state.step += 1
        state.tokens += count
        state.nats, state.counted = state.nats + nats, state.counted + count
        self.places += batch.targets.numel() * self.ranks.shares
        self.busy += time.perf_counter() - start
        if state.step % settings.log_steps and state.step != state.steps:
            return None
        loss, speed = state.nats / max(state.counted, 1), self.places / self.busy
        per_byte = self.data.bytes_per_token and loss / math.log(2) / self.data.bytes_per_token
        row = {
            "step": state.step,
            "steps": state.steps,
            "seconds": round(self.seconds(), 3),
            "tokens": state.tokens,
            "epoch": round(self.data.batches.epoch(state.step), 4),
            "loss": loss,
            "bits_per_byte": per_byte,
            "learning_rate": self.optimizer.rate * share,
            "grad_norm": norm,
            "tokens_per_second": round(speed, 1),
            "peak_fraction": round(speed * self.flops_per_token / self.peak, 4),
        }
        state.nats, state.counted = 0.0, 0
        self.places, self.busy = 0, 0.0
        return row

    def explain_divergence(self, nats: float, norm: float) -> None:
        """Stop before a bad update reaches the weights."""
        kept = list_checkpoints(self.run)
        raise TrainingError(
            f"Training stopped at step {self.state.step + 1}: the loss is {nats}, its gradient's norm {norm}. "
            "The numbers left the range in which they mean anything, most often because a learning rate is too "
            f"high. The weights were not touched by this step; the last checkpoint is "
            f"{kept[-1] if kept else 'not written yet'}. Try again with half of --matrix-lr and --embedding-lr."
        )

    # Compiled or plain.

    def choose_step(self) -> None:
        """Compile or not: as when the run began, or what pays off here. Raises TrainingError when a compiled step
        is a must and cannot be had."""
        state, wish = self.state, self.settings.compile
        undecided = state.compiled is None
        if undecided:
            state.compiled = self.pays_to_compile() if wish == "auto" else wish == "yes"
        self.computation.undo()
        if not state.compiled or self.compile_step():
            return
        if not (undecided and wish == "auto"):
            raise TrainingError(
                "The step cannot be compiled on this machine, most often because there is no C++ compiler. "
                "Install one (on Debian and Ubuntu: apt install g++), or begin anew with --compile no elsewhere."
            )
        state.compiled = False
        self.progress.tell("there is no C++ compiler here any more: going on without")

    def compile_step(self) -> bool:
        """Compute the loss compiled; False, and it stays plain, where that cannot be."""
        self.computation.compile()
        if all(self.ranks.all(lambda: can_compile(self.trial))):
            return True
        self.computation.undo()
        self.model.zero_grad(set_to_none=True)
        return False

    def pays_to_compile(self) -> bool:
        """Whether this run is long enough and the compiled step faster: remembered, or tried now."""
        settings, tell, agree = self.settings, self.progress.tell, self.ranks.agree
        rows = min(settings.micro_rows or settings.batch_rows, settings.batch_rows)
        shape = [asdict(self.model.config), rows, settings.row_tokens, str(self.precision), self.device.type]
        remembered = Remembered([*shape, self.ranks.world] if self.root else shape)
        known, left = agree((remembered.get(), self.seconds_ahead()))
        if known is not None or left < WORTH_TRYING:
            if pays := bool(known) and left >= WORTH_TRYING / 2:
                tell("compiling the step, which was faster here before")
            return pays
        plain = seconds_of(self.trial)
        tell("compiling the step, to see whether that is faster here")
        if not self.compile_step():
            tell("there is no C++ compiler here that could make it faster: going on without")
            return False
        gain = agree(plain / seconds_of(self.trial))
        if self.ranks.first:
            remembered.put(gain > GAIN)
        tell(f"compiled, a step is {gain:.2f} times as fast")
        return gain > GAIN

    # The run.

    def go(self) -> None:
        """Steps, evaluations and checkpoints until the planned number of steps is done."""
        state, settings = self.state, self.settings
        self.choose_step()
        if not state.steps:
            state.start_seconds = self.seconds()
            state.steps = settings.steps or self.agreed_steps(seconds_of(self.trial, 2))
        with stop_signals(self.ranks.world == 1) as stopped:
            while state.step < state.steps:
                row = self.step()
                self.replan()
                if looked := self.look():
                    row = {**(row or {"step": state.step, "steps": state.steps}), **looked}
                if row:
                    self.note(row)
                    self.progress.update({**row, "seconds_left": (state.steps - state.step) * self.pace()})
                stop, save = self.ranks.sum(stopped.is_set(), self.ranks.first and self.checkpoint_due())
                if stop:
                    path = self.save()
                    raise Interrupted(
                        f"Stopped at step {state.step:,} of {state.steps:,}; everything is saved in {path}. "
                        f"{self.again} goes on from there."
                    )
                if save:
                    self.save()

    def look(self) -> dict[str, float] | None:
        """The held-out glance, `evaluations` times in a run at even distances."""
        n, step, steps = self.settings.evaluations, self.state.step, self.state.steps
        rows = self.data.held_out_glance
        if rows is None or step == steps or step * (n + 1) // steps == (step - 1) * (n + 1) // steps:
            return None
        return {"held_out_bits_per_byte": self.bits_per_byte(rows)}

    def bits_per_byte(self, rows: HeldOutRows) -> float:
        """Held-out text scored as the model now stands, whatever the objective."""
        loss_of = self.through(next_token)
        with self.computation.set_aside():
            return held_out_bits_per_byte(self.model, rows, self.autocast(), loss_of, self.ranks)

    def note(self, row: dict[str, Any]) -> None:
        """Add a row of metrics."""
        if self.metrics is not None:
            self.metrics.add(row)

    def checkpoint_due(self) -> bool:
        """By steps if so set, else by the clock; always one at the very end, before the last evaluation."""
        if self.state.step == self.state.steps:
            return True
        if self.settings.checkpoint_steps:
            return self.state.step % self.settings.checkpoint_steps == 0
        return time.perf_counter() - self.saved_at >= self.settings.checkpoint_seconds

    def save(self) -> Path:
        """A checkpoint of this moment."""
        self.state.seconds = self.seconds()
        path = save_checkpoint(self.run, self.model, self.optimizer, asdict(self.state), self.ranks)
        self.saved_at = time.perf_counter()
        return path

    def finish(self) -> dict[str, Any]:
        """Score the whole held-out text; the run in a few numbers."""
        state = self.state
        result = {"steps": state.steps, "tokens": state.tokens, "epochs": self.data.batches.epoch(state.step)}
        result["compiled"] = state.compiled
        if self.data.held_out is not None:
            bits = self.bits_per_byte(self.data.held_out)
            result |= {
                "held_out_bits_per_byte": bits,
                "held_out_tokens": self.data.held_out.tokens,
                "held_out_bytes": self.data.held_out.text_bytes,
            }
            row = {"step": state.step, "steps": state.steps, "seconds": round(self.seconds(), 3)}
            self.note({**row, "held_out_bits_per_byte": bits})
            self.progress.update({**row, "held_out_bits_per_byte": bits})
        return result | {"seconds": round(self.seconds(), 1)}

    # The clock.

    def seconds_ahead(self) -> float:
        """About how long the run will take, before its first step."""
        settings = self.settings
        if settings.minutes:
            return 60 * settings.minutes - self.seconds()
        tokens = settings.steps * settings.batch_rows * settings.row_tokens
        return tokens * self.flops_per_token / (0.3 * self.peak)

    def trial(self) -> None:
        """The first batch's gradient, for the time it takes."""
        self.gradients(self.batch(0))
        self.model.zero_grad(set_to_none=True)

    def pace(self) -> float:
        """Seconds a step so far, looks and checkpoints included."""
        return (self.seconds() - self.state.start_seconds) / self.state.step

    def replan(self) -> None:
        """Before the rate falls, set the number of steps anew from the time that steps really take."""
        state, level = self.state, 1 - self.settings.warmdown
        if self.settings.steps or state.replanned == len(_REPLAN):
            return
        share = _REPLAN[state.replanned]
        if state.step < share * state.steps or state.step >= level * state.steps:
            return
        state.replanned += 1
        fewest = math.ceil(state.step / level)  # with fewer, the rate should have begun to fall already
        state.steps = max(self.agreed_steps(self.pace()), fewest)

    def agreed_steps(self, seconds_a_step: float) -> int:
        """What the first process makes of its own clock."""
        return self.ranks.agree(self.steps_that_fit(seconds_a_step))

    def steps_that_fit(self, seconds_a_step: float) -> int:
        """Steps for the run's minutes, less the time before the first and that for the last evaluation."""
        tokens = self.data.held_out.tokens if self.data.held_out is not None else 0
        batch = self.settings.batch_rows * self.settings.row_tokens
        last_look = seconds_a_step * 0.4 * tokens / batch  # a forward pass is about a third of a step
        seconds = 60 * self.settings.minutes - self.state.start_seconds - last_look
        return max(int(seconds / seconds_a_step), 1)
