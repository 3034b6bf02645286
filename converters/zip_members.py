"""Members of zip archives that others wrote: opened, refused or found in the file, all in one place.

Layout of an archive: APPNOTE 4.3 (pkware.com).
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from converters.checkpoint import Array, fill
from converters.errors import CorruptError
from converters.files import Bounded, file_errors, open_regular

# What zipfile raises for a damaged, encrypted or hostile archive.
FAULTS = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OverflowError, RuntimeError, ValueError)
# A member's own header ends with the lengths of its name and of an extra field, which come before its bytes (4.3.7).
_LOCAL_HEADER = struct.Struct("<26xHH")


@contextmanager
def opened(path: Path, kind: str) -> Iterator[zipfile.ZipFile]:
    """A zip archive, read through a `Bounded` file; CorruptError says that it is no sound `kind`."""
    try:
        with file_errors(path), open_regular(path) as file, zipfile.ZipFile(Bounded(file, path)) as archive:
            yield archive
    except FAULTS as error:
        raise CorruptError(path, f"not a sound {kind} ({error})") from None


def check_members(where: Path, infos: Sequence[zipfile.ZipInfo], *, most: int) -> None:
    """CorruptError for more than `most` bytes in all, for encryption, and for compression by rare methods."""
    total = sum(info.file_size for info in infos)
    if total > most:
        raise CorruptError(where, f"decompresses to {total} bytes, over the limit of {most} (decompression bomb?)")
    for info in infos:
        member = f"member {info.filename!r}"
        if info.flag_bits & 1:
            raise CorruptError(where, f"{member} is encrypted", "save it without a password")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise CorruptError(where, f"{member} is compressed by another method than deflate", "save it with that")


def check_names(where: Path, infos: Sequence[zipfile.ZipInfo]) -> None:
    """CorruptError where two members have one name."""
    twice = [name for name, times in Counter(info.filename for info in infos).items() if times > 1]
    if twice:
        raise CorruptError(where, f"member {twice[0]!r} occurs twice")


def offset_of(file: IO[bytes], info: zipfile.ZipInfo) -> int:
    """Where the bytes of a member begin in an archive's file; 0 lengths are taken where its header is cut off."""
    file.seek(info.header_offset)
    local = file.read(_LOCAL_HEADER.size)
    name, extra = _LOCAL_HEADER.unpack(local) if len(local) == _LOCAL_HEADER.size else (0, 0)
    return info.header_offset + _LOCAL_HEADER.size + int(name) + int(extra)


def fill_stored(array: Array, path: Path, info: zipfile.ZipInfo, start: int, what: str) -> None:
    """Read an uncompressed member, from its byte `start` on, straight into a contiguous array; its CRC-32 is checked.

    Several times as fast as through zipfile. CorruptError calls it `what`.
    """
    with file_errors(path), open_regular(path) as file:
        offset = offset_of(file, info)
        file.seek(offset)
        crc = zlib.crc32(file.read(start))
    if fill(array, path, offset + start, what, lambda piece, crc: zlib.crc32(piece.data, crc), crc) != info.CRC:
        raise CorruptError(path, f"{what} is damaged (its CRC-32 does not match)")
