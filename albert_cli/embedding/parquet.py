"""The Parquet file: its columns, its metadata, how vectors are stored, and the writing of it.

Columns: `id`, the kept ones, `text` (and `pair`) on request, `text_sha256` (see `text_hash`) where a file without texts
is to be updated, `n_tokens` (tokens embedded, special ones counted),
`truncated` (tokens left out), `empty` (no text: the vector is that of the empty sequence), then the vectors, one column
per layer. With pooling "tokens" `pieces`, `starts`, `ends` (characters of the text) and `token_type_ids` are lists as
long as that of the vectors.

Vectors are float32, float16, or
- int8: each vector by a scale of its own, `embedding_scale`: value = int8 * scale, scale = max|value| / 127, rounded to
  the nearest, halves to even. (sentence-transformers takes ranges per dimension from a calibration set, so that a
  vector depends on the others of its file; here it depends on its text alone. The cosine needs no scale.)
- binary: the signs, value > 0, eight to a byte, the first in the highest bit, minus 128: int8, as
  sentence-transformers' `quantize_embeddings(..., precision="binary")` gives them.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from albert_cli.embedding.settings import OutDtype, Settings, VectorType
from albert_cli.errors import EmbeddingError

if TYPE_CHECKING:
    from albert_cli.embedding.embedder import Tokens

ROW_GROUP_ROWS = 25_000
ROW_GROUP_BYTES = 128 * 2**20
METADATA_PREFIX = "albert."
# Bytes that are read of a file at once.
_BUFFER = 2**20
TEXT_HASH = "text_sha256"
# What a file says of each row's vector, beside ids, texts and what was kept.
OF_VECTORS = (TEXT_HASH, "n_tokens", "truncated", "empty")
_DTYPES = {"float32": pa.float32(), "float16": pa.float16(), "int8": pa.int8(), "binary": pa.int8()}


@dataclass(frozen=True)
class Layout:
    """How vectors are stored; `column` is that of a single layer, and the prefix of `column_0`, … for several."""

    column: str = "embedding"
    dtype: OutDtype = "float32"
    vector_type: VectorType = "fixed"
    keep_text: bool = False
    text_hash: bool = False

    def facts(self) -> dict[str, Any]:
        return {
            "embedding_column": self.column,
            "dtype": self.dtype,
            "vector_type": self.vector_type,
            "keep_text": self.keep_text,
            **({"text_hash": True} if self.text_hash else {}),
        }

    def columns(self, settings: Settings) -> list[str]:
        """The names of the vectors' columns, layer by layer."""
        layers = settings.layers or ()
        return [self.column] if len(layers) == 1 else [f"{self.column}_{layer}" for layer in layers]


def rows_of(
    block: pa.RecordBatch, tokens: Tokens, vectors: list[NDArray[np.float32]], settings: Settings, layout: Layout
) -> pa.RecordBatch:
    """The output rows of a block of the source (see `sources`), for the vectors of its texts."""
    columns: dict[str, pa.Array] = {"id": block["id"]}

    def add(name: str, array: pa.Array) -> None:
        if name in columns:
            raise EmbeddingError(
                f"two columns would be called {name!r}; rename one with --embedding-column, or do not keep it"
            )
        columns[name] = array

    for name in block.schema.names:
        if name.startswith("kept."):
            add(name.removeprefix("kept."), block[name])
        elif name in ("text", "pair") and layout.keep_text:
            add(name, block[name])
    if layout.text_hash:
        add(TEXT_HASH, pa.array(text_hashes(block)))
    add("n_tokens", pa.array(tokens.n_tokens.astype(np.int32)))
    add("truncated", pa.array(tokens.truncated))
    add("empty", pa.array(tokens.empty))
    spans = None
    if tokens.encodings is not None:
        spans = pa.array(tokens.windows.starts[tokens.firsts].astype(np.int32))
        for name, array in _explained(tokens).items():
            add(name, pa.ListArray.from_arrays(spans, array))
    for name, layer in zip(layout.columns(settings), vectors, strict=True):
        stored, scale = quantized(layer, layout.dtype)
        array = _vectors(stored, layout)
        add(name, array if spans is None else pa.ListArray.from_arrays(spans, array))
        if scale is not None:
            scales = pa.array(scale)
            add(f"{name}_scale", scales if spans is None else pa.ListArray.from_arrays(spans, scales))
    return pa.record_batch(columns)


def text_hashes(rows: pa.RecordBatch) -> list[str]:
    """The SHA-256 of each row's `text`, or, where there are pairs, of the digests of both; a null is an empty text."""
    names = [name for name in ("text", "pair") if name in rows.schema.names]
    texts = (rows[name].to_pylist() for name in names)
    return [_text_hash(row) for row in zip(*texts, strict=True)]


def _text_hash(texts: tuple[str | None, ...]) -> str:
    digests = [hashlib.sha256((text or "").encode()) for text in texts]
    one = digests[0] if len(digests) == 1 else hashlib.sha256(b"".join(digest.digest() for digest in digests))
    return one.hexdigest()


def quantized(vectors: NDArray[np.float32], dtype: OutDtype) -> tuple[NDArray[Any], NDArray[np.float32] | None]:
    """The vectors as they are stored, and the scale of each for int8. EmbeddingError where float16 is too small."""
    if dtype == "float32":
        return vectors, None
    if dtype == "float16":
        largest = float(np.abs(vectors).max(initial=0))
        if largest > np.finfo(np.float16).max:
            raise EmbeddingError(f"a vector holds {largest:.3g}, more than float16 can (65504); add --normalize")
        return vectors.astype(np.float16), None
    if dtype == "int8":
        scale = np.abs(vectors).max(axis=1, initial=0) / np.float32(127)
        safe = np.where(scale > 0, scale, np.float32(1))
        return np.rint(vectors / safe[:, None]).clip(-127, 127).astype(np.int8), scale.astype(np.float32)
    packed = np.packbits(vectors > 0, axis=1)
    return (packed.astype(np.int16) - 128).astype(np.int8), None


def stored_width(dims: int, dtype: OutDtype) -> int:
    """How many numbers a vector of so many is stored as."""
    return math.ceil(dims / 8) if dtype == "binary" else dims


def restored(array: pa.Array | pa.ChunkedArray, dtype: OutDtype, dims: int, *, first: int = 0) -> NDArray[np.float32]:
    """Stored vectors as float32 (rows, dims), for cosines: int8 without its scale, binary as -1 and 1.

    EmbeddingError for a row, counted from `first`, without a vector of finite numbers of that size.
    """
    flat = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
    width = stored_width(dims, dtype)
    lengths = np.asarray(flat.value_lengths().fill_null(-1))
    wrong = np.flatnonzero(lengths != width)
    if len(wrong):
        row = int(wrong[0])
        seen = "no vector" if lengths[row] < 0 else f"a vector of {lengths[row]} numbers"
        raise EmbeddingError(f"row {first + row} has {seen}, where the others have {width}")
    values = flat.flatten()
    if values.null_count:
        row = int(np.flatnonzero(np.asarray(values.is_null()))[0]) // width
        raise EmbeddingError(f"the vector of row {first + row} lacks a number")
    rows = np.asarray(values).reshape(-1, width)
    # A sum is finite where all numbers are, unless it is too large itself.
    if pa.types.is_floating(flat.type.value_type) and not np.isfinite(_sum(rows)):
        bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
        if len(bad):
            raise EmbeddingError(f"the vector of row {first + int(bad[0])} is not finite (NaN or infinite)")
    if dtype == "binary":
        bits = np.unpackbits((rows.astype(np.int16) + 128).astype(np.uint8), axis=1, count=dims)
        return bits.astype(np.float32) * 2 - 1
    return (_within_float32(rows) if rows.dtype == np.float64 else rows).astype(np.float32, copy=False)


def _within_float32(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """The rows, scaled to a largest number of 1 where float32 cannot hold them; their cosines stay."""
    most = np.abs(rows).max(axis=1, initial=0, keepdims=True)
    limits = np.finfo(np.float32)
    odd = (most > limits.max) | ((most < limits.tiny) & (most > 0))
    return np.where(odd, rows / np.where(odd, most, 1), rows) if odd.any() else rows


def _sum(numbers: NDArray[Any]) -> float:
    with np.errstate(all="ignore"):
        return float(numbers.sum(dtype=None if numbers.dtype != np.float16 else np.float32))


def opened(path: Path) -> pq.ParquetFile:
    """A file to read some rows at a time: what is read ahead would be kept until it is closed."""
    # As text a name must be UTF-8.
    return pq.ParquetFile(pa.OSFile(os.fsencode(path)), pre_buffer=False, buffer_size=_BUFFER)


def computable(schema: pa.Schema) -> pa.Schema:
    """The schema with types that Arrow's functions take, in the place of views, as Polars has them, and of float16."""
    plain = {
        pa.string_view(): pa.large_string(),
        pa.binary_view(): pa.large_binary(),
        pa.float16(): pa.float32(),
    }
    return pa.schema([field.with_type(plain.get(field.type, field.type)) for field in schema])


def write_parquet(
    schema: pa.Schema, batches: Iterable[pa.RecordBatch], target: Path, metadata: Mapping[str, str]
) -> None:
    """Write the batches, in row groups of ROW_GROUP_ROWS or ROW_GROUP_BYTES; the same input gives the same bytes."""
    named = schema.with_metadata({METADATA_PREFIX + key: value for key, value in metadata.items()})
    dictionary, split = _encodings(named)
    options = {
        "compression": "zstd",
        "use_dictionary": dictionary,
        "use_byte_stream_split": split,
        "write_page_index": True,
    }
    with open(target, "wb") as file, pq.ParquetWriter(file, named, **options) as writer:
        for group in _groups(batches):
            writer.write_table(pa.Table.from_batches(group, schema=named), row_group_size=ROW_GROUP_ROWS)


def is_vector(field: pa.Field) -> bool:
    """Whether a column holds a vector in each row."""
    kind = field.type
    if not (pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind) or pa.types.is_large_list(kind)):
        return False
    return bool(pa.types.is_floating(kind.value_type) or pa.types.is_int8(kind.value_type))


def read_metadata(path: Path) -> dict[str, str]:
    """The facts in a file written by `write_parquet`; empty for another file. Bytes that are no UTF-8 are escaped."""
    with open(path, "rb") as file:
        found = pq.read_schema(file).metadata or {}
    prefix = METADATA_PREFIX.encode()
    return {
        key.removeprefix(prefix).decode("utf-8", "backslashreplace"): value.decode("utf-8", "backslashreplace")
        for key, value in found.items()
        if key.startswith(prefix)
    }


def save_part(file: BinaryIO, batch: pa.RecordBatch, metadata: Mapping[str, str]) -> None:
    """A part: one batch as an Arrow file, not compressed, to be mapped into memory when the whole is written."""
    with pa.ipc.new_file(file, batch.schema.with_metadata(dict(metadata))) as writer:
        writer.write_batch(batch)


def load_part(path: Path) -> tuple[pa.RecordBatch, dict[str, str]]:
    """The batch and metadata of a part, mapped into memory."""
    reader = pa.ipc.open_file(pa.memory_map(os.fsencode(path)))
    batch = reader.get_batch(0)
    metadata = {key.decode(): value.decode() for key, value in (reader.schema.metadata or {}).items()}
    return batch.replace_schema_metadata(None), metadata


def serialized(batch: pa.RecordBatch) -> bytes:
    """The batch with its schema as bytes; equal batches give equal bytes."""
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue()


def _vectors(vectors: NDArray[Any], layout: Layout) -> pa.Array:
    """The rows as Arrow lists, over the very memory of the array."""
    rows, width = vectors.shape
    values = pa.array(vectors.reshape(-1), _DTYPES[layout.dtype])
    if layout.vector_type == "fixed":
        return pa.FixedSizeListArray.from_arrays(values, width)
    return pa.ListArray.from_arrays(pa.array(np.arange(rows + 1, dtype=np.int32) * np.int32(width)), values)


def _explained(tokens: Tokens) -> dict[str, pa.Array]:
    encodings = tokens.encodings or []
    spans = np.array([span for one in encodings for span in one.offsets], np.int32).reshape(-1, 2)
    return {
        "pieces": pa.array([piece for one in encodings for piece in one.pieces], pa.string()),
        "starts": pa.array(np.ascontiguousarray(spans[:, 0])),
        "ends": pa.array(np.ascontiguousarray(spans[:, 1])),
        "token_type_ids": pa.array(tokens.windows.token_type_ids),
    }


def _encodings(schema: pa.Schema) -> tuple[list[str], list[str]]:
    """Parquet's paths of the columns with a dictionary, and of those split by byte; vectors have no dictionary.

    Vectors are the lists of floats or int8. DuckDB (2.0) cannot read float16 that is split by byte.
    """
    dictionary, split = [], []
    for field in schema:
        path, kind = field.name, field.type
        while pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
            path, kind = f"{path}.list.element", kind.value_type
        if path == field.name or not (pa.types.is_floating(kind) or pa.types.is_int8(kind)):
            dictionary.append(path)
        elif not pa.types.is_float16(kind):
            split.append(path)
    return dictionary, split


def _groups(batches: Iterable[pa.RecordBatch]) -> Iterator[list[pa.RecordBatch]]:
    group: list[pa.RecordBatch] = []
    rows = size = 0
    for whole in batches:
        batch = whole
        while batch.num_rows:
            per_row = max(1, batch.nbytes // batch.num_rows)
            room = min(ROW_GROUP_ROWS - rows, max(0 if group else 1, (ROW_GROUP_BYTES - size) // per_row))
            taken = batch.slice(0, room)
            if taken.num_rows:
                group.append(taken)
                rows, size = rows + taken.num_rows, size + taken.num_rows * per_row
            batch = batch.slice(taken.num_rows)
            if batch.num_rows:
                yield group
                group, rows, size = [], 0, 0
    if group:
        yield group
