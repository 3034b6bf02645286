"""Tables of pairs that belong together: a query, a text that answers it, and perhaps texts that do not.

A query with several texts has a row for each. `negatives` is a list, in CSV and TSV of JSON, or one text alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from albert_cli.errors import ColumnError, DataError
from albert_cli.tables import nested
from albert_cli.tables.faults import SKIP_BAD
from albert_cli.tables.input_files import Kind
from albert_cli.tables.lines import Errors
from albert_cli.tables.table import Line, read_table
from albert_cli.tasks.examples import ExampleColumns, Examples
from albert_cli.tasks.layouts.tables import OF_TABLES, check_files, file_of, named_columns
from albert_cli.tasks.task import Sources
from converters.messages import LINES, brief, counted, listing

_OPTIONS = {"text_column": "--text-column", "text_pair_column": "--text-pair-column", "label_column": "--label-column"}

_COLUMNS = ExampleColumns("query", "positive", label="negatives")


@dataclass(frozen=True)
class PairTables:
    """Files by split (see `file_of`); the label is the column of negatives, which may be missing unless it is named."""

    columns: ExampleColumns = _COLUMNS
    options: tuple[str, ...] = OF_TABLES

    def read(self, sources: Sources, split: str) -> Examples | None:
        """The pairs of a split."""
        path = file_of(sources, split)
        return None if path is None else self.read_file(path, sources)

    def read_file(self, path: Path, sources: Sources) -> Examples:
        """The pairs of one file, which must be one that can be read again."""
        check_files(path)
        return self.pairs(path, sources)

    def pairs(self, path: Path, sources: Sources, *, kind: Kind | None = None, errors: Errors = "strict") -> Examples:
        """The pairs of what `path` names; one DataError lists every row that is none."""
        columns = named_columns(self.columns, sources)
        wanted = [str(columns.first), str(columns.second)]
        try:
            table = read_table(
                path, kind=kind, delimiter=sources.delimiter, wanted=wanted, errors=errors, skip_bad=sources.skip_bad
            )
            found = Examples.of(table, columns, labelled=False)
            there = sources.label_column is not None or table.place(str(columns.label)) is not None
            cells = table.column(str(columns.label), "the negatives") if there else None
        except ColumnError as error:
            raise _advised(error, columns) from None
        negatives = None if cells is None else [texts_in(cell) for cell in cells]
        return _checked(replace(found, negatives=negatives), skip_bad=sources.skip_bad)


def texts_in(cell: str) -> tuple[str, ...]:
    """The texts in a cell: those of a list of JSON, or it alone; none where it is empty."""
    if cell.startswith("["):
        try:
            items = nested.parsed(cell)
        except ValueError:
            items = None
        if isinstance(items, list) and all(isinstance(item, str) for item in items):
            return tuple(items)
    return (cell,) if cell.strip() else ()


def relevant(examples: Examples) -> Mapping[str, set[str]]:
    """The texts that belong to each query, by all rows together."""
    found: dict[str, set[str]] = defaultdict(set)
    for query, text in zip(examples.texts, examples.pairs or (), strict=True):
        found[query].add(text)
    return found


def _checked(examples: Examples, *, skip_bad: bool) -> Examples:
    """The pairs in which each side says something, and no text is said both to belong to a query and not to."""
    belong, faults, bad = relevant(examples), [], []
    for row, line in enumerate(examples.lines):
        if fault := _fault(examples, row, belong):
            faults.append(f"line {line} {fault}")
            bad.append(row)
    if not bad:
        return examples
    if not skip_bad:
        listed = listing(faults, LINES, separator="; ")
        raise DataError(f"{examples.where}: {counted(faults, 'bad row')}: {listed}{SKIP_BAD}")
    if len(bad) == len(examples):
        raise DataError(f"{examples.where}: no pair is left: {listing(faults, separator='; ')}")
    return without(examples, bad, "that are no pairs")


def without(examples: Examples, rows: Sequence[int], why: str) -> Examples:
    """All other rows; the lines of those left out are kept, with what is wrong with them."""
    lines: list[Line] = [examples.lines[row] for row in rows]
    kept = sorted({*range(len(examples))}.difference(rows))
    return replace(examples.take(kept), left_out={**examples.left_out, why: lines})


def _fault(examples: Examples, row: int, belong: Mapping[str, set[str]]) -> str:
    query, text = examples.texts[row], (examples.pairs or [])[row]
    if not query.strip():
        return "has an empty query"
    if not text.strip():
        return "has no text to the query"
    negatives = examples.negatives[row] if examples.negatives else ()
    if not all(item.strip() for item in negatives):
        return "has an empty text among its negatives"
    if both := [item for item in negatives if item in belong[query]]:
        return f"has {brief(both[0])} among its negatives, which belongs to the query"
    return ""


def _advised(error: ColumnError, columns: ExampleColumns) -> ColumnError:
    """The error with the options that name the columns that are missing."""
    names = dict(zip(_OPTIONS.values(), (columns.first, columns.second, columns.label), strict=True))
    options = [option for option, name in names.items() if name in error.missing]
    advice = f"{' and '.join(options)} {'names' if len(options) == 1 else 'name'} what holds them" if options else ""
    return ColumnError(error.where, error.detail, error.advice or advice, missing=error.missing)
