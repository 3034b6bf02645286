"""What a task is: its recipe, its files, its labels and metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from albert_cli.tasks.examples import Choosings, ExampleColumns, Examples, Questions, Sentences

Read = Examples | Questions | Sentences | Choosings


@dataclass(frozen=True)
class Recipe:
    """Hyper-parameters for a training set of `train_rows` rows; another size or batch keeps the number of epochs.

    `eval_every` is in steps, `max_length` in tokens; `name` distinguishes a task's recipes. `dropout` is that of
    the encoder (table 14 of the ALBERT paper, "ALBERT DR"), None where the model's config decides. AdamW with this
    weight decay and second beta (the first is 0.9, epsilon 1e-6), linear warm-up and decay, gradients clipped at the
    norm `clip` (0: not at all). `bias_correction`: of Adam's moments. `layer_decay`: each layer's learning rate is this
    many times that of the one above. `both_orders`: each pair is trained on both ways round. A regression's labels are
    divided by `label_scale` in training. `model`: whose recipe it is; empty for ALBERT's.
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
    weight_decay: float = 0.01
    beta2: float = 0.999
    clip: float = 1.0
    bias_correction: bool = True
    layer_decay: float = 1.0
    both_orders: bool = False
    label_scale: float = 1.0
    model: str = ""

    @classmethod
    def of_epochs(cls, epochs: int, *, warmup: float, batch_size: int, learning_rate: float, **others: Any) -> Recipe:
        """A recipe that is published as epochs and a share of warm-up."""
        steps = 100 * epochs
        return cls(
            learning_rate=learning_rate,
            batch_size=batch_size,
            steps=steps,
            warmup_steps=round(warmup * steps),
            train_rows=100 * batch_size,
            **others,
        )

    @property
    def epochs(self) -> float:
        return self.steps * self.batch_size / self.train_rows

    @property
    def head_dropout(self) -> float | None:
        """The dropout before a classifier: 0.1 for every task of the paper ("Classifier DR")."""
        return None if self.dropout is None else 0.1


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


class Layout(Protocol):
    """How the files of a task lie, and how they are read (albert_cli/tasks/layouts).

    All raise DataError, which reports every fault of a file at once.
    """

    @property
    def columns(self) -> ExampleColumns | None:
        """Those of a file to predict; None where the user names them."""

    @property
    def options(self) -> tuple[str, ...]:
        """Which of the settings that name columns it heeds."""

    def read(self, sources: Sources, split: str) -> Read | None:
        """The rows of "train", "dev", "test" or another split; None where there is none."""

    def read_file(self, path: Path, sources: Sources) -> Read:
        """The labelled rows of one file of any name."""


@dataclass(frozen=True)
class Task:
    """What distinguishes one task from another.

    `labels` in the order of the logits; empty where the training data decides. `selection_metric` chooses the
    checkpoint. `problem` names its kind of problem (a module of albert_cli/training/problems). `value_range`: of a
    regression's target. `submission`: the file name in a GLUE submission, by split. `no_answer_recipe`: instead of
    `recipe` where some training questions have no answer. `regression`, `multi_label`: the same rows where the label is
    a number (`--regression`), or any number of labels (`--multi-label`). `own`: the settings that few tasks heed, with
    their defaults; None: none. `of_any_model`: the recipe is that of every family.
    """

    name: str
    layout: Layout
    metrics: tuple[str, ...]
    selection_metric: str
    recipe: Recipe
    problem: str = "classification"
    labels: tuple[str, ...] = ()
    value_range: tuple[float, float] | None = None
    dev_splits: tuple[str, ...] = ("dev",)
    submission: Mapping[str, str] = field(default_factory=dict)
    no_answer_recipe: Recipe | None = None
    regression: Task | None = None
    multi_label: Task | None = None
    own: Mapping[str, Any] = field(default_factory=dict)
    of_any_model: bool = False

    def recipe_for(self, train: Read) -> Recipe:
        """The hyper-parameters for training data."""
        return self.no_answer_recipe if self.no_answer_recipe and train.unanswerable else self.recipe

    def fitted(self, train: Read) -> Task:
        """The task with the recipe of its training data."""
        return replace(self, recipe=self.recipe_for(train))

    def posed_as(self, problem: str) -> Task:
        """The task as it is for a kind of problem: your own rows may have numbers, or several labels each."""
        others = (self.regression, self.multi_label)
        return next((other for other in others if other is not None and other.problem == problem), self)

    def read(self, sources: Sources, split: str) -> Read | None:
        """The rows of "train", "dev", "test" or another split; None where there is none."""
        return self.layout.read(sources, split)
