"""Records of JSON: an object a line, or one array of objects."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from albert_cli.errors import TextError
from albert_cli.tables.columns import Request, missing_columns
from albert_cli.tables.faults import SKIP_BAD, Faults
from converters.limits import json_fault

_BLANK = re.compile(r"[ \t\r\n]*")


class Objects:
    """The objects of a file as they are read: pairs of line number (from 1) and the values of the columns in `header`.

    Without names in the request `header` grows as columns are seen. Raises ColumnError where the first object lacks a
    required column. What is wrong with other lines is collected and raised at the end as one TextError, or with
    `skip_bad` these lines are left out and kept in `left_out`, by what is wrong with them.
    """

    def __init__(self, lines: Iterator[str], where: str, request: Request) -> None:
        self._lines, self._where, self._request = lines, where, request
        self.header = list(request.names or ())
        self.left_out: dict[str, list[int]] = {}

    def __iter__(self) -> Iterator[tuple[int, list[Any]]]:
        request, faults = self._request, Faults()
        seen = damaged_array = False
        for number, line in json_lines(self._lines):
            if not line or line.isspace():
                continue
            record, fault = _parsed(line)
            if fault is None and not seen:
                request.check(list(record), self._where, f"line {number}")
            fault = fault or self._misfit(record)
            if fault is not None:
                damaged_array |= fault.broken and not (seen or faults) and line.lstrip().startswith("[")
                faults.add(f"line {number}{fault.text}")
                self.left_out.setdefault(fault.reason, []).append(number)
            elif not faults or request.skip_bad:
                yield number, self._values(record)
            seen = seen or fault is None
        # The lines of an array that is damaged are no rows to choose from.
        if faults and (damaged_array or not request.skip_bad):
            advice = "" if damaged_array else request.advice("--skip-bad", SKIP_BAD)
            raise TextError(self._where, f"{faults.joined()}{advice}")

    def _misfit(self, record: dict[str, Any]) -> _Fault | None:
        """What is wrong with an object: a required column is missing, a text is none."""
        missing = [name for name in self._request.required if name not in record and name not in self._request.sparse]
        if missing:
            return _Fault(f" has no {missing_columns(missing, list(record))}", f"without {missing[0]!r}")
        for name in self._request.texts:
            if not isinstance(record[name], str | None):
                return _Fault(f": {name!r} is {record[name]!r:.60}, not text", f"whose {name!r} is no text")
        return None

    def _values(self, record: dict[str, Any]) -> list[Any]:
        if self._request.names is None and not record.keys() <= set(self.header):
            self.header += [name for name in record if name not in self.header]
        return [record.get(name) for name in self.header]


class _Fault(NamedTuple):
    """What follows the number of a line in a message, and in one on lines that are left out; `broken`: no JSON."""

    text: str
    reason: str
    broken: bool = False


def _parsed(line: str) -> tuple[dict[str, Any], _Fault | None]:
    """A line's object, or what is wrong with it."""
    reason = "that are no JSON objects"
    if crowded := json_fault(line.encode("utf-8", "surrogatepass")):
        return {}, _Fault(f": {crowded}", "that hold too much", broken=True)
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        at = f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
        return {}, _Fault(f" is not JSON: {at}", reason, broken=True)
    if isinstance(record, dict):
        return record, None
    return {}, _Fault(f" holds a {type(record).__name__}, not an object of columns", reason)


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
        except (ValueError, RecursionError):  # the reader of the lines reports what is wrong
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
