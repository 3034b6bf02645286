"""Texts from files of any usual kind, as record batches in constant memory.

A batch has the columns `id`, `text` (null where the file has none), `pair` if asked for, `kept.<name>` for each kept
column, and the place of each row: `_row` (its number over all files, from 0), `_file` and `_line`.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from albert_cli.errors import TextError
from albert_cli.tables import delimited
from albert_cli.tables.input_files import COMPRESSED_SUFFIXES, KINDS, Kind, Stream, decompressed, suffix_of
from albert_cli.tables.lines import STANDARD_INPUT, Errors, lines_of
from albert_cli.tokenization.preparation import encodable
from converters.errors import did_you_mean
from converters.files import explained

# A batch read from a file at once: few enough to hold however long the texts are.
_BATCH_ROWS, _BATCH_CHARACTERS = 1024, 2**20
DEFAULT_TEXT_COLUMN, DEFAULT_PAIR_COLUMN = "text", "pair"
_ADVICE = {
    DEFAULT_TEXT_COLUMN: "--text-column names the one with the texts",
    DEFAULT_PAIR_COLUMN: "--pair-column names the one with the second texts",
}

# The number of a line, then the values of the wanted columns.
_Row = tuple[int, Sequence[Any]]


@dataclass(frozen=True)
class Columns:
    """Which columns are read. A `.txt` file has only its lines; elsewhere `text` is the column of that name.

    `delimiter` separates the columns of CSV and TSV files; by default it is found out.
    """

    text: str | None = None
    pair: str | None = None
    id: str | None = None
    keep: tuple[str, ...] = ()
    delimiter: str | None = None

    def wanted(self) -> dict[str, str]:
        """Our name -> the file's, in the order of reading."""
        names = {"text": self.text or DEFAULT_TEXT_COLUMN}
        names |= {"pair": self.pair} if self.pair else {}
        names |= {"id": self.id} if self.id else {}
        return names | {f"kept.{name}": name for name in self.keep}


class Source:
    """The rows of a file, a directory, a glob pattern or standard input (`-`), in a fixed order.

    `kind` says what the files hold where their names do not. Raises TextError and CheckpointError with the file and
    line; every file is opened once at the start, so that an unreadable one is told before any work is done.
    `skipped` lists the files of a directory that are of no known kind.
    """

    def __init__(
        self, path: str, columns: Columns | None = None, *, kind: Kind | None = None, errors: Errors = "strict"
    ) -> None:
        self.path, self.columns = path, columns or Columns()
        self.errors = errors
        self.files, self.skipped = _find(path)
        self._kinds = [kind or _kind(file) for file in self.files]
        if "txt" in self._kinds and (self.columns.text or self.columns.pair or self.columns.id or self.columns.keep):
            file = self.files[self._kinds.index("txt")]
            raise TextError(f"{file}: lines of text have no columns; leave out --text-column and its like")
        if self.columns.delimiter and not {"csv", "tsv"} & set(self._kinds):
            raise TextError(
                f"{path}: --delimiter is for CSV and TSV, and this is {', '.join(sorted(set(self._kinds)))}"
            )
        for file in self.files:
            if file != STANDARD_INPUT:
                with explained(file), open(file, "rb"):
                    pass
        self._spooled: BinaryIO | None = None

    @property
    def size(self) -> int | None:
        """The bytes of all files, None where that is not known."""
        if STANDARD_INPUT in self.files:
            return None
        return sum(file.stat().st_size for file in self.files)

    def would_read(self, file: Path) -> bool:
        """Whether a file that is written there would be one of those that the next run reads."""
        given, real = Path(self.path), Path(os.path.realpath(file))
        if given.is_dir():
            return suffix_of(file) in KINDS and Path(os.path.realpath(given)) in real.parents
        if given.exists() or not glob.has_magic(self.path):
            return False
        folder = given.parent
        if glob.has_magic(str(folder)):
            return real.match(os.path.abspath(self.path))
        return real.match(str(Path(os.path.realpath(folder), given.name)))

    def listing(self) -> list[list[Any]]:
        """Names and sizes of the files: what a resumed run compares first."""
        return [
            [file.name, None if file == STANDARD_INPUT or not file.is_file() else file.stat().st_size]
            for file in self.files
        ]

    def read_twice(self) -> None:
        """Keep standard input on disk, so that `batches` can be called again."""
        if STANDARD_INPUT in self.files and self._spooled is None:
            self._spooled = tempfile.TemporaryFile()  # noqa: SIM115
            with explained("standard input"):
                shutil.copyfileobj(sys.stdin.buffer, self._spooled)

    def batches(self, progress: Callable[[int], None] | None = None) -> Iterator[pa.RecordBatch]:
        """All rows; `progress` is told how many bytes of the files have been read so far."""
        schema: pa.Schema | None = None
        row = before = 0
        for file, kind in zip(self.files, self._kinds, strict=True):
            with explained(file), decompressed(self._opened(file), str(file)) as stream:
                reader = _READERS[kind](stream, str(file), self.columns, self.errors)
                for lines, columns in reader:
                    batch = self._batch(str(file), row, lines, columns, schema)
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

    def _opened(self, file: Path) -> contextlib.AbstractContextManager[BinaryIO]:
        if file != STANDARD_INPUT:
            return open(file, "rb")
        if self._spooled is None:
            return contextlib.nullcontext(sys.stdin.buffer)
        copy = os.fdopen(os.dup(self._spooled.fileno()), "rb")
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
            line = lines[ids.is_null().index(True).as_py()]
            raise TextError(f"{file}: line {line} has no {self.columns.id!r}; every row needs an id of its own")
        file = file.encode("utf-8", "backslashreplace").decode()  # a name may be any bytes, a column is text
        placed = {
            "_row": numbers,
            "_file": pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(lines), np.int32)), pa.array([file])),
            "_line": pa.array(lines, pa.int64()),
        }
        return pa.record_batch({"id": ids} | columns | placed)


def place(batch: pa.RecordBatch, row: int) -> str:
    """Where a row of a batch comes from, for messages."""
    return f"{batch['_file'][row].as_py()}: line {batch['_line'][row].as_py()}"


def _find(path: str) -> tuple[list[Path], list[Path]]:
    """The files that `path` names, in order, and those of a directory that are left out."""
    if path == str(STANDARD_INPUT):
        return [STANDARD_INPUT], []
    given = Path(path)
    if given.is_dir():
        found = sorted(
            file
            for file in given.rglob("*")
            if not any(part.startswith((".", "_")) for part in file.relative_to(given).parts) and not file.is_dir()
        )
        files = [file for file in found if suffix_of(file) in KINDS]
        if not files:
            raise TextError(f"{path}: the directory holds no file of a known kind ({', '.join(KINDS)})")
        return files, [file for file in found if file not in set(files)]
    if not given.exists() and glob.has_magic(path):
        matches = sorted(Path(name) for name in glob.glob(path, recursive=True))  # noqa: PTH207
        matches = [match for match in matches if not match.is_dir()]
        if not matches:
            raise TextError(f"{path}: no file matches the pattern")
        return matches, []
    return [given], []


def plain_name(file: Path) -> str:
    """The file's name without the endings of compression and kind: `texts` of `texts.csv.gz`."""
    name = file.name
    for ending in COMPRESSED_SUFFIXES:
        name = name[: -len(ending)] if name.lower().endswith(ending) else name
    return Path(name).stem if Path(name).suffix.lower() in KINDS else name


def _kind(file: Path) -> Kind:
    if file == STANDARD_INPUT:
        return "txt"
    suffix = suffix_of(file)
    # /dev/fd/63 and the like: lines of text, as from standard input.
    if file.exists() and not file.is_file() and not suffix:
        return "txt"
    if suffix not in KINDS:
        kinds = ", ".join(dict.fromkeys(KINDS.values()))
        raise TextError(f"{file}: what it holds cannot be told from its name; say --input-format ({kinds})")
    return KINDS[suffix]


_Reader = Iterator[tuple[Sequence[int], dict[str, pa.Array]]]


def _read_txt(stream: Stream, where: str, columns: Columns, errors: Errors) -> _Reader:
    rows = ((number, (line,)) for number, line in enumerate(lines_of(stream.file, where, errors=errors), 1))
    return _columns(rows, where, {"text": "text"})


def _read_csv(stream: Stream, where: str, columns: Columns, errors: Errors) -> _Reader:
    return _separated(stream, where, columns, errors, "csv")


def _read_tsv(stream: Stream, where: str, columns: Columns, errors: Errors) -> _Reader:
    return _separated(stream, where, columns, errors, "tsv")


def _separated(stream: Stream, where: str, columns: Columns, errors: Errors, kind: Literal["csv", "tsv"]) -> _Reader:
    wanted = columns.wanted()
    lines = lines_of(stream.file, where, errors=errors, ends=True)

    def rows() -> Iterator[_Row]:
        records = delimited.Records(lines, where, kind=kind, delimiter=columns.delimiter, wanted=set(wanted.values()))
        if not records.header:
            return
        _check_present(wanted, records.header, where, "the header")
        places = [records.header.index(name) for name in wanted.values()]
        yield from ((line, [cells[place] for place in places]) for line, cells in records)

    # A file of such values has no types, and guessing them would turn an id 007 into 7.
    return _columns(rows(), where, wanted, dict.fromkeys(wanted, pa.string()))


def _read_jsonl(stream: Stream, where: str, columns: Columns, errors: Errors) -> _Reader:
    wanted = columns.wanted()
    needed = {name: column for name, column in wanted.items() if not name.startswith("kept.")}

    def rows() -> Iterator[_Row]:
        first = True
        for number, line in delimited.json_lines(lines_of(stream.file, where, errors=errors)):
            if not line or line.isspace():
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise TextError(f"{where}: line {number} is not JSON: {error}") from None
            if not isinstance(record, dict):
                kind = type(record).__name__
                raise TextError(f"{where}: line {number} holds a {kind}; each line must be one JSON object")
            _check_present(wanted if first else needed, list(record), where, f"line {number}")
            first = False
            yield number, [record.get(column) for column in wanted.values()]

    return _columns(rows(), where, wanted)


def _read_parquet(stream: Stream, where: str, columns: Columns, errors: Errors) -> _Reader:
    wanted = columns.wanted()
    with contextlib.ExitStack() as stack:
        file: BinaryIO = stream.below
        if stream.compressed or not file.seekable():
            # Parquet is read from its end, which a stream does not have.
            file = stack.enter_context(tempfile.TemporaryFile())
            shutil.copyfileobj(stream.file, file)
        try:
            table = pq.ParquetFile(file, memory_map=False)
        except pa.ArrowInvalid as error:
            raise TextError(f"{where}: not a Parquet file, or a damaged one ({error})") from None
        _check_present(wanted, table.schema_arrow.names, where, "the file")
        line = 1
        # Few rows at a time: how long their texts are is not known before.
        batches = table.iter_batches(batch_size=256, columns=list(dict.fromkeys(wanted.values())))
        while True:
            try:
                batch = next(batches, None)
            except (OSError, pa.ArrowException) as error:
                raise TextError(f"{where}: cannot be read from row {line} on ({error})") from None
            if batch is None:
                return
            lines = range(line, line + batch.num_rows)
            found = {name: batch[column] for name, column in wanted.items()}
            for name in {"text", "pair"} & set(found):
                found[name] = _as_text(found[name], where, lines, wanted[name])
            yield lines, {name: _plain(array) for name, array in found.items()}
            line += batch.num_rows


_READERS: dict[Kind, Callable[[Stream, str, Columns, Errors], _Reader]] = {
    "txt": _read_txt,
    "csv": _read_csv,
    "tsv": _read_tsv,
    "jsonl": _read_jsonl,
    "parquet": _read_parquet,
}


def _columns(
    rows: Iterator[_Row], where: str, wanted: dict[str, str], types: dict[str, pa.DataType] | None = None
) -> _Reader:
    """Rows of Python values as columns; a type that is not given is that of the first batch."""
    types = {"text": pa.string(), "pair": pa.string()} | (types or {})
    for lines, values in _bunches(rows):
        arrays = {}
        for (name, column), cells in zip(wanted.items(), zip(*values, strict=True), strict=True):
            array = _array(cells, types.get(name), where, lines, column)
            # Where the first rows have no value at all, text is the type that holds most.
            types.setdefault(name, pa.string() if pa.types.is_null(array.type) else array.type)
            arrays[name] = array.cast(types[name])
        yield lines, arrays


def _bunches(rows: Iterator[_Row]) -> Iterator[tuple[list[int], list[Sequence[Any]]]]:
    lines: list[int] = []
    values: list[Sequence[Any]] = []
    size = 0
    for line, cells in rows:
        lines.append(line)
        values.append(cells)
        size += sum(len(cell) for cell in cells if isinstance(cell, str))
        if len(lines) == _BATCH_ROWS or size > _BATCH_CHARACTERS:
            yield lines, values
            lines, values, size = [], [], 0
    if lines:
        yield lines, values


def _array(cells: Sequence[Any], kind: pa.DataType | None, where: str, lines: Sequence[int], column: str) -> pa.Array:
    array = _try_array(cells, kind)
    if array is None:
        # A JSON string can hold half of a UTF-16 pair, which is no character.
        cells = [encodable(cell) if isinstance(cell, str) else cell for cell in cells]
        array = _try_array(cells, kind)
    if array is not None:
        return array
    kind = kind or _try_type(cells)
    for line, cell in zip(lines, cells, strict=True):
        if _try_array([cell], kind) is None:
            wanted = f"not {_spoken(str(kind))}" if kind else "which no column can hold"
            raise TextError(f"{where}: line {line}: {column!r} is {cell!r:.60}, {wanted}")
    raise TextError(f"{where}: lines {lines[0]} to {lines[-1]}: {column!r} holds values of several types")


def _try_type(cells: Sequence[Any]) -> pa.DataType | None:
    """The type of the first value that is there."""
    array = _try_array([next((cell for cell in cells if cell is not None), None)], None)
    return None if array is None else array.type


def _try_array(cells: Sequence[Any], kind: pa.DataType | None) -> pa.Array | None:
    try:
        return pa.array(cells, kind)
    except (pa.ArrowException, UnicodeEncodeError, OverflowError):
        return None


def _cast(array: pa.Array, kind: pa.DataType, where: str, lines: Sequence[int], column: str) -> pa.Array:
    """The column in the type of the first batch."""
    try:
        return array if array.type == kind else array.cast(kind)
    except pa.ArrowException:
        raise TextError(
            f"{where}: lines {lines[0]} to {lines[-1]}: {column!r} is {array.type} there and {kind} before"
        ) from None


def _as_text(array: pa.Array, where: str, lines: Sequence[int], column: str) -> pa.Array:
    kind = array.type.value_type if pa.types.is_dictionary(array.type) else array.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        raise TextError(f"{where}: {column!r} is {array.type}, not text; --text-column names another column")
    text = array.cast(pa.string())
    try:
        text.validate(full=True)
    except pa.ArrowInvalid:
        raise TextError(f"{where}: rows {lines[0]} to {lines[-1]}: {column!r} is not UTF-8") from None
    return text


def _plain(array: pa.Array) -> pa.Array:
    """Without a dictionary, whose values differ from batch to batch."""
    return array.cast(array.type.value_type) if pa.types.is_dictionary(array.type) else array


def _check_present(wanted: dict[str, str], present: Sequence[str], where: str, what: str) -> None:
    missing = [column for column in wanted.values() if column not in present]
    if missing:
        advice = [text for column, text in _ADVICE.items() if column in missing]
        named, seen = (", ".join(map(repr, names)) or "none" for names in (missing, present))
        near = "".join(did_you_mean(column, present) for column in missing)
        raise TextError(
            f"{where}: {what} has no column {named}; it has {seen}{'. ' * bool(advice)}{', '.join(advice)}{near}"
        )
    twice = [column for column in wanted.values() if present.count(column) > 1]
    if twice:
        raise TextError(f"{where}: {what} has several columns {twice[0]!r}")


def _characters(batch: pa.RecordBatch) -> Any:
    """The length of each row's text in bytes, an int64 array (rows)."""
    total = np.zeros(batch.num_rows, np.int64)
    for name in ("text", "pair"):
        if name in batch.schema.names:
            total += pc.fill_null(pc.binary_length(batch[name]), 0).to_numpy(zero_copy_only=False)
    return total


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    return pa.concat_batches([batch for batch in batches if batch.num_rows])


def _spoken(kind: str) -> str:
    return {"string": "text", "int64": "a whole number", "double": "a number", "bool": "true or false"}.get(kind, kind)
