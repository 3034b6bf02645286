"""Checkpoint: config, lazily read arrays by canonical name, and tokenizer files; what every format reads and writes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np

from converters.config import AlbertConfig
from converters.names import Layout
from converters.tokenizer_files import TokenizerFiles

Array = np.ndarray[Any, Any]

# What weights may be.
FLOATS = tuple(np.dtype(kind) for kind in (np.float32, np.float16, ml_dtypes.bfloat16, np.float64))

# Big enough to stream at full speed, small against any budget; tiles keep a transposed copy inside the cache
# (measured: 256 x 64 tiles transpose at 2 GB/s, numpy's own copy at 0.5).
BLOCK_BYTES = 16 * 2**20
_TILE_ROWS, _TILE_COLUMNS = 256, 64


@dataclass(frozen=True)
class Tensor:
    """A promise of an array: shape and dtype at once, the values when read. `read` may return a transposed view."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[], Array]

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    @classmethod
    def of(cls, array: Array) -> Tensor:
        return cls(array.shape, array.dtype, lambda: array)

    def moved(self, move: Callable[[Array, AlbertConfig], Array], config: AlbertConfig) -> Tensor:
        """The tensor under a layout's move; the shape is found by moving an array without memory."""
        shape = move(np.broadcast_to(np.empty((), self.dtype), self.shape), config).shape
        return Tensor(shape, self.dtype, lambda: move(self.read(), config))

    def to_canonical(self, layout: Layout, config: AlbertConfig) -> Tensor:
        return self.moved(layout.to_canonical, config)

    def to_foreign(self, layout: Layout, config: AlbertConfig) -> Tensor:
        return self.moved(layout.to_foreign, config)


@dataclass(frozen=True)
class Checkpoint:
    """An ALBERT on disk or about to be: see `converters.spec` for the tensors.

    `optimizer` maps `<canonical name>/<slot>` (adam_m, adam_v, lamb_m, lamb_v) to tensors of the variable's own layout.
    `dropped` counts what the reader left out, by reason. Arrays are read when asked for and not kept.
    """

    config: AlbertConfig
    tensors: Mapping[str, Tensor]
    tokenizer: TokenizerFiles
    optimizer: Mapping[str, Tensor] = field(default_factory=dict)
    global_step: int | None = None
    dropped: Mapping[str, int] = field(default_factory=dict)
    format: str = ""
    where: str = ""

    def everything(self) -> dict[str, Tensor]:
        """Weights and optimizer slots together."""
        return {**self.tensors, **self.optimizer}


def blocks(array: Array) -> Iterator[Array]:
    """The array's elements in C order as flat contiguous pieces of about BLOCK_BYTES, whatever its memory order."""
    if array.flags.c_contiguous:
        flat = array.reshape(-1)
        step = max(1, BLOCK_BYTES // array.itemsize)
        for start in range(0, flat.size, step):
            yield flat[start : start + step]
        return
    row_bytes = max(1, array.nbytes // len(array))
    rows = max(1, BLOCK_BYTES // row_bytes)
    for start in range(0, len(array), rows):
        yield _contiguous(array[start : start + rows]).reshape(-1)


def raw(block: Array) -> memoryview:
    """The bytes of a contiguous array, without a copy, for any dtype."""
    return block.reshape(-1).view(np.uint8).data


def digest(array: Array) -> str:
    """SHA-256 of the array's bytes in C order."""
    sha = hashlib.sha256()
    for block in blocks(array):
        sha.update(raw(block))
    return sha.hexdigest()


def _contiguous(array: Array) -> Array:
    if array.ndim != 2:
        return np.ascontiguousarray(array)
    out = np.empty(array.shape, array.dtype)
    for row in range(0, array.shape[0], _TILE_ROWS):
        for column in range(0, array.shape[1], _TILE_COLUMNS):
            tile = (slice(row, row + _TILE_ROWS), slice(column, column + _TILE_COLUMNS))
            out[tile] = array[tile]
    return out
