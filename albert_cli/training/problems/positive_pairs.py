"""Pairs that belong together: a query is nearer to its own text than to all others of the batch."""

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

from albert_cli.embedding.ranks import Ranks, curve, figures, ranks_of
from albert_cli.embedding.retrieval import Collection
from albert_cli.embedding.units import unit
from albert_cli.errors import DataError, EmbeddingError
from albert_cli.tasks.examples import Examples
from albert_cli.tasks.task import Task
from albert_cli.training.bi_encoder import SCALE, PairProblem
from albert_cli.training.problems import BatchMetrics, Problem
from albert_cli.training.rows import Split
from albert_cli.training.run_info import RunInfo
from albert_cli.training.text_problem import Found
from albert_cli.training.weighing import PLAIN, Weighing

# In place of the number of a text where there is none.
_NONE = -1


@dataclass(frozen=True)
class PositivePairs(PairProblem):
    """What cosines of a run are multiplied by, and the rows of its batches."""

    scale: float = SCALE
    batch: int = 64

    name = "positive_pairs"
    picture = "recall.png"
    together = "every text of a batch is one that does not belong to the queries of the others"

    def tuned(self, info: RunInfo) -> PositivePairs:
        return replace(self, scale=info.settings.get("scale") or SCALE, batch=info.settings["batch_size"])

    def usable(self, examples: Examples, labels: Sequence[str], task: Task) -> Examples:
        """All: the reader leaves out what is bad."""
        return examples

    def check(self, examples: Examples, labels: Sequence[str], task: Task) -> None:
        _collection(examples)

    def fit(self, info: RunInfo, train: Examples, task: Task, hint: str) -> tuple[RunInfo, list[str]]:
        """Nothing follows from the pairs; but there must be others in a batch."""
        if info.settings["batch_size"] < 2 and not train.negatives:
            raise DataError(f"{train.where}: no negatives, so a batch of one pair teaches nothing; raise --batch-size")
        return info, []

    def targets(self, examples: Examples, info: RunInfo, task: Task) -> NDArray[np.int64]:
        """The numbers of the texts of each row among all, (rows, texts), -1 where there is none."""
        negatives: Sequence[Sequence[str]] = examples.negatives or [()] * len(examples)
        rows = list(zip(examples.texts, examples.pairs or (), negatives, strict=True))
        numbers: dict[str, int] = {}
        found = np.full((len(rows), 2 + max(map(len, negatives), default=0)), _NONE, np.int64)
        for row, (query, text, others) in enumerate(rows):
            for place, item in enumerate((query, text, *others)):
                found[row, place] = numbers.setdefault(item, len(numbers))
        return found

    def loss(self, logits: Tensor, targets: Tensor, mask: Tensor | None = None, weighing: Weighing = PLAIN) -> Tensor:
        """The cross-entropy of each row's text among those of all rows, of vectors (rows, texts, dims); summed.

        Not among them are the same text once more, what else belongs to the query, and the query itself.
        arXiv 1705.00652, section 4.4; with negatives of one's own as in sentence-transformers.
        """
        rows, texts = logits.shape[:2]
        scaled = F.normalize(logits.float(), dim=-1)
        candidates = scaled[:, 1:].transpose(0, 1).flatten(0, 1)  # ((texts - 1) * rows, dims), first all that belong
        numbers = targets[:, 1:texts].T.flatten()
        query, own = targets[:, :1], targets[:, 1:2]
        left_out = (numbers == _NONE) | (numbers == own) | (numbers == query)  # (rows, (texts - 1) * rows)
        left_out[:, :rows] |= query == query.T
        answers = torch.arange(rows, device=logits.device)
        left_out[answers, answers] = False
        scores = self.scale * scaled[:, 0] @ candidates.T
        return F.cross_entropy(scores.masked_fill(left_out, -torch.inf), answers, reduction="sum")

    def batch_metrics(self, names: Sequence[str], info: RunInfo) -> BatchMetrics | None:
        """None: a batch is no collection to be searched."""
        return None

    def score(
        self, split: Split[Examples], outputs: list[NDArray[Any]], info: RunInfo, metrics: Sequence[str]
    ) -> dict[str, float]:
        """The loss in batches as large as those of training, and the figures of a search among all texts."""
        most = split.rows.targets.shape[1]
        padded = [np.resize(row, (most, row.shape[1])) for row in outputs]  # what is no text is not looked at
        loss = self.loss_by_batch(torch.from_numpy(np.stack(padded)), split.rows.targets, self.batch)
        found = figures(_search(split, outputs)[0]) if metrics else {}
        return {"loss": loss} | {name: found[name] for name in metrics}

    def ranked(
        self, split: Split[Examples], found: Found, info: RunInfo
    ) -> tuple[dict[str, list[Any]], NDArray[np.int64], dict[str, list[Any]]]:
        """The query on top whose first text comes last; `nearest`: the text that comes first."""
        ranks, collection, nearest = _search(split, found.outputs)
        places = {query: place for place, query in enumerate(collection.queries)}
        rows = [places[query] for query in split.examples.texts]
        first = np.array([ranks[place][0] for place in rows])
        errors = {
            "rank": first.tolist(),
            "nearest": [collection.texts[nearest[place]] for place in rows],
            "exact": (first == 1).astype(int).tolist(),
        }
        return {}, np.argsort(-first, kind="stable"), errors

    def described(self, split: Split[Examples], info: RunInfo, task: Task) -> str:
        examples = split.examples
        further = sum(map(len, examples.negatives or ()))
        with_negatives = f" and {further} negatives" if further else ""
        return f"{len(set(examples.texts))} queries with {len(examples)} texts{with_negatives}; scale {self.scale:g}"

    def draw(self, split: Split[Examples], found: Found, info: RunInfo, target: Path) -> None:
        """Recall at k."""
        from matplotlib.figure import Figure

        from albert_cli import pictures

        ranks, collection, _ = _search(split, found.outputs)
        figure = Figure(figsize=(6, 4.5), layout="constrained")
        curve(figure, ranks, len(collection.texts), f"{len(ranks):,} queries, {len(collection.texts):,} texts")
        pictures.save(figure, target, force=True)


def _collection(examples: Examples) -> Collection:
    try:
        return Collection.of(examples)
    except EmbeddingError as error:
        raise DataError(str(error)) from None


def _search(split: Split[Examples], outputs: list[NDArray[Any]]) -> tuple[Ranks, Collection, NDArray[np.int64]]:
    """The ranks of each query's texts among all of a split, these, and the nearest text of each query."""
    examples, collection = split.examples, _collection(split.examples)
    vectors: dict[str, NDArray[Any]] = {}
    for row, (query, text) in enumerate(zip(examples.texts, examples.pairs or (), strict=True)):
        others = examples.negatives[row] if examples.negatives else ()
        for item, vector in zip((query, text, *others), outputs[row], strict=False):
            vectors.setdefault(item, vector)
    sides = ([vectors[item] for item in side] for side in (collection.queries, collection.texts))
    queries, texts = (unit(np.stack(side).astype(np.float64)) for side in sides)
    nearest = np.array([int((texts @ query).argmax()) for query in queries])
    return ranks_of(queries, texts, collection.relevant), collection, nearest


PROBLEM: Problem[Examples, Split[Examples], NDArray[Any]] = PositivePairs()
