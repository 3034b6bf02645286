"""The one writer of tables: CSV, TSV, JSON lines or Parquet, by the name of the file; JSON lines on standard output."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from albert_cli import console
from albert_cli.arguments import STANDARD_OUTPUT
from albert_cli.errors import DataError
from albert_cli.strict_json import strict_json
from albert_cli.tables.input_files import would_read
from converters.errors import TargetError
from converters.libraries import require_library
from converters.staging import atomic_write, check_target

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
OF_ANSWERS = (".json", ".conll", ".txt")
BETWEEN_ITEMS = "|"  # of a list, where a cell is text


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


def write_rows(rows: Iterable[dict[str, Any]], out: Path, *, force: bool) -> int:
    """Write rows, which all have the same columns, `-` as JSON lines to stdout; how many there were."""
    if out == STANDARD_OUTPUT:
        return console.print_lines(rows)
    listed = list(rows)
    write_table({name: [row[name] for row in listed] for name in listed[0]} if listed else {}, out, force=force)
    return len(listed)


def write_table(columns: Mapping[str, Sequence[Any]], out: Path, *, force: bool = False) -> None:
    """Write columns as the name of the file says; a list in a cell of CSV and TSV has its items separated by `|`.

    Raises DataError where a cell of TSV holds a tab or line break, TargetError where a file is there and not `force`.
    """
    with atomic_write(out, force=force, ours=None) as beside:
        kind = out.suffix.lower()
        if kind == ".parquet":
            require_library("pyarrow", "writing Parquet")
            import pyarrow as pa
            from pyarrow import parquet

            parquet.write_table(pa.table(dict(columns)), beside)
            return
        if kind == ".jsonl":
            rows = zip(*columns.values(), strict=True)
            lines = (strict_json(dict(zip(columns, row, strict=True)), ensure_ascii=False) for row in rows)
            beside.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            return
        rows = zip(*(map(_cell, column) for column in columns.values()), strict=True)
        if kind == ".tsv":
            beside.write_text("".join(_tsv_lines([tuple(columns), *rows], out)), "utf-8")
            return
        beside.write_text("".join(csv_lines([tuple(columns), *rows])), encoding="utf-8", newline="")


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


def _tsv_lines(rows: list[tuple[Any, ...]], out: Path) -> Iterator[str]:
    for number, row in enumerate(rows):
        cells = ["" if cell is None else str(cell) for cell in row]
        if any(set(cell) & {"\t", "\n", "\r"} for cell in cells):
            raise DataError(
                out,
                f"row {number} holds a tab or line break, which TSV has no way to write",
                "name a .csv, .jsonl or .parquet file",
            )
        yield "\t".join(cells) + "\n"
