"""Checkpoint: config, lazily read arrays by canonical name, and tokenizer files; what every format reads and writes."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from converters import spec
from converters.config import EncoderConfig
from converters.errors import CorruptError
from converters.files import file_errors, open_regular
from converters.messages import html_table
from converters.names import Layout
from converters.sentence_files import SentenceFiles
from converters.tokenizers.files import TokenizerFiles

Array = np.ndarray[Any, Any]

# What weights may be.
FLOATS = tuple(np.dtype(kind) for kind in (np.float32, np.float16, ml_dtypes.bfloat16, np.float64))

# The bits of the exponent, which are all set in a NaN and in an infinity.
_EXPONENTS = {"float16": np.uint16(0x7C00), "bfloat16": np.uint16(0x7F80)}

# A block is still in the cache when its user gets it. A tile goes through a small buffer whose lines are a little
# longer, for rows a power of two apart fall on the same few lines of the cache (measured: 4 GB/s against 1.5 straight
# from the array and 0.5 of numpy's own transposed copy).
BLOCK_BYTES = 4 * 2**20
_PIECE_BYTES = 2**20
_TILE_ROWS, _TILE_COLUMNS, _TILE_GAP = 256, 128, 16


@dataclass(frozen=True, repr=False)
class Tensor:
    """A lazily loaded array: shape and dtype at once, the values when read. `read` may return a transposed view."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[], Array]

    def __repr__(self) -> str:
        return f"<Tensor {self.dtype.name} {self.shape}>"

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    @classmethod
    def of(cls, array: Array) -> Tensor:
        return cls(array.shape, array.dtype, lambda: array)

    def moved(self, move: Callable[[Array, EncoderConfig], Array], config: EncoderConfig) -> Tensor:
        """The tensor under a layout's move; the shape is found by moving an array without memory."""
        shape = move(np.broadcast_to(np.empty((), self.dtype), self.shape), config).shape
        return Tensor(shape, self.dtype, lambda: move(self.read(), config))

    @property
    def transposed(self) -> Tensor:
        return Tensor(self.shape[::-1], self.dtype, lambda: self.read().T)

    def to_canonical(self, layout: Layout, config: EncoderConfig) -> Tensor:
        return self.moved(layout.to_canonical, config)

    def to_foreign(self, layout: Layout, config: EncoderConfig) -> Tensor:
        return self.moved(layout.to_foreign, config)


@dataclass(frozen=True, repr=False)
class Checkpoint:
    """A model on disk or about to be: see `converters.spec` for the tensors.

    `optimizer` maps `<canonical name>/<slot>` (adam_m, adam_v, lamb_m, lamb_v) to tensors of the variable's own layout.
    `sentence` are the files of a Sentence-Transformers directory. `dropped` counts what the reader left out, by reason;
    `notes` report what it had to infer or assume. `beside`: the models that are written into the same files,
    sharing tensors with it (the generator of an ELECTRA's discriminator). Arrays are read when asked for and not kept.
    """

    config: EncoderConfig
    tensors: Mapping[str, Tensor]
    tokenizer: TokenizerFiles
    optimizer: Mapping[str, Tensor] = field(default_factory=dict)
    global_step: int | None = None
    sentence: SentenceFiles | None = None
    dropped: Mapping[str, int] = field(default_factory=dict)
    format: str = ""
    where: str = ""
    notes: Sequence[str] = ()
    beside: Sequence[Checkpoint] = ()

    def __repr__(self) -> str:
        """One line: a model has dozens of tensors."""
        config = self.config
        sizes = f"{config.num_hidden_layers} layers, E={config.embedding_size} H={config.hidden_size}"
        parts = ", ".join(self.components)
        numbers = f"{len(self.tensors)} tensors, {sum(tensor.size for tensor in self.tensors.values()):,} parameters"
        return f"<Checkpoint {self.format or 'in memory'} {self.where!r}: {sizes}, {numbers}: {parts}>"

    def _repr_html_(self) -> str:
        """A table for notebooks: the parts of the model."""
        wanted = spec.spec(self.config)
        rows = []
        for part in self.components:
            held = [tensor for name, tensor in self.tensors.items() if wanted[name].component == part]
            rows.append((part, len(held), f"{sum(tensor.size for tensor in held):,}"))
        return html_table(rows, ("part", "tensors", "parameters"), title=repr(self))

    @functools.cached_property
    def components(self) -> list[str]:
        """What there are tensors of: see `spec.components`."""
        return spec.components(self.tensors, self.config)

    @functools.cached_property
    def labels(self) -> int | None:
        """How many labels the classification head has: see `spec.labels`."""
        return spec.labels({name: tensor.shape for name, tensor in self.tensors.items()}, self.config)

    def reading(self, read: Callable[[Tensor], Callable[[], Array]]) -> Checkpoint:
        """The same, its arrays read by what `read` gives for each tensor."""

        def all_of(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {name: replace(tensor, read=read(tensor)) for name, tensor in tensors.items()}

        return replace(self, tensors=all_of(self.tensors), optimizer=all_of(self.optimizer))

    def everything(self) -> dict[str, Tensor]:
        """Weights and optimizer slots together."""
        return {**self.tensors, **self.optimizer}


def blocks(array: Array, size: int = 0) -> Iterator[Array]:
    """The elements in C order as flat contiguous pieces, whatever the memory order: rows of about `size` elements.

    Two arrays of one shape fall into the same pieces; without a size these are of about BLOCK_BYTES.
    """
    array = np.atleast_1d(array)
    row = array.size // max(1, len(array))
    rows = max(1, (size or BLOCK_BYTES // array.itemsize) // max(1, row))
    for start in range(0, len(array), rows):
        yield contiguous(array[start : start + rows]).reshape(-1)


def contiguous(array: Array) -> Array:
    """The array itself when it lies in C order, else a copy that does."""
    if array.flags.c_contiguous or array.ndim != 2:
        return np.ascontiguousarray(array)
    return copy_into(np.empty(array.shape, array.dtype), array)


def copy_into(out: Array, array: Array) -> Array:
    """Copy an array, transposed in memory or not, into one that lies in C order."""
    if array.flags.c_contiguous or array.ndim != 2:
        out[...] = array
        return out
    buffer = np.empty((_TILE_COLUMNS, _TILE_ROWS + _TILE_GAP), array.dtype)
    for row in range(0, array.shape[0], _TILE_ROWS):
        for column in range(0, array.shape[1], _TILE_COLUMNS):
            tile = array[row : row + _TILE_ROWS, column : column + _TILE_COLUMNS]
            near = buffer[: tile.shape[1], : tile.shape[0]].T
            near[...] = tile
            out[row : row + _TILE_ROWS, column : column + _TILE_COLUMNS] = near
    return out


def raw(block: Array) -> memoryview:
    """The bytes of a contiguous array, without a copy, for any dtype."""
    return block.reshape(-1).view(np.uint8).data


def fill(
    array: Array,
    path: Path,
    offset: int,
    what: str,
    checksum: Callable[[Array, int], int] = lambda piece, state: state,
    state: int = 0,
) -> int:
    """Read a contiguous array from a file; its checksum is taken on the way, piece by piece, and returned."""
    target = array.reshape(-1).view(np.uint8)
    with file_errors(path), open_regular(path) as file:
        file.seek(offset)
        for start in range(0, len(target), _PIECE_BYTES):
            piece = target[start : start + _PIECE_BYTES]
            if file.readinto(piece.data) != len(piece):
                raise CorruptError(path, f"became shorter while it was read, inside {what}")
            state = checksum(piece, state)
    return state


def same_bits(a: Array, b: Array) -> bool:
    """Whether two arrays are equal bit for bit: NaNs equal themselves, and -0 is not 0; block by block."""
    if (a.dtype, a.shape) != (b.dtype, b.shape):
        return False
    return all(np.array_equal(p.view(np.uint8), q.view(np.uint8)) for p, q in zip(blocks(a), blocks(b), strict=True))


def digest(array: Array) -> str:
    """SHA-256 of the array's bytes in C order."""
    return scan(array)[0]


def scan(array: Array) -> tuple[str, int, int]:
    """SHA-256 of the array's bytes in C order, and how many of its values are NaN and how many infinite."""
    sha, nan, infinite = hashlib.sha256(), 0, 0
    for block in blocks(array):
        sha.update(raw(block))
        if not _all_finite(block):
            nan += int(np.isnan(block).sum())
            infinite += int(np.isinf(block).sum())
    return sha.hexdigest(), nan, infinite


def _all_finite(block: Array) -> bool:
    exponent = _EXPONENTS.get(block.dtype.name)
    if exponent is not None:  # for these types numpy's own test is many times slower
        bits = block.view(np.uint16)
        return not ((bits & exponent) == exponent).any()
    return block.dtype.kind not in "fc" or bool(np.isfinite(block).all())
