"""Vectors of length 1, whose products are cosines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from albert_cli.embedding.embedder import Embedder

_Array = TypeVar("_Array", bound=NDArray[np.floating[Any]])

# Called with the texts that are done now, and how many there are.
Tick = Callable[[int, int], None]


def unit(vectors: _Array) -> _Array:
    """The rows scaled to length 1, of the same type; a row of zeros stays one."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: Any = vectors / np.where(lengths > 0, lengths, vectors.dtype.type(1))
    return scaled  # type: ignore[no-any-return]


def unit_vectors(
    embedder: Embedder, texts: Sequence[str], tick: Tick | None = None, *, total: int | None = None
) -> tuple[NDArray[np.float64], int]:
    """The vectors (texts, dims) of texts, and how many texts were cut. A vector of zeros stays one.

    `total`: of how many texts these are some.
    """
    tokens = embedder.tokenize(texts)
    count = total or len(texts)
    vectors: NDArray[Any] = embedder.vectors(tokens, tick and (lambda done: tick(done, count)))[0].astype(np.float64)
    return unit(vectors), int((tokens.truncated > 0).sum())
