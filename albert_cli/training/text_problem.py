"""What problems of one text or a pair share: a classifier's head, and tables of examples and predictions."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Collection, Generator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from albert_cli.errors import DataError, TrainingError
from albert_cli.model.task_heads import TaskModel, text_classifier
from albert_cli.tables.blocks import in_blocks
from albert_cli.tables.input_files import Kind, find_files
from albert_cli.tables.lines import STANDARD_INPUT
from albert_cli.tables.write import SUFFIXES, Add, table_writer
from albert_cli.tasks.examples import ExampleColumns, Examples
from albert_cli.tasks.task import Task
from albert_cli.tokenization.tokenizer import Tokenizer
from albert_cli.training.label_names import labels_of
from albert_cli.training.metrics import compute
from albert_cli.training.problems import TABLE_OPTIONS, BatchMetrics, Choices, Unlabelled, Usual, ids_among
from albert_cli.training.rows import Predictions, Split, TokenRows, no_targets
from albert_cli.training.run_info import RunInfo
from albert_cli.training.weighing import PLAIN, Weighing
from converters.checkpoint import Checkpoint
from converters.config import EncoderConfig
from converters.families import family_of

if TYPE_CHECKING:
    from albert_cli.training.settings import Settings

Found = Predictions[NDArray[Any]]
# The options of albert predict that messages advise.
_OPTIONS = frozenset({"--text-column", "--errors", "--input-format"})


class TextProblem(Usual, ABC):
    """Subclasses say what a label is; of `values` (rows, …) there is one for each row. See `Problem` for the rest."""

    name: str
    former_names: tuple[str, ...] = ()
    command = "predict"
    advice = "labels texts; use albert predict RUN TEXT"
    outputs: Collection[str] = SUFFIXES
    file_options: Collection[str] = TABLE_OPTIONS
    most_texts = 2
    not_measured = ""
    loss_over_tokens = False
    picture: str
    problem_type: str
    """What a config says of it, as transformers reads it."""

    # --- What a subclass defines

    @abstractmethod
    def targets(self, examples: Examples, info: RunInfo, task: Task) -> NDArray[Any]:
        """The labels as numbers, (rows). DataError lists all that cannot be."""

    @abstractmethod
    def loss(self, logits: Tensor, targets: Tensor, mask: Tensor | None = None, weighing: Weighing = PLAIN) -> Tensor:
        """See `Problem.loss`; there is no mask over tokens."""

    @abstractmethod
    def values(self, outputs: NDArray[Any]) -> NDArray[Any]:
        """What outputs (rows, labels) mean."""

    @abstractmethod
    def columns(self, found: Found, info: RunInfo, *, probabilities: bool) -> dict[str, list[Any]]:
        """See `Problem.columns`."""

    @abstractmethod
    def ranked(
        self, split: Split[Examples], found: Found, info: RunInfo
    ) -> tuple[dict[str, list[Any]], NDArray[np.int64], dict[str, list[Any]]]:
        """The labels as they are written (a column), the order of the rows (errors first), and columns on errors."""

    @abstractmethod
    def claims(self, said: object, outputs: int, where: str) -> bool:
        """Whether a head of that many outputs, with that problem_type in its config (or None), is of this kind.

        RunError where the two contradict each other.
        """

    @abstractmethod
    def value_shown(self, value: Any, info: RunInfo) -> str:
        """A value in a remark."""

    # --- Labels

    def find_labels(self, train: Examples, declared: tuple[str, ...]) -> tuple[tuple[str, ...], list[str]]:
        return (), []

    def strata(self, examples: Examples) -> Sequence[str] | None:
        return None

    def split(
        self, examples: Examples, info: RunInfo, task: Task, tokenizer: Tokenizer, *, labelled: bool = True
    ) -> Split[Examples]:
        if not labelled:
            _check_pairs(examples, info.settings, task)
        targets = torch.from_numpy(self.targets(examples, info, task)) if labelled else no_targets()
        tokens = tokenizer.encode_batch(examples.texts, examples.pairs, max_length=info.max_length)
        return Split(examples, TokenRows(tokens, targets))

    # --- The model

    def suited(self, settings: Settings, base: Checkpoint) -> Settings:
        """As they are; TrainingError for a pooling that no head reads."""
        if settings.pooling not in (None, "mean"):
            raise TrainingError(f"--pooling {settings.pooling} makes vectors (sts, pairs); a head has none but mean")
        return settings

    def head(self, config: EncoderConfig, info: RunInfo) -> TaskModel:
        return text_classifier(config, max(1, len(info.labels)), info.hidden, info.pooling)

    def config_keys(self, info: RunInfo) -> dict[str, Any]:
        names = info.labels or ("score",)
        return {
            "id2label": {str(number): name for number, name in enumerate(names)},
            "label2id": {name: number for number, name in enumerate(names)},
            "problem_type": self.problem_type,
        }

    def stored(self, info: RunInfo) -> dict[str, Any]:
        return {}

    def foreign(self, checkpoint: Checkpoint, parts: Collection[str], max_length: int) -> RunInfo | None:
        """A classifier, as transformers' pipeline takes its config; asked as your own tables are."""
        if family_of(checkpoint.config).text_head not in parts:
            return None
        count = checkpoint.labels
        assert count is not None
        if not self.claims(checkpoint.config.extra.get("problem_type"), count, checkpoint.where):
            return None
        return RunInfo("csv", self.name, self.labels_of(checkpoint.config, count, checkpoint.where), max_length)

    def labels_of(self, config: EncoderConfig, count: int, where: str) -> tuple[str, ...]:
        """The labels in the order of the head's rows (see `label_names`)."""
        return labels_of(config, count, where)

    # --- Training and evaluation

    def units(self, targets: Tensor, weighing: Weighing = PLAIN) -> float:
        return len(targets)

    def label_counts(self, split: Split[Examples], info: RunInfo) -> list[int] | None:
        return None

    def batch_metrics(self, names: Sequence[str], info: RunInfo) -> BatchMetrics | None:
        """Of outputs (rows, labels) and the targets that are trained on; in the labels' unit."""
        scale = info.scale
        return lambda outputs, targets: compute(names, scale.labels(targets), self.values(scale.labels(outputs)))

    def mean_loss(self, outputs: NDArray[Any], targets: Tensor) -> float:
        """The mean of `loss` over all rows."""
        return float(self.loss(torch.from_numpy(outputs), targets)) / len(outputs)

    def score(
        self, split: Split[Examples], outputs: list[NDArray[Any]], info: RunInfo, metrics: Sequence[str]
    ) -> dict[str, float]:
        whole, targets = np.stack(outputs), split.rows.targets
        return {"loss": self.mean_loss(whole, targets)} | compute(metrics, targets.numpy(), self.values(whole))

    def settled(self, split: Split[Examples], outputs: list[NDArray[Any]], info: RunInfo) -> RunInfo:
        """Nothing is decided by outputs."""
        return info

    # --- Predictions

    def decide(self, split: Split[Examples], outputs: list[NDArray[Any]], info: RunInfo) -> NDArray[Any]:
        return self.values(np.stack(outputs))

    def example(self, texts: Sequence[str]) -> Examples:
        first, *second = texts
        return Examples("the command line", ["0"], [first], second or None, None, [1], "")

    def read(self, path: Path, info: RunInfo, task: Task, choices: Choices) -> Generator[Unlabelled]:
        """Tables (see `in_blocks`) by the columns named, the run's own, or those of the task's files; lines of text.

        Each row has its prediction, in order: none is left out.
        """
        columns, kind = _columns(path, info.settings, task, choices)
        wanted = [str(name) for name in (columns.first, columns.second) if name is not None]
        with (
            in_blocks(
                path,
                kind=kind,
                delimiter=choices.delimiter,
                wanted=wanted,
                errors=choices.errors,
                options=_OPTIONS,
            ) as blocks,
            contextlib.closing(iter(blocks)) as tables,
        ):
            header = blocks.header
            if twice := [name for name in header if header.count(name) > 1]:
                raise DataError(f"{path}: several columns are called {twice[0]!r}; rename all but one")
            for table in tables:
                examples = Examples.of(table, columns, labelled=False)
                cells = {name: [row[place] for row in table.rows] for place, name in enumerate(header)}
                texts = [examples.texts, *([examples.pairs] if examples.pairs else [])]
                yield Unlabelled(examples, cells, texts, ids_among(cells), blocks.rows)

    def shown(self, answer: dict[str, Any]) -> tuple[str, list[list[str]]]:
        """The number; or the label or labels, and the probability of each."""
        said = answer["prediction"]
        if "probabilities" not in answer:
            return f"{said:.7g}", []
        rows = [[label, f"{share:.4f}"] for label, share in answer["probabilities"].items()]
        return said if isinstance(said, str) else ", ".join(said) or "(no label)", rows

    def brief(self, columns: dict[str, list[Any]], added: Sequence[str], info: RunInfo) -> dict[str, list[str]]:
        return {name: [_cell(value, name) for value in columns[name]] for name in added}

    def writer(self, out: Path, *, force: bool) -> AbstractContextManager[Add]:
        return table_writer(out, force=force)

    # --- Reports

    def counts(self, split: Split[Examples]) -> dict[str, int]:
        return {}

    def same_for_all(self, split: Split[Examples], found: Found, info: RunInfo) -> str | None:
        values, targets = found.values, split.rows.targets.numpy()
        if len(values) < 2 or (targets == targets[0]).all() or (values != values[0]).any():
            return None
        shown = self.value_shown(values[0], info)
        return f"the best model gives all {len(values)} rows the {shown}; it distinguishes nothing"

    def errors_first(self, split: Split[Examples], found: Found, info: RunInfo) -> list[dict[str, Any]]:
        examples = split.examples
        labels, order, errors = self.ranked(split, found, info)
        table: dict[str, list[Any]] = {"index": examples.ids, "text": examples.texts}
        if examples.pairs is not None:
            table["pair"] = examples.pairs
        table |= labels | self.columns(found, info, probabilities=True) | errors
        return [{key: values[row] for key, values in table.items()} for row in order]


def _check_pairs(examples: Examples, settings: Mapping[str, Any], task: Task) -> None:
    """Refuse pairs for a model that was trained on single texts, and the reverse; without settings nothing is known."""
    columns = task.layout.columns
    trained = bool(settings.get("text_pair_column") or (columns and columns.second))
    if settings and trained != (examples.pairs is not None):
        kinds = ("pairs", "single texts") if trained else ("single texts", "pairs")
        raise DataError(f"{examples.where}: the model was trained on {kinds[0]}, not on {kinds[1]}; give it {kinds[0]}")


def _columns(
    path: Path, settings: Mapping[str, Any], task: Task, choices: Choices
) -> tuple[ExampleColumns, Kind | None]:
    """The columns of what is to be predicted, and its kind if that is not by name."""
    first = choices.text_column or settings.get("text_column")
    columns = ExampleColumns(first or "text", choices.text_pair_column or settings.get("text_pair_column"))
    own = task.layout.columns
    if own is not None and "text_column" in task.layout.options:
        columns = ExampleColumns(columns.first if first else own.first, columns.second or own.second)
    elif first is None and own is not None:
        columns = own
    kind = choices.kind
    if kind is None and path == STANDARD_INPUT and columns.second is not None:
        kind = "tsv"
    kinds = set(find_files(str(path), kind, options=_OPTIONS).kinds)
    if "txt" in kinds:
        if columns.second is not None:
            raise DataError(
                f"{path}: lines of text hold no pairs, which this model judges; give a table with the columns "
                f"{columns.first} and {columns.second}"
            )
        if choices.text_column not in (None, "text"):
            raise DataError(f"{path}: lines of text have no columns; leave --text-column out")
        columns = ExampleColumns("text")
    elif kinds != {"tsv"}:
        columns = ExampleColumns(columns.first, columns.second)
    return columns, kind


def _cell(value: object, column: str) -> str:
    """A prediction for people: a regression's value in its unit, a probability, a label or several."""
    if isinstance(value, list):
        return ", ".join(value)
    if isinstance(value, float):
        return f"{value:.7g}" if column == "prediction" else f"{value:.4f}"
    return str(value)
