"""Pairs with a score: cosines that follow it, by CoSENT or by the squared error of the cosine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from albert_cli.errors import DataError
from albert_cli.tasks.examples import Examples
from albert_cli.tasks.task import Task
from albert_cli.training import labels as columns_of_labels
from albert_cli.training.bi_encoder import SCALE, PairProblem
from albert_cli.training.metrics import ranks
from albert_cli.training.problems import Problem
from albert_cli.training.rows import Split
from albert_cli.training.run_info import RunInfo
from albert_cli.training.text_problem import Found
from albert_cli.training.weighing import PLAIN, Weighing

_COSENT = "cosent"


@dataclass(frozen=True)
class ScoredPairs(PairProblem):
    """The loss of a run: its name, what cosines are multiplied by, the scores of cosines 0 and 1, rows of a batch."""

    loss_name: str = _COSENT
    scale: float = SCALE
    scores: tuple[float, float] = (0.0, 1.0)
    batch: int = 16

    name = "scored_pairs"
    picture = "predictions.png"

    @property
    def together(self) -> str:  # type: ignore[override]
        return "--loss cosent compares the pairs of a batch with one another" if self.loss_name == _COSENT else ""

    def tuned(self, info: RunInfo) -> ScoredPairs:
        loss, scale = info.settings.get("loss") or _COSENT, info.settings.get("scale") or SCALE
        return replace(self, loss_name=loss, scale=scale, scores=info.scores, batch=info.settings["batch_size"])

    def usable(self, examples: Examples, labels: Sequence[str], task: Task) -> Examples:
        return columns_of_labels.usable(examples, lambda label: columns_of_labels.number_of(label, None) is not None)

    def check(self, examples: Examples, labels: Sequence[str], task: Task) -> None:
        columns_of_labels.numeric_labels(examples, None)

    def fit(self, info: RunInfo, train: Examples, task: Task, hint: str) -> tuple[RunInfo, list[str]]:
        """The lowest and the highest score are cosines of 0 and 1."""
        scores = self.targets(train, info, task)
        low, high = float(scores.min()), float(scores.max())
        if low == high:
            raise DataError(
                f"{train.where}: every pair has the score {low:g}, so there is nothing to learn; "
                f"{hint or 'add pairs of other scores'}"
            )
        return replace(info, scores=(low, high)), []

    def targets(self, examples: Examples, info: RunInfo, task: Task) -> NDArray[np.float64]:
        return columns_of_labels.numeric_labels(examples, None)

    def stored(self, info: RunInfo) -> dict[str, Any]:
        return {"lowest": info.scores[0], "highest": info.scores[1]}

    def loss(self, logits: Tensor, targets: Tensor, mask: Tensor | None = None, weighing: Weighing = PLAIN) -> Tensor:
        """Of vectors (rows, 2, dims) and scores (rows), as many times as there are rows.

        CoSENT (kexue.fm/archives/8847): log(1 + sum of exp(scale * (cosine of i - cosine of j))) over all pairs i, j of
        rows of which j has the higher score.
        """
        cosines = F.cosine_similarity(logits[:, 0].float(), logits[:, 1].float())
        if self.loss_name != _COSENT:
            low, high = self.scores
            return F.mse_loss(cosines, ((targets - low) / (high - low)).float(), reduction="sum")
        differences = self.scale * (cosines[:, None] - cosines[None, :])
        differences = differences.masked_fill(targets[:, None] >= targets[None, :], -torch.inf)
        return len(targets) * F.pad(differences.flatten(), (1, 0)).logsumexp(0)

    def mean_loss(self, outputs: NDArray[Any], targets: Tensor) -> float:
        """In batches as large as those of training, for one of all rows would have another loss."""
        return self.loss_by_batch(torch.from_numpy(outputs), targets, self.batch)

    def ranked(
        self, split: Split[Examples], found: Found, info: RunInfo
    ) -> tuple[dict[str, list[Any]], NDArray[np.int64], dict[str, list[Any]]]:
        """Those on top whose place by cosine is furthest from that by score, as a share of all rows."""
        scores = split.rows.targets.numpy()
        astray = np.abs(ranks(scores) - ranks(found.values)) / len(scores)
        labels = {"label": [float(score) for score in scores]}
        return labels, np.argsort(-astray, kind="stable"), {"rank_error": [round(float(one), 4) for one in astray]}

    def described(self, split: Split[Examples], info: RunInfo, task: Task) -> str:
        scores, loss = split.rows.targets, self.loss_name
        mean, spread = float(scores.mean()), float(scores.std(correction=0))
        low, high = float(scores.min()), float(scores.max())
        return f"scores: {low:g} to {high:g}, mean {mean:g}, standard deviation {spread:g}; loss {loss}"

    def draw(self, split: Split[Examples], found: Found, info: RunInfo, target: Path) -> None:
        """Cosine over score."""
        from matplotlib.figure import Figure

        from albert_cli import pictures
        from albert_cli.embedding.sts import scatter

        figure = Figure(figsize=(6, 5), layout="constrained")
        scatter(figure, split.rows.targets.numpy(), found.values)
        pictures.save(figure, target, force=True)


PROBLEM: Problem[Examples, Split[Examples], NDArray[Any]] = ScoredPairs()
