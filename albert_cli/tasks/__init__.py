"""One file, one task: where its columns are, its labels in order, its metrics, Google's hyper-parameters.

A module here is a task by existing and defining `TASK`; `named` finds it. Hyper-parameters are those of Google's
run_glue.sh (google-research/albert) unless the file says otherwise.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from albert_cli.errors import UnknownTaskError
from converters.errors import did_you_mean

if TYPE_CHECKING:
    from albert_cli.training.data import Examples
    from albert_cli.training.questions import Questions


@dataclass(frozen=True)
class Recipe:
    """Hyper-parameters for a training set of `train_rows` rows; another size or batch keeps the number of epochs.

    `eval_every` is in steps, `max_length` in tokens; `name` tells a task's several recipes apart. `dropout` is that of
    the encoder (table 14 of the ALBERT paper, "ALBERT DR"), None where the model's config decides. AdamW with decay
    0.01, linear warm-up and decay, clipping at 1.
    """

    learning_rate: float
    batch_size: int
    steps: int
    warmup_steps: int
    train_rows: int
    dropout: float | None = None
    name: str = ""
    eval_every: int = 100
    max_length: int = 512

    @property
    def epochs(self) -> float:
        return self.steps * self.batch_size / self.train_rows

    @property
    def head_dropout(self) -> float | None:
        """The dropout before a classifier: 0.1 for every task of the paper ("Classifier DR")."""
        return None if self.dropout is None else 0.1


@dataclass(frozen=True)
class Columns:
    """Names of a file's columns (or their places, from 0, in a file without header); `label` None: it has no labels."""

    first: str | int
    second: str | int | None = None
    label: str | int | None = None
    id: str | int | None = None


@dataclass(frozen=True)
class Split:
    """A file of the official layout: its name (the first that exists counts) and columns; `width`: without header."""

    files: tuple[str, ...]
    columns: Columns
    width: int | None = None


@dataclass(frozen=True)
class Hub:
    """The task in `nyu-mll/glue`: directory, text columns, and the names of its numbered labels."""

    directory: str
    first: str
    second: str | None = None
    labels: tuple[str, ...] = ()
    splits: Mapping[str, str] = field(default_factory=lambda: {"train": "train", "dev": "validation", "test": "test"})


@dataclass(frozen=True)
class Task:
    """What distinguishes one task from another.

    `labels` in the order of the logits; empty where the training data decides. `best` is the metric that chooses the
    checkpoint. `value_range`: of a regression's target. `submission`: the file name in a GLUE submission, by split.
    `no_answer_recipe`: instead of `recipe` where some training questions have no answer.
    `read(task, sources, split)` gives the rows of "train", "dev", "test" or another split, None where there is none.
    """

    name: str
    metrics: tuple[str, ...]
    best: str
    recipe: Recipe
    read: Callable[[Task, Sources, str], Examples | Questions | None]
    kind: Literal["classification", "regression", "answers"] = "classification"
    labels: tuple[str, ...] = ()
    value_range: tuple[float, float] | None = None
    directory: str = ""
    splits: Mapping[str, Split] = field(default_factory=dict)
    dev_splits: tuple[str, ...] = ("dev",)
    submission: Mapping[str, str] = field(default_factory=dict)
    hub: Hub | None = None
    skip_short_rows: bool = False
    no_answer_recipe: Recipe | None = None


@dataclass(frozen=True)
class Sources:
    """Where the user's data is: a directory, or files by split with their columns; whether bad rows are left out."""

    data: Path | None = None
    files: Mapping[str, Path] = field(default_factory=dict)
    text_column: str | None = None
    text_pair_column: str | None = None
    label_column: str | None = None
    delimiter: str | None = None
    skip_bad: bool = False


def names() -> list[str]:
    """Every task, without importing any."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def named(name: str) -> Task:
    """The task of that name, in any spelling (QNLI, sst-2); DataError lists the known ones."""
    key = name.lower().replace("-", "").replace("_", "")
    if key not in names():
        known = names()
        raise UnknownTaskError(
            f"{name!r} is no task here; the tasks are {', '.join(known)}{did_you_mean(key, [*known, 'glue'])}"
        )
    task: Task = importlib.import_module(f"{__name__}.{key}").TASK
    return task


def recipe_for(task: Task, train: Examples | Questions) -> Recipe:
    """The hyper-parameters for a task's training data."""
    if task.no_answer_recipe is not None and getattr(train, "unanswerable", False):
        return task.no_answer_recipe
    return task.recipe


def glue(**facts: Any) -> Task:
    """A GLUE task, read from the official files or from those of `nyu-mll/glue`."""
    from albert_cli.training.data import read_glue

    return Task(read=read_glue, **facts)
