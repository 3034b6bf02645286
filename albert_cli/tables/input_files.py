"""Which files are meant, what each holds by its name, and its bytes with any compression taken off."""

from __future__ import annotations

import contextlib
import glob
import io
import lzma
import os
import warnings
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple, cast

from albert_cli.errors import Notice, TextError
from albert_cli.tables.lines import STANDARD_INPUT
from converters.files import file_errors

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
_COMPRESSED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ\0": "xz"}
COMPRESSED_SUFFIXES = (".gz", ".gzip", ".zst", ".zstd", ".xz")
# The most files of other kinds that are listed.
_SHOWN = 5


def suffix_of(file: Path) -> str:
    """The ending that says a file's kind, in lower case, without that of compression: `.csv` of `T.CSV.gz`."""
    name = file.name.lower()
    for ending in COMPRESSED_SUFFIXES:
        name = name.removesuffix(ending)
    return Path(name).suffix


def plain_name(file: Path) -> str:
    """The file's name without the endings of compression and kind: `texts` of `texts.csv.gz`."""
    name = file.name
    for ending in COMPRESSED_SUFFIXES:
        name = name[: -len(ending)] if name.lower().endswith(ending) else name
    return Path(name).stem if Path(name).suffix.lower() in KINDS else name


def kind_of(file: Path, options: Collection[str] = ()) -> Kind:
    """What a file holds by its name; lines of text on standard input and in a pipe without a suffix.

    Raises TextError for another name; `options` are those of the command that its message may advise.
    """
    if streams(file):
        return "txt"
    suffix = suffix_of(file)
    if not suffix and file.exists() and not file.is_file():
        return "txt"
    if suffix not in KINDS:
        known = ", ".join(KINDS)
        seen = f"files of the kind {suffix!r} are" if suffix else "a file without a suffix is"
        advice = "; --input-format says what it holds" if "--input-format" in options else ""
        raise TextError(file, f"{seen} not read", f"tables are {known}, gzip, zstd or xz too{advice}")
    return KINDS[suffix]


def streams(file: Path) -> bool:
    """Whether a path is standard input or a shell's <(command), which can be read once."""
    return file == STANDARD_INPUT or (file.parent == Path("/dev/fd") and not file.is_file())


def there(path: Path) -> bool:
    """Whether a path names something: a file or directory that exists, or the files of a glob pattern."""
    return path.exists() or (glob.has_magic(str(path)) and any(glob.iglob(str(path), recursive=True)))  # noqa: PTH207


class Files(NamedTuple):
    """The files that a path names, in order, what each holds, and those of a directory that are of other kinds."""

    files: list[Path]
    kinds: list[Kind]
    skipped: list[Path]


def find_files(
    path: str, kind: Kind | None = None, *, delimiter: str | None = None, options: Collection[str] = ()
) -> Files:
    """The files of a path, directory or glob pattern, `-` for standard input; `kind` is that of all of them.

    Raises TextError where there is none, where a name does not say the kind (see `kind_of`), and for a `delimiter`
    where no file has any.
    """
    files, skipped = _find(path)
    if not skipped and files == [Path(path)] != [STANDARD_INPUT]:
        with file_errors(path):
            files[0].stat()  # what is not there has no kind
    kinds = [kind or kind_of(file, options) for file in files]
    if delimiter and not {"csv", "tsv"} & set(kinds):
        raise TextError(path, f"--delimiter is for CSV and TSV, and this is {', '.join(sorted(set(kinds)))}")
    return Files(files, kinds, skipped)


def warn_of_skipped(path: str, skipped: list[Path]) -> None:
    """A notice of the files of a directory that are not read."""
    if skipped:
        names = ", ".join(file.name for file in skipped[:_SHOWN]) + (", …" if len(skipped) > _SHOWN else "")
        warnings.warn(f"{path}: files of other kinds are left out ({len(skipped)}): {names}", Notice, stacklevel=2)


def _find(path: str) -> tuple[list[Path], list[Path]]:
    if path == str(STANDARD_INPUT):
        return [STANDARD_INPUT], []
    given = Path(path)
    if given.is_dir():
        found = sorted(
            file
            for file in given.rglob("*")
            if not any(part.startswith((".", "_")) for part in file.relative_to(given).parts) and not file.is_dir()
        )
        files = [file for file in found if suffix_of(file) in KINDS and not _is_special(file)]
        if not files:
            raise TextError(path, f"the directory holds no file of a known kind ({', '.join(KINDS)})")
        return files, [file for file in found if file not in set(files)]
    if not given.exists() and glob.has_magic(path):
        matches = sorted(Path(name) for name in glob.glob(path, recursive=True))  # noqa: PTH207
        matches = [match for match in matches if not (match.is_dir() or _is_special(match))]
        if not matches:
            raise TextError(path, "no file matches the pattern")
        return matches, []
    return [given], []


def _is_special(file: Path) -> bool:
    """Whether it is a pipe or device that nobody named: it may have no writer, and would be waited for."""
    return file.exists() and not file.is_file()


def would_read(path: str, file: Path) -> bool:
    """Whether a file that is written there would be one of those of a directory or glob pattern from then on."""
    given, real = Path(path), Path(os.path.realpath(file))
    if given.is_dir():
        return suffix_of(file) in KINDS and Path(os.path.realpath(given)) in real.parents
    if given.exists() or not glob.has_magic(path):
        return False
    folder = given.parent
    if glob.has_magic(str(folder)):
        return real.match(os.path.abspath(path))
    return real.match(str(Path(os.path.realpath(folder), given.name)))


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
    """The bytes of a file, gzip, zstd and xz taken off: known by how they begin, whatever the name is.

    TextError where the compressed data is damaged.
    """
    with opened as file:
        below = file if isinstance(file, io.BufferedReader) else io.BufferedReader(file)  # type: ignore[type-var]
        head = below.peek(6)
        codec = next((codec for magic, codec in _COMPRESSED.items() if head.startswith(magic)), None)
        if codec is None:
            yield Stream(below, below, False)
            return
        try:
            with _unpacked(below, codec) as stream:
                yield Stream(stream, below, True)
        except (OSError, EOFError, lzma.LZMAError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise TextError(where, f"the compressed data is damaged or cut short ({error})") from None


def _unpacked(file: BinaryIO, codec: str) -> BinaryIO:
    if codec == "xz":
        return cast(BinaryIO, lzma.LZMAFile(file))
    import pyarrow as pa

    return io.BufferedReader(pa.CompressedInputStream(pa.PythonFile(file, mode="r"), codec))
