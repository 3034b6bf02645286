"""Lines of a text file of any size, in constant memory; what is wrong with one is said with its number and offset."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Literal

from albert_cli.errors import TextError
from converters.files import explained

Errors = Literal["strict", "replace"]

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# A line is held in memory whole; nobody writes a text of this length, but binary files have no line ends.
LINE_BYTES = 64 * 2**20
STANDARD_INPUT = Path("-")


def read_lines(
    path: Path, *, errors: Errors = "strict", progress: Callable[[int], None] | None = None
) -> Iterator[str]:
    """The lines of a UTF-8 file without their ends (LF or CRLF) and without a byte-order mark; `-` is standard input.

    `progress` is told the bytes of each line. Raises TextError for an empty file, a line that is not UTF-8 (unless
    `errors` is "replace") and one over LINE_BYTES; CheckpointError where the file cannot be opened.
    """
    offset = 0
    with explained(path), _opened(path) as file:
        for number, line in enumerate(iter(lambda: file.readline(LINE_BYTES + 1), b""), 1):
            if len(line) > LINE_BYTES:
                raise TextError(f"{path}: line {number} is longer than {LINE_BYTES // 2**20} MiB; is this a text file?")
            start = len(_BYTE_ORDER_MARK) if number == 1 and line.startswith(_BYTE_ORDER_MARK) else 0
            body = line[start:].removesuffix(b"\n").removesuffix(b"\r")
            try:
                yield body.decode("utf-8", errors)
            except UnicodeDecodeError as error:
                place = offset + start + error.start
                raise TextError(
                    f"{path}: line {number} is not UTF-8: byte 0x{body[error.start]:02x} at offset {place}; "
                    "convert it to UTF-8, or pass --errors replace"
                ) from None
            offset += len(line)
            if progress:
                progress(len(line))
    if not offset:
        raise TextError(f"{path}: the file is empty; there is no text to read")


def _opened(path: Path) -> contextlib.AbstractContextManager[BinaryIO]:
    if path == STANDARD_INPUT:
        return contextlib.nullcontext(sys.stdin.buffer)
    return open(path, "rb")
