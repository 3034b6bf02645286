"""The kinds of file that embeddings are written as, by the ending of the name.

Parquet says how its vectors were made, so only there a finished file can be resumed, sharded and merged. JSON lines and
CSV have the same columns; a list is JSON there, also in a cell of CSV, and a float32 has the fewest digits
that identify it. A `.npy` file is the matrix of the vectors alone: (rows, dims), in input order.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from albert_cli.embedding import parquet
from albert_cli.embedding.parquet import Layout
from albert_cli.embedding.settings import Settings
from albert_cli.errors import EmbeddingError
from albert_cli.tables.columns import Columns
from albert_cli.tables.write import csv_lines

PARQUET = (".parquet", ".pq")
SUFFIXES = (".parquet", ".pq", ".jsonl", ".csv", ".npy")


def check(target: Path, *, shards: int = 1) -> None:
    """Refuse a name that says no kind, or none that a shard can be (EmbeddingError)."""
    suffix = target.suffix.lower()
    if suffix not in SUFFIXES:
        raise EmbeddingError(f"{target}: embeddings are written as {', '.join(SUFFIXES)}; name such a file")
    if shards > 1 and suffix not in PARQUET:
        raise EmbeddingError(f"{target}: shards are written as .parquet, and --merge makes a {suffix} file of them")


def check_vectors_alone(target: Path, settings: Settings, layout: Layout, columns: Columns) -> None:
    """Refuse for a `.npy` file what one matrix cannot hold (EmbeddingError)."""
    if target.suffix.lower() != ".npy":
        return
    if len(settings.layers or ()) != 1 or settings.pooling == "tokens":
        raise EmbeddingError(f"{target}: .npy holds one vector for each text; name a .parquet, .jsonl or .csv file")
    if columns.id or columns.keep or layout.keep_text or layout.dtype == "int8":
        raise EmbeddingError(
            f"{target}: .npy holds the vectors alone, no ids, texts, columns or scales; leave out --id-column, "
            "--keep-columns, --keep-text and --out-dtype int8, or name a .parquet, .jsonl or .csv file"
        )


def write(
    schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
    built: Path,
    target: Path,
    facts: Mapping[str, str],
) -> None:
    """Write the batches at `built` as the kind that the name of `target` says; `facts`: rows, dims and all else."""
    suffix = target.suffix.lower()
    if suffix == ".jsonl":
        with built.open("w", encoding="utf-8") as file:
            names = [json.dumps(name, ensure_ascii=False) for name in schema.names]
            for cells in _rows(batches):
                file.write("{" + ", ".join(f"{name}: {cell}" for name, cell in zip(names, cells, strict=True)) + "}\n")
    elif suffix == ".csv":
        with built.open("w", encoding="utf-8", newline="") as file:
            file.writelines(csv_lines([schema.names]))
            file.writelines(csv_lines([_cell(cell) for cell in cells] for cells in _rows(batches)))
    elif suffix == ".npy":
        _write_npy(schema, batches, built, facts)
    else:
        parquet.write_parquet(schema, batches, built, facts)


def _write_npy(schema: pa.Schema, batches: Iterable[pa.RecordBatch], built: Path, facts: Mapping[str, str]) -> None:
    columns = [name for name in schema.names if parquet.is_vector(schema.field(name))]
    if len(columns) != 1 or any(name.endswith("_scale") for name in schema.names):
        raise EmbeddingError(
            "a .npy file holds one matrix of vectors without scales; name a .parquet, .jsonl or .csv file"
        )
    binary, dims, rows = facts["dtype"] == "binary", int(facts["dims"]), int(facts["rows"])
    dtype = np.dtype(schema.field(columns[0]).type.value_type.to_pandas_dtype())
    shape = (rows, math.ceil(dims / 8) if binary else dims)
    with built.open("wb") as file:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for batch in batches:
            file.write(np.ascontiguousarray(batch[columns[0]].flatten().to_numpy(zero_copy_only=False)).tobytes())


def _rows(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[str, ...]]:
    """Each row as JSON values, column by column."""
    for batch in batches:
        yield from zip(
            *(_values(batch.schema.field(n), batch.column(n)) for n in range(batch.num_columns)), strict=True
        )


def _values(field: pa.Field, array: pa.Array) -> Iterator[str]:
    if not parquet.is_vector(field) or array.null_count:
        for value in array.to_pylist():
            yield json.dumps(_plain(value), ensure_ascii=False, default=str)
        return
    flat: NDArray[Any] = np.asarray(array.flatten())
    ends = np.cumsum(np.asarray(array.value_lengths()))
    start = 0
    for end in ends.tolist():
        yield f"[{', '.join(flat[start:end].astype('U').tolist())}]"
        start = end


def _plain(value: Any) -> Any:
    """JSON has no infinity and no NaN."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _cell(text: str) -> str:
    """A JSON value as a cell of CSV: text without its quotation marks, nothing for null."""
    if text == "null":
        return ""
    return str(json.loads(text)) if text.startswith('"') else text
