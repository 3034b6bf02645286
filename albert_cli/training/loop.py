"""The training loop: AdamW with Google's decay rules, linear warm-up and decay, clipping; exact to resume.

Google: optimization.py (create_optimizer). As in transformers, and unlike there, the decay after the warm-up starts at
the full learning rate.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from numpy.typing import NDArray
from torch import Tensor, nn

from albert_cli.batching import epoch_batches
from albert_cli.errors import TrainingError
from albert_cli.memory import out_of_memory
from albert_cli.runs import checkpointing, log, resumption
from albert_cli.runs.checkpointing import Progress
from albert_cli.runs.events import Ended, EpochEnded, Evaluated, Note, Report, StepDone, Trained, silent
from albert_cli.runs.files import STATE
from albert_cli.runs.info import check_model
from albert_cli.runs.optimizer import not_finite
from albert_cli.runs.processes import own_dropout
from albert_cli.training import optimizer
from albert_cli.training.metrics import SMALLER_IS_BETTER
from albert_cli.training.problems import AnyProblem, BatchMetrics
from albert_cli.training.rows import Rows
from albert_cli.training.settings import Plan, Settings
from albert_cli.training.weighing import PLAIN, Weighing

# The points of the loss that are logged in a run, whatever its length.
_LOGGED = 400


@dataclass
class FinetuneJob:
    """All that the loop needs. `evaluate` gives the dev metrics with `loss`; `batch_metrics` those of training rows.

    `weighing`: of the labels in the loss that is minimised, not in that of `evaluate`. `loss_unit`: how much one of the
    former is in the latter; the log has the latter.
    """

    model: nn.Module
    problem: AnyProblem
    rows: Rows
    plan: Plan
    settings: Settings
    directory: Path
    accelerator: Accelerator
    selection_metric: str
    evaluate: Callable[[nn.Module], dict[str, float]]
    save_best: Callable[[], None]
    batch_metrics: BatchMetrics | None = None
    report: Report = silent
    loss_unit: float = 1.0
    weighing: Weighing = PLAIN
    started: float = field(default_factory=time.perf_counter)


def train(job: FinetuneJob, *, resume: bool) -> Progress:
    """Train to the end of the plan, or until early stopping; the best model is saved on the way.

    Raises TrainingError when the loss stops being a number, memory runs out, or no evaluation was finite; what was
    saved before stays.
    """
    loop = _Loop(job)
    own_dropout(job.accelerator, job.settings.seed)
    state_file = job.directory / STATE
    if resume and state_file.exists():
        loop.progress = checkpointing.load(state_file, job.model, loop.plain_optimizer, job.accelerator)
        loop.check_place(state_file)
        job.report(Note(resumption.resuming(loop.progress.step)))
    log.cut(job, loop.progress)
    loop.run(state_file)
    if loop.progress.best is None:
        raise TrainingError(
            f"training ended at step {loop.progress.step}, but every evaluation gave NaN or infinity; "
            f"{_kept(loop.progress, job)}; restart with a lower --lr or a longer --warmup"
        )
    return loop.progress


def _kept(at: Progress, job: FinetuneJob) -> str:
    """What a run that fails leaves behind."""
    if at.best is None:
        return f"no model has been saved in {job.directory}"
    return f"the best model so far, of step {at.best_step}, stays in {job.directory}"


class _Loop:
    """A job being trained: its optimizer, its place, and what is to be logged next."""

    def __init__(self, job: FinetuneJob) -> None:
        self.job, self.progress = job, Progress()
        self.rated = optimizer.make(job.model, job.settings)
        self.plain_optimizer = self.rated.optimizer
        self.model, self.optimizer = job.accelerator.prepare(job.model, self.plain_optimizer)
        self.parameters = [item for item in job.model.parameters() if item.requires_grad]
        self.log_every = max(1, job.plan.steps // _LOGGED)
        self.losses: list[float] = []
        self.seen: list[tuple[NDArray[np.float32], NDArray[Any]]] = []
        self.main = job.accelerator.is_main_process

    def check_place(self, state_file: Path) -> None:
        """RunError where this run was never at the place that a state gives."""
        at, plan = self.progress, self.job.plan
        if at.step != at.epoch * plan.steps_per_epoch + at.batch or at.step > plan.steps:
            place = f"step {at.step}, batch {at.batch} of epoch {at.epoch}"
            checkpointing.unsound(state_file, f"{place}; an epoch has {plan.steps_per_epoch} of {plan.steps} steps")
        if at.best is not None:
            check_model(self.job.directory, f"step {at.best_step} is saved")

    def run(self, state_file: Path) -> None:
        """Train from the place on to the end, or until early stopping; the state is kept in `state_file`."""
        job, plan, at = self.job, self.job.plan, self.progress
        started = job.started
        job.model.train()
        while not at.finished:
            batches = epoch_batches(
                len(job.rows),
                job.settings.batch_size,
                seed=job.settings.seed,
                epoch=at.epoch,
                lengths=job.rows.lengths,
                smallest=job.settings.smallest_batch,
            )
            for rows in batches[at.batch :]:
                with out_of_memory(lambda rows=rows: self._memory_message(rows), TrainingError):  # type: ignore[misc]
                    self.update(rows)
                at.step += 1
                at.batch += 1
                job.report(StepDone(at.step, {"loss": self.losses[-1]}))
                at.finished = at.step == plan.steps
                epoch_over = at.batch == len(batches)
                evaluating = at.step % plan.eval_every == 0 or at.finished
                if at.step % self.log_every == 0 or evaluating:
                    self.log_losses()
                if epoch_over:
                    at.epoch_seconds += time.perf_counter() - started
                    log.add(job, at, EpochEnded(at.epoch + 1, round(at.epoch_seconds, 4)))
                    at.epoch, at.batch, at.epoch_seconds, started = at.epoch + 1, 0, 0.0, time.perf_counter()
                if evaluating:
                    paused = time.perf_counter()
                    with out_of_memory(self._evaluation_message, TrainingError):
                        self.evaluate()
                    at.epoch_seconds += paused - started
                    if at.finished:
                        self.end()
                    checkpointing.save(state_file, at, job.model, self.plain_optimizer, job.accelerator)
                    started = time.perf_counter()
                if at.finished:
                    break

    def update(self, rows: NDArray[np.int64]) -> None:
        """One optimizer step on a batch, in `grad_accum` parts; each process computes its share of the rows."""
        job, at, accelerator = self.job, self.progress, self.job.accelerator
        world = accelerator.num_processes
        mine = rows[accelerator.process_index :: world]
        weight = 1.0
        if not len(mine):  # a rank without rows contributes zero loss: collectives stay in step
            mine, weight = rows[:1], 0.0
        if job.rows.lengths is not None:
            mine = mine[np.argsort(job.rows.lengths[mine], kind="stable")]
        parts = np.array_split(mine, min(job.settings.grad_accum, max(1, len(mine) // job.settings.smallest_batch)))
        units = job.problem.units(job.rows.targets[torch.from_numpy(rows)], job.weighing) or 1
        total, length = 0.0, None
        if job.problem.loss_over_tokens and job.rows.lengths is not None:
            length = int(job.rows.lengths[rows].max())  # its loss has padding in it, the same however it is shared out
        for number, part in enumerate(parts):
            last = number == len(parts) - 1
            with contextlib.nullcontext() if last else accelerator.no_sync(self.model):
                inputs = job.rows.inputs(part, accelerator.device, length)
                targets = job.rows.targets[torch.from_numpy(part)]
                logits: Tensor = self.model(**inputs)
                mask = inputs.get("attention_mask")
                summed = job.problem.loss(logits, targets.to(accelerator.device), mask, job.weighing)
                loss = summed * (weight / units)
                accelerator.backward(loss * world)
            total += loss.item()
            if job.batch_metrics and weight:
                self.seen.append((logits.detach().float().cpu().numpy(), targets.numpy()))
        if world > 1:
            total = float(accelerator.reduce(torch.tensor(total, device=accelerator.device), "sum"))
        norm = accelerator.clip_grad_norm_(self.parameters, job.settings.clip or math.inf)
        self.check_finite(total, norm, rows)
        self.rate = job.settings.learning_rate * job.plan.rate(at.step)
        self.rated.set_rate(self.rate)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.losses.append(total)
        self.norm = norm

    def check_finite(self, loss: float, norm: Any, rows: NDArray[np.int64]) -> None:
        """TrainingError where an update's loss or gradient is not finite."""
        at, job = self.progress, self.job
        broken = not_finite(loss, norm, job.accelerator)
        if broken is None:
            return
        rate = job.settings.learning_rate * job.plan.rate(at.step)
        raise TrainingError(
            f"{broken} at step {at.step + 1} (epoch {at.epoch + 1}, learning rate {rate:.3g}, "
            f"rows {', '.join(map(str, rows[:4].tolist()))}, …); {_kept(at, job)}; lower --lr or lengthen --warmup"
        )

    def evaluate(self) -> None:
        """Log the figures of an evaluation; keep the model if it is the best so far."""
        job, at = self.job, self.progress
        figures = dict(job.evaluate(job.model))
        if job.accelerator.num_processes > 1:
            self.seen = gather_object(self.seen)
        if self.seen and job.batch_metrics:
            logits = np.concatenate([item for item, _ in self.seen])
            targets = np.concatenate([item for _, item in self.seen])
            figures |= {f"train_{name}": value for name, value in job.batch_metrics(logits, targets).items()}
        self.seen.clear()
        value, loss = figures[job.selection_metric], figures.get("loss", 0.0)
        of_dev = [figure for name, figure in figures.items() if not name.startswith("train_")]
        best, stop = self.is_better(value, loss) and all(map(math.isfinite, of_dev)), None
        if best:
            at.best, at.best_loss, at.best_step, at.stale = value, loss, at.step, 0
            if self.main:
                job.save_best()
        else:
            at.stale += 1
            if job.settings.early_stop is not None and at.stale >= job.settings.early_stop:
                stop = at.finished = True
        log.add(job, at, Evaluated(at.step, self.epochs(), figures, best=best, early_stop=stop))

    def is_better(self, value: float, loss: float) -> bool:
        """Whether an evaluation is better than the best so far; of two that are equal, that of the lower loss."""
        best, best_loss = self.progress.best, self.progress.best_loss
        if best is None or best_loss is None:
            return True
        if value == best:
            return loss < best_loss
        return value < best if self.job.selection_metric in SMALLER_IS_BETTER else value > best

    def end(self) -> None:
        """Log the end of the run."""
        at, sha = self.progress, log.weights_sha256(self.job.model)
        log.add(self.job, at, Ended(at.step, sha, at.best_step))

    def log_losses(self) -> None:
        """Log the means since the last record."""
        if self.losses:
            loss, norm = sum(self.losses) / len(self.losses) * self.job.loss_unit, float(self.norm)
            figures = {"loss": loss, "learning_rate": self.rate, "gradient_norm": norm}
            log.add(self.job, self.progress, Trained(self.progress.step, self.epochs(), figures))
            self.losses.clear()

    def epochs(self) -> float:
        """How often the rows have been seen."""
        return round(self.progress.step / self.job.plan.steps_per_epoch, 4)

    def _evaluation_message(self) -> str:
        length = self.job.settings.max_length
        return f"out of memory while evaluating at step {self.progress.step}; lower --max-length ({length})"

    def _memory_message(self, rows: NDArray[np.int64]) -> str:
        settings, lengths = self.job.settings, self.job.rows.lengths
        tokens = f" of up to {int(lengths[rows].max())} tokens" if lengths is not None else ""
        parts = f" in {settings.grad_accum} parts; raise --grad-accum (the result stays the same), or"
        return (
            f"out of memory at step {self.progress.step + 1}, on a batch of {len(rows)} rows{tokens}"
            f"{';' if self.job.problem.together else parts} lower --batch-size "
            f"({settings.batch_size}) or --max-length ({settings.max_length})"
        )
