"""The texts that a pre-training head is to judge, each with its place for messages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from albert_cli.errors import HeadError, TextError
from albert_cli.tables.columns import DEFAULT_PAIR_COLUMN
from albert_cli.tables.input_files import Kind, suffix_of, warn_of_skipped
from albert_cli.tables.lines import STANDARD_INPUT, Errors, where_of
from albert_cli.tables.sources import Columns, Source, place

_SHOWN = 5


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
    """The rows of a file, directory, glob or standard input, as albert embed reads them; a missing cell is empty.

    Pairs on standard input are TSV unless `kind` says otherwise. Raises TextError and FileError with file and
    line; TextError where there is no row.
    """
    if paired and kind is None and path == str(STANDARD_INPUT):
        kind = "tsv"
    if paired and (kind == "txt" or (kind is None and suffix_of(Path(path)) == ".txt")):
        raise TextError(f"{path}: lines of text hold no pairs; give a table with a column for each of the two texts")
    pair = (pair_column or DEFAULT_PAIR_COLUMN) if paired else None
    columns = Columns(text_column, pair, delimiter=delimiter)
    source = Source(path, columns, kind=kind, errors=errors)
    warn_of_skipped(path, source.skipped)
    firsts: list[str] = []
    seconds: list[str] = []
    places: list[str] = []
    for batch in source.batches():
        firsts += batch["text"].fill_null("").to_pylist()
        seconds += batch["pair"].fill_null("").to_pylist() if paired else []
        places += [place(batch, row) for row in range(batch.num_rows)]
    if not firsts:
        raise TextError(f"{where_of(Path(path))}: there is no text to read")
    return Texts(firsts, seconds if paired else None, places)


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


def labeller(count: int, places: Sequence[str] | None, what: str = "text") -> Callable[[int], str]:
    """What a message calls each of `count` texts."""
    if places is not None and len(places) != count:
        raise ValueError(f"{count} {what}s, but {len(places)} places")
    return lambda row: places[row] if places else f"{what} {row + 1}" if count > 1 else f"the {what}"


def raise_if_any(faults: Sequence[str], advice: str) -> None:
    """Raise HeadError that lists the first few of all faults and how many there are; nothing where there is none."""
    if faults:
        rest = f", and {len(faults) - _SHOWN:,} more" if len(faults) > _SHOWN else ""
        raise HeadError(f"{'; '.join(faults[:_SHOWN])}{rest}; {advice}")
