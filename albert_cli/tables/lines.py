"""Lines of a text file of any size, in constant memory; what is wrong with one is said with its number and offset."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import sys
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

from albert_cli.errors import TextError
from converters.files import Unchanged, file_errors

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

Errors = Literal["strict", "replace"]

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# The longest first: UTF-16's begins UTF-32's.
_OTHER_MARKS = {b"\xff\xfe\0\0": "UTF-32", b"\0\0\xfe\xff": "UTF-32", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
_CHUNK = 2**20
# A line is held in memory whole; texts are never this long, but binary files have no line ends.
LINE_BYTES = 8 * 2**20
STANDARD_INPUT = Path("-")
# Set in a thread that reads ahead: the event that ends it, for nothing else ends a read of a pipe that is silent.
ABANDONED: ContextVar[threading.Event | None] = ContextVar("ABANDONED", default=None)
_OFTEN = 0.1  # seconds


def where_of(path: Path) -> str:
    """What messages call a file."""
    return "standard input" if path == STANDARD_INPUT else str(path)


def read_lines(
    path: Path, *, errors: Errors = "strict", progress: Callable[[int], None] | None = None
) -> Iterator[str]:
    """The lines of a UTF-8 file without their ends (LF or CRLF) and without a byte-order mark; `-` is standard input.

    `progress` receives the bytes of each line. Raises TextError as `lines_of` does, and for an empty file;
    FileError where the file cannot be opened.
    """
    empty = True
    where = where_of(path)
    with file_errors(where), opened(path) as file:
        for line in lines_of(file, where, errors=errors, progress=progress):
            empty = False
            yield line
    if empty:
        raise TextError(where, "there is no text to read")


def lines_of(
    file: BinaryIO,
    where: str,
    *,
    errors: Errors = "strict",
    progress: Callable[[int], None] | None = None,
    ends: bool = False,
    advice: str = "convert it to UTF-8, or pass --errors replace",
) -> Iterator[str]:
    """The lines of an open file, with `ends` as they are; `where` is what messages call it.

    Raises TextError for a line that is not UTF-8 (unless `errors` is "replace"), one over LINE_BYTES, and UTF-16.
    """
    offset = 0
    for number, line in enumerate(_raw_lines(file, where), 1):
        if len(line) > LINE_BYTES:
            raise TextError(where, f"line {number} is longer than {LINE_BYTES // 2**20} MiB", "is this a text file?")
        start = len(_BYTE_ORDER_MARK) if number == 1 and line.startswith(_BYTE_ORDER_MARK) else 0
        body = line[start:].removesuffix(b"\n").removesuffix(b"\r")
        try:
            text = body.decode("utf-8", errors)
        except UnicodeDecodeError as error:
            place = offset + start + error.start
            raise TextError(
                where,
                f"line {number} is not UTF-8: byte 0x{body[error.start]:02x} at offset {place}",
                advice,
            ) from None
        yield text + line[start + len(body) :].decode() if ends else text
        offset += len(line)
        if progress:
            progress(len(line))


def _raw_lines(file: BinaryIO, where: str) -> Iterator[bytes]:
    """The lines with their ends: LF or CRLF, or CR alone in a file that has no LF at all."""
    first = file.readline(LINE_BYTES + 1)
    if mark := next((mark for mark in _OTHER_MARKS if first.startswith(mark)), None):
        raise TextError(
            where,
            f"{_OTHER_MARKS[mark]} by its byte-order mark, not UTF-8",
            f"convert it: iconv -f {_OTHER_MARKS[mark]} -t UTF-8",
        )
    if len(first) > 3 and first.count(b"\0") * 3 > len(first):
        raise TextError(where, "full of zero bytes", "if it is UTF-16, convert it: iconv -f UTF-16LE -t UTF-8")
    if first.endswith(b"\n") or b"\r" not in first[:-1]:
        if first:
            yield first
            yield from iter(lambda: file.readline(LINE_BYTES + 1), b"")
        return
    rest = first
    while more := file.read(_CHUNK):
        *lines, rest = (rest + more).splitlines(keepends=True)  # the last one may be incomplete
        yield from lines
        if len(rest) > LINE_BYTES:
            break
    yield from rest.splitlines(keepends=True)


def opened(path: Path) -> contextlib.AbstractContextManager[BinaryIO]:
    """The bytes of a file, which must not change meanwhile (FileError), or of standard input (`-`)."""
    if path == STANDARD_INPUT:
        return contextlib.nullcontext(standard_input())
    return Unchanged(path)


def standard_input() -> BinaryIO:
    """The bytes of standard input; a thread stops waiting for them once its `ABANDONED` is set."""
    given = sys.stdin.buffer
    try:
        waits = not given.seekable() and os.name == "posix"
        return io.BufferedReader(_Waiting(given.fileno(), given), _CHUNK) if waits else given
    except OSError:  # no file of the system's
        return given


class _Waiting(io.RawIOBase):
    def __init__(self, number: int, given: BinaryIO) -> None:
        super().__init__()
        self._number, self._given = number, given

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        abandoned = ABANDONED.get()
        while not select.select([self._number], [], [], _OFTEN if abandoned else None)[0]:
            if abandoned and abandoned.is_set():
                raise OSError(errno.ECANCELED, os.strerror(errno.ECANCELED))
        data = self._given.read1(len(memoryview(buffer)))  # type: ignore[attr-defined]
        memoryview(buffer)[: len(data)] = data
        return len(data)
