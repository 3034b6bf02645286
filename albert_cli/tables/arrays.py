"""Rows of Python values as Arrow columns, a bunch at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from albert_cli.errors import TextError
from albert_cli.tables.faults import Faults
from albert_cli.tokenization.preparation import encodable

# A batch read from a file at once: few enough to hold however long the texts are.
_BATCH_ROWS, _BATCH_CHARACTERS = 1024, 2**20


def columns_of(
    rows: Iterable[tuple[int, Sequence[Any]]],
    where: str,
    names: Sequence[str],
    types: Mapping[int, pa.DataType],
) -> Iterator[tuple[list[int], list[pa.Array]]]:
    """Line numbers and columns of rows; `names` of the columns are for messages.

    `types` by place of a column; one that is not given is that of the first bunch. TextError lists the values of a
    bunch that are of another type.
    """
    known = dict(types)
    for lines, values in _bunches(rows):
        arrays = []
        for place, cells in enumerate(zip(*values, strict=True)):
            array = _array(cells, known.get(place), where, lines, names[place])
            # Where the first rows have no value at all, text is the type that holds most.
            known.setdefault(place, pa.string() if pa.types.is_null(array.type) else array.type)
            arrays.append(array.cast(known[place]))
        yield lines, arrays


def _bunches(rows: Iterable[tuple[int, Sequence[Any]]]) -> Iterator[tuple[list[int], list[Sequence[Any]]]]:
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
    wanted = f"not {_spoken(str(kind))}" if kind else "which no column can hold"
    faults = Faults()
    for line, cell in zip(lines, cells, strict=True):
        if _try_array([cell], kind) is None:
            faults.add(f"line {line}: {column!r} is {cell!r:.60}, {wanted}")
    if faults:
        raise TextError(where, faults.joined())
    raise TextError(where, f"lines {lines[0]} to {lines[-1]}: {column!r} holds values of several types")


def _try_type(cells: Sequence[Any]) -> pa.DataType | None:
    """The type of the first value that is there."""
    array = _try_array([next((cell for cell in cells if cell is not None), None)], None)
    return None if array is None else array.type


def _try_array(cells: Sequence[Any], kind: pa.DataType | None) -> pa.Array | None:
    try:
        return pa.array(cells, kind)
    except (pa.ArrowException, UnicodeEncodeError, OverflowError):
        return None


def _spoken(kind: str) -> str:
    return {"string": "text", "int64": "a whole number", "double": "a number", "bool": "true or false"}.get(kind, kind)
