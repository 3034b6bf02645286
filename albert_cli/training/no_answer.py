"""SQuAD 2.0: when "no answer" takes the place of a model's best answer, and scores by kind of question.

After the official evaluate-v2.0.py: names of the scores, and how a threshold is searched (find_best_thresh). The odds
of a question are the score of "no answer" less that of the best answer; above the threshold it has no answer.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Best:
    """The best mean score that a threshold gives, and that threshold."""

    score: float
    threshold: float

    @property
    def kept(self) -> float:
        """The threshold a little higher, in thousandths: it is the odds of a question, which rounding differently (on
        another device, in other batches) would put above it."""
        return math.ceil(self.threshold * 1000 + 0.1) / 1000 if self.threshold else 0.0


def best_threshold(odds: Sequence[float], scores: Sequence[float], answerable: Sequence[bool]) -> Best:
    """The best threshold over questions; `scores` are those of their best answers, whatever the odds (0 for none).

    As the official script searches it: 0 where nothing is better than to answer no question at all.
    """
    order = sorted(range(len(odds)), key=odds.__getitem__)
    current = best = float(sum(not has for has in answerable))
    threshold = 0.0
    for number in order:
        # Answering an unanswerable question costs the point that "no answer" has.
        current += scores[number] if answerable[number] else -1.0 if odds[number] != float("inf") else 0.0
        if current > best:
            best, threshold = current, odds[number]
    return Best(best / len(odds), threshold)


def by_kind(exact: Sequence[float], f1: Sequence[float], answerable: Sequence[bool]) -> dict[str, float]:
    """Exact match, F1 and number of the questions with an answer, and of those without; of each if there are any."""
    found: dict[str, float] = {}
    for name, kind in (("HasAns", True), ("NoAns", False)):
        rows = [number for number, has in enumerate(answerable) if has == kind]
        if rows:
            found |= {
                f"{name}_exact": statistics.fmean(exact[row] for row in rows),
                f"{name}_f1": statistics.fmean(f1[row] for row in rows),
                f"{name}_total": len(rows),
            }
    return found
