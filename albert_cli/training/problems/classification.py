"""One label of several: a softmax over the logits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from albert_cli.errors import RunError
from albert_cli.tasks.examples import Examples
from albert_cli.tasks.task import Task
from albert_cli.training import labels as columns_of_labels
from albert_cli.training.problems import Problem
from albert_cli.training.rows import Split, softmax
from albert_cli.training.run_info import RunInfo
from albert_cli.training.text_problem import Found, TextProblem
from albert_cli.training.weighing import PLAIN, Weighing


class Classification(TextProblem):
    """A value is the place of a label in `RunInfo.labels`."""

    name = "classification"
    problem_type = "single_label_classification"
    picture = "confusion.png"

    def find_labels(self, train: Examples, declared: tuple[str, ...]) -> tuple[tuple[str, ...], list[str]]:
        if declared:
            return declared, []
        found = columns_of_labels.found_labels(train)
        return found, columns_of_labels.alike_notes(train) + columns_of_labels.doubtful_notes(train)

    def usable(self, examples: Examples, labels: Sequence[str], task: Task) -> Examples:
        known = frozenset(labels)
        return columns_of_labels.usable(
            examples, lambda label: label in known if known else columns_of_labels.why_missing(label) is None
        )

    def check(self, examples: Examples, labels: Sequence[str], task: Task) -> None:
        columns_of_labels.class_numbers(examples, labels or columns_of_labels.found_labels(examples))

    def strata(self, examples: Examples) -> Sequence[str] | None:
        return examples.labels

    def fit(self, info: RunInfo, train: Examples, task: Task, hint: str) -> tuple[RunInfo, list[str]]:
        """Every class needs a row."""
        columns_of_labels.check_classes(self.targets(train, info, task), info.labels, train.where, hint)
        return info, []

    def targets(self, examples: Examples, info: RunInfo, task: Task) -> NDArray[np.int64]:
        return columns_of_labels.class_numbers(examples, info.labels)

    def loss(self, logits: Tensor, targets: Tensor, mask: Tensor | None = None, weighing: Weighing = PLAIN) -> Tensor:
        """The cross-entropy."""
        return weighing.cross_entropy(logits.float(), targets)

    def units(self, targets: Tensor, weighing: Weighing = PLAIN) -> float:
        return weighing.units(targets)

    def label_counts(self, split: Split[Examples], info: RunInfo) -> list[int] | None:
        return [int(count) for count in torch.bincount(split.rows.targets, minlength=len(info.labels))]

    def values(self, outputs: NDArray[Any]) -> NDArray[Any]:
        classes: NDArray[np.int64] = outputs.argmax(axis=1)
        return classes

    def probabilities(self, found: Found) -> NDArray[np.float64]:
        """Of each label, (rows, labels)."""
        return softmax(np.stack(found.outputs))

    def named(self, found: Found, info: RunInfo) -> list[Any]:
        """The label of each row."""
        return [info.labels[int(number)] for number in found.values]

    def answer(self, split: Split[Examples], found: Found, info: RunInfo) -> dict[str, Any]:
        shares = dict(zip(info.labels, map(float, self.probabilities(found)[0]), strict=True))
        return {"prediction": self.named(found, info)[0], "probabilities": shares}

    def columns(self, found: Found, info: RunInfo, *, probabilities: bool) -> dict[str, list[Any]]:
        columns: dict[str, list[Any]] = {"prediction": self.named(found, info)}
        if probabilities:
            shares = self.probabilities(found)
            columns |= {
                f"probability_{label}": [round(float(share), 6) for share in shares[:, number]]
                for number, label in enumerate(info.labels)
            }
        return columns

    def ranked(
        self, split: Split[Examples], found: Found, info: RunInfo
    ) -> tuple[dict[str, list[Any]], NDArray[np.int64], dict[str, list[Any]]]:
        """Wrong rows first, the surest on top; right rows after them, the surest last."""
        targets = split.rows.targets.numpy()
        wrong = found.values != targets
        sure = self.probabilities(found).max(axis=1)
        order = np.lexsort((np.where(wrong, -sure, sure), ~wrong))
        named = [info.labels[number] for number in targets]
        return {"label": named}, order, {"wrong": wrong.astype(int).tolist()}

    def claims(self, said: object, outputs: int, where: str) -> bool:
        if said == self.problem_type and outputs == 1:
            raise RunError(
                f"{where}: one label alone with problem_type {said!r} in its config, which is right of every text; "
                "write regression (a number) or multi_label_classification (yes or no) there"
            )
        return said == self.problem_type or (said is None and outputs > 1)

    def described(self, split: Split[Examples], info: RunInfo, task: Task) -> str:
        return columns_of_labels.described(info.labels, self.label_counts(split, info) or [])

    def value_shown(self, value: Any, info: RunInfo) -> str:
        return f"label {info.labels[int(value)]!r}"

    def draw(self, split: Split[Examples], found: Found, info: RunInfo, target: Path) -> None:
        """Counts by true and predicted label."""
        from matplotlib.figure import Figure

        from albert_cli import pictures

        labels = [pictures.plain(label) for label in info.labels]
        counts = np.zeros((len(labels), len(labels)), np.int64)
        np.add.at(counts, (split.rows.targets.numpy(), found.values), 1)
        shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
        size = min(14.0, 3.2 + 0.75 * len(labels))
        figure = Figure(figsize=(size + 1.2, size), layout="constrained")
        axes = figure.subplots()
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        figure.colorbar(image, ax=axes, label="share of the true label", shrink=0.8)
        axes.set_xticks(range(len(labels)), labels, rotation=30, ha="right")
        axes.set_yticks(range(len(labels)), labels)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        axes.set_title(f"dev: {int(np.trace(counts))} of {int(counts.sum())} right")
        if len(labels) <= 20:
            for (row, column), count in np.ndenumerate(counts):
                colour = "white" if shares[row, column] > 0.55 else "black"
                axes.text(column, row, f"{count}\n{shares[row, column]:.0%}", ha="center", va="center", color=colour)
        pictures.save(figure, target, force=True, dpi=130)


PROBLEM: Problem[Examples, Split[Examples], NDArray[Any]] = Classification()
