"""Kinds of problem: one file, one kind, found by existing; it defines `PROBLEM`, which has all that `Problem` names.

Nothing outside this folder distinguishes kinds: fine-tuning, evaluation, prediction and reports ask the
problem of the task. A run stores the problem's name (`kind` in run.toml), and a task declares it.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from numpy.typing import NDArray
from torch import Tensor

from albert_cli.model.task_heads import TaskModel
from albert_cli.tables.input_files import Kind
from albert_cli.tables.lines import Errors
from albert_cli.tables.write import Add
from albert_cli.tasks.task import Task
from albert_cli.tokenization.tokenizer import Tokenizer
from albert_cli.training.rows import Predictions, Split
from albert_cli.training.run_info import RunInfo
from albert_cli.training.weighing import PLAIN, Weighing
from converters.checkpoint import Checkpoint
from converters.config import EncoderConfig

if TYPE_CHECKING:
    from albert_cli.training.settings import Settings

E = TypeVar("E")
S = TypeVar("S", bound=Split[Any])
V = TypeVar("V")

# The options of `albert predict` that a table of texts, or of pairs, has a use for.
TABLE_OPTIONS = ("input_format", "text_column", "text_pair_column", "delimiter", "errors", "probabilities")
BatchMetrics = Callable[[NDArray[Any], NDArray[Any]], dict[str, float]]


@dataclass(frozen=True)
class Choices:
    """The options of `albert predict --in` on its file; None: as its name, the run and the task have it."""

    kind: Kind | None = None
    delimiter: str | None = None
    text_column: str | None = None
    text_pair_column: str | None = None
    errors: Errors = "strict"


@dataclass(frozen=True)
class Unlabelled:
    """Rows of a file to predict: the examples, the columns kept beside the predictions, the texts and ids to show by
    row; `total` is the rows of the whole file."""

    examples: Any
    columns: dict[str, list[Any]]
    texts: list[list[str]]
    ids: list[str] | None
    total: int

    def parts(self, rows: int) -> Iterator[Unlabelled]:
        """The same in parts of at most so many rows."""
        for low in range(0, len(self.examples), rows):
            part = slice(low, low + rows)
            yield Unlabelled(
                self.examples.take(range(len(self.examples))[part]),
                {name: column[part] for name, column in self.columns.items()},
                [texts[part] for texts in self.texts],
                self.ids and self.ids[part],
                self.total,
            )


def ids_among(columns: Mapping[str, list[Any]]) -> list[Any] | None:
    """What a table itself calls its rows; None where it does not."""
    return next((columns[name] for name in ("id", "idx", "index") if name in columns), None)


class Usual:
    """What most kinds of problem answer to the questions that few have an answer of their own to; see `Problem`."""

    together = ""

    def suited(self, settings: Settings, base: Checkpoint) -> Settings:
        return settings

    def tuned(self, info: RunInfo) -> Any:
        return self

    def saved(self, checkpoint: Checkpoint, base: Checkpoint, info: RunInfo) -> Checkpoint:
        return checkpoint


class Problem(Protocol[E, S, V]):
    """One kind of problem: `E` examples as read, `S` a split of rows for the model, `V` what its outputs mean."""

    # --- Its name, and what its commands are

    name: str
    former_names: tuple[str, ...]
    """Names in the files of older runs."""
    command: str
    """The command that asks its model one thing."""
    advice: str
    """What its model does, and the command, where another command was tried."""
    outputs: Collection[str]
    """The suffixes of the files that predictions are written to."""
    file_options: Collection[str]
    """The options of `albert predict --in` that its files take, as their parameters are called."""
    most_texts: int
    """How many texts its command takes for one prediction."""
    not_measured: str
    """Why predictions are not measured; empty where they are."""

    # --- Labels, before training

    def find_labels(self, train: E, declared: tuple[str, ...]) -> tuple[tuple[str, ...], list[str]]:
        """The labels in the order of the logits (those the task declares, or the training data's), and notes."""

    def usable(self, examples: E, labels: Sequence[str], task: Task) -> E:
        """The examples with a label that can be used, one of `labels` if there are any (`--skip-bad`)."""

    def check(self, examples: E, labels: Sequence[str], task: Task) -> None:
        """Raise a DataError with all faults of the labels; without `labels`, of those of training data."""

    def strata(self, examples: E) -> Sequence[str] | None:
        """The class of each example, none of which may lose its last to a held-out part; None: there are none."""

    def fit(self, info: RunInfo, train: E, task: Task, hint: str) -> tuple[RunInfo, list[str]]:
        """The facts of a run that follow from its training examples, and notes. DataError where they teach too little;
        `hint` is what to do then."""

    def split(self, examples: E, info: RunInfo, task: Task, tokenizer: Tokenizer, *, labelled: bool = True) -> S:
        """Tokenize examples, and turn their labels into targets where they are `labelled`."""

    def tuned(self, info: RunInfo) -> Problem[E, S, V]:
        """The kind of problem with what a run decides of it, as its loss."""

    # --- The model

    def suited(self, settings: Settings, base: Checkpoint) -> Settings:
        """The settings with what the model to start from decides; TrainingError where it cannot be trained so."""

    def saved(self, checkpoint: Checkpoint, base: Checkpoint, info: RunInfo) -> Checkpoint:
        """A trained model as it is to be written; `base` is the one that it started from."""

    def head(self, config: EncoderConfig, info: RunInfo) -> TaskModel:
        """The encoder with the head of the problem, its weights random."""

    def config_keys(self, info: RunInfo) -> dict[str, Any]:
        """The config's keys by which transformers knows the labels and the kind of problem."""

    def stored(self, info: RunInfo) -> dict[str, Any]:
        """What run.toml has of this kind alone."""

    def foreign(self, checkpoint: Checkpoint, parts: Collection[str], max_length: int) -> RunInfo | None:
        """What a model fine-tuned elsewhere, with these components, is for; None where it is of another kind.

        Raises RunError where its config contradicts its head.
        """

    # --- Training and evaluation

    loss_over_tokens: bool
    """Whether padding is part of the loss, so that a batch is padded to one width however it is divided."""

    @property
    def together(self) -> str:
        """Why the rows of a batch are computed together, not in parts or by several processes; empty: they need not."""

    def loss(self, logits: Tensor, targets: Tensor, mask: Tensor | None = None, weighing: Weighing = PLAIN) -> Tensor:
        """The loss, summed over the rows. `mask` (rows, tokens): 0 at padding. `weighing`: that of training."""

    def units(self, targets: Tensor, weighing: Weighing = PLAIN) -> float:
        """What the loss of these rows is the mean over in training: the rows themselves, or the words in them."""

    def label_counts(self, split: S, info: RunInfo) -> list[int] | None:
        """The rows, or words, of each label, where these can be weighed; None where they cannot."""

    def batch_metrics(self, names: Sequence[str], info: RunInfo) -> BatchMetrics | None:
        """Metrics of training rows by outputs and (standard) targets; None where a row says too little."""

    def score(self, split: S, outputs: list[NDArray[Any]], info: RunInfo, metrics: Sequence[str]) -> dict[str, float]:
        """The mean loss and the metrics of outputs by row, then figures that explain them, if the problem has any."""

    def settled(self, split: S, outputs: list[NDArray[Any]], info: RunInfo) -> RunInfo:
        """The facts of a run, with what the best model's outputs for the development set decide."""

    # --- Predictions

    def decide(self, split: S, outputs: list[NDArray[Any]], info: RunInfo) -> V:
        """What the outputs of a split's rows mean."""

    def example(self, texts: Sequence[str]) -> E:
        """What was typed, one text or at most `most_texts`, as one example."""

    def read(self, path: Path, info: RunInfo, task: Task, choices: Choices) -> Generator[Unlabelled]:
        """A file to predict, whole or in blocks of rows; all its faults are raised before the first one comes."""

    def answer(self, split: S, found: Predictions[V], info: RunInfo) -> dict[str, Any]:
        """The prediction for one example, as JSON."""

    def shown(self, answer: dict[str, Any]) -> tuple[str, list[list[str]]]:
        """An answer for people: a line, if not empty, and the rows of a table, the last column numbers."""

    def columns(self, found: Predictions[V], info: RunInfo, *, probabilities: bool) -> dict[str, list[Any]]:
        """The predictions as columns of a table, by row."""

    def brief(self, columns: dict[str, list[Any]], added: Sequence[str], info: RunInfo) -> dict[str, list[str]]:
        """The predictions of a file, its columns and those `added`, for people: short cells."""

    def writer(self, out: Path, *, force: bool) -> AbstractContextManager[Add]:
        """What writes columns with predictions to a file, some rows at a time."""

    # --- Reports

    def described(self, split: S, info: RunInfo, task: Task) -> str:
        """What the training data was taken for, in a few words."""

    def counts(self, split: S) -> dict[str, int]:
        """Counts of a split beside that of its rows, for run.toml."""

    def same_for_all(self, split: S, found: Predictions[V], info: RunInfo) -> str | None:
        """A remark where the model says the same of every row, though the rows are not the same."""

    def errors_first(self, split: S, found: Predictions[V], info: RunInfo) -> list[dict[str, Any]]:
        """Every example with its label and prediction as rows of a table, the worst errors first."""

    picture: str
    """The file name of `draw`'s picture; empty where there is none."""

    def draw(self, split: S, found: Predictions[V], info: RunInfo, target: Path) -> None:
        """A picture of labels against predictions."""


AnyProblem = Problem[Any, Any, Any]


def names() -> list[str]:
    """Every kind of problem."""
    return sorted(item.name for item in pkgutil.iter_modules(__path__))


@cache
def every() -> dict[str, AnyProblem]:
    """All kinds of problem, by the names they have and had."""
    found: list[AnyProblem] = [importlib.import_module(f"{__name__}.{name}").PROBLEM for name in names()]
    return {name: problem for problem in found for name in (problem.name, *problem.former_names)}


def named(name: str) -> AnyProblem:
    """The kind of problem of that name; KeyError where there is none."""
    return every()[name]
