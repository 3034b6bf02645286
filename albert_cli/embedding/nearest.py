"""The rows nearest to each query by cosine, exactly: products block by block, of which the best alone are kept."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from albert_cli.errors import EmbeddingError

# Numbers of a block of vectors, which so stays in the processor's cache, and queries that are compared with it at once.
_NUMBERS, _QUERIES = 2**18, 1024
# Squares beyond these have lost digits, or are infinite.
_LEAST_SQUARE, _LARGEST_SQUARE = 1e-30, 1e30


def cosines(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """The cosine of every row of `a` with every row of `b`, (rows of a, rows of b); 0 where a vector is 0.

    Raises EmbeddingError where their numbers of dimensions differ.
    """
    check_dims(a, b)
    return _cosines(unit(a), b)


def check_dims(a: NDArray[np.float32], b: NDArray[np.float32]) -> None:
    """EmbeddingError where the rows of two arrays cannot be compared."""
    if a.shape[1] != b.shape[1]:
        raise EmbeddingError(f"vectors of {a.shape[1]} numbers cannot be compared with vectors of {b.shape[1]}")


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The rows scaled to length 1; those that are 0 stay so."""
    vectors, lengths = _lengths(vectors)
    scaled: NDArray[np.float32] = vectors / lengths[:, None]
    return scaled


def largest(row: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """The places of the `count` largest numbers, the largest first; of equals the earlier place. NaN is none of them.

    The same as a stable sort of the whole row, but only the places found are sorted.
    """
    row = np.where(np.isnan(row), -np.inf, row)
    places = np.arange(len(row))
    if 0 < count < len(row):
        least = np.partition(row, -count)[-count]
        above, equal = np.flatnonzero(row > least), np.flatnonzero(row == least)
        places = np.sort(np.concatenate([above, equal[: count - len(above)]]))
    return places[np.argsort(-row[places], kind="stable")][:count]


class Nearest:
    """For each query, (queries, dims) float32, the `top` rows with the largest cosine of all that were added.

    `rows` and `cosines`: of each query, the largest cosine first; of equals the row that was added earlier.
    """

    def __init__(self, queries: NDArray[np.float32], top: int) -> None:
        self._queries, self._top = unit(queries), top
        self._least = np.full(len(queries), -np.inf, np.float32)
        self.rows = [np.empty(0, np.int64) for _ in queries]
        self.cosines = [np.empty(0, np.float32) for _ in queries]

    def add(self, numbers: NDArray[np.int64], vectors: NDArray[np.float32], *, same: bool = False) -> None:
        """Look through vectors, (rows, dims), and their numbers, ascending.

        `same`: query i is row i, and none of its own nearest. Raises EmbeddingError as `cosines`.
        """
        check_dims(self._queries, vectors)
        rows = max(1, _NUMBERS // max(1, vectors.shape[1]))
        for low in range(0, len(vectors), rows):
            block, of_block = vectors[low : low + rows], numbers[low : low + rows]
            for first in range(0, len(self._queries), _QUERIES):
                table = _cosines(self._queries[first : first + _QUERIES], block)
                if same:
                    own = np.flatnonzero((of_block >= first) & (of_block < first + len(table)))
                    table[of_block[own] - first, own] = -np.inf
                better = np.flatnonzero(table.max(axis=1) > self._least[first : first + _QUERIES])
                for query in better.tolist():
                    self._keep(first + query, of_block, table[query])

    def _keep(self, query: int, numbers: NDArray[np.int64], row: NDArray[np.float32]) -> None:
        found = largest(row, self._top)
        found = found[row[found] > -np.inf]
        cosines = np.concatenate([self.cosines[query], row[found]])
        order = np.argsort(-cosines, kind="stable")[: self._top]
        self.cosines[query] = cosines[order]
        self.rows[query] = np.concatenate([self.rows[query], numbers[found]])[order]
        if len(order) == self._top:
            self._least[query] = cosines[order[-1]]


def _cosines(units: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The cosines of rows of length 1 with others."""
    vectors, lengths = _lengths(vectors)
    product: NDArray[np.float32] = units @ vectors.T
    product /= lengths
    return product.clip(-1, 1, out=product)


def _lengths(vectors: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The rows and their lengths, 1 for a row that is 0; rows whose squares float32 cannot hold are scaled first."""
    with np.errstate(over="ignore", under="ignore"):
        squares = np.einsum("ij,ij->i", vectors, vectors)
    odd = np.flatnonzero(~((squares > _LEAST_SQUARE) & (squares < _LARGEST_SQUARE)))
    if len(odd):
        vectors = vectors.copy()
        most = np.abs(vectors[odd]).max(axis=1, initial=0, keepdims=True)
        vectors[odd] /= np.where(most > 0, most, np.float32(1))
        squares[odd] = np.einsum("ij,ij->i", vectors[odd], vectors[odd])
        squares[squares == 0] = 1
    return vectors, np.sqrt(squares)
