"""Texts from files of any usual kind, as record batches in constant memory.

A batch has the columns `id`, `text` (null where the file has none), `pair` if asked for, `kept.<name>` for each kept
column, and the place of each row: `_row` (its number over all files, from 0), `_file` and `_line`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from albert_cli.errors import TextError
from albert_cli.tables import arrays, input_files
from albert_cli.tables.columns import Columns
from albert_cli.tables.faults import Faults
from albert_cli.tables.input_files import Kind, Stream, decompressed
from albert_cli.tables.lines import STANDARD_INPUT, Errors, opened, where_of
from albert_cli.tables.parquet import ParquetRows
from albert_cli.tables.readers import rows_of
from converters.files import Unchanged, file_errors


class Source:
    """The rows of a file, a directory, a glob pattern or standard input (`-`), in a fixed order.

    `kind` says what the files hold where their names do not. Raises TextError and FileError with the file and
    line; every file is opened once at the start, so that an unreadable one is reported before any work is done.
    `skipped` lists the files of a directory that are of no known kind.
    """

    def __init__(
        self,
        path: str,
        columns: Columns | None = None,
        *,
        kind: Kind | None = None,
        errors: Errors = "strict",
        with_bytes: bool = True,
    ) -> None:
        self.path, self.columns = path, columns or Columns()
        self.errors, self.with_bytes = errors, with_bytes
        self.files, self._kinds, self.skipped = self.columns.files(path, kind)
        self._spooled: dict[Path, BinaryIO] = {}
        for file in self.files:
            if file.is_fifo() and file.parent != Path("/dev/fd"):
                self._spool(file)  # what is opened and closed again has lost its writer
            elif file != STANDARD_INPUT:
                with file_errors(file), open(file, "rb"):
                    pass

    @property
    def size(self) -> int | None:
        """The bytes of all files, None where that is not known."""
        if STANDARD_INPUT in self.files:
            return None
        return sum(file.stat().st_size for file in self.files)

    def would_read(self, file: Path) -> bool:
        """Whether a file that is written there would be one of those that the next run reads."""
        return input_files.would_read(self.path, file)

    def listing(self) -> list[list[Any]]:
        """Names and sizes of the files: what a resumed run compares first."""
        return [
            [file.name, None if file == STANDARD_INPUT or not file.is_file() else file.stat().st_size]
            for file in self.files
        ]

    def read_twice(self) -> None:
        """Keep standard input on disk, so that `batches` can be called again."""
        if STANDARD_INPUT in self.files and STANDARD_INPUT not in self._spooled:
            self._spool(STANDARD_INPUT)

    def _spool(self, file: Path) -> None:
        """Keep on disk what can be read once."""
        copy = self._spooled[file] = tempfile.TemporaryFile()  # noqa: SIM115
        weakref.finalize(self, copy.close)
        with file_errors(where_of(file)), opened(file) as pipe:
            shutil.copyfileobj(pipe, copy)
        copy.flush()

    def batches(self, progress: Callable[[int], None] | None = None) -> Iterator[pa.RecordBatch]:
        """All rows; `progress` receives how many bytes of the files have been read so far."""
        schema: pa.Schema | None = None
        row = before = 0
        for file, kind in zip(self.files, self._kinds, strict=True):
            where = where_of(file)
            with file_errors(where), decompressed(self._opened(file), where) as stream:
                for lines, columns in self._read(stream, where, kind):
                    if isinstance(stream.below, Unchanged):  # sooner than at the end, which may be hours away
                        stream.below.check()
                    batch = self._batch(where, row, lines, columns, schema)
                    schema = schema or batch.schema
                    row += batch.num_rows
                    if progress:
                        progress(before + stream.position())
                    yield batch
            before += file.stat().st_size if file.is_file() else 0

    def blocks(
        self,
        rows: int,
        characters: int,
        *,
        shard: tuple[int, int] = (0, 1),
        progress: Callable[[int], None] | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """The rows in blocks of at most `rows`, and of at most `characters` of text unless one row has more.

        Of `shard` (i, n) come the rows whose number leaves i when divided by n. Where a block ends depends on the
        rows alone.
        """
        index, count = shard
        waiting: list[pa.RecordBatch] = []
        held = size = 0
        for read in self.batches(progress):
            batch = read
            if count > 1:
                batch = batch.take(pa.array(np.flatnonzero(batch["_row"].to_numpy() % count == index)))
            sizes = _characters(batch)
            start = 0
            for row, more in enumerate(sizes):
                if held and (held == rows or size + more > characters):
                    waiting.append(batch.slice(start, row - start))
                    yield _joined(waiting)
                    waiting, held, size, start = [], 0, 0, row
                held, size = held + 1, size + int(more)
            waiting.append(batch.slice(start))
        if held:
            yield _joined(waiting)

    def _read(self, stream: Stream, where: str, kind: Kind) -> Iterator[tuple[Sequence[int], dict[str, pa.Array]]]:
        """Line numbers and the wanted columns of a file, by our names."""
        wanted = self.columns.wanted()
        rows = rows_of(stream, where, kind, self.columns.request(self.errors))
        if isinstance(rows, ParquetRows):
            if not self.with_bytes:
                rows.refuse_bytes()
            found: Iterator[tuple[Sequence[int], list[pa.Array]]] = rows.batches()
        else:
            # A file of lines, CSV or TSV has no types, and guessing them would turn an id 007 into 7.
            texts = [place for place, name in enumerate(wanted) if kind != "jsonl" or name in ("text", "pair")]
            found = arrays.columns_of(rows, where, list(wanted.values()), dict.fromkeys(texts, pa.string()))
        for lines, columns in found:
            yield lines, dict(zip(wanted, columns, strict=True))

    def _opened(self, file: Path) -> contextlib.AbstractContextManager[BinaryIO]:
        spooled = self._spooled.get(file)
        if spooled is None:
            return opened(file)
        copy = os.fdopen(os.dup(spooled.fileno()), "rb")
        copy.seek(0)
        return copy

    def _batch(
        self, file: str, row: int, lines: Sequence[int], columns: dict[str, pa.Array], schema: pa.Schema | None
    ) -> pa.RecordBatch:
        if schema is not None:
            columns = {
                name: _cast(array, schema.field(name).type, file, lines, self.columns.wanted().get(name, name))
                for name, array in columns.items()
            }
        numbers = pa.array(np.arange(row, row + len(lines)))
        ids = columns.pop("id", numbers)
        if ids.null_count:
            faults = Faults()
            for place in np.flatnonzero(ids.is_null().to_numpy(zero_copy_only=False)):
                faults.add(f"line {lines[int(place)]} has no {self.columns.id!r}")
            raise TextError(file, faults.joined(", "), "every row needs an id of its own")
        file = file.encode("utf-8", "backslashreplace").decode()  # a name may be any bytes, a column is text
        placed = {
            "_row": numbers,
            "_file": pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(lines), np.int32)), pa.array([file])),
            "_line": pa.array(lines, pa.int64()),
        }
        return pa.record_batch({"id": ids} | columns | placed)


def place(batch: pa.RecordBatch, row: int) -> str:
    """Where a row of a batch comes from, for messages: "texts.csv: line 7"."""
    return f"{batch['_file'][row].as_py()}: line {batch['_line'][row].as_py()}"


def _cast(array: pa.Array, kind: pa.DataType, where: str, lines: Sequence[int], column: str) -> pa.Array:
    """The column in the type of the first batch."""
    try:
        return array if array.type == kind else array.cast(kind)
    except pa.ArrowException:
        raise TextError(
            where, f"lines {lines[0]} to {lines[-1]}: {column!r} is {array.type} there and {kind} before"
        ) from None


def _characters(batch: pa.RecordBatch) -> Any:
    """The length of each row's text in bytes, an int64 array (rows)."""
    total = np.zeros(batch.num_rows, np.int64)
    for name in ("text", "pair"):
        if name in batch.schema.names:
            total += pc.fill_null(pc.binary_length(batch[name]), 0).to_numpy(zero_copy_only=False)
    return total


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    return pa.concat_batches([batch for batch in batches if batch.num_rows])
