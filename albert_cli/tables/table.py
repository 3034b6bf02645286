"""A whole table in memory: CSV, TSV, JSON lines, Parquet or lines of text, every cell as text.

Everything wrong with a file is collected and reported once, with line numbers.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from albert_cli.errors import DataError
from albert_cli.tables import delimited
from albert_cli.tables.input_files import KINDS, Kind, Stream, decompressed, suffix_of
from albert_cli.tables.lines import STANDARD_INPUT, lines_of, opened
from converters.errors import did_you_mean
from converters.files import explained, need, open_regular
from converters.messages import LINES, listing

# What is left out, by what is wrong with it: lines, or what questions are called.
LeftOut = Mapping[str, Sequence[int | str]]


def told_left_out(where: str, left_out: LeftOut, noun: str = "row") -> str:
    """What is left out, in one line; nothing where it is nothing."""
    count = sum(map(len, left_out.values()))
    if not count:
        return ""
    what = "line" if noun == "row" else noun
    parts = [
        f"{what}{'s' * (len(items) > 1)} {listing(map(str, items), LINES)} {why}" for why, items in left_out.items()
    ]
    return f"{where}: {count} {noun}{'s' * (count > 1)} left out: {'; '.join(parts)}"


@dataclass(frozen=True)
class Table:
    """A file of rows: column names, the cells as text, and each row's line number."""

    where: str
    header: list[str]
    rows: list[list[str]]
    lines: list[int]
    digest: str
    left_out: LeftOut = field(default_factory=dict)

    def column(self, name: str | int, purpose: str) -> list[str]:
        """The cells of a column; DataError names the columns there are."""
        place = name if isinstance(name, int) else self.place(name)
        if place is None:
            near = did_you_mean(str(name), self.header)
            raise DataError(
                f"{self.where}: no column {name!r} for {purpose}; its columns are {listing(self.header)}{near}"
            )
        if isinstance(name, str) and self.header.count(name) > 1:
            raise DataError(f"{self.where}: several columns are called {name!r}; rename all but one")
        return [row[place] for row in self.rows]

    def place(self, name: str) -> int | None:
        return self.header.index(name) if name in self.header else None


def read_table(
    path: Path,
    *,
    kind: Kind | None = None,
    delimiter: str | None = None,
    wanted: Collection[str] = (),
    width: int | None = None,
    skip_bad: bool | None = False,
) -> Table:
    """Read a table: CSV, TSV (nothing is a quote there), JSON lines, Parquet or lines of text (the column `text`).

    The kind is that of the name unless given; gzip and zstd are taken off; `-` is standard input. `delimiter` and
    `wanted`: see tables.delimited. `width` is that of a TSV without header. Raises DataError for a file without
    rows and lines that are no JSON objects, TextError for rows of another width than the header, broken quoting and
    what is not UTF-8. With `skip_bad` rows of another width and lines that are no objects are left out; None where
    nobody can ask for that.
    """
    kind = kind or kind_of(path)
    hint = "; --skip-bad leaves such rows out" if skip_bad is False else ""
    with explained(path), seekable(path) as file:
        digest = _digest(file)
        with decompressed(contextlib.nullcontext(file), str(path)) as stream:
            if kind in ("csv", "tsv"):
                lines = _lines(stream, path, ends=True)
                options: Any = {"delimiter": delimiter, "wanted": wanted, "width": width, "advice": hint}
                records = delimited.Records(lines, str(path), kind=kind, skip_ragged=bool(skip_bad), **options)
                found = list(records)
                rows, numbers = [cells for _, cells in found], [line for line, _ in found]
                bad = {f"not of {len(records.header)} columns": records.ragged} if records.ragged else {}
                table = Table(str(path), records.header, rows, numbers, digest, bad)
            elif kind == "txt":
                rows = [[line] for line in _lines(stream, path)]
                table = Table(str(path), ["text"], rows, list(range(1, len(rows) + 1)), digest)
            else:
                table = _read_parquet(stream, path) if kind == "parquet" else _read_jsonl(stream, path, skip_bad, hint)
                table = replace(table, digest=digest)
    if not table.rows and table.left_out:
        raise DataError(f"{told_left_out(str(path), table.left_out)}; no row is left")
    if not table.rows:
        raise DataError(f"{path}: holds no rows{' below its header' * bool(table.header)}")
    return table


def kind_of(path: Path) -> Kind:
    """What a file holds by its name; standard input is lines of text. DataError for a name that does not tell."""
    if streams(path):
        return "txt"
    if suffix_of(path) not in KINDS:
        known = ", ".join(dict.fromkeys(KINDS))
        raise DataError(f"{path}: a file of the kind {path.suffix!r}; tables are {known}, gzip or zstd too")
    return KINDS[suffix_of(path)]


def _lines(stream: Stream, path: Path, *, ends: bool = False) -> Iterator[str]:
    return lines_of(stream.file, str(path), ends=ends, advice="convert it to UTF-8")


@contextlib.contextmanager
def seekable(path: Path) -> Iterator[BinaryIO]:
    """The file, or on disk what standard input or a shell's <(command) gives, to be read twice."""
    if not streams(path):
        with open_regular(path) as file:
            yield file
        return
    with tempfile.TemporaryFile() as copy, opened(path) as stream:
        shutil.copyfileobj(stream, copy)
        copy.seek(0)
        yield copy


def streams(path: Path) -> bool:
    """Whether a path is standard input or a shell's <(command), which can be read once."""
    return path == STANDARD_INPUT or (path.parent == Path("/dev/fd") and not path.is_file())


def _digest(file: BinaryIO) -> str:
    sha = hashlib.sha256()
    file.seek(0)
    for block in iter(lambda: file.read(1 << 20), b""):
        sha.update(block)
    file.seek(0)
    return sha.hexdigest()


def _read_jsonl(stream: Stream, path: Path, skip_bad: bool | None, hint: str) -> Table:
    """A row for each line that is an object; DataError tells the others, unless they are to be left out."""
    header: dict[str, None] = {}
    records: list[dict[str, Any]] = []
    lines: list[int] = []
    faults: dict[int, str] = {}
    array = False
    for number, line in delimited.json_lines(_lines(stream, path)):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            at = f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
            array = array or not (faults or records or not line.lstrip().startswith("["))
            faults[number] = f"line {number} is not JSON: {at}"
            continue
        if not isinstance(record, dict):
            faults[number] = f"line {number} holds a {type(record).__name__}, not an object of columns"
            continue
        header |= dict.fromkeys(record)
        records.append(record)
        lines.append(number)
    if faults and (array or not skip_bad):  # the lines of an array that is damaged are no rows to choose from
        raise DataError(f"{path}: {listing(faults.values())}{'' if array else hint}")
    rows = [[_cell(record.get(name)) for name in header] for record in records]
    return Table(str(path), list(header), rows, lines, "", {"that are no JSON objects": list(faults)} if faults else {})


def _read_parquet(stream: Stream, path: Path) -> Table:
    need("pyarrow", "reading Parquet")
    import pyarrow as pa
    from pyarrow import parquet

    with tempfile.TemporaryFile() if stream.compressed else contextlib.nullcontext(stream.below) as file:
        if stream.compressed:
            shutil.copyfileobj(stream.file, file)
        try:
            table = parquet.read_table(file)
        except pa.ArrowException as error:
            raise DataError(f"{path}: not a sound Parquet file ({str(error).splitlines()[0]})") from None
    columns = [[_cell(value) for value in column.to_pylist()] for column in table.columns]
    rows = [list(cells) for cells in zip(*columns, strict=True)]
    return Table(str(path), table.column_names, rows, list(range(1, len(rows) + 1)), "")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return json.dumps(value) if isinstance(value, (bool, list, dict)) else str(value)
