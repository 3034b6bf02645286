"""The one writer of tables: CSV, TSV, JSON lines or Parquet, by the name of the file; JSON lines on standard output."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from albert_cli import console
from albert_cli.arguments import STANDARD_OUTPUT
from albert_cli.errors import DataError
from albert_cli.phases import phase
from albert_cli.strict_json import strict_json
from albert_cli.tables.input_files import would_read
from converters.errors import TargetError
from converters.libraries import require_library
from converters.staging import atomic_write, check_target

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
OF_ANSWERS = (".json", ".conll", ".txt")
BETWEEN_ITEMS = "|"  # of a list, where a cell is text
# Rows that are made columns at once.
_ROWS = 4096

# Some rows, as columns of equal length.
Add = Callable[[Mapping[str, Sequence[Any]]], None]


def check(
    out: Path | None,
    source: str | None,
    *,
    force: bool,
    others: Sequence[Path] = (),
    what: str = "a table is",
    answers: bool = False,
) -> None:
    """Refuse a file that cannot be written as a table, before any work is done; see `check_output` (TargetError).

    Standard output and None pass. `what` begins the message; with `answers` OF_ANSWERS pass too.
    """
    if out is None or out == STANDARD_OUTPUT:
        return
    if out.suffix.lower() not in (*SUFFIXES, *(OF_ANSWERS if answers else ())):
        more = " (.json for answers, .conll for tags)" if answers else ""
        raise TargetError(out, f"{what} written as {', '.join(SUFFIXES)}{more}", "name such a file")
    check_output(out, source, force=force, others=others)
    if out.suffix.lower() == ".parquet":
        require_library("pyarrow", "writing Parquet")


def check_output(out: Path, source: str | None, *, force: bool, others: Sequence[Path] = ()) -> None:
    """Refuse a file that cannot be written, or is one of those that `source` names or of the `others` (TargetError)."""
    check_target(out, force=force, sources=[*([Path(source)] if source else []), *others], ours=None)
    if source and would_read(source, out):
        raise TargetError(out, f"lies in the input ({source}), and would be read as a part of it", "name another --out")


@phase("writing")
def write_rows(rows: Iterable[dict[str, Any]], out: Path, *, force: bool) -> int:
    """Write rows, which all have the same columns, `-` as JSON lines to stdout; how many there were.

    They are taken and written some at a time.
    """
    if out == STANDARD_OUTPUT:
        return console.print_lines(rows)
    count, left = 0, iter(rows)
    with table_writer(out, force=force) as add:
        while block := list(itertools.islice(left, _ROWS)):
            add({name: [row[name] for row in block] for name in block[0]})
            count += len(block)
    return count


def write_table(columns: Mapping[str, Sequence[Any]], out: Path, *, force: bool = False) -> None:
    """Write columns, all at once; see `table_writer`."""
    with table_writer(out, force=force) as add:
        add(columns)


@contextlib.contextmanager
def table_writer(out: Path, *, force: bool = False) -> Iterator[Add]:
    """Yield what adds rows, as columns, to a file of the kind that its name says; it appears whole at the end.

    A list in a cell of CSV and TSV has its items separated by `|`. Raises DataError where a cell of TSV holds a tab or
    line break, TargetError where a file is there and not `force`.
    """
    kind = out.suffix.lower()
    with atomic_write(out, force=force, ours=None) as beside:
        if kind == ".parquet":
            require_library("pyarrow", "writing Parquet")
            from albert_cli.tables.parquet_writer import ParquetRows

            with contextlib.closing(ParquetRows(beside)) as rows:
                yield rows.add
            return
        with beside.open("w", encoding="utf-8", newline="" if kind == ".csv" else None) as file:
            written = 0

            def add(columns: Mapping[str, Sequence[Any]]) -> None:
                nonlocal written
                rows: Iterable[tuple[Any, ...]] = zip(*columns.values(), strict=True)
                if kind == ".jsonl":
                    made = (strict_json(dict(zip(columns, row, strict=True)), ensure_ascii=False) for row in rows)
                    file.writelines(f"{line}\n" for line in made)
                    return
                rows = (tuple(map(_cell, row)) for row in rows)
                every = rows if written else itertools.chain([tuple(columns)], rows)
                for line in _tsv_lines(every, out, written) if kind == ".tsv" else csv_lines(every):
                    file.write(line)
                    written += 1

            yield add


def csv_lines(rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    """The rows as lines of CSV."""
    text = io.StringIO(newline="")
    # Cells with a carriage return are quoted only where that ends a line, but to every reader it does.
    writer = csv.writer(text, lineterminator="\r\n")
    for row in rows:
        writer.writerow(row)
        yield text.getvalue().removesuffix("\r\n") + "\n"
        text.seek(0)
        text.truncate()


def _cell(value: Any) -> Any:
    return BETWEEN_ITEMS.join(map(str, value)) if isinstance(value, list) else value


def _tsv_lines(rows: Iterable[tuple[Any, ...]], out: Path, first: int) -> Iterator[str]:
    for number, row in enumerate(rows, first):
        cells = ["" if cell is None else str(cell) for cell in row]
        if any(set(cell) & {"\t", "\n", "\r"} for cell in cells):
            raise DataError(
                out,
                f"row {number} holds a tab or line break, which TSV has no way to write",
                "name a .csv, .jsonl or .parquet file",
            )
        yield "\t".join(cells) + "\n"
