"""Any number of labels: a sigmoid of each logit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from albert_cli.tables.write import BETWEEN_ITEMS
from albert_cli.tasks.examples import Examples
from albert_cli.tasks.task import Task
from albert_cli.training import label_sets
from albert_cli.training import labels as columns_of_labels
from albert_cli.training.problems import Problem
from albert_cli.training.problems.classification import Classification
from albert_cli.training.rows import Split
from albert_cli.training.run_info import RunInfo
from albert_cli.training.text_problem import Found
from albert_cli.training.weighing import PLAIN, Weighing


class MultiLabel(Classification):
    """A row of values says of each label whether it is one."""

    name = "multi_label"
    problem_type = "multi_label_classification"
    picture = "labels.png"

    def find_labels(self, train: Examples, declared: tuple[str, ...]) -> tuple[tuple[str, ...], list[str]]:
        return label_sets.found_labels(train)

    def usable(self, examples: Examples, labels: Sequence[str], task: Task) -> Examples:
        return label_sets.usable(examples, labels)

    def check(self, examples: Examples, labels: Sequence[str], task: Task) -> None:
        label_sets.matrix(examples, labels or label_sets.found_labels(examples)[0])

    def strata(self, examples: Examples) -> Sequence[str] | None:
        return label_sets.rarest(examples)

    def fit(self, info: RunInfo, train: Examples, task: Task, hint: str) -> tuple[RunInfo, list[str]]:
        """Every label needs a row; what every row has is noted."""
        targets = self.targets(train, info, task)
        columns_of_labels.check_classes(np.nonzero(targets)[1], info.labels, train.where, hint)
        every = [name for name, column in zip(info.labels, targets.T, strict=True) if column.all()]
        return info, [f"{train.where}: every row has the label {name!r}, so it cannot be learnt" for name in every]

    def targets(self, examples: Examples, info: RunInfo, task: Task) -> NDArray[Any]:
        """1 where a row has a label, (rows, labels)."""
        return label_sets.matrix(examples, info.labels)

    def loss(self, logits: Tensor, targets: Tensor, mask: Tensor | None = None, weighing: Weighing = PLAIN) -> Tensor:
        """The binary cross-entropy, of a row the mean over the labels."""
        return F.binary_cross_entropy_with_logits(logits.float(), targets, reduction="none").mean(1).sum()

    def units(self, targets: Tensor, weighing: Weighing = PLAIN) -> float:
        return len(targets)

    def label_counts(self, split: Split[Examples], info: RunInfo) -> list[int] | None:
        return None

    def values(self, outputs: NDArray[Any]) -> NDArray[Any]:
        """Where a probability is above a half."""
        return outputs > 0

    def probabilities(self, found: Found) -> NDArray[np.float64]:
        """Of each label by itself, (rows, labels)."""
        logits = np.stack(found.outputs).astype(np.float64)
        each: NDArray[np.float64] = np.exp(-np.logaddexp(0, -logits))  # without overflow
        return each

    def named(self, found: Found, info: RunInfo) -> list[Any]:
        """A list of labels for each row."""
        return _names(found.values, info)

    def ranked(
        self, split: Split[Examples], found: Found, info: RunInfo
    ) -> tuple[dict[str, list[Any]], NDArray[np.int64], dict[str, list[Any]]]:
        """Rows with a wrong label first, that of the surest on top; right rows after them, the surest last."""
        targets = split.rows.targets.numpy()
        astray = found.values != (targets > 0)
        wrong, sure = astray.any(axis=1), np.abs(self.probabilities(found) - 0.5)
        surest, least = np.where(astray, sure, 0).max(axis=1), sure.min(axis=1)
        order = np.lexsort((np.where(wrong, -surest, least), ~wrong))
        return {"label": _names(targets > 0, info)}, order, {"wrong": wrong.astype(int).tolist()}

    def claims(self, said: object, outputs: int, where: str) -> bool:
        return said == self.problem_type

    def described(self, split: Split[Examples], info: RunInfo, task: Task) -> str:
        targets = split.rows.targets
        none = int((targets.sum(1) == 0).sum())
        text = columns_of_labels.described(info.labels, [int(count) for count in targets.sum(0)])
        return text + (f"; {none} row{'s have' if none > 1 else ' has'} none" if none else "")

    def value_shown(self, value: Any, info: RunInfo) -> str:
        names = _names(value[None], info)[0]
        return f"label{'s' * (len(names) != 1)} {BETWEEN_ITEMS.join(names) or '(none)'}"

    def draw(self, split: Split[Examples], found: Found, info: RunInfo, target: Path) -> None:
        """Precision, recall and F1 of each label."""
        from albert_cli.training import score_bars

        targets = split.rows.targets.numpy() > 0
        counts = zip((targets & found.values).sum(0), found.values.sum(0), targets.sum(0), strict=True)
        scores = [score_bars.Score(name, *map(int, three)) for name, three in zip(info.labels, counts, strict=True)]
        right = int((targets == found.values).all(1).sum())
        score_bars.draw(scores, f"dev: {right} of {len(targets)} rows with all labels right", target)


def _names(chosen: NDArray[Any], info: RunInfo) -> list[Any]:
    """The labels that are chosen in each row."""
    return [[info.labels[number] for number in np.flatnonzero(row)] for row in chosen]


PROBLEM: Problem[Examples, Split[Examples], NDArray[Any]] = MultiLabel()
