"""A table in blocks of rows, so that its size does not matter: read to its end for its faults, then block by block."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from albert_cli.errors import DataError
from albert_cli.tables import input_files
from albert_cli.tables.columns import Request, check_single
from albert_cli.tables.input_files import Kind, decompressed, streams
from albert_cli.tables.lines import Errors, where_of
from albert_cli.tables.readers import rows_of
from albert_cli.tables.table import Line, Table, seekable, text_of
from converters.files import file_errors, open_regular

# The most of a block, though one row may have more characters.
ROWS, CHARACTERS = 4096, 2**22

Open = Callable[[], BinaryIO]


class _File(NamedTuple):
    """A file of the table, how it is opened, and its columns, complete when it has been read."""

    where: str
    kind: Kind
    open: Open
    header: list[str]


class Blocks:
    """Iterate for tables of at most ROWS rows and CHARACTERS, all with the columns `header`; `rows` in all."""

    def __init__(self, where: str, files: Sequence[_File], request: Request, rows: int) -> None:
        self.where, self.rows = where, rows
        self.header = list(dict.fromkeys(name for file in files for name in file.header))
        if any(file.header != self.header for file in files):
            for file in files:
                check_single(file.header, file.header, file.where)
        if len(files) == 1:
            self.header = files[0].header
        self._files, self._request = files, request

    def __iter__(self) -> Generator[Table]:
        lines: list[Line] = []
        cells: list[list[str]] = []
        size = 0
        with contextlib.closing(self._rows()) as rows:
            for line, row in rows:
                more = sum(map(len, row))
                if lines and (len(lines) == ROWS or size + more > CHARACTERS):
                    yield Table(self.where, self.header, cells, lines, "")
                    lines, cells, size = [], [], 0
                lines.append(line)
                cells.append(row)
                size += more
        if lines:
            yield Table(self.where, self.header, cells, lines, "")

    def _rows(self) -> Generator[tuple[Line, list[str]]]:
        """Every row under the columns of the whole, with its line."""
        one = len(self._files) == 1
        for file in self._files:
            places = None if file.header == self.header else [_place(name, file.header) for name in self.header]
            with contextlib.closing(_rows(file, self._request)) as rows:
                for line, values in rows:
                    row = [text_of(value, file.where) for value in values]
                    row.extend([""] * (len(file.header) - len(row)))  # of columns that later rows name
                    found = row if places is None else ["" if place is None else row[place] for place in places]
                    yield line if one else f"{file.where}:{line}", found


@contextlib.contextmanager
def in_blocks(
    path: Path,
    *,
    kind: Kind | None = None,
    delimiter: str | None = None,
    wanted: Collection[str] = (),
    errors: Errors = "strict",
    options: Collection[str] = (),
) -> Iterator[Blocks]:
    """What `read_table` reads, in blocks, no row left out; it raises the same errors, all before the first block.

    Every file is read twice; standard input is kept on disk meanwhile. The tables have no digest.
    """
    request = Request(texts=tuple(wanted), delimiter=delimiter, errors=errors, options=frozenset(options))
    found = input_files.find_files(str(path), kind, delimiter=delimiter, options=request.options)
    input_files.warn_of_skipped(str(path), found.skipped)
    with contextlib.ExitStack() as stack:
        files, rows = [], 0
        for name, kind_of_file in zip(found.files, found.kinds, strict=True):
            file = _File(where_of(name), kind_of_file, opener(name, stack), [])
            rows += sum(1 for _ in _rows(file, request))
            files.append(file)
        where = files[0].where if len(files) == 1 else where_of(path)
        if not rows:
            raise DataError(where, "there is no text to read")
        yield Blocks(where, files, request, rows)


def opener(path: Path, stack: contextlib.ExitStack, plain: Open | None = None) -> Open:
    """What opens a file (`plain`), as often as it is called, at its beginning; a stream is kept on disk meanwhile."""
    if not streams(path) and not path.is_fifo():
        return plain or (lambda: open_regular(path))
    with file_errors(where_of(path)):
        copy = stack.enter_context(seekable(path)).fileno()

    def again() -> BinaryIO:
        os.lseek(copy, 0, io.SEEK_SET)
        return os.fdopen(os.dup(copy), "rb")

    return again


def _rows(file: _File, request: Request) -> Generator[tuple[int, list[Any]]]:
    """The rows of a file; then `header` has all its columns."""
    with file_errors(file.where), file.open() as opened, decompressed(opened, file.where) as stream:
        rows = rows_of(stream, file.where, file.kind, request)
        yield from rows
        file.header[:] = rows.header


def _place(name: str, header: list[str]) -> int | None:
    return header.index(name) if name in header else None
