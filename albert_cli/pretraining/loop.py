"""The pretraining loop: masked words, sentence order and a teacher's vectors in one update; exact to resume."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from albert_cli.errors import TrainingError
from albert_cli.memory import out_of_memory
from albert_cli.pretraining import masking, optimizers, sequences
from albert_cli.pretraining.evaluation import HeldOut
from albert_cli.pretraining.job import Job
from albert_cli.pretraining.masking import Vocabulary
from albert_cli.pretraining.objective import SUMS, Batch, Objective, Sentences, Totals
from albert_cli.pretraining.random_streams import Stream, generator
from albert_cli.pretraining.sequences import NO_ORDER, Sequences
from albert_cli.runs import checkpointing, log, optimizer, resumption
from albert_cli.runs.checkpointing import Progress
from albert_cli.runs.events import Ended, Evaluated, Note, StepDone, Trained
from albert_cli.runs.files import STATE
from albert_cli.runs.processes import own_dropout

# The means of the losses are logged at this interval of steps.
_LOG_EVERY = 20


def train(job: Job, *, resume: bool) -> Progress:
    """Train to the end; the model and the state to resume from are saved at every evaluation.

    Raises TrainingError when the loss stops being a number or memory runs out; what was saved before stays.
    """
    loop = _Loop(job)
    own_dropout(job.accelerator, job.settings.seed)
    path = job.directory / STATE
    if resume and path.exists():
        loop.progress = checkpointing.load(path, job.model, loop.plain_optimizer, job.accelerator)
        at, most = loop.progress, job.settings.steps
        if at.step < at.epoch + at.batch or (most is not None and at.step > most):
            place = f"step {at.step}, batch {at.batch} of epoch {at.epoch}"
            checkpointing.unsound(path, f"{place}, of {most or 'as many as'} steps")
        job.report(Note(resumption.resuming(at.step)))
    log.cut(job, loop.progress)
    loop.run(path)
    return loop.progress


class _Loop:
    """A job being trained: its optimizers, its place, and what is to be logged next."""

    def __init__(self, job: Job) -> None:
        self.job, self.progress = job, Progress()
        self.vocabulary = Vocabulary.of(job.tokenizer)
        self.plain_optimizer = optimizers.make(job.settings.optimizer, job.model, job.settings.learning_rate)
        self.objective = job.accelerator.prepare(Objective(job.model))
        self.optimizers = [
            job.accelerator.prepare_optimizer(part)
            for part in getattr(self.plain_optimizer, "parts", [self.plain_optimizer])
        ]
        self.parameters = [item for item in job.model.parameters() if item.requires_grad]
        self.main = job.accelerator.is_main_process
        # Sums since the last record, and of how many steps each is: a batch may have no pair of segments.
        self.sums: dict[str, float] = {}
        self.counts: dict[str, int] = {}
        self.latest: dict[str, float] = {}  # losses of the last update
        self.held_out = HeldOut(job, self.vocabulary)

    def run(self, path: Path) -> None:
        """Train from the place on to the end; the state is kept at `path`."""
        job, at, settings = self.job, self.progress, self.job.settings
        before, started = at.epoch_seconds, time.perf_counter()
        job.model.train()
        lessons = self._lessons()
        while not at.finished:
            batches = job.epoch(at.epoch)
            for _ in range(at.batch):  # drawn again, not computed again
                if next(batches, None) is None:
                    checkpointing.unsound(path, f"batch {at.batch} of epoch {at.epoch}, which has fewer")
            any_batch = at.batch > 0
            for batch in batches:
                any_batch = True
                with out_of_memory(self._memory_message, TrainingError):
                    self.update(batch, next(lessons) if lessons else None)
                at.step += 1
                at.batch += 1
                at.epoch_seconds = before + time.perf_counter() - started
                done = min(1.0, settings.done(at.step, at.epoch_seconds))
                job.report(StepDone(at.step, self.latest, done))
                at.finished = self._agreed(settings.over(at.step, at.epoch_seconds))
                if at.step % _LOG_EVERY == 0:
                    self.log_losses()
                if at.step % settings.eval_every == 0 or at.finished:
                    self.log_losses()
                    paused = time.perf_counter()
                    with out_of_memory(self._memory_message, TrainingError):
                        figures = self.held_out.figures(self.objective)
                    self.check_figures(figures)
                    log.add(job, at, Evaluated(at.step, at.epoch, figures, round(at.epoch_seconds, 2)))
                    if at.finished:
                        self.end()
                    if self.main:
                        job.save(at.step)
                    checkpointing.save(path, at, job.model, self.plain_optimizer, job.accelerator)
                    started += time.perf_counter() - paused  # evaluating is no training
                if at.finished:
                    return
            if not any_batch:
                raise TrainingError("an epoch of the corpus makes no sequence; its documents are too few or weigh 0")
            at.epoch, at.batch = at.epoch + 1, 0

    def _lessons(self) -> Iterator[NDArray[np.int64]] | None:
        """Batches of the sentences whose vectors are learnt, from the run's place on."""
        settings, distillation = self.job.settings, self.job.distillation
        if distillation is None:
            return None
        return distillation.batches(settings.teacher_batch, seed=settings.seed, skip=self.progress.step)

    def update(self, batch: Sequences, lesson: NDArray[np.int64] | None) -> None:
        """One optimizer step; `lesson`: rows of the distillation set. TrainingError for what is not finite."""
        at, settings = self.progress, self.job.settings
        self.latest = self._backward(batch, lesson)
        norm = self.job.accelerator.clip_grad_norm_(self.parameters, optimizer.CLIP)
        self.check_finite(sum(value for key, value in self.latest.items() if key.endswith("loss")), norm)
        rate = settings.learning_rate * settings.rate(at.step, at.epoch_seconds)
        for part in self.optimizers:
            for group in part.param_groups:
                group["lr"] = rate
            part.step()
            part.zero_grad()
        more = {"gradient_norm": float(norm), "tokens": float(batch.lengths.sum())}
        for key, value in (self.latest | more).items():
            self.sums[key] = self.sums.get(key, 0.0) + value
            self.counts[key] = self.counts.get(key, 0) + 1

    def _backward(self, batch: Sequences, lesson: NDArray[np.int64] | None) -> dict[str, float]:
        """Gradients of a batch, in `grad_accum` parts, and its losses; each process computes its share of the rows."""
        job, at, accelerator, settings = self.job, self.progress, self.job.accelerator, self.job.settings
        tokens = sequences.tokens(job.corpus, batch, job.tokenizer)
        random = generator(Stream.MASKS, settings.seed, at.epoch, at.batch)
        masked = masking.mask(
            tokens, self.vocabulary, random, rate=settings.mask_rate, whole_words=settings.whole_words
        )
        counts = {"mlm": max(1, len(masked.labels)), "sop": max(1, int((batch.orders != NO_ORDER).sum()))}
        world = accelerator.num_processes
        mine = np.arange(len(batch))[accelerator.process_index :: world]
        parts = np.array_split(mine, max(1, min(settings.grad_accum, len(mine))))
        totals = Totals(*SUMS)
        for number, part in enumerate(parts):
            last = number == len(parts) - 1
            sentences = self._sentences(lesson) if last and lesson is not None else None
            with contextlib.nullcontext() if last else accelerator.no_sync(self.objective):
                found = self.objective(Batch.of(tokens, masked, part, accelerator.device), sentences)
                loss = (found["mlm"] / counts["mlm"] + found["sop"] / counts["sop"]) * world
                taught = found.get("teacher", loss.new_zeros(()))
                accelerator.backward(loss + settings.teacher_loss * taught)
            totals.add(found)
        sums = totals.over(accelerator)
        losses = {
            "masked_lm_loss": sums["mlm"] / counts["mlm"],
            "masked_lm_accuracy": sums["mlm_right"] / counts["mlm"],
        }
        if (batch.orders != NO_ORDER).any():
            losses["sentence_order_loss"] = sums["sop"] / counts["sop"]
            losses["sentence_order_accuracy"] = sums["sop_right"] / counts["sop"]
        if lesson is not None:
            losses["teacher_loss"] = float(taught.detach())
        return losses

    def _sentences(self, rows: NDArray[np.int64]) -> Sentences:
        """This process's share of some rows of the distillation set."""
        job = self.job
        assert job.distillation is not None
        mine = rows[job.accelerator.process_index :: job.accelerator.num_processes]
        mine = mine if len(mine) else rows[:1]
        ids, mask = job.distillation.inputs(mine, job.tokenizer.pad_id)
        device = job.accelerator.device
        vectors = torch.from_numpy(job.distillation.vectors[mine].astype(np.float32)).to(device)
        return Sentences(
            torch.from_numpy(ids).to(device), None if mask.all() else torch.from_numpy(mask).to(device), vectors
        )

    def check_finite(self, loss: float, norm: Any) -> None:
        """TrainingError where an update's loss or gradient is not finite."""
        if broken := optimizer.not_finite(loss, norm, self.job.accelerator):
            raise TrainingError(
                f"{broken} at step {self.progress.step + 1}; the model of the last evaluation stays in "
                f"{self.job.directory}; lower --lr or lengthen --warmup"
            )

    def check_figures(self, figures: Mapping[str, float]) -> None:
        """TrainingError, before anything is saved, where an evaluation's figure is not finite."""
        for name, value in figures.items():
            if not math.isfinite(value):
                raise TrainingError(
                    f"{name} became {value} on the held-out documents at step {self.progress.step}; what was saved "
                    f"before stays in {self.job.directory}; lower --lr or lengthen --warmup"
                )

    def log_losses(self) -> None:
        """Log the means since the last record."""
        if self.sums:
            tokens = self.sums.pop("tokens")
            means = {key: value / self.counts[key] for key, value in self.sums.items()}
            rate = self.optimizers[0].param_groups[0]["lr"]
            at = self.progress
            figures = {"done": round(min(1.0, self.job.settings.done(at.step, at.epoch_seconds)), 5)} | means
            figures |= {"learning_rate": rate, "tokens": tokens}
            log.add(self.job, at, Trained(at.step, at.epoch, figures, round(at.epoch_seconds, 2)))
            self.sums.clear()
            self.counts.clear()

    def end(self) -> None:
        """Log the end of the run."""
        at, sha = self.progress, log.weights_sha256(self.job.model)
        log.add(self.job, at, Ended(at.step, sha))

    def _agreed(self, finished: bool) -> bool:
        """The main process's clock decides for all."""
        accelerator = self.job.accelerator
        if accelerator.num_processes == 1:
            return finished
        vote = torch.tensor(float(finished and self.main), device=accelerator.device)
        return bool(accelerator.reduce(vote, "sum").item())

    def _memory_message(self) -> str:
        settings = self.job.settings
        return (
            f"out of memory at step {self.progress.step + 1}; raise --grad-accum (the result stays the same), or lower "
            f"--tokens-per-update ({settings.tokens_per_update}) or --max-length ({settings.max_length})"
        )
