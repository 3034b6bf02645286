"""Conditions on the columns of a table: `year>=2020`, `lang=en`."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from albert_cli.errors import ColumnError, DataError
from converters.errors import did_you_mean
from converters.messages import brief, listing

if TYPE_CHECKING:
    import pyarrow as pa

OPERATORS = {
    "<=": "less_equal",
    ">=": "greater_equal",
    "!=": "not_equal",
    "=": "equal",
    "<": "less",
    ">": "greater",
}
_CONDITION = re.compile(rf"\s*(.+?)\s*({'|'.join(OPERATORS)})\s*(.*?)\s*", re.DOTALL)
_NUMBER = r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$"


@dataclass(frozen=True)
class Condition:
    """What a column's value must be; `operator` is one of OPERATORS."""

    column: str
    operator: str
    value: str

    def __str__(self) -> str:
        return f"{self.column}{self.operator}{self.value}"


def condition_of(text: str) -> Condition:
    """A condition as it is typed; ValueError for another text."""
    found = _CONDITION.fullmatch(text)
    if not found:
        raise ValueError(f"{brief(text)} is not COLUMN, one of {' '.join(OPERATORS)}, and a value, as in 'year>=2020'")
    return Condition(*found.groups())


class Conditions:
    """Several conditions, all of which a row must meet. A null meets none.

    Values are compared as what the column holds: numbers, texts, dates, true and false. In a column of texts `<`, `<=`,
    `>` and `>=` with a number compare numbers, and a text that is none meets none of them. Raises ColumnError for a
    column that `schema` lacks, DataError for one that is nested and for a value that its column cannot hold; `where` is
    the file.
    """

    def __init__(self, conditions: Sequence[Condition], schema: pa.Schema, where: object) -> None:
        self._where = str(where)
        self._tests = [(one, *self._compared(one, schema)) for one in conditions]
        self.columns = tuple(dict.fromkeys(one.column for one in conditions))

    def _compared(self, one: Condition, schema: pa.Schema) -> tuple[pa.Scalar, bool]:
        """The value as the column holds it, and whether that is text to be compared as a number."""
        import pyarrow as pa

        if one.column not in schema.names:
            seen = listing(map(brief, schema.names), 20)
            near = did_you_mean(one.column, schema.names)
            raise ColumnError(self._where, f"--where {one}: has no column {one.column!r}; it has {seen}{near}")
        kind = schema.field(one.column).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        if pa.types.is_nested(kind):
            raise DataError(self._where, f"--where {one}: {one.column!r} is {kind}, which has no one value to compare")
        texts = pa.types.is_string(kind) or pa.types.is_large_string(kind)
        number = re.match(_NUMBER, one.value) is not None
        as_number = texts and number and one.operator in ("<", "<=", ">", ">=")
        of_integers = pa.types.is_integer(kind) and number
        if of_integers and not re.fullmatch(r"[+-]?\d{1,18}", one.value):
            return pa.scalar(float(one.value)), False
        value = pa.scalar(one.value)
        try:
            return value.cast(pa.float64() if as_number else kind), as_number
        except (pa.ArrowException, OverflowError, ValueError):
            if of_integers:  # one that has no place in so few bits is still to be compared
                return pa.scalar(float(one.value)), False
            if pa.types.is_timestamp(kind) and kind.tz:
                with contextlib.suppress(pa.ArrowException):
                    return value.cast(pa.timestamp(kind.unit)).cast(kind), False  # without a zone it is UTC
            raise DataError(
                self._where, f"--where {one}: {one.column!r} holds {kind}, and {brief(one.value)} is none"
            ) from None

    def mask(self, rows: pa.RecordBatch) -> Any:
        """Which rows meet all conditions, bool (rows)."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        met = np.ones(rows.num_rows, np.bool_)
        for one, value, as_number in self._tests:
            column = rows[one.column]
            if pa.types.is_dictionary(column.type):
                column = column.cast(column.type.value_type)
            if as_number:
                column = pc.if_else(pc.match_substring_regex(column, _NUMBER), column, None)
                column = pc.utf8_trim_whitespace(column).cast(pa.float64())
            if pa.types.is_integer(column.type) and pa.types.is_floating(value.type):
                column = column.cast(value.type, safe=False)  # some large numbers are rounded
            found = pc.fill_null(getattr(pc, OPERATORS[one.operator])(column, value), False)
            met &= found.to_numpy(zero_copy_only=False)
        return met
