"""What segment lengths alone say of sentence order: the figure to compare an accuracy of the model with.

Packing ends a sequence with the sentence that fills it, so the second segment tends to be the longer one, in order or
not; cutting to the maximal length hides most of it, not all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from albert_cli.pretraining.sequences import NO_ORDER, SWAPPED, Sequences

# Of the figure, beside sentence_order_accuracy.
NAME = "sentence_order_by_length"
# Enough to place one threshold.
_MOST_PAIRS = 20_000


@dataclass(frozen=True)
class Rule:
    """A pair is swapped where its first segment is longer than its second by more than `threshold` tokens; with
    `longer` false, where it is not."""

    threshold: float
    longer: bool

    def accuracy(self, batches: Iterable[Sequences]) -> float | None:
        """The share of the pairs it judges rightly; None where there is no pair."""
        differences, swapped = _pairs(batches)
        if not len(swapped):
            return None
        return float((((differences > self.threshold) == self.longer) == swapped).mean())


def fit(batches: Iterable[Sequences]) -> Rule:
    """The best such rule for the first pairs of some sequences."""
    differences, swapped = _pairs(batches, _MOST_PAIRS)
    order = np.argsort(differences, kind="stable")
    differences, swapped = differences[order], swapped[order]
    # right[k]: how many it judges rightly if all but the first k, the smallest differences, are swapped.
    right = np.concatenate([[0], np.cumsum(~swapped)]) + swapped.sum() - np.concatenate([[0], np.cumsum(swapped)])
    ends = np.flatnonzero(np.concatenate([[True], differences[1:] != differences[:-1], [True]])[: len(right)])
    score = right[ends] - len(swapped) / 2
    best = int(ends[np.abs(score).argmax()])
    threshold = float(differences[best - 1]) if best else -np.inf
    return Rule(threshold, bool(right[best] >= len(swapped) / 2))


def _pairs(batches: Iterable[Sequences], most: float = np.inf) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """How much longer the first segment of each pair is, in tokens, and whether the pair is swapped."""
    differences, swapped, count = [np.zeros(0, np.int64)], [np.zeros(0, np.bool_)], 0
    for batch in batches:
        judged = batch.orders != NO_ORDER
        spans = batch.spans[judged]
        differences.append(spans[:, 1] - spans[:, 0] - (spans[:, 3] - spans[:, 2]))
        swapped.append(batch.orders[judged] == SWAPPED)
        count += len(spans)
        if count >= most:
            break
    return np.concatenate(differences), np.concatenate(swapped)
