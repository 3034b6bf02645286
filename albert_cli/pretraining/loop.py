"""The pretraining loop: masked words, sentence order and a teacher's vectors in one update; exact to resume."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from albert_cli.errors import TrainingError
from albert_cli.memory import out_of_memory
from albert_cli.model.pretraining_heads import PreTrainingModel
from albert_cli.pretraining import masking, optimizers, order_by_length, sequences
from albert_cli.pretraining.corpus import Corpus
from albert_cli.pretraining.masking import Vocabulary
from albert_cli.pretraining.objective import Batch, Objective, Sentences
from albert_cli.pretraining.sequences import NO_ORDER, Sequences
from albert_cli.pretraining.settings import PretrainSettings
from albert_cli.pretraining.teacher import Lessons
from albert_cli.runs import checkpointing, log, optimizer
from albert_cli.runs.checkpointing import Progress
from albert_cli.runs.events import Ended, Evaluated, Report, StepDone, Trained, WorkDone, silent
from albert_cli.runs.files import STATE
from albert_cli.runs.processes import own_dropout
from albert_cli.tokenization.tokenizer import Tokenizer

# Every so many steps the means of the losses are logged.
_LOG_EVERY = 20
_EVALUATION_SEED = 7919


@dataclass
class Job:
    """All that the loop needs. `weights` and `ordered` go by the corpus's sources; `save` writes the model."""

    model: PreTrainingModel
    corpus: Corpus
    train: NDArray[np.int64]
    held_out: NDArray[np.int64]
    weights: NDArray[np.float64]
    ordered: NDArray[np.bool_]
    tokenizer: Tokenizer
    settings: PretrainSettings
    directory: Path
    accelerator: Accelerator
    save: Callable[[int], None]
    lessons: Lessons | None = None
    report: Report = silent


def train(job: Job, *, resume: bool) -> Progress:
    """Train to the end; the model and the state to go on from are saved at every evaluation.

    Raises TrainingError when the loss stops being a number or memory runs out; what was saved before stays.
    """
    loop = _Loop(job)
    own_dropout(job.accelerator, job.settings.seed)
    path = job.directory / STATE
    if resume and path.exists():
        loop.progress = checkpointing.load(path, job.model, loop.plain_optimizer, job.accelerator)  # type: ignore[arg-type]
    log.cut(job, loop.progress)
    loop.run(path)
    return loop.progress


class _Loop:
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
        self.evaluation = self._held_out()
        self.by_length = self._by_length()

    def run(self, path: Path) -> None:
        job, at, settings = self.job, self.progress, self.job.settings
        before, began = at.epoch_seconds, time.perf_counter()
        job.model.train()
        lessons = self._lessons()
        while not at.finished:
            batches = self.epoch(at.epoch)
            for _ in range(at.batch):  # made again, not computed again
                next(batches)
            any_batch = at.batch > 0
            for batch in batches:
                any_batch = True
                with out_of_memory(self._memory_message, TrainingError):
                    self.update(batch, next(lessons) if lessons else None)
                at.step += 1
                at.batch += 1
                at.epoch_seconds = before + time.perf_counter() - began
                done = min(1.0, settings.done(at.step, at.epoch_seconds))
                job.report(StepDone(at.step, self.latest, done))
                at.finished = self._agreed(settings.over(at.step, at.epoch_seconds))
                if at.step % _LOG_EVERY == 0:
                    self.log_losses()
                if at.step % settings.eval_every == 0 or at.finished:
                    self.log_losses()
                    paused = time.perf_counter()
                    self.evaluate()
                    if at.finished:
                        self.end()
                    if self.main:
                        job.save(at.step)
                    checkpointing.save(path, at, job.model, self.plain_optimizer, job.accelerator)  # type: ignore[arg-type]
                    began += time.perf_counter() - paused  # evaluating is no training
                if at.finished:
                    return
            if not any_batch:
                raise TrainingError("an epoch of the corpus makes no sequence; its documents are too few or weigh 0")
            at.epoch, at.batch = at.epoch + 1, 0

    def epoch(self, epoch: int) -> Iterator[Sequences]:
        job, settings = self.job, self.job.settings
        return sequences.epoch_batches(
            job.corpus,
            job.train,
            weights=job.weights,
            ordered=job.ordered,
            max_length=settings.max_length,
            batch_tokens=settings.tokens_per_update,
            seed=settings.seed,
            epoch=epoch,
        )

    def _lessons(self) -> Iterator[NDArray[np.int64]] | None:
        if self.job.lessons is None:
            return None
        settings = self.job.settings
        return self.job.lessons.batches(settings.teacher_batch, seed=settings.seed, skip=self.progress.step)

    def update(self, batch: Sequences, lesson: NDArray[np.int64] | None) -> None:
        """One optimizer step, in `grad_accum` parts; each process computes its share of the rows."""
        job, at, accelerator, settings = self.job, self.progress, self.job.accelerator, self.job.settings
        random = np.random.default_rng((settings.seed, at.epoch, at.batch, 4))
        tokens = sequences.tokens(job.corpus, batch, job.tokenizer)
        masked = masking.mask(
            tokens, self.vocabulary, random, rate=settings.mask_rate, whole_words=settings.whole_words
        )
        counts = {"mlm": max(1, len(masked.labels)), "sop": max(1, int((batch.orders != NO_ORDER).sum()))}
        world = accelerator.num_processes
        mine = np.arange(len(batch))[accelerator.process_index :: world]
        parts = np.array_split(mine, max(1, min(settings.grad_accum, len(mine))))
        values = torch.zeros(4)
        for number, part in enumerate(parts):
            last = number == len(parts) - 1
            sentences = self._sentences(lesson) if last and lesson is not None else None
            with contextlib.nullcontext() if last else accelerator.no_sync(self.objective):
                found = self.objective(self._part(tokens, masked, part), sentences)
                loss = (found["mlm"] / counts["mlm"] + found["sop"] / counts["sop"]) * world
                taught = found.get("teacher", loss.new_zeros(()))
                accelerator.backward(loss + settings.teacher_loss * taught)
            values += torch.stack(
                [found["mlm"].detach(), found["sop"].detach(), found["mlm_right"].float(), found["sop_right"].float()]
            ).cpu()
        if world > 1:
            values = accelerator.reduce(values.to(accelerator.device), "sum").cpu()
        losses = {
            "masked_lm_loss": float(values[0]) / counts["mlm"],
            "masked_lm_accuracy": float(values[2]) / counts["mlm"],
        }
        if (batch.orders != NO_ORDER).any():
            losses |= {
                "sentence_order_loss": float(values[1]) / counts["sop"],
                "sentence_order_accuracy": float(values[3]) / counts["sop"],
            }
        if lesson is not None:
            losses["teacher_loss"] = float(taught.detach())
        norm = accelerator.clip_grad_norm_(self.parameters, optimizer.CLIP)
        self.latest = losses
        self.check_finite(sum(value for key, value in losses.items() if key.endswith("loss")), norm)
        rate = settings.learning_rate * settings.rate(at.step, at.epoch_seconds)
        for part in self.optimizers:
            for group in part.param_groups:
                group["lr"] = rate
            part.step()
            part.zero_grad()
        for key, value in (losses | {"gradient_norm": float(norm), "tokens": float(batch.lengths.sum())}).items():
            self.sums[key] = self.sums.get(key, 0.0) + value
            self.counts[key] = self.counts.get(key, 0) + 1

    def _part(self, tokens: sequences.Tokens, masked: masking.Masked, rows: NDArray[np.int64]) -> Batch:
        place = np.full(len(tokens.orders), -1, np.int64)
        place[rows] = np.arange(len(rows))
        mine = place[masked.rows] >= 0
        labels = np.stack([place[masked.rows[mine]], masked.columns[mine], masked.labels[mine]])
        mask = tokens.attention_mask[rows]
        device = self.job.accelerator.device

        def to(array: NDArray[np.int64]) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(array)).to(device)

        return Batch(
            to(masked.input_ids[rows]),
            to(tokens.token_type_ids[rows]),
            None if mask.all() else to(mask),
            to(labels),
            to(tokens.orders[rows]),
        )

    def _sentences(self, rows: NDArray[np.int64]) -> Sentences:
        job = self.job
        assert job.lessons is not None
        mine = rows[job.accelerator.process_index :: job.accelerator.num_processes]
        mine = mine if len(mine) else rows[:1]
        ids, mask = job.lessons.inputs(mine, job.tokenizer.pad_id)
        device = job.accelerator.device
        vectors = torch.from_numpy(job.lessons.vectors[mine].astype(np.float32)).to(device)
        return Sentences(
            torch.from_numpy(ids).to(device), None if mask.all() else torch.from_numpy(mask).to(device), vectors
        )

    def _held_out(self) -> list[Sequences]:
        """The same sequences at every evaluation, of all held-out documents in random order."""
        job, settings = self.job, self.job.settings
        batches = sequences.epoch_batches(
            job.corpus,
            job.held_out,
            weights=(job.weights > 0).astype(np.float64),
            ordered=job.ordered,
            max_length=settings.max_length,
            batch_tokens=8192,
            seed=_EVALUATION_SEED,
            epoch=0,
        )
        kept, rows = [], 0
        for batch in batches:
            if rows >= settings.eval_sequences:
                break
            kept.append(batch)
            rows += len(batch)
        if not kept:
            raise TrainingError(
                f"every {settings.hold_out}th document is held out, which leaves none of {len(job.corpus)}; "
                "pass more text, or a lower --hold-out"
            )
        return kept

    def _by_length(self) -> float | None:
        """What the lengths of segments alone give on the held-out pairs, by a rule found on training pairs."""
        if not any((batch.orders != NO_ORDER).any() for batch in self.evaluation):
            return None
        return order_by_length.fit(self.epoch(0)).accuracy(self.evaluation)

    def evaluate(self) -> None:
        """Losses and accuracies on the held-out documents, as Google's run_pretraining.py names them."""
        accelerator, at, settings = self.job.accelerator, self.progress, self.job.settings
        self.job.model.eval()
        sums = torch.zeros(6, dtype=torch.float64)
        with torch.inference_mode(), out_of_memory(self._memory_message, TrainingError):
            for number, batch in enumerate(self.evaluation):
                self._tell_evaluating(number)
                if number % accelerator.num_processes != accelerator.process_index:
                    continue
                random = np.random.default_rng((_EVALUATION_SEED, number, 4))
                tokens = sequences.tokens(self.job.corpus, batch, self.job.tokenizer)
                masked = masking.mask(tokens, self.vocabulary, random, rate=0.15, whole_words=settings.whole_words)
                with accelerator.autocast():
                    found = Objective.forward(
                        accelerator.unwrap_model(self.objective), self._part(tokens, masked, np.arange(len(batch)))
                    )
                judged = int((batch.orders != NO_ORDER).sum())
                values = [found[key].item() for key in ("mlm", "mlm_right", "sop", "sop_right")]
                sums += torch.tensor([*values, len(masked.labels), judged], dtype=torch.float64)
        self.job.model.train()
        if accelerator.num_processes > 1:
            sums = accelerator.reduce(sums.to(accelerator.device), "sum").cpu()
        mlm, mlm_right, sop, sop_right, masks, judged_all = sums.tolist()
        figures = {"masked_lm_accuracy": mlm_right / max(1, masks), "masked_lm_loss": mlm / max(1, masks)}
        if judged_all:
            figures |= {
                "sentence_order_accuracy": sop_right / judged_all,
                **({} if self.by_length is None else {order_by_length.NAME: self.by_length}),
                "sentence_order_loss": sop / judged_all,
            }
        log.add(self.job, at, Evaluated(at.step, at.epoch, figures, round(at.epoch_seconds, 2)))

    def _tell_evaluating(self, batch: int) -> None:
        lengths = [len(item) for item in self.evaluation]
        self.job.report(WorkDone("evaluating", sum(lengths[: batch + 1]), sum(lengths), "sequences"))

    def check_finite(self, loss: float, norm: Any) -> None:
        """TrainingError where an update's loss or gradient is not finite."""
        if broken := optimizer.not_finite(loss, norm, self.job.accelerator):
            raise TrainingError(
                f"{broken} at step {self.progress.step + 1}; the model of the last evaluation stays in "
                f"{self.job.directory}; lower --lr or lengthen --warmup"
            )

    def log_losses(self) -> None:
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
