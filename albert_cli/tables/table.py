"""A whole table in memory: the rows of one file or several, every cell as text."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from albert_cli.errors import ColumnError, DataError, TextError
from albert_cli.tables import input_files
from albert_cli.tables.columns import Request, check_single, missing_columns
from albert_cli.tables.input_files import Kind, decompressed, streams
from albert_cli.tables.lines import Errors, opened, where_of
from albert_cli.tables.readers import rows_of
from albert_cli.tokenization.preparation import encodable
from converters.errors import did_you_mean
from converters.files import file_errors, open_regular, sha256_of
from converters.limits import TABLE_BYTES, TABLE_EXPANSION
from converters.messages import LINES, listing

# Characters of a cell that is looked for among those held.
_LONG = 4096
# A row's line (or number) in its file, from 1; `file:line` where a table is of several files.
Line = int | str
# What is left out, by what is wrong with it: lines, or what questions are called.
LeftOut = Mapping[str, Sequence[Line]]


def left_out_text(where: str, left_out: LeftOut, noun: str = "row") -> str:
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
    """Rows of text: column names, the cells, and each row's line. `digest` is the SHA-256 of the file or files."""

    where: str
    header: list[str]
    rows: list[list[str]]
    lines: list[Line]
    digest: str
    left_out: LeftOut = field(default_factory=dict)

    def column(self, name: str | int, purpose: str) -> list[str]:
        """The cells of a column; ColumnError where it is missing, with what it is for."""
        place = name if isinstance(name, int) else self.place(name)
        if place is None:
            near = did_you_mean(str(name), self.header)
            lacks = missing_columns([str(name)], self.header, purpose)
            raise ColumnError(self.where, f"the header has no {lacks}{near}", missing=[str(name)])
        if isinstance(name, str):
            check_single([name], self.header, self.where)
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
    errors: Errors = "strict",
    options: Collection[str] = (),
) -> Table:
    """Read a file, directory, glob pattern or standard input (`-`): what albert embed reads.

    The kind is that of the name unless given. `wanted` are columns that must be there and hold text; `delimiter` is by
    default found out. `width` is that of a TSV without header. With `skip_bad` bad rows are left out; None: the command
    has no such option. `options` are those of the command that messages may advise. Raises DataError where there is no
    row, else as `rows_of` does.
    """
    request = Request(
        texts=tuple(wanted),
        delimiter=delimiter,
        width=width,
        errors=errors,
        skip_bad=bool(skip_bad),
        options=frozenset({*options, *(["--skip-bad"] if skip_bad is False else [])}),
    )
    found = input_files.find_files(str(path), kind, delimiter=delimiter, options=request.options)
    input_files.warn_of_skipped(str(path), found.skipped)
    tables = [_read(file, kind, request) for file, kind in zip(found.files, found.kinds, strict=True)]
    table = tables[0] if len(tables) == 1 else joined(tables, where_of(path))
    if not table.rows and table.left_out:
        raise DataError(f"{left_out_text(table.where, table.left_out)}; no row is left")
    if not table.rows:
        raise DataError(table.where, "there is no text to read")
    return table


def _read(file: Path, kind: Kind, request: Request) -> Table:
    where = where_of(file)
    with file_errors(where), seekable(file) as opened_file:
        digest = sha256_of(opened_file)
        with decompressed(contextlib.nullcontext(opened_file), where) as stream:
            rows = rows_of(stream, where, kind, request)
            lines: list[Line] = []
            cells: list[list[str]] = []
            held = _Held(where, os.fstat(opened_file.fileno()).st_size)
            for line, values in rows:
                lines.append(line)
                cells.append([held.cell(value) for value in values])
    for row in cells:
        row.extend([""] * (len(rows.header) - len(row)))  # of columns that later rows name
    return Table(where, rows.header, cells, lines, digest, rows.left_out)


def joined(tables: Sequence[Table], where: str) -> Table:
    """The rows of several tables under all their columns; cells of a column that a table lacks are empty."""
    header = list(dict.fromkeys(name for table in tables for name in table.header))
    rows: list[list[str]] = []
    left_out: dict[str, list[Line]] = {}
    one = len(tables) == 1
    for table in tables:
        if table.header == header:
            rows += table.rows
        else:
            check_single(table.header, table.header, table.where)
            places = [table.place(name) for name in header]
            rows += [["" if place is None else row[place] for place in places] for row in table.rows]
        for why, lines in table.left_out.items():
            left_out.setdefault(why, []).extend(lines if one else [f"{table.where}:{line}" for line in lines])
    lines = [line if one else f"{table.where}:{line}" for table in tables for line in table.lines]
    digest = hashlib.sha256("".join(table.digest for table in tables).encode()).hexdigest()
    return Table(where, header, rows, lines, digest, left_out)


@contextlib.contextmanager
def seekable(path: Path) -> Iterator[BinaryIO]:
    """The file, or a copy on disk of what a stream gives, to be read twice."""
    if not streams(path) and not path.is_fifo():
        with open_regular(path) as file:
            yield file
        return
    with tempfile.TemporaryFile() as copy, opened(path) as stream:
        shutil.copyfileobj(stream, copy)
        copy.seek(0)
        yield copy


class _Held:
    """The cells of a table in memory: a long text that repeats is held once, and none is held beyond a limit."""

    def __init__(self, where: str, file_bytes: int) -> None:
        self._where, self._most = where, TABLE_BYTES + TABLE_EXPANSION * file_bytes
        self._long: dict[str, str] = {}
        self._bytes = 0

    def cell(self, value: Any) -> str:
        text = text_of(value, self._where)
        if len(text) < _LONG:
            self._bytes += len(text)
        elif text in self._long:
            return self._long[text]
        else:
            self._long[text] = text
            self._bytes += len(text)
        if self._bytes > self._most:
            raise TextError(self._where, f"holds more than {self._most} characters of text; no table of its size does")
        return text


def text_of(value: Any, where: str) -> str:
    """A cell as text; lists and objects as JSON. `where` is for the TextError of one that is nested too deep."""
    if value is None:
        return ""
    if isinstance(value, str):
        return encodable(value)  # a JSON string can hold half of a UTF-16 pair, which is no character
    if not isinstance(value, (bool, list, dict)):
        return str(value)
    try:
        return json.dumps(value, default=str)
    except RecursionError:  # just below the depth that can still be read
        raise TextError(where, "holds lists or objects nested too deep") from None
