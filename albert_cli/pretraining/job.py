"""What the loop of a pretraining run is given."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from numpy.typing import NDArray

from albert_cli.model.pretraining_heads import PreTrainingModel
from albert_cli.pretraining import sequences
from albert_cli.pretraining.corpus import Corpus
from albert_cli.pretraining.distillation import DistillationSet
from albert_cli.pretraining.sequences import Sequences
from albert_cli.pretraining.settings import PretrainSettings
from albert_cli.runs.events import Report, silent
from albert_cli.tokenization.tokenizer import Tokenizer


@dataclass
class Job:
    """All that the loop needs.

    `train` and `held_out` are numbers of documents; `weights` and `ordered` go by the corpus's sources. `save` writes
    the model of a step into `directory`, where the log and the state are. `distillation`: what is learnt of a teacher.
    """

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
    distillation: DistillationSet | None = None
    report: Report = silent

    def epoch(self, epoch: int) -> Iterator[Sequences]:
        """The batches of an epoch of training."""
        settings = self.settings
        return sequences.epoch_batches(
            self.corpus,
            self.train,
            weights=self.weights,
            ordered=self.ordered,
            max_length=settings.max_length,
            batch_tokens=settings.tokens_per_update,
            seed=settings.seed,
            epoch=epoch,
        )
