"""Evaluation on the held-out documents: the same sequences and masks each time."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from albert_cli.errors import TrainingError
from albert_cli.pretraining import masking, order_by_length, sequences
from albert_cli.pretraining.job import Job
from albert_cli.pretraining.masking import MASK_RATE, Vocabulary
from albert_cli.pretraining.objective import SUMS, Batch, Objective, Totals
from albert_cli.pretraining.random_streams import Stream, generator
from albert_cli.pretraining.sequences import NO_ORDER, Sequences
from albert_cli.runs.events import WorkDone

_SEED = 7919
_BATCH_TOKENS = 8192


class HeldOut:
    """The sequences that a job is evaluated on. Raises TrainingError where no document is held out."""

    def __init__(self, job: Job, vocabulary: Vocabulary) -> None:
        self.job, self.vocabulary = job, vocabulary
        self.batches = _sequences(job)
        self.by_length = self._by_length()

    def _by_length(self) -> float | None:
        """What the lengths of segments alone give on the held-out pairs, by a rule found on training pairs."""
        if not any((batch.orders != NO_ORDER).any() for batch in self.batches):
            return None
        return order_by_length.fit(self.job.epoch(0)).accuracy(self.batches)

    def figures(self, objective: nn.Module) -> dict[str, float]:
        """Losses and accuracies, as Google's run_pretraining.py names them; of sentence order only where it is judged.

        Each process evaluates its share of the batches; all have the figures of all.
        """
        job, accelerator = self.job, self.job.accelerator
        totals = Totals(*SUMS, "masked", "judged", dtype=torch.float64)
        job.model.eval()
        with torch.inference_mode():
            for number, batch in enumerate(self.batches):
                self._report(number)
                if number % accelerator.num_processes != accelerator.process_index:
                    continue
                tokens = sequences.tokens(job.corpus, batch, job.tokenizer)
                random, whole = generator(Stream.MASKS, _SEED, number), job.settings.whole_words
                masked = masking.mask(tokens, self.vocabulary, random, rate=MASK_RATE, whole_words=whole)
                part = Batch.of(tokens, masked, np.arange(len(batch)), accelerator.device)
                with accelerator.autocast():
                    found = Objective.forward(accelerator.unwrap_model(objective), part)
                counts = {"masked": len(masked.labels), "judged": int((batch.orders != NO_ORDER).sum())}
                totals.add(found | {name: found["mlm"].new_tensor(count) for name, count in counts.items()})
        job.model.train()
        return self._named(totals.over(accelerator))

    def _named(self, sums: dict[str, float]) -> dict[str, float]:
        masked, judged = max(1, sums["masked"]), sums["judged"]
        figures = {"masked_lm_accuracy": sums["mlm_right"] / masked, "masked_lm_loss": sums["mlm"] / masked}
        if judged:
            figures["sentence_order_accuracy"] = sums["sop_right"] / judged
            if self.by_length is not None:
                figures[order_by_length.NAME] = self.by_length
            figures["sentence_order_loss"] = sums["sop"] / judged
        return figures

    def _report(self, batch: int) -> None:
        lengths = [len(item) for item in self.batches]
        self.job.report(WorkDone("evaluating", sum(lengths[: batch + 1]), sum(lengths), "sequences"))


def _sequences(job: Job) -> list[Sequences]:
    """As many as the settings want, of all held-out documents in random order."""
    settings = job.settings
    batches = sequences.epoch_batches(
        job.corpus,
        job.held_out,
        weights=(job.weights > 0).astype(np.float64),
        ordered=job.ordered,
        max_length=settings.max_length,
        batch_tokens=_BATCH_TOKENS,
        seed=_SEED,
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
