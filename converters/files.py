"""Bounded reads: no file is taken into memory, or waited for, unless it is a regular one of a plausible size."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import stat
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

from converters.errors import CorruptError, FileError

if TYPE_CHECKING:
    import gzip

# Configs, vocabularies and indices are a few megabytes at the most.
SMALL_FILE_BYTES = 64 * 2**20
_MOST_AT_ONCE = 4 * 2**20
_BLOCK_BYTES = 2**20
_AGAIN = "run again once nothing writes to it"


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


def open_regular(path: Path) -> Unchanged:
    """Open a regular file for reading; pipes and devices are refused before they can block."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise CorruptError(path, "a pipe or device, not a regular file")
    file = Unchanged(path)
    if (noted := _noted.get()) is not None:
        noted.setdefault(path, file.version)
    return file


class Unchanged(io.BufferedReader):
    """A file to read in a `with`, at whose end FileError says if it has changed meanwhile: what was read is neither."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self._path = path
        self.version = _Version.of(os.fstat(self.fileno()))

    def check(self) -> None:
        """FileError where the file has changed by now."""
        now = os.fstat(self.fileno())
        if stat.S_ISREG(now.st_mode) and _Version.of(now) != self.version:
            sizes = f"{self.version.bytes} bytes at first, {now.st_size} now"
            raise FileError(self._path, f"changed while it was read ({sizes})", _AGAIN)

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        try:
            if kind is None and not self.closed:  # by a `with` inside this one, which has looked
                self.check()
        finally:
            self.close()


class _Version(NamedTuple):
    """What tells two states of what lies at a path apart."""

    inode: int
    bytes: int
    changed: int

    @classmethod
    def of(cls, found: os.stat_result) -> _Version:
        return cls(found.st_ino, found.st_size, found.st_mtime_ns)


_noted: ContextVar[dict[Path, _Version] | None] = ContextVar("noted", default=None)


@contextlib.contextmanager
def noting() -> Iterator[Callable[[], None]]:
    """Note the files that are opened meanwhile; the function given raises FileError where one has changed since."""
    noted: dict[Path, _Version] = {}

    def check() -> None:
        for path, version in noted.items():
            with file_errors(path):
                if _Version.of(path.stat()) != version:
                    raise FileError(path, "was changed or replaced since it was opened", _AGAIN)

    token = _noted.set(noted)
    try:
        yield check
    finally:
        _noted.reset(token)


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
