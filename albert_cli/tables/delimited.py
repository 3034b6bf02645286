"""Rows of CSV and TSV files."""

from __future__ import annotations

import csv
import re
import warnings
from collections.abc import Collection, Iterable, Iterator
from typing import Any, Literal

from albert_cli.errors import Notice, TextError
from albert_cli.tables.columns import Request
from albert_cli.tables.faults import SKIP_BAD, Faults
from albert_cli.tables.lines import LINE_BYTES
from converters.messages import brief, listing

# What may separate columns, beside what the file's kind has.
_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_EXCEL_HINT = re.compile(r'"?sep=(.)"?\s*')


def csv_rows(lines: Iterable[str], *, most: int = LINE_BYTES, **dialect: Any) -> Iterator[list[str]]:
    """The rows of CSV, whose cells have no more than so many characters (csv.Error).

    The library's own limit, 131,072, is less than a text may have; it holds for all that is read at a time.
    """
    csv.field_size_limit(most)
    return csv.reader(lines, **dialect)


class Records:
    """The records of a file, read as they are asked for: pairs of line number (from 1) and the cells of `header`.

    `header`: the names of the columns, blanks around them taken off; those of the request if it names some. A file of a
    given width has no header; its columns are "0", "1", … In TSV a quotation mark is a character like any other, as in
    GLUE's files. Blank lines are left out. Raises ColumnError where a required column is missing. Rows of another
    width are collected and raised as one TextError when the file is at its end, or with `skip_bad` left out, their
    lines kept in `left_out`.
    """

    def __init__(self, lines: Iterator[str], where: str, kind: Literal["csv", "tsv"], request: Request) -> None:
        self._where, self._request, self._named = where, request, kind == "tsv"
        self._lines = _Counted(lines)
        first = next((line for line in self._lines if line.strip()), "")
        delimiter = request.delimiter
        if hint := _EXCEL_HINT.fullmatch(first):
            delimiter = delimiter or hint[1]
            first = next((line for line in self._lines if line.strip()), "")
        self._delimiter = delimiter or self._found(first, {"csv": ",", "tsv": "\t"}[kind])
        self._first = self._lines.number if first else 1
        self._lines.back(first)
        plain = kind == "tsv" and self._delimiter == "\t"
        quoting: Any = {"quoting": csv.QUOTE_NONE if plain else csv.QUOTE_MINIMAL, "strict": not plain}
        self._reader = csv_rows(self._lines, delimiter=self._delimiter, **quoting)
        if request.width is not None:
            self._columns = [str(number) for number in range(request.width)]
        else:
            self._columns = [cell.strip() for cell in next(self._records(), (0, []))[1]]
        if self._columns:
            request.check(self._columns, where, "the header")
        self.header = self._columns if request.names is None else list(request.names)
        self.left_out: dict[str, list[int]] = {}

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        width, faults, skip_bad = len(self._columns), Faults(), self._request.skip_bad
        ragged: list[int] = []
        if not self._columns:  # an empty file
            return
        places = None if self._request.names is None else [self._columns.index(name) for name in self.header]
        for line, cells in self._records():
            if len(cells) != width:
                faults.add(f"line {line} has {len(cells)}")
                ragged.append(line)
            elif not faults or skip_bad:
                yield line, cells if places is None else [cells[place] for place in places]
        if faults and not skip_bad:
            raise TextError(self._where, self._ragged(faults))
        if faults:
            self.left_out = {f"not of {width} columns": ragged}

    def _found(self, line: str, usual: str) -> str:
        """The delimiter by a file's header, a notice where it is not the usual one."""
        if self._request.width is not None:
            return usual
        found = _likeliest(line, usual, self._request.required)
        if found != usual:
            warnings.warn(
                f"{self._where}: its columns seem to be separated by {_DELIMITERS[found]}, not by "
                f"{_DELIMITERS[usual]}; --delimiter sets it",
                Notice,
                stacklevel=2,
            )
        return found

    def _ragged(self, faults: Faults) -> str:
        names = f" ({listing(self._columns)})" if self._named else ""
        advice = (
            ""
            if self._named
            else f"; a cell that holds {self._delimiter!r} stands in double quotes, with no blank before them"
        )
        rows = f"{faults.count} row{'s' * (faults.count > 1)} not of {len(self._columns)} columns{names}"
        return f"{rows}: {faults.joined(', ')}{advice}{self._request.advice('--skip-bad', SKIP_BAD)}"

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        while True:
            try:
                cells = next(self._reader)
            except StopIteration:
                return
            except csv.Error as error:
                if "new-line character" in str(error):
                    raise TextError(
                        self._where,
                        f"a carriage return stands outside of quotes in the row that begins at line {self._first}",
                        "take it out, or put its cell in double quotes",
                    ) from None
                raise TextError(
                    self._where,
                    f"broken quoting in the row that begins at line {self._first} ({error})",
                    'is a quotation mark left open? one inside a quoted cell is doubled ("")',
                ) from None
            first, self._first = self._first, self._lines.number + 1
            # A line of blanks is none of several columns.
            if cells and not (len(cells) == 1 and not cells[0].strip() and len(getattr(self, "_columns", "ab")) > 1):
                yield first, cells


class _Counted:
    """Lines with the number of the last one; one can be given back."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines, self._given = lines, ""
        self.number = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self._given:
            line, self._given = self._given, ""
        else:
            line = next(self._lines)
        self.number += 1
        return line

    def back(self, line: str) -> None:
        if line:
            self._given = line
            self.number -= 1


def _likeliest(line: str, usual: str, wanted: Collection[str]) -> str:
    """The delimiter under which a header has the wanted columns, else the most columns; the usual one in doubt."""
    headers = {item: _cells(line, item) for item in (usual, *(item for item in _DELIMITERS if item != usual))}
    fitting = [item for item, header in headers.items() if wanted and set(wanted) <= set(header)]
    return fitting[0] if fitting else max(headers, key=lambda item: len(headers[item]))


def _cells(line: str, delimiter: str) -> list[str]:
    """The cells of a header; none where it is broken, which is reported when it is read."""
    try:
        return [cell.strip() for cell in next(csv_rows([line], delimiter=delimiter), [])]
    except csv.Error:
        return []


def delimiter_of(text: str) -> str:
    """What separates columns, as it is written on a command line: a character, or `tab`. ValueError for others."""
    named = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|"}.get(text.lower(), text)
    if len(named) != 1 or named in '"\r\n':
        raise ValueError(f"a delimiter is one character, or tab, comma, semicolon or pipe, not {brief(text)}")
    return named
