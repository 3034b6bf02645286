"""Which rows make a batch: shuffled, but of like length; a function of seed and epoch, so any place is found again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Rows are sorted by length within pools of so many batches: long enough to leave hardly any padding, short enough
# that every epoch makes other batches.
_POOL = 64


def epoch_batches(
    rows: int, size: int, *, seed: int, epoch: int, lengths: NDArray[np.int64] | None = None, smallest: int = 1
) -> list[NDArray[np.int64]]:
    """All `rows`, each once, in batches of `size` in random order; the one left over is smaller.

    `lengths` groups rows of like length. What is left over joins its neighbour if it is below `smallest` (batch norm
    needs two).
    """
    random = np.random.default_rng((seed, epoch))
    order = random.permutation(rows)
    if lengths is not None:
        pool = _POOL * size
        order = np.concatenate(
            [
                part[np.argsort(lengths[part], kind="stable")]
                for part in (order[start : start + pool] for start in range(0, rows, pool))
            ]
        )
    cuts = _cuts(rows, size, smallest)
    batches = [order[start:end] for start, end in zip(cuts, [*cuts[1:], rows], strict=True)]
    return [batches[number] for number in random.permutation(len(batches))]


def batch_count(rows: int, size: int, smallest: int = 1) -> int:
    """How many batches `epoch_batches` makes."""
    return len(_cuts(rows, size, smallest))


def _cuts(rows: int, size: int, smallest: int) -> list[int]:
    cuts = list(range(0, rows, size))
    return cuts[:-1] if len(cuts) > 1 and rows - cuts[-1] < smallest else cuts


def evaluation_batches(lengths: NDArray[np.int64] | None, rows: int, *, tokens: int = 8192) -> list[NDArray[np.int64]]:
    """All rows in order of length, as many in a batch as fill `tokens`; without lengths, in blocks of `tokens` rows."""
    if lengths is None:
        return [np.arange(start, min(start + tokens, rows)) for start in range(0, rows, tokens)]
    order = np.argsort(lengths, kind="stable")
    batches, start = [], 0
    while start < rows:
        end = start + 1
        while end < rows and (end + 1 - start) * lengths[order[end]] <= tokens:
            end += 1
        batches.append(order[start:end])
        start = end
    return batches
