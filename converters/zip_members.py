"""Members of zip archives: those that others wrote are opened, refused or found in the file here, and ours written.

Layout of an archive: APPNOTE 4.3 (pkware.com).
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
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
_CENTRAL_HEADER = struct.Struct("<4s4B4H3I5H2I")  # 4.3.12
_END_64 = struct.Struct("<4sQ2H2I4Q")  # 4.3.14
_LOCATOR_64 = struct.Struct("<4sIQI")  # 4.3.15
_END = struct.Struct("<4s4H2IH")  # 4.3.16
# So much has room in a header without ZIP64 (4.4.8); some readers take it for signed.
_MOST_PLAIN = (1 << 31) - 1
# Fixed, so that the same members give the same bytes.
_DATE = (1980, 1, 1, 0, 0, 0)
_DOS_DATE = 1 << 5 | 1
_UNIX = 3
_VERSION, _VERSION_64 = 20, 45
_EMPTY_32, _MOST_MEMBERS = (1 << 32) - 1, (1 << 16) - 1


class Archive:
    """Writes a zip archive to an open file, byte for byte as zipfile does.

    zipfile has destructors, which complain on stderr where Ctrl-C stops the writing: this has nothing to destroy.
    """

    def __init__(self, file: IO[bytes], compression: int = zipfile.ZIP_STORED) -> None:
        self._file, self._compression = file, compression
        self._infos: list[zipfile.ZipInfo] = []

    def add(self, name: str, pieces: Iterable[bytes | memoryview], *, size: int, mode: int) -> None:
        """Write a member of `size` bytes, piece by piece, with the permissions `mode`; names are ASCII."""
        file, info = self._file, zipfile.ZipInfo(name, _DATE)
        info.create_system, info.external_attr, info.compress_type = _UNIX, mode << 16, self._compression
        info.file_size, info.compress_size, info.CRC, info.header_offset = size, 0, 0, file.tell()
        packer = zlib.compressobj(wbits=-zlib.MAX_WBITS) if self._compression == zipfile.ZIP_DEFLATED else None
        file.write(info.FileHeader(zip64=size > _MOST_PLAIN))
        start = file.tell()
        for piece in pieces:
            info.CRC = zlib.crc32(piece, info.CRC)
            file.write(piece if packer is None else packer.compress(piece))
        file.write(b"" if packer is None else packer.flush())
        end = file.tell()
        info.compress_size = end - start
        file.seek(info.header_offset)
        file.write(info.FileHeader(zip64=size > _MOST_PLAIN))  # with what was not known before
        file.seek(end)
        self._infos.append(info)

    def finish(self) -> None:
        """Write the central directory, which comes last."""
        file = self._file
        start = file.tell()
        for info in self._infos:
            file.write(_central(info))
        end, count = file.tell(), len(self._infos)
        size = end - start
        if max(start, size) > _MOST_PLAIN or count > _MOST_MEMBERS:
            versions = (_VERSION_64, _VERSION_64)
            file.write(_END_64.pack(b"PK\6\6", _END_64.size - 12, *versions, 0, 0, count, count, size, start))
            file.write(_LOCATOR_64.pack(b"PK\6\7", 0, end, 1))
        count, size, start = min(count, _MOST_MEMBERS), min(size, _EMPTY_32), min(start, _EMPTY_32)
        file.write(_END.pack(b"PK\5\6", 0, 0, count, count, size, start, 0))


def _central(info: zipfile.ZipInfo) -> bytes:
    """What the central directory says of a member."""
    sizes, offset, large = (info.compress_size, info.file_size), info.header_offset, list[int]()
    if max(sizes) > _MOST_PLAIN:
        large, sizes = [info.file_size, info.compress_size], (_EMPTY_32, _EMPTY_32)
    if offset > _MOST_PLAIN:
        large, offset = [*large, offset], _EMPTY_32
    extra = struct.pack(f"<2H{len(large)}Q", 1, 8 * len(large), *large) if large else b""
    version, name = _VERSION_64 if large else _VERSION, info.filename.encode("ascii")
    versions, rest = (version, _UNIX, version, 0), (0, 0, 0, info.external_attr, offset)
    of_data = (0, info.compress_type, 0, _DOS_DATE, info.CRC, *sizes)
    return _CENTRAL_HEADER.pack(b"PK\1\2", *versions, *of_data, len(name), len(extra), *rest) + name + extra


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
