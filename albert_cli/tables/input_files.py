"""What an input file holds by its name, and its bytes with any compression taken off."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

from albert_cli.errors import TextError

Kind = Literal["txt", "csv", "tsv", "jsonl", "parquet"]
KINDS: dict[str, Kind] = {
    ".txt": "txt",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_COMPRESSED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
TABLES = (".csv", ".tsv", ".jsonl", ".parquet")  # what tables are written as
COMPRESSED_SUFFIXES = (".gz", ".gzip", ".zst", ".zstd")


def suffix_of(file: Path) -> str:
    """The ending that tells a file's kind, in lower case, without that of compression: `.csv` of `T.CSV.gz`."""
    name = file.name.lower()
    for ending in COMPRESSED_SUFFIXES:
        name = name.removesuffix(ending)
    return Path(name).suffix


def found_in(directory: Path, names: Iterable[str]) -> list[Path]:
    """The files of these names in a directory, as they are or compressed."""
    every = (directory / f"{name}{ending}" for name in names for ending in ("", *COMPRESSED_SUFFIXES))
    return [path for path in every if path.is_file()]


class Stream(NamedTuple):
    """A file as it reads after decompression, and `below` it the file itself."""

    file: BinaryIO
    below: BinaryIO
    compressed: bool

    def position(self) -> int:
        """The bytes of the file itself that have been read."""
        try:
            return self.below.tell()
        except (OSError, ValueError):
            return 0


@contextlib.contextmanager
def decompressed(opened: contextlib.AbstractContextManager[BinaryIO], where: str) -> Iterator[Stream]:
    """The bytes of a file, gzip and zstd taken off: known by how they begin, whatever the name is."""
    with opened as file:
        below = file if isinstance(file, io.BufferedReader) else io.BufferedReader(file)  # type: ignore[type-var]
        head = below.peek(4)
        codec = next((codec for magic, codec in _COMPRESSED.items() if head.startswith(magic)), None)
        if codec is None:
            yield Stream(below, below, False)
            return
        import pyarrow as pa

        try:
            with io.BufferedReader(pa.CompressedInputStream(pa.PythonFile(below, mode="r"), codec)) as stream:
                yield Stream(stream, below, True)
        except OSError as error:
            if error.errno is not None:
                raise
            raise TextError(f"{where}: the compressed data is damaged or cut short ({error})") from None
