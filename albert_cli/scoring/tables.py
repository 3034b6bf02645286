"""Results as a table: CSV, TSV, JSON lines or Parquet, by the name of the file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from albert_cli import console
from albert_cli.arguments import STANDARD_OUTPUT
from albert_cli.errors import HeadError
from albert_cli.tables.input_files import TABLES as KINDS
from converters.files import check_target, need


def check(out: Path | None, source: str | None, *, force: bool) -> None:
    """Refuse a file that cannot be written, before any work is done (HeadError, TargetError)."""
    if out is None or out == STANDARD_OUTPUT:
        return
    if out.suffix.lower() not in KINDS:
        raise HeadError(f"{out}: a table is written as {', '.join(KINDS)}; name such a file")
    check_target(out, force=force, sources=[Path(source)] if source else [], ours=None)
    if out.suffix.lower() == ".parquet":
        need("pyarrow", "writing Parquet")


def write(rows: Iterable[dict[str, Any]], out: Path, *, force: bool) -> int:
    """Write rows, which all have the same columns, `-` as JSON lines to stdout; how many there were."""
    from albert_cli.training.prediction import write_table

    if out == STANDARD_OUTPUT:
        return console.print_lines(rows)
    listed = list(rows)
    write_table({name: [row[name] for row in listed] for name in listed[0]} if listed else {}, out, force=force)
    return len(listed)
