"""SQuAD 2.0: when "no answer" takes the place of a model's best answer, and scores by kind of question.

After the official evaluate-v2.0.py: names of the scores, and how a threshold is searched (find_best_thresh). The odds
of a question are the score of "no answer" less that of the best answer; above the threshold it has no answer.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Best:
    """The best mean score that a threshold gives, and that threshold."""

    score: float
    threshold: float


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


def kept_threshold(odds: Sequence[float], scores: Sequence[float], empty: Sequence[float]) -> float:
    """The threshold that a run keeps: of those that give the best mean score, about the lowest.

    `scores` of the questions' best answers, `empty` of no answer. Unlike `best_threshold` it is below all odds where
    to answer nothing is best. It lies a little above the odds of a question, in thousandths where these fit, for
    rounding differently (on another device, in other batches) would put them above it.
    """
    gains: dict[float, float] = {}
    for odd, score, without in zip(odds, scores, empty, strict=True):
        if math.isfinite(odd):  # a question without any span has no answer at any threshold
            gains[odd] = gains.get(odd, 0.0) + score - without
    places = sorted(gains)
    if not places:
        return 0.0
    sums = [0.0, *itertools.accumulate(gains[place] for place in places)]
    best = max(sums)
    answered = next(number for number, value in enumerate(sums) if value > best - 1e-9)
    if not answered:
        return math.floor(places[0] * 1000 - 0.1) / 1000
    at = places[answered - 1]
    above = math.ceil(at * 1000 + 0.1) / 1000
    if answered < len(places) and above >= places[answered]:
        return at + (places[answered] - at) / 2
    return above


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
