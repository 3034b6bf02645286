"""Your own tables: a text column, perhaps a second one, and a label column."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from albert_cli.errors import ColumnError, DataError
from albert_cli.tables.input_files import COMPRESSED_SUFFIXES, KINDS, find_files, there
from albert_cli.tables.table import read_table
from albert_cli.tasks.examples import ExampleColumns, Examples
from albert_cli.tasks.task import Sources

OF_TABLES = ("text_column", "text_pair_column", "label_column", "delimiter")
# Those of albert finetune that messages on its tables advise.
_OPTIONS = frozenset({"--text-column", "--text-pair-column"})


@dataclass(frozen=True)
class Tables:
    """Files by split (see `file_of`); columns as named, by default `columns`, or text and label where it is None."""

    columns: ExampleColumns | None = None
    options: tuple[str, ...] = OF_TABLES

    def read(self, sources: Sources, split: str) -> Examples | None:
        """The rows of a split, by the columns that were named; a test file may lack labels."""
        path = file_of(sources, split)
        if path is None:
            return None
        try:
            return self._read(path, sources, test=split == "test", options=_OPTIONS)
        except ColumnError as error:
            if sources.label_column or error.missing != (self._named(sources).label,):
                raise
            advice = "--label-column names the one with the labels"
            raise ColumnError(error.where, error.detail, advice, missing=error.missing) from None

    def read_file(self, path: Path, sources: Sources) -> Examples:
        """The rows of one labelled file."""
        try:
            return self._read(path, sources)
        except ColumnError as error:
            if self._named(sources).label not in error.missing:
                raise
            advice = f"without labels it can only be predicted: albert predict RUN --in {path}"
            raise ColumnError(error.where, error.detail, advice, missing=error.missing) from None

    def _read(self, path: Path, sources: Sources, *, test: bool = False, options: Collection[str] = ()) -> Examples:
        check_files(path)
        columns = self._named(sources)
        wanted = [str(name) for name in (columns.first, columns.second) if name is not None]
        table = read_table(path, delimiter=sources.delimiter, wanted=wanted, skip_bad=sources.skip_bad, options=options)
        return Examples.of(table, columns, labelled=not test or table.place(str(columns.label)) is not None)

    def _named(self, sources: Sources) -> ExampleColumns:
        own = self.columns or ExampleColumns("text", label="label")
        return named_columns(own, sources)


def named_columns(own: ExampleColumns, sources: Sources) -> ExampleColumns:
    """The columns of a layout, in whose place those are read that the user named."""
    return ExampleColumns(
        sources.text_column or own.first,
        sources.text_pair_column or own.second,
        label=sources.label_column or own.label,
    )


def file_of(sources: Sources, split: str) -> Path | None:
    """The file of a split, or in the directory of the data `train`, `dev`, `test` with the suffix of a table."""
    path = sources.files.get(split)
    if path is None and sources.data is not None:
        files = sorted(data_directory(sources.data).iterdir())
        found = {item.name.lower(): item for item in files if item.is_file()}
        ends = [f"{suffix}{packed}" for packed in ("", *COMPRESSED_SUFFIXES) for suffix in KINDS if suffix != ".txt"]
        path = next((found[f"{split}{end}"] for end in ends if f"{split}{end}" in found), None)
    return path


def data_directory(path: Path) -> Path:
    """What --data names (DataError where it is no directory)."""
    if path.is_file():
        raise DataError(f"{path}: a file, but --data names a directory; name files with --train and --dev")
    if not path.is_dir():
        raise DataError(f"{path}: no such directory")
    return path


def check_files(path: Path) -> None:
    """Refuse what names no files, or some that cannot be read more than once (DataError)."""
    if not there(path):
        raise DataError(f"{path}: no such file")
    pipes = [file for file in find_files(str(path)).files if not file.is_file()]
    if pipes:
        raise DataError(f"{pipes[0]}: no file that can be read more than once; write it to disk")
