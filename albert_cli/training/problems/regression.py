"""A number: the squared error, of labels brought to mean 0 and spread 1 (albert_cli/training/scale.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from albert_cli.errors import RunError
from albert_cli.tasks.examples import Examples
from albert_cli.tasks.task import Task
from albert_cli.training import labels as columns_of_labels
from albert_cli.training.problems import Problem
from albert_cli.training.rows import Split
from albert_cli.training.run_info import RunInfo
from albert_cli.training.scale import Scale
from albert_cli.training.text_problem import Found, TextProblem
from albert_cli.training.weighing import PLAIN, Weighing
from converters.config import EncoderConfig


class Regression(TextProblem):
    """A value is a number in the labels' unit."""

    name = "regression"
    problem_type = "regression"
    picture = "predictions.png"

    def usable(self, examples: Examples, labels: Sequence[str], task: Task) -> Examples:
        return columns_of_labels.usable(
            examples, lambda label: columns_of_labels.number_of(label, task.value_range) is not None
        )

    def check(self, examples: Examples, labels: Sequence[str], task: Task) -> None:
        columns_of_labels.numeric_labels(examples, task.value_range)

    def fit(self, info: RunInfo, train: Examples, task: Task, hint: str) -> tuple[RunInfo, list[str]]:
        """Labels of no known range are brought to one scale; those of a known one divided by what the recipe says."""
        if task.value_range is not None:
            return replace(info, scale=Scale(0.0, task.recipe.label_scale)), []
        values = self.targets(train, info, task)
        return replace(info, scale=Scale.of(values)), _notes(values, train.where)

    def targets(self, examples: Examples, info: RunInfo, task: Task) -> NDArray[np.float64]:
        """In the labels' unit."""
        return columns_of_labels.numeric_labels(examples, task.value_range)

    def stored(self, info: RunInfo) -> dict[str, Any]:
        return {"mean": info.scale.mean, "spread": info.scale.spread}

    def labels_of(self, config: EncoderConfig, count: int, where: str) -> tuple[str, ...]:
        """None: a number has no name."""
        return ()

    def loss(self, logits: Tensor, targets: Tensor, mask: Tensor | None = None, weighing: Weighing = PLAIN) -> Tensor:
        """The squared error."""
        return F.mse_loss(logits.float()[:, 0], targets, reduction="sum")

    def mean_loss(self, outputs: NDArray[Any], targets: Tensor) -> float:
        """In float64, in the square of the labels' unit."""
        return float(np.mean((outputs[:, 0].astype(np.float64) - targets.double().numpy()) ** 2))

    def values(self, outputs: NDArray[Any]) -> NDArray[Any]:
        return outputs[:, 0]

    def answer(self, split: Split[Examples], found: Found, info: RunInfo) -> dict[str, Any]:
        return {"prediction": significant(found.values)[0]}

    def columns(self, found: Found, info: RunInfo, *, probabilities: bool) -> dict[str, list[Any]]:
        return {"prediction": significant(found.values)}

    def ranked(
        self, split: Split[Examples], found: Found, info: RunInfo
    ) -> tuple[dict[str, list[Any]], NDArray[np.int64], dict[str, list[Any]]]:
        """The largest error on top."""
        targets = split.rows.targets.numpy()
        error = np.abs(found.values - targets)
        labels = {"label": [float(value) for value in targets]}
        return labels, np.argsort(-error, kind="stable"), {"error": significant(error)}

    def claims(self, said: object, outputs: int, where: str) -> bool:
        if said == self.problem_type and outputs > 1:
            raise RunError(
                f"{where}: a regression to {outputs} numbers (problem_type), of which albert predicts one only"
            )
        return said == self.problem_type or (said is None and outputs == 1)

    def described(self, split: Split[Examples], info: RunInfo, task: Task) -> str:
        targets = split.rows.targets
        low, high = float(targets.min()), float(targets.max())
        spread = float(targets.std(correction=0))
        return f"labels: {low:g} to {high:g}, mean {float(targets.mean()):g}, standard deviation {spread:g}"

    def value_shown(self, value: Any, info: RunInfo) -> str:
        return f"value {value:.7g}"

    def draw(self, split: Split[Examples], found: Found, info: RunInfo, target: Path) -> None:
        """Value against value."""
        from matplotlib.figure import Figure

        from albert_cli import pictures
        from albert_cli.runs.curves import COLOURS

        targets, values = split.rows.targets.numpy(), found.values
        figure = Figure(figsize=(5, 5), layout="constrained")
        axes = figure.subplots()
        axes.scatter(targets, values, s=8, alpha=0.4, color=COLOURS[0])
        ends = [float(min(targets.min(), values.min())), float(max(targets.max(), values.max()))]
        axes.plot(ends, ends, color="black", linewidth=0.8, linestyle="--", label="equal")
        axes.set_xlabel("true")
        axes.set_ylabel("predicted")
        axes.set_title(f"dev: {len(targets)} rows")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
        pictures.save(figure, target, force=True, dpi=130)


def significant(values: NDArray[Any]) -> list[float]:
    """Numbers of any size with the digits that float32 has, and no more."""
    return [float(np.format_float_positional(value, unique=True)) for value in values.astype(np.float32)]


def _notes(values: NDArray[np.float64], where: str) -> list[str]:
    """What the labels make hard."""
    if (values == values[0]).all():
        return [f"{where}: every row has the label {values[0]:g}, so nothing but that number can be learnt"]
    if float(np.spacing(np.float32(np.abs(values).max()))) > values.std() / 100:
        text = "the labels differ so little for their size that predictions, which are float32, hardly distinguish them"
        return [f"{where}: {text}; subtract a number from all of them"]
    return []


PROBLEM: Problem[Examples, Split[Examples], NDArray[Any]] = Regression()
