"""Any number of labels: a sigmoid of each logit. Models of other origin alone, for no task here trains one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from albert_cli.tasks.examples import Examples
from albert_cli.training.problems import Problem
from albert_cli.training.problems.classification import Classification
from albert_cli.training.rows import Split
from albert_cli.training.run_info import RunInfo
from albert_cli.training.text_problem import Found


class MultiLabel(Classification):
    """A row of values says of each label whether it is one."""

    name = "multi_label"
    problem_type = "multi_label_classification"
    not_measured = (
        "gives a text several labels (multi_label_classification), which the metrics here do not measure; "
        "albert predict --in FILE --out FILE --probabilities writes what it says"
    )

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
        return [[info.labels[number] for number in np.flatnonzero(row)] for row in found.values]

    def claims(self, said: object, outputs: int, where: str) -> bool:
        return said == self.problem_type


PROBLEM: Problem[Examples, Split[Examples], NDArray[Any]] = MultiLabel()
