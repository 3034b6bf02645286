"""Texts in folders: `data/SPLIT/LABEL/*.txt`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from albert_cli.errors import DataError
from albert_cli.tasks.examples import Examples
from albert_cli.tasks.layouts.tables import Tables
from albert_cli.tasks.task import Sources
from converters.files import file_errors, open_regular


@dataclass(frozen=True)
class Folders:
    """One text per file, the folder's name its label; where there is no `dev`, `test` serves as it."""

    task: str
    columns = None
    options = ()

    def read(self, sources: Sources, split: str) -> Examples | None:
        """A split in folders; `unsup` is no label."""
        if sources.data is None:
            raise DataError(
                f"{self.task} needs --data: a directory with train/pos, train/neg and the same under dev or test"
            )
        directory = sources.data / split
        if split == "dev" and not directory.is_dir():
            directory = sources.data / "test"
        return _read(directory) if directory.is_dir() else None

    def read_file(self, path: Path, sources: Sources) -> Examples:
        """The rows of a table: one file holds no folders."""
        return Tables().read_file(path, sources)


def _read(directory: Path) -> Examples:
    labels = sorted(item.name for item in directory.iterdir() if item.is_dir() and item.name != "unsup")
    files = [(label, path) for label in labels for path in sorted((directory / label).glob("*.txt"))]
    if not files:
        raise DataError(f"{directory}: no folders of .txt files, as pos/*.txt and neg/*.txt")
    sha, texts = hashlib.sha256(), []
    for label, path in files:
        with file_errors(path), open_regular(path) as file:
            data = file.read()
        sha.update(f"{label}/{path.name}\0{len(data)}\0".encode() + data)
        try:
            texts.append(data.decode("utf-8-sig").replace("<br />", " "))
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: not UTF-8 text (byte {error.start})") from None
    return Examples(
        where=str(directory),
        ids=[f"{label}/{path.stem}" for label, path in files],
        texts=texts,
        pairs=None,
        labels=[label for label, _ in files],
        lines=list(range(1, len(files) + 1)),
        digest=sha.hexdigest(),
    )
