"""Before training: the data read and tokenized, the problem's facts found out; and the scores of a split."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from albert_cli.errors import TrainingError
from albert_cli.tasks import named
from albert_cli.tasks.examples import Examples
from albert_cli.tasks.task import Task
from albert_cli.tokenization.tokenizer import Tokenizer
from albert_cli.training import problems, reading
from albert_cli.training.problems import AnyProblem
from albert_cli.training.rows import Split
from albert_cli.training.run_info import RunInfo
from albert_cli.training.settings import Settings
from albert_cli.training.weighing import PLAIN, Weighing, weighing_of

# Settings that few tasks heed.
OWN = ("loss", "scale")


@dataclass(frozen=True)
class Prepared:
    """Everything that is known before training: the kind of problem, the rows, what was noticed on the way."""

    task: Task
    problem: AnyProblem
    info: RunInfo
    train: Split[Any]
    dev: dict[str, Split[Any]]
    notes: list[str]
    weighing: Weighing = PLAIN

    @property
    def splits(self) -> dict[str, Split[Any]]:
        """The training split and those of development, by name."""
        return {"train": self.train, **self.dev}

    @property
    def label_weights(self) -> dict[str, float]:
        """The weight of each label; empty where all are alike."""
        return dict(zip(self.info.labels, self.weighing.weights, strict=True)) if self.weighing.weights else {}

    @functools.cached_property
    def in_train(self) -> dict[str, int]:
        """How many rows of each development split stand in the training set too (`Read.contents`)."""
        seen = set(self.train.examples.contents())
        return {name: sum(item in seen for item in split.examples.contents()) for name, split in self.dev.items()}

    def with_hash(self, name: str, sha: str) -> Prepared:
        """The same with one more hash of what the run is made of."""
        return dataclasses.replace(self, info=dataclasses.replace(self.info, hashes=self.info.hashes | {name: sha}))


def task_of(settings: Settings) -> Task:
    """The task of a run; TrainingError where it does not heed what was set, or its rows have no numbers, or one label
    each, and others were asked for."""
    task = named(settings.task)
    if idle := [name for name in OWN if getattr(settings, name) is not None and name not in task.own]:
        raise TrainingError(f"{idle[0]} is {getattr(settings, idle[0])}, which {task.name} does not heed; leave it out")
    asked = {"--regression": (settings.regression, task.regression)}
    asked["--multi-label"] = (settings.multi_label, task.multi_label)
    for option, (wanted, posed) in asked.items():
        if wanted and posed is None:
            raise TrainingError(f"{option} is for csv; {task.name} is a {task.problem.replace('_', ' ')} task")
        if wanted and posed is not None:
            return posed
    return task


def prepare(task: Task, settings: Settings, tokenizer: Tokenizer) -> Prepared:
    """Read and tokenize the training and development data; all its faults are reported before anything is computed."""
    problem = problems.named(task.problem)
    read = reading.read_examples(task, problem, settings)
    task = task.fitted(read.whole)
    labels, notes = problem.find_labels(read.whole, task.labels)
    read.notes.extend(notes)
    if settings.skip_bad:
        read.dev = {name: problem.usable(part, labels, task) for name, part in read.dev.items()}
    for unlabelled in task.submission:
        task.read(settings.sources, unlabelled)  # a fault of a test file is reported before training, too
    info = RunInfo(
        task=task.name.lower(),
        problem=problem.name,
        labels=labels,
        max_length=settings.max_length,
        hidden=settings.hidden or (),
        pooling=settings.pooling,
        settings=dataclasses.asdict(settings),
        hashes={"train": read.whole.digest} | {name: part.digest for name, part in read.dev.items()},
    )
    reading.check_labels({"train": read.train, **read.dev}, labels, task, problem)
    hint = "raise --limit-train" if len(read.train) < len(read.whole) else ""
    info, notes = problem.fit(info, read.train, task, hint)
    read.notes.extend(notes)
    problem = problem.tuned(info)
    train = problem.split(_trained_on(read.train, task, settings), info, task, tokenizer)
    dev = {name: problem.split(part, info, task, tokenizer) for name, part in read.dev.items()}
    for name, split in {"train": train, **dev}.items():
        read.notes.extend(note for note in _notes(name, split, settings.max_length) if note not in read.notes)
    counts = problem.label_counts(train, info)
    weighing = weighing_of(settings.class_weights, settings.label_smoothing, info.labels, counts, task.name)
    return Prepared(task, problem, info, train, dev, read.notes, weighing)


def _trained_on(train: Any, task: Task, settings: Settings) -> Any:
    """The training examples, in both orders if that is asked for; TrainingError where they have but one."""
    if not settings.both_orders:
        return train
    if not isinstance(train, Examples):
        raise TrainingError(f"--both-orders is for pairs of texts, and {task.name} has none; leave it out")
    return train.in_both_orders()


def score(
    problem: AnyProblem, split: Split[Any], outputs: list[NDArray[Any]], info: RunInfo, metrics: Sequence[str]
) -> dict[str, float]:
    """The mean loss and the metrics of outputs, by row; NaN, all of them, where an output is not finite."""
    if not all(np.isfinite(output).all() for output in outputs):
        return dict.fromkeys(("loss", *metrics), math.nan)
    return problem.score(split, outputs, info, metrics)


def _notes(name: str, split: Split[Any], max_length: int) -> list[str]:
    notes = []
    if cut := split.rows.cut:
        notes.append(f"{name}: {cut} of {len(split.rows)} rows are cut to {max_length} tokens")
    if left_out := split.examples.left_out_note():
        notes.append(left_out)
    return notes
