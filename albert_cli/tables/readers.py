"""The rows of one file of any kind, one by one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from albert_cli.tables.columns import Request
from albert_cli.tables.delimited import Records
from albert_cli.tables.input_files import Kind, Stream
from albert_cli.tables.json_lines import Objects
from albert_cli.tables.lines import lines_of
from converters.libraries import require_library


class Rows(Protocol):
    """Pairs of line number (from 1) and the values of the columns in `header`.

    Columns are added to the end of `header` where a file names them in its rows, so earlier rows may be shorter.
    `left_out`: lines of bad rows that are left out, by what is wrong with them; complete when the rows have been read.
    """

    header: list[str]
    left_out: dict[str, list[int]]

    def __iter__(self) -> Iterator[tuple[int, list[Any]]]: ...


def rows_of(stream: Stream, where: str, kind: Kind, request: Request) -> Rows:
    """The rows of an open file, which messages call `where`. Values are text in all kinds but JSON and Parquet.

    Raises ColumnError and TextError, as the rows are read: see Records, Objects, ParquetRows and lines_of.
    """
    if kind == "parquet":
        require_library("pyarrow", "reading Parquet")
        from albert_cli.tables.parquet import ParquetRows

        return ParquetRows(stream, where, request)
    ends = kind in ("csv", "tsv")
    to_utf8 = f"convert it to UTF-8{request.advice('--errors', ', or pass --errors replace')}"
    lines = lines_of(stream.file, where, errors=request.errors, ends=ends, advice=to_utf8)
    if kind == "jsonl":
        return Objects(lines, where, request)
    return _Lines(lines, where, request) if kind == "txt" else Records(lines, where, kind, request)


class _Lines:
    """Each line is a row with one column, the text."""

    def __init__(self, lines: Iterator[str], where: str, request: Request) -> None:
        self.header = ["text"]
        self.left_out: dict[str, list[int]] = {}
        self._lines = lines
        request.check(self.header, where, "a file of lines")

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        return ((number, [line]) for number, line in enumerate(self._lines, 1))
