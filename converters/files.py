"""Reading and writing files safely: bounded reads, refuse-or-force, write beside then rename, optional libraries."""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import io
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from converters.errors import CheckpointError, CorruptError, MissingLibraryError, TargetError

# Configs, vocabularies and indices are a few megabytes at the most.
SMALL_FILE_BYTES = 64 * 2**20


def need(module: str, purpose: str, *, package: str | None = None) -> None:
    """Raise MissingLibraryError with the pip command when `module` is not installed; its own ImportErrors pass."""
    if importlib.util.find_spec(module) is None:
        raise MissingLibraryError(
            f"{purpose} needs the library {module!r}, which is not installed: pip install '{package or module}'"
        )


@contextlib.contextmanager
def explained(where: Path | str) -> Iterator[None]:
    """Turn the system's errors on a file into one line that says what to do."""
    try:
        yield
    except FileNotFoundError as error:
        raise CheckpointError(f"{error.filename or where}: no such file or directory") from error
    except IsADirectoryError as error:
        raise CheckpointError(f"{error.filename or where}: a directory where a file was expected") from error
    except NotADirectoryError as error:
        raise CheckpointError(f"{error.filename or where}: a part of the path is a file, not a directory") from error
    except PermissionError as error:
        raise CheckpointError(f"{error.filename or where}: permission denied") from error
    except OSError as error:
        name = error.filename or where
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise CheckpointError(f"{name}: the disk is full; free some space and try again") from error
        if error.errno == errno.EFBIG:
            raise CheckpointError(f"{name}: the file would exceed the size limit set for this process") from error
        if error.errno == errno.EROFS:
            raise CheckpointError(f"{name}: the file system is read-only") from error
        raise CheckpointError(f"{name}: {error.strerror or error}") from error


def read_small(path: Path, limit: int = SMALL_FILE_BYTES) -> bytes:
    """The bytes of a small regular file; anything else (FIFO, device, huge file) is refused."""
    with explained(path), open_regular(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise CorruptError(f"{path}: larger than {limit // 2**20} MiB, so not the small file it should be")
    return data


def read_optional(path: Path) -> bytes | None:
    """The bytes of a small file, or None where there is none."""
    return read_small(path) if path.exists() else None


def open_regular(path: Path) -> io.BufferedReader:
    """Open a regular file for reading; pipes and devices are refused before they can block."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise CorruptError(f"{path}: a pipe or device, not a regular file")
    return open(path, "rb")


def check_target(target: Path, *, force: bool, sources: Sequence[Path], ours: re.Pattern[str] | None) -> None:
    """Refuse a target that exists (unless `force`), is the source, or cannot be written (TargetError).

    `ours` matches the names that the format writes into a directory; None where the target is one file.
    """
    for source in sources:
        if target.exists() and source.exists() and target.samefile(source):
            raise TargetError(f"{target}: the target is the source itself; name another target")
    if target.is_symlink() and not target.exists():
        raise TargetError(f"{target}: a symbolic link to nothing; remove it or name another target")
    if target.exists():
        if ours is None and target.is_dir():
            raise TargetError(f"{target}: a directory, where this format writes one file; name a file")
        if ours is not None and not target.is_dir():
            raise TargetError(f"{target}: a file, where this format writes a directory; name a directory")
        taken = target.is_file() or any(ours.fullmatch(entry.name) for entry in target.iterdir() if ours)
        if taken and not force:
            raise TargetError(f"{target}: exists already; --force replaces the model in it")
    parent = _nearest(target)
    if not parent.is_dir():
        raise TargetError(f"{parent}: a file, so {target} cannot be made below it")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise TargetError(f"{parent}: no permission to write there")


@contextlib.contextmanager
def staged(target: Path, *, force: bool, ours: re.Pattern[str] | None) -> Iterator[Path]:
    """Yield a place beside `target` to build in; on success it takes the target's place, else it vanishes.

    A new directory or file appears by one rename. Into an existing directory the files are renamed one by one, and
    only files that match `ours` are replaced or removed: a user's other files stay.
    """
    target = Path(os.path.abspath(target))
    made = _make_parents(target.parent)
    _sweep(target)
    beside = target.parent / f".{target.name}.albert-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        with explained(target):
            if ours is not None:
                beside.mkdir()
            yield beside
            _sync(beside)
            if ours is not None:
                _place_directory(beside, target, ours, force=force)
            else:
                _place_file(beside, target, force=force)
            _sync_entry(target.parent)
    except BaseException:
        _remove(beside)
        for directory in made:
            with contextlib.suppress(OSError):
                directory.rmdir()
        raise


@contextlib.contextmanager
def syncing(path: Path) -> Iterator[None]:
    """Bring what was written to the disk while the work goes on."""
    with ThreadPoolExecutor(1) as pool:
        synced = pool.submit(_sync, path)
        yield
        synced.result()


def _place_file(built: Path, target: Path, *, force: bool) -> None:
    if force:
        os.replace(built, target)
        return
    try:
        os.link(built, target)  # unlike a rename, this never replaces a file that appeared meanwhile
    except FileExistsError:
        raise TargetError(f"{target}: exists already; --force replaces it") from None
    except OSError:
        if target.exists():
            raise TargetError(f"{target}: exists already; --force replaces it") from None
        os.replace(built, target)  # a file system without hard links
        return
    built.unlink()


def _place_directory(built: Path, target: Path, ours: re.Pattern[str], *, force: bool) -> None:
    if not target.exists():
        try:
            os.rename(built, target)
            return
        except OSError:
            if not target.exists():
                raise
    before = {entry.name for entry in target.iterdir() if ours.fullmatch(entry.name)}
    if before and not force:
        raise TargetError(f"{target}: exists already; --force replaces the model in it")
    names = sorted(entry.name for entry in built.iterdir())
    for name in names:
        os.replace(built / name, target / name)
    for name in before.difference(names):
        (target / name).unlink()
    built.rmdir()
    _sync_entry(target)


def _sync(path: Path) -> None:
    """Bring a file, or a directory of files, to the disk."""
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        _sync_entry(file)
    if path.is_dir():
        _sync_entry(path)


def _sync_entry(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _make_parents(directory: Path) -> list[Path]:
    """Make a directory and its parents; the ones made, innermost first."""
    missing = []
    with explained(directory):
        while not directory.exists():
            missing.append(directory)
            directory = directory.parent
        for path in reversed(missing):
            path.mkdir(exist_ok=True)
    return missing


def _nearest(path: Path) -> Path:
    """The nearest parent that exists."""
    path = Path(os.path.abspath(path)).parent
    while not path.exists():
        path = path.parent
    return path


def _sweep(target: Path) -> None:
    """Remove what a killed run left beside this target."""
    pattern = re.compile(re.escape(f".{target.name}.albert-") + r"(\d+)-[0-9a-f]{8}")
    with explained(target.parent):
        entries = list(target.parent.iterdir())
    for entry in entries:
        match = pattern.fullmatch(entry.name)
        if match and not _alive(int(match[1])):
            _remove(entry)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()
