"""Which rows are computed together: rows of like length, in a fixed order or in a random one that can be repeated.

A random order is a function of its generator's seed, so a resumed run finds every place again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

# Rows are sorted by length within pools of this many batches: long enough to leave hardly any padding, short enough
# that every epoch makes other batches.
_POOL = 64


def by_length(
    lengths: NDArray[np.int64], tokens: int, *, order: NDArray[np.int64] | None = None
) -> list[NDArray[np.int64]]:
    """All rows in batches of at most `tokens` tokens, padding included; a row longer than that is a batch alone.

    A batch is a run of `order`, which is from short to long by default.
    """
    if order is None:
        order = np.argsort(lengths, kind="stable")
    sizes = lengths[order].tolist()
    batches, start = [], 0
    while start < len(sizes):
        end, width = start + 1, sizes[start]
        while end < len(sizes) and (end + 1 - start) * max(width, sizes[end]) <= tokens:
            width = max(width, sizes[end])
            end += 1
        batches.append(order[start:end])
        start = end
    return batches


def even_chunks(
    lengths: NDArray[np.int64], tokens: int, threads: int, *, order: NDArray[np.int64]
) -> list[NDArray[np.int64]]:
    """All rows in chunks of about the same number of tokens, without padding: as many for each thread, of at most
    `tokens` tokens but for a part of a row.

    A chunk is a run of `order`.
    """
    total = int(lengths.sum())
    if not total:
        return []
    count = min(-(-total // tokens), len(order))
    count = min(-(-count // threads) * threads, len(order))
    if count == len(order):
        return np.split(order, np.arange(1, count))
    sizes = lengths[order]
    middles = np.cumsum(sizes) - sizes / 2
    chunk_of = (middles * (count / total)).astype(np.int64)
    return np.split(order, np.flatnonzero(np.diff(chunk_of)) + 1)


def evaluation_batches(lengths: NDArray[np.int64] | None, rows: int, *, tokens: int) -> list[NDArray[np.int64]]:
    """All rows in batches by length; without lengths, in blocks of `tokens` rows."""
    if lengths is None:
        return [np.arange(start, min(start + tokens, rows)) for start in range(0, rows, tokens)]
    return by_length(lengths, tokens)


def pooled_order(random: np.random.Generator, lengths: NDArray[np.int64], pool: int) -> NDArray[np.int64]:
    """All rows in random order, then sorted by length within every `pool` of them."""
    order = random.permutation(len(lengths))
    pools = [order[start : start + pool] for start in range(0, len(order), pool)]
    return np.concatenate([part[np.argsort(lengths[part], kind="stable")] for part in pools])


def shuffled(random: np.random.Generator, batches: Sequence[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
    """The batches in random order."""
    return [batches[number] for number in random.permutation(len(batches))]


def random_batches(
    random: np.random.Generator, rows: int, size: int, *, lengths: NDArray[np.int64] | None = None, smallest: int = 1
) -> list[NDArray[np.int64]]:
    """All `rows`, each once, in batches of `size` in random order; the one left over is smaller.

    `lengths` groups rows of like length. What is left over joins its neighbour if it is below `smallest` (batch norm
    needs two).
    """
    order = random.permutation(rows) if lengths is None else pooled_order(random, lengths, _POOL * size)
    cuts = _cuts(rows, size, smallest)
    return shuffled(random, [order[start:end] for start, end in zip(cuts, [*cuts[1:], rows], strict=True)])


def epoch_batches(
    rows: int, size: int, *, seed: int, epoch: int, lengths: NDArray[np.int64] | None = None, smallest: int = 1
) -> list[NDArray[np.int64]]:
    """The `random_batches` of an epoch of training."""
    return random_batches(np.random.default_rng((seed, epoch)), rows, size, lengths=lengths, smallest=smallest)


def batch_count(rows: int, size: int, smallest: int = 1) -> int:
    """How many batches `random_batches` makes."""
    return len(_cuts(rows, size, smallest))


def _cuts(rows: int, size: int, smallest: int) -> list[int]:
    cuts = list(range(0, rows, size))
    return cuts[:-1] if len(cuts) > 1 and rows - cuts[-1] < smallest else cuts


def starts(lengths: ArrayLike) -> NDArray[np.int64]:
    """Where each of the rows that follow one another begins, and where the last one ends, (rows + 1)."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


def ranges(first: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """`first[i]`, `first[i] + 1`, …, as many as `lengths[i]`, one range after another."""
    ends = np.cumsum(lengths)
    places: NDArray[np.int64] = np.arange(ends[-1] if len(ends) else 0) + np.repeat(first - ends + lengths, lengths)
    return places
