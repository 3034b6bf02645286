"""A Parquet file written block by block, though what a column holds may show in a later block only."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


class ParquetRows:
    """The file at `target`, which is complete when it is closed."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._file: pa.OSFile | None = None
        self._writer: pq.ParquetWriter | None = None

    def add(self, columns: Mapping[str, Sequence[Any]]) -> None:
        """Write a row group. Types are those of all values so far: a column of nothing yet may become any."""
        table = pa.table(dict(columns))
        if self._writer is None:
            self._writer = self._opened(table.schema)
        elif not table.schema.equals(self._writer.schema):
            merged = pa.unify_schemas([self._writer.schema, table.schema], promote_options="permissive")
            if not merged.equals(self._writer.schema):
                self._widen(merged)
        self._writer.write_table(table.cast(self._writer.schema))

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        if self._file is not None:
            self._file.close()

    def _opened(self, schema: pa.Schema) -> pq.ParquetWriter:
        self._file = pa.OSFile(os.fsencode(self._target), "wb")  # as text a name must be UTF-8
        return pq.ParquetWriter(self._file, schema)

    def _widen(self, schema: pa.Schema) -> None:
        """Write what is there again, with these types."""
        self.close()
        before = self._target.with_name(f"{self._target.name}.narrow")
        self._target.rename(before)
        try:
            self._writer = self._opened(schema)
            with pa.OSFile(os.fsencode(before)) as source, pq.ParquetFile(source) as file:
                for group in range(file.num_row_groups):
                    self._writer.write_table(file.read_row_group(group).cast(schema))
        finally:
            before.unlink()
