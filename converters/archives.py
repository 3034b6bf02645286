"""Models inside `.tar`, `.tar.gz`, `.tgz` and `.zip` archives: nothing is ever unpacked to where a member says.

The plain files of an archive are copied into a private temporary directory, under names made of their checked parts,
and read from there as any directory is. Links, devices and pipes are never made. What an archive may hold is limited
before and while it is copied. The directory goes when nothing reads from it any more, or when the program ends.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import os
import re
import stat
import tarfile
import tempfile
import weakref
import zipfile
from pathlib import Path
from typing import IO

from converters import zip_members
from converters.checkpoint import Array, Checkpoint, Tensor
from converters.errors import CorruptError, errors_name, renamed
from converters.files import Bounded, file_errors, open_regular, over_limit
from converters.scratch import Scratch

_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".zip")
_GZIP, _ZIP, _USTAR, _USTAR_AT = b"\x1f\x8b", b"PK\3\4", b"ustar", 257

_MOST_MEMBERS = 10_000
_MOST_DEPTH = 16
# Weights hardly shrink; 12 equal layers of rounded numbers by the best packers do by a factor of about 30.
_MOST_EXPANSION = 50
_SLACK_BYTES = 64 * 2**20
_PIECE_BYTES = 2**20
_FAULTS = (*zip_members.FAULTS, tarfile.TarError, gzip.BadGzipFile, IndexError)
# What macOS adds to archives.
_IGNORED_MEMBERS = re.compile(r"__MACOSX(/.*)?|(.*/)?(\._[^/]*|\.DS_Store)")


def is_archive(path: Path) -> bool:
    """Whether a file is an archive by its first bytes or, where those are damaged, its name."""
    if not path.is_file():
        return False
    if path.name.lower().endswith(_SUFFIXES):
        return True
    with file_errors(path), open_regular(path) as file:
        start = file.read(_USTAR_AT + len(_USTAR))
    return start.startswith((_GZIP, _ZIP)) or start.endswith(_USTAR)


def split(path: Path) -> tuple[Path, Path]:
    """A path into an archive, such as `models.zip/base`, as two: the archive, and the place in it."""
    for parent in path.parents:
        if is_archive(parent):
            return parent, path.relative_to(parent)
    return path, Path()


class Opened:
    """An archive's plain files in a private directory, `root`, that is removed once this object is gone.

    Raises CorruptError for an archive that is damaged, or contains what no model does.
    """

    def __init__(self, archive: Path) -> None:
        self.archive = archive
        with file_errors(_temporary()):
            scratch = Scratch(Path(tempfile.gettempdir()), "albert-archive-")
            self.root = scratch.place
            self._remove = weakref.finalize(self, _remove, scratch, os.getpid())
            scratch.make()
            self.root.mkdir()
        self.passed_over = 0
        try:
            with self.errors_name_archive():
                self._copy()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Remove the directory now."""
        self._remove()

    def errors_name_archive(self) -> contextlib.AbstractContextManager[None]:
        """Errors name the archive, not the private directory."""
        return errors_name(self.archive, self.root)

    def keep_open(self, checkpoint: Checkpoint) -> Checkpoint:
        """The checkpoint that was read from here; the directory stays as long as any of its tensors does."""

        def named(where: str) -> str:
            return renamed(where, self.root, self.archive)

        tokenizer = checkpoint.tokenizer
        return dataclasses.replace(
            checkpoint.reading(lambda tensor: _Read(self, tensor)),
            tokenizer=dataclasses.replace(
                tokenizer,
                origin=named(tokenizer.origin),
                notes=tuple(map(named, tokenizer.notes)),
                fault=None if tokenizer.fault is None else named(tokenizer.fault),
            ),
            where=named(checkpoint.where),
        )

    def _copy(self) -> None:
        with file_errors(self.archive), open_regular(self.archive) as file:
            size = os.fstat(file.fileno()).st_size
            start = file.read(_USTAR_AT + len(_USTAR))
            file.seek(0)
            most = _MOST_EXPANSION * size + _SLACK_BYTES
            try:
                if start.startswith(_ZIP):
                    self._copy_zip(Bounded(file, self.archive), most)
                elif start.startswith(_GZIP):
                    with gzip.open(file) as unpacked:
                        self._copy_tar(Bounded(unpacked, self.archive, most), most)
                else:
                    self._copy_tar(Bounded(file, self.archive), size)
            except _FAULTS as error:
                raise CorruptError(self.archive, f"not a sound archive, or a truncated one ({error})") from None

    def _copy_tar(self, file: Bounded, most: int) -> None:
        with tarfile.open(fileobj=file, mode="r:", errorlevel=1) as archive:
            total = 0
            for number, member in enumerate(archive):
                self._count(number)
                total += member.size
                if total > most or member.size < 0:
                    raise CorruptError(self.archive, over_limit(most))
                if member.issparse():
                    raise CorruptError(self.archive, f"member {member.name!r} is a sparse file, which no model's is")
                target = self._target(member.name)
                if target is not None and member.isreg() and (content := archive.extractfile(member)):
                    self._write(target, member.name, content, member.size)
                else:
                    self.passed_over += not (member.isreg() or member.isdir())
            if not file.last or file.last.strip(b"\0"):  # tarfile takes a damaged header for the end
                raise EOFError("it ends without the mark of its end")
            while file.read(_PIECE_BYTES):  # the checksum of gzip comes last
                pass

    def _copy_zip(self, file: Bounded, most: int) -> None:
        with zipfile.ZipFile(file) as archive:
            infos = archive.infolist()
            self._count(len(infos) - 1)
            zip_members.check_members(self.archive, infos, most=most)
            for info in infos:
                kind = stat.S_IFMT(info.external_attr >> 16)
                target = self._target(info.filename)
                if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                    self.passed_over += 1
                elif target is not None and not info.is_dir():
                    with archive.open(info) as content:
                        self._write(target, info.filename, content, info.file_size)

    def _count(self, number: int) -> None:
        if number >= _MOST_MEMBERS:
            raise CorruptError(self.archive, f"holds more than {_MOST_MEMBERS} members, which no model does")

    def _target(self, name: str) -> Path | None:
        """Where a member goes; None for what is left out. Names that lead elsewhere are refused."""
        if name.startswith("/") or "\\" in name or "\0" in name or ".." in name.split("/"):
            raise CorruptError(self.archive, f"member {name!r} lies outside the archive, so nothing of it is read")
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if len(parts) > _MOST_DEPTH:
            raise CorruptError(self.archive, f"member {name!r} lies more than {_MOST_DEPTH} directories deep")
        if not parts or _IGNORED_MEMBERS.fullmatch("/".join(parts)):
            return None
        return self.root.joinpath(*parts)

    def _write(self, target: Path, name: str, content: IO[bytes], size: int) -> None:
        """Copy one member's bytes; a name that is taken already is refused."""
        with file_errors(_temporary()):
            if target.exists() or any(above.is_file() for above in target.parents):
                raise CorruptError(self.archive, f"member {name!r} occurs twice")
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(target, "xb") as made:
                left = size
                while left and (piece := content.read(min(left, _PIECE_BYTES))):
                    left -= len(piece)
                    made.write(piece)
                if left:
                    raise CorruptError(self.archive, f"truncated inside member {name!r}")
                content.read(1)  # the end, where zipfile compares the CRC-32


@dataclasses.dataclass(frozen=True)
class _Read:
    """Reads a tensor of an archive that stays open as long as this does."""

    opened: Opened
    tensor: Tensor

    def __call__(self) -> Array:
        with self.opened.errors_name_archive():
            return self.tensor.read()


def _temporary() -> str:
    return f"{tempfile.gettempdir()} (the temporary directory; TMPDIR names another one)"


def _remove(scratch: Scratch, owner: int) -> None:
    """Remove the directory, in the process that made it: a forked one may lose its copy of the object earlier."""
    if os.getpid() == owner:
        scratch.remove()
