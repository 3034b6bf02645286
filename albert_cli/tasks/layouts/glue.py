"""GLUE's files: the official TSV files with their quirks, or the Parquet files of `nyu-mll/glue`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from albert_cli.errors import ColumnError, DataError
from albert_cli.tables.input_files import found_in
from albert_cli.tables.table import joined, read_table
from albert_cli.tasks.examples import ExampleColumns, Examples
from albert_cli.tasks.layouts.tables import check_files, data_directory
from albert_cli.tasks.task import Sources
from converters.libraries import require_library

REPOSITORY = "nyu-mll/glue"


@dataclass(frozen=True)
class SplitFile:
    """A file of the official layout: its name (the first that exists counts) and columns; `width`: without header."""

    files: tuple[str, ...]
    columns: ExampleColumns
    width: int | None = None


@dataclass(frozen=True)
class HubDataset:
    """The task in `nyu-mll/glue`: directory, text columns, names of the numbered labels, files of the splits."""

    directory: str
    first: str
    second: str | None = None
    labels: tuple[str, ...] = ()
    splits: Mapping[str, str] = field(default_factory=lambda: {"train": "train", "dev": "validation", "test": "test"})


@dataclass(frozen=True)
class Glue:
    """The files of a GLUE task in the folder `directory` (also the task's name), or as the Hub has them."""

    directory: str
    splits: Mapping[str, SplitFile]
    hub: HubDataset
    skip_short_rows: bool = False
    options = ()

    @property
    def columns(self) -> ExampleColumns:
        """Those of the test file."""
        return self.splits["test"].columns

    def read(self, sources: Sources, split: str) -> Examples | None:
        """A split, from the official files (in `data` or its folder of the task's name) or the Hub's."""
        named = sources.files.get(split)
        if named is None:
            directory = self._place(sources.data)
            if split not in self.splits:
                return None
            found = found_in(directory, self.splits[split].files)
            if not found:
                return self._read_hub(directory, split)
            named = found[0]
        else:
            if named.is_dir():
                raise DataError(
                    f"{named}: a directory where a file is expected; --data names a directory of such files"
                )
            check_files(named)
        return self._read(named, split, sources)

    def read_file(self, path: Path, sources: Sources) -> Examples:
        """Any labelled file of the task, with or without header, whichever split's columns fit."""
        faults = []
        for split in ("train", "dev"):
            try:
                return self._read(path, split, sources)
            except ColumnError as error:  # noqa: PERF203 (two splits)
                faults.append(error)
        raise DataError(f"{faults[0]}; a file without labels can only be predicted: albert predict RUN --in FILE")

    def _read(self, path: Path, split: str, sources: Sources) -> Examples:
        layout = self.splits[split]
        table = read_table(path, width=layout.width, skip_bad=self.skip_short_rows or sources.skip_bad)
        return Examples.of(table, layout.columns, labelled=True)

    def _place(self, data: Path | None) -> Path:
        """Where the task's files are: `data` itself, its folder of the task's name, or the Hub's download."""
        if data is None:
            return self._download()
        data_directory(data)
        names = [name for split in self.splits.values() for name in split.files if not name.startswith("..")]
        for folder in (data / self.directory, data / self.hub.directory, data):
            if found_in(folder, names) or any(folder.glob("train-*.parquet")):
                return folder
        raise DataError(f"{data}: no files of {self.directory} there, nor in {self.directory}/ (train.tsv, dev.tsv, …)")

    def _download(self) -> Path:
        """The task's directory of `nyu-mll/glue`, downloaded once into the Hub's cache."""
        require_library("huggingface_hub", f"downloading {self.directory}")
        import huggingface_hub
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

        beside = [Path(name).parts[1] for name in self.hub.splits.values() if name.startswith("../")]
        wanted = [f"{directory}/*" for directory in (self.hub.directory, *beside)]
        try:
            root = huggingface_hub.snapshot_download(REPOSITORY, repo_type="dataset", allow_patterns=wanted)
        except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
            reason = str(error).split("\n", maxsplit=1)[0]
            raise DataError(
                f"{self.directory} could not be downloaded from {REPOSITORY} ({reason}); "
                f"pass --data with a directory that holds its files (train.tsv, dev.tsv)"
            ) from None
        return Path(root) / self.hub.directory

    def _read_hub(self, directory: Path, split: str) -> Examples | None:
        """A split as `nyu-mll/glue` stores it: Parquet, labels numbered, -1 where there is none."""
        hub = self.hub
        if split not in hub.splits:
            return None
        name = Path(hub.splits[split])
        paths = sorted((directory / name.parent).glob(f"{name.name}-*.parquet"))
        if not paths:
            return None
        whole = joined([read_table(path, kind="parquet") for path in paths], str(paths[0]))
        texts = whole.column(hub.first, "the text")
        numbers = whole.column("label", "the label")
        names = {str(number): label for number, label in enumerate(hub.labels)}
        hidden = {"-1", "-1.0", ""}
        return Examples(
            where=whole.where,
            ids=whole.column("idx", "the index"),
            texts=texts,
            pairs=None if hub.second is None else whole.column(hub.second, "the second text"),
            labels=None if set(numbers) <= hidden else [names.get(number, number) for number in numbers],
            lines=whole.lines,
            digest=whole.digest,
        )
