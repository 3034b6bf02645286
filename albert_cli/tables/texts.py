"""Texts, or pairs of them, one by one or all at once, each with its place for messages."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from albert_cli.errors import TextError
from albert_cli.tables.blocks import Open, opener
from albert_cli.tables.columns import DEFAULT_PAIR_COLUMN, Columns
from albert_cli.tables.input_files import Files, Kind, decompressed, warn_of_skipped
from albert_cli.tables.lines import STANDARD_INPUT, Errors, opened, where_of
from albert_cli.tables.readers import rows_of
from albert_cli.tokenization.preparation import encodable
from converters.files import Unchanged, file_errors


class Row(NamedTuple):
    """A text and its second one, empty where a cell is missing, and where they come from: "texts.csv: line 7"."""

    text: str
    pair: str
    place: str


def stream(
    path: str,
    columns: Columns,
    *,
    kind: Kind | None = None,
    errors: Errors = "strict",
    progress: Callable[[int], None] | None = None,
) -> Iterator[Row]:
    """The rows of a file, directory, glob pattern or standard input, as albert embed reads them, in constant memory.

    `progress` is called with the bytes of the files that have been read since the last call. Raises as `rows_of` does,
    and TextError where there is no row.
    """
    found = columns.files(path, kind)
    warn_of_skipped(path, found.skipped)
    yield from _rows(path, found, columns, errors, progress, {})


def _rows(
    path: str,
    found: Files,
    columns: Columns,
    errors: Errors,
    progress: Callable[[int], None] | None,
    opens: Mapping[Path, Open],
) -> Iterator[Row]:
    """The rows of the files of `path`; `opens`: how one is opened, if otherwise than by its name."""
    request = columns.request(errors)
    any_row = False
    for file, kind_of_file in zip(found.files, found.kinds, strict=True):
        where, position = where_of(file), 0
        with file_errors(where), decompressed(opens[file]() if opens else opened(file), where) as source:
            for line, cells in rows_of(source, where, kind_of_file, request):
                any_row = True
                text, pair = cells[0], cells[1] if columns.pair else ""
                yield Row(encodable(text or ""), encodable(pair or ""), f"{where}: line {line}")
                if progress and (now := source.position()) != position:
                    progress(now - position)
                    position = now
    if not any_row:
        raise TextError(where_of(Path(path)), "there is no text to read")


class TextFile(Collection[str]):
    """The texts of files, read anew each time they are asked for, so that their number does not matter."""

    def __init__(self, rows: Callable[[], Iterator[Row]]) -> None:
        self._rows = rows
        self._count = sum(1 for _ in rows())

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[str]:
        return (row.text for row in self._rows())

    def __contains__(self, text: object) -> bool:
        return any(one == text for one in self)

    def place(self, number: int) -> str:
        """Where a text comes from ("texts.csv: line 7"), counted from 0."""
        return next(itertools.islice(self._rows(), number, None)).place


@contextlib.contextmanager
def rereadable(
    path: str,
    *,
    text_column: str | None = None,
    kind: Kind | None = None,
    delimiter: str | None = None,
    errors: Errors = "strict",
) -> Iterator[TextFile]:
    """The texts that `stream` reads, read to their end for their faults first; standard input is kept on disk.

    Raises as `stream` does.
    """
    columns = Columns(text_column, delimiter=delimiter)
    found = columns.files(path, kind)
    warn_of_skipped(path, found.skipped)
    with contextlib.ExitStack() as stack:
        opens = {file: opener(file, stack, partial(Unchanged, file)) for file in found.files}
        yield TextFile(lambda: _rows(path, found, columns, errors, None, opens))


@dataclass(frozen=True)
class Texts:
    """`firsts`, of pairs `seconds` too, and where each row comes from ("texts.csv: line 7"), if from a file."""

    firsts: list[str]
    seconds: list[str] | None = None
    places: list[str] | None = None

    def __len__(self) -> int:
        return len(self.firsts)


def read(
    path: str,
    *,
    paired: bool = False,
    text_column: str | None = None,
    pair_column: str | None = None,
    kind: Kind | None = None,
    delimiter: str | None = None,
    errors: Errors = "strict",
) -> Texts:
    """The rows of what `stream` reads. Pairs on standard input are TSV unless `kind` says otherwise.

    Raises as `stream` does.
    """
    if paired and kind is None and path == str(STANDARD_INPUT):
        kind = "tsv"
    pair = (pair_column or DEFAULT_PAIR_COLUMN) if paired else None
    columns = Columns(text_column, pair, delimiter=delimiter)
    rows = list(stream(path, columns, kind=kind, errors=errors))
    return Texts(
        [row.text for row in rows], [row.pair for row in rows] if paired else None, [row.place for row in rows]
    )


def given_or_read(
    texts: Sequence[str] | None,
    source: str | None,
    *,
    text_column: str | None,
    kind: Kind | None,
    delimiter: str | None,
    errors: Errors,
) -> Texts:
    """The texts of the command line, or the rows of a file (see `read`)."""
    if source is None:
        return Texts(list(texts or []))
    return read(source, text_column=text_column, kind=kind, delimiter=delimiter, errors=errors)
