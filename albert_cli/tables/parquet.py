"""Rows of Parquet files, some hundred at a time."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from albert_cli.errors import TextError
from albert_cli.tables.columns import Request
from albert_cli.tables.input_files import Stream
from albert_cli.tables.lines import LINE_BYTES

# Few rows at a time: how long their texts are is not known before.
_ROWS = 256
# A file is read as it is needed, neither mapped nor a row group ahead.
_READING: dict[str, Any] = {"memory_map": False, "pre_buffer": False, "buffer_size": 2**16}
_SMALL_BYTES = 2**24


class ParquetRows:
    """The rows of a file: Arrow columns in `batches`, or pairs of row number (from 1) and values.

    Raises ColumnError where a required column is missing, TextError for a damaged file, and where what must hold text
    holds something else. A stream is copied to disk first: Parquet is read from its end.
    """

    def __init__(self, stream: Stream, where: str, request: Request) -> None:
        self._where, self._request = where, request
        self._files = contextlib.ExitStack()
        file: BinaryIO = stream.below
        if stream.compressed or not file.seekable():
            file = self._files.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
            shutil.copyfileobj(stream.file, file)
        try:
            self._table = pq.ParquetFile(file, **_READING)
            # A small file may hold a long text once for all its rows: their dictionary is read as it is.
            if file.seek(0, os.SEEK_END) < _SMALL_BYTES:
                texts = [field.name for field in self._table.schema_arrow if pa.types.is_string(field.type)]
                self._table = pq.ParquetFile(file, **_READING, read_dictionary=texts)
        except pa.ArrowException as error:
            reason = str(error).split("\n", maxsplit=1)[0]
            raise TextError(where, f"not a Parquet file, or a damaged one ({reason})") from None
        names = self._table.schema_arrow.names
        request.check(names, where, "the file")
        self.header: list[str] = names if request.names is None else list(request.names)
        self.left_out: dict[str, list[int]] = {}

    def batches(self) -> Iterator[tuple[range, list[pa.Array]]]:
        """Row numbers and, for each column of `header`, its values, texts as pa.string()."""
        request, row = self._request, 1
        names = None if request.names is None else list(dict.fromkeys(request.names))
        found = self._table.iter_batches(batch_size=_ROWS, columns=names)
        with self._files:
            while True:
                try:
                    batch = next(found, None)
                except (OSError, pa.ArrowException) as error:
                    raise TextError(self._where, f"cannot be read from row {row} on ({error})") from None
                if batch is None:
                    return
                for part in self._slices(batch, row):
                    rows = range(row, row + part.num_rows)
                    columns = part.columns if request.names is None else [part[name] for name in request.names]
                    yield (
                        rows,
                        [
                            self._as_text(column, rows, name) if name in request.texts else _plain(column)
                            for name, column in zip(self.header, columns, strict=True)
                        ],
                    )
                    row += part.num_rows

    def refuse_bytes(self) -> None:
        """TextError where a column that is read holds bytes, which no cell of a table can."""
        for name in self.header:
            kind = self._table.schema_arrow.field(name).type
            if name not in self._request.texts and _holds_bytes(kind):
                raise TextError(
                    self._where,
                    f"{name!r} is {kind}, and bytes are neither text nor numbers",
                    "declare the column as string, or leave it out of the file",
                )

    def __iter__(self) -> Iterator[tuple[int, list[Any]]]:
        self.refuse_bytes()
        for rows, columns in self.batches():
            values = (column.to_pylist() for column in columns)
            yield from zip(rows, map(list, zip(*values, strict=True)), strict=True)

    def _as_text(self, array: pa.Array, rows: range, name: str) -> pa.Array:
        kind = array.type.value_type if pa.types.is_dictionary(array.type) else array.type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
            advice = self._request.advice("--text-column", "; --text-column names another column")
            raise TextError(self._where, f"{name!r} is {array.type}, not text{advice}")
        text = array.cast(pa.string())
        try:
            text.validate(full=True)
        except pa.ArrowInvalid:
            raise TextError(self._where, f"rows {rows[0]} to {rows[-1]}: {name!r} is not UTF-8") from None
        return text

    def _slices(self, batch: pa.RecordBatch, row: int) -> Iterator[pa.RecordBatch]:
        """The batch in parts, none longer than a line of a text file may be; TextError for a row that is."""
        lengths = np.zeros(batch.num_rows, np.int64)
        for column in batch.columns:
            lengths += _byte_lengths(column)
        if lengths.max(initial=0) > LINE_BYTES:
            place = int(lengths.argmax())
            raise TextError(self._where, f"row {row + place} has {lengths[place]} bytes, more than {LINE_BYTES}")
        start, total = 0, 0
        for place, length in enumerate(lengths.tolist()):
            if total + length > LINE_BYTES:
                yield batch.slice(start, place - start)
                start, total = place, 0
            total += length
        yield batch.slice(start)


def _byte_lengths(array: pa.Array) -> NDArray[np.int64]:
    """The bytes of each text of a column, 0 of what is no text."""
    coded = pa.types.is_dictionary(array.type)
    values = array.dictionary if coded else array
    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        return np.zeros(len(array), np.int64)
    lengths = pc.binary_length(values)
    found = lengths.take(array.indices) if coded else lengths
    return np.asarray(pc.fill_null(found, 0).to_numpy(zero_copy_only=False), np.int64)


def _holds_bytes(kind: pa.DataType) -> bool:
    inner = [kind.value_type] if pa.types.is_dictionary(kind) else [kind.field(n).type for n in range(kind.num_fields)]
    of_bytes = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary, pa.types.is_binary_view)
    return any(test(kind) for test in of_bytes) or any(map(_holds_bytes, inner))


def _plain(array: pa.Array) -> pa.Array:
    """Without a dictionary, whose values differ from batch to batch."""
    return array.cast(array.type.value_type) if pa.types.is_dictionary(array.type) else array
