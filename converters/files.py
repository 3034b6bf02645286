"""Bounded reads: no file is taken into memory, or waited for, unless it is a regular one of a plausible size."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

from converters.errors import CorruptError, FileError

if TYPE_CHECKING:
    import gzip

# Configs, vocabularies and indices are a few megabytes at the most.
SMALL_FILE_BYTES = 64 * 2**20
_MOST_AT_ONCE = 4 * 2**20
_BLOCK_BYTES = 2**20


@contextlib.contextmanager
def file_errors(where: Path | str) -> Iterator[None]:
    """Turn the system's errors on a file into a FileError, one line that says what to do."""
    try:
        yield
    except OSError as error:
        raise FileError(error.filename or where, _refusal(error)) from error


def _refusal(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file or directory"
    if isinstance(error, IsADirectoryError):
        return "a directory where a file was expected"
    if isinstance(error, NotADirectoryError):
        return "a part of the path is a file, not a directory"
    if isinstance(error, PermissionError):
        return "permission denied"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full; free some space and try again"
    if error.errno == errno.EFBIG:
        return "the file would exceed the size limit set for this process"
    if error.errno == errno.EROFS:
        return "the file system is read-only"
    return error.strerror or str(error)


def read_small(path: Path, limit: int = SMALL_FILE_BYTES) -> bytes:
    """The bytes of a small regular file; anything else (FIFO, device, huge file) is refused."""
    with file_errors(path), open_regular(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise CorruptError(path, f"larger than {limit // 2**20} MiB, so not the small file it should be")
    return data


def read_optional(path: Path) -> bytes | None:
    """The bytes of a small file, or None where there is none."""
    return read_small(path) if path.exists() else None


def open_regular(path: Path) -> io.BufferedReader:
    """Open a regular file for reading; pipes and devices are refused before they can block."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise CorruptError(path, "a pipe or device, not a regular file")
    return open(path, "rb")


def sha256_of(file: IO[bytes]) -> str:
    """The SHA-256 of an open file, read from its beginning in blocks; left at its beginning."""
    sha = hashlib.sha256()
    file.seek(0)
    while block := file.read(_BLOCK_BYTES):
        sha.update(block)
    file.seek(0)
    return sha.hexdigest()


def over_limit(most: int) -> str:
    """What is said of an archive that grows, while it is read, beyond a number of bytes."""
    return f"decompresses to more than the limit of {most} bytes (decompression bomb?)"


class Bounded(io.RawIOBase):
    """A file for the libraries that read archives, which trust every length in them.

    It gives a few megabytes at once and no more (a list of members or a long name is taken whole), and `most` bytes in
    all, if given. CorruptError names `where`.
    """

    def __init__(self, file: io.BufferedReader | gzip.GzipFile, where: Path, most: int | None = None) -> None:
        super().__init__()
        self._file, self._where, self._most = file, where, most
        self.last = b""  # what was read last

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size if 0 <= size <= _MOST_AT_ONCE else _MOST_AT_ONCE + 1)
        if len(data) > _MOST_AT_ONCE:
            raise CorruptError(self._where, f"holds a list or name longer than {_MOST_AT_ONCE} bytes; no model does")
        self._check(self._file.tell())
        self.last = data
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence == 0:
            self._check(offset)
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def _check(self, place: int) -> None:
        if self._most is not None and place > self._most:
            raise CorruptError(self._where, over_limit(self._most))
