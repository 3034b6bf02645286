"""Rows of CSV and TSV files, and names of columns: what every command makes of them, and says of faulty ones."""

from __future__ import annotations

import csv
import json
import re
import warnings
from collections.abc import Collection, Iterator, Sequence
from typing import Literal

from albert_cli.errors import Notice, TextError
from albert_cli.tables.lines import LINE_BYTES

# What may separate columns, beside what the file's kind has.
_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_SHOWN = 8
_BLANK = re.compile(r"[ \t\r\n]*")
_EXCEL_HINT = re.compile(r'"?sep=(.)"?\s*')


class Records:
    """The records of a file, read as they are asked for: pairs of line number (from 1) and cells.

    `header`: the names of the columns, blanks around them taken off; with `width` the file has none, and they are
    "0", "1", … `wanted` are columns that must be there for a guess of the delimiter to be right. In TSV a quotation
    mark is a character like any other, as in GLUE's files. Blank lines are left out. Rows of another width are told
    all at once, as TextError when the file is at its end (`advice` is its end), or with `skip_ragged` left
    out, their lines kept in `ragged`.
    """

    def __init__(
        self,
        lines: Iterator[str],
        where: str,
        *,
        kind: Literal["csv", "tsv"],
        delimiter: str | None = None,
        wanted: Collection[str] = (),
        width: int | None = None,
        skip_ragged: bool = False,
        advice: str = "",
    ) -> None:
        self._where, self._skip_ragged, self._advice = where, skip_ragged, advice
        self.ragged: list[int] = []
        self._lines = _Counted(lines)
        first = next((line for line in self._lines if line.strip()), "")
        if hint := _EXCEL_HINT.fullmatch(first):
            delimiter = delimiter or hint[1]
            first = next((line for line in self._lines if line.strip()), "")
        usual = {"csv": ",", "tsv": "\t"}[kind]
        self._named = kind == "tsv"
        if delimiter is None:
            delimiter = usual if width is not None else _found(first, usual, wanted)
            if delimiter != usual:
                warnings.warn(
                    f"{where}: its columns seem to be separated by {_DELIMITERS[delimiter]}, not by "
                    f"{_DELIMITERS[usual]}; --delimiter says so",
                    Notice,
                    stacklevel=2,
                )
        self._delimiter = delimiter
        self._begun = self._lines.number if first else 1
        self._lines.back(first)
        csv.field_size_limit(LINE_BYTES)
        plain = kind == "tsv" and delimiter == "\t"
        self._reader = csv.reader(
            self._lines, delimiter=delimiter, quoting=csv.QUOTE_NONE if plain else csv.QUOTE_MINIMAL, strict=not plain
        )
        if width is not None:
            self.header = [str(number) for number in range(width)]
        else:
            self.header = [cell.strip() for cell in next(self._records(), (0, []))[1]]

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        faults: list[str] = []
        for line, cells in self._records():
            if len(cells) != len(self.header):
                self.ragged.append(line)
                if len(self.ragged) <= _SHOWN:
                    faults.append(f"line {line} has {len(cells)}")
            elif not self.ragged or self._skip_ragged:
                yield line, cells
        if self.ragged and not self._skip_ragged:
            raise TextError(f"{self._where}: {self._ragged(faults)}")

    def _ragged(self, faults: Sequence[str]) -> str:
        names = f" ({listing(self.header)})" if self._named else ""
        count = len(self.ragged)
        rest = f" and {count - len(faults)} more" if count > len(faults) else ""
        advice = (
            ""
            if self._named
            else f"; a cell that holds {self._delimiter!r} stands in double quotes, with no blank before them"
        )
        rows = f"{count} row{'s' * (count > 1)}"
        return f"{rows} not of {len(self.header)} columns{names}: {', '.join(faults)}{rest}{advice}{self._advice}"

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        while True:
            try:
                cells = next(self._reader)
            except StopIteration:
                return
            except csv.Error as error:
                bare = "new-line character" in str(error)
                reason = "a carriage return stands outside of quotes" if bare else str(error)
                raise TextError(
                    f"{self._where}: broken quoting in the row that begins at line {self._begun} ({reason}); is a "
                    'quotation mark left open? one inside a quoted cell is doubled ("")'
                ) from None
            begun, self._begun = self._begun, self._lines.number + 1
            # A line of blanks is none of several columns.
            if cells and not (len(cells) == 1 and not cells[0].strip() and len(getattr(self, "header", "ab")) > 1):
                yield begun, cells


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


def _found(line: str, usual: str, wanted: Collection[str]) -> str:
    """The delimiter under which a header has the wanted columns, else the most columns; the usual one in doubt."""
    headers = {
        item: [cell.strip() for cell in next(csv.reader([line], delimiter=item), [])]
        for item in (usual, *(item for item in _DELIMITERS if item != usual))
    }
    fitting = [item for item, header in headers.items() if wanted and set(wanted) <= set(header)]
    return fitting[0] if fitting else max(headers, key=lambda item: len(headers[item]))


def json_lines(lines: Iterator[str]) -> Iterator[tuple[int, str]]:
    """Lines of JSON with their numbers; of a file that is one array of objects its items, with the lines they begin in.

    An array is held in memory whole.
    """
    for number, line in enumerate(lines, 1):
        if line.isspace() or not line:
            continue
        if not line.lstrip().startswith("["):
            yield number, line
            yield from enumerate(lines, number + 1)
            return
        every = [line, *lines]
        try:
            yield from list(_items("\n".join(every), number))
        except (ValueError, RecursionError):  # whoever reads the lines says what is wrong
            yield from enumerate(every, number)


def _items(text: str, line: int) -> Iterator[tuple[int, str]]:
    """The objects of an array, as text; ValueError where it is none of such."""
    decoder, counted = json.JSONDecoder(), 0

    def after(place: int) -> int:
        found = _BLANK.match(text, place)
        assert found is not None
        return found.end()

    place = after(text.index("[") + 1)
    while text[place : place + 1] != "]":
        item, end = decoder.raw_decode(text, place)
        if not isinstance(item, dict):
            raise ValueError("not an object")
        line, counted = line + text.count("\n", counted, place), place
        yield line, text[place:end]
        place = after(end)
        if text[place : place + 1] == ",":
            place = after(place + 1)
        elif text[place : place + 1] != "]":
            raise ValueError("no comma")
    if text[place + 1 :].strip():
        raise ValueError("more than the array")


def delimiter_of(text: str) -> str:
    """What separates columns, as it is written on a command line: a character, or `tab`. ValueError for others."""
    named = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|"}.get(text.lower(), text)
    if len(named) != 1 or named in '"\r\n':
        raise ValueError(f"a delimiter is one character, or tab, not {text!r}")
    return named


def listing(items: Sequence[str]) -> str:
    """The first few, and how many more."""
    rest = len(items) - _SHOWN
    return ", ".join(items[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
