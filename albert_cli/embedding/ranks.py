"""Where the texts that belong to a query stand among all, by cosine; and the usual figures of that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Cosines that are held at once.
_BLOCK = 1 << 24
AT = (1, 5, 10)
METRICS = ("mrr", *(f"recall_at_{k}" for k in AT), "ndcg_at_10")
Ranks = Sequence[NDArray[np.int64]]


def ranks_of(queries: NDArray[Any], texts: NDArray[Any], relevant: Sequence[Sequence[int]]) -> list[NDArray[np.int64]]:
    """The ranks, from 1 and ascending, of the texts that belong to each query.

    `queries` (queries, numbers) and `texts` (texts, numbers) are of length 1, `relevant` numbers of texts. Of texts of
    equal cosine those that do not belong to the query stand first: a model that tells nothing apart gains nothing.
    """
    found: list[NDArray[np.int64]] = []
    rows = max(1, _BLOCK // max(1, len(texts)))
    for low in range(0, len(queries), rows):
        cosines = queries[low : low + rows] @ texts.T
        for row, numbers in zip(cosines, relevant[low : low + rows], strict=True):
            own = np.sort(row[list(numbers)])[::-1]
            others = np.sort(np.delete(row, list(numbers)))
            before = len(others) - np.searchsorted(others, own, side="left")
            found.append((before + np.arange(1, len(own) + 1)).astype(np.int64))
    return found


def recall(ranks: Ranks, k: int) -> float:
    """The share of a query's texts that are among its first `k`, the mean over the queries."""
    return float(np.mean([np.mean(own <= k) for own in ranks]))


def figures(ranks: Ranks) -> dict[str, float]:
    """The mean of 1 / the first rank (MRR), recall at 1, 5 and 10, and nDCG at 10, where a text belongs or does not."""
    found = {"mrr": float(np.mean([1 / own[0] for own in ranks]))}
    found |= {f"recall_at_{k}": recall(ranks, k) for k in AT}
    return found | {"ndcg_at_10": float(np.mean([_ndcg(own, 10) for own in ranks]))}


def _ndcg(own: NDArray[np.int64], k: int) -> float:
    ideal = np.arange(1, min(len(own), k) + 1)
    return float((1 / np.log2(1 + own[own <= k])).sum() / (1 / np.log2(1 + ideal)).sum())


def curve(figure: Any, ranks: Ranks, texts: int, title: str) -> None:
    """Draw recall at k for every k up to 100 into a figure of matplotlib, beside that of a random order."""
    from albert_cli.runs.curves import COLOURS

    k = np.arange(1, min(texts, 100) + 1)
    axes = figure.subplots()
    axes.plot(k, [recall(ranks, int(most)) for most in k], color=COLOURS[0], marker="o", markersize=3, label="model")
    axes.plot(k, k / texts, color="black", linewidth=0.8, linestyle="--", label="random order")
    axes.set_xlabel("k")
    axes.set_ylabel("recall at k")
    if len(k) > 1:
        axes.set_xscale("log")
    axes.set_ylim(0, 1.02)
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
