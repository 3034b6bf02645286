"""Targets that are whole or not there: refused unless free (or forced), built beside their place, then renamed."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from converters.errors import TargetError, errors_name
from converters.files import file_errors
from converters.scratch import Scratch

# What so ends is meant as a file of that kind, and never as a new directory (albert-v1.5 and model.v2 are).
_FILE_KINDS = frozenset({
    ".7z", ".arrow", ".avro", ".bin", ".bmp", ".bson", ".bz2", ".ckpt", ".csv", ".db", ".doc", ".docx", ".feather",
    ".ggml", ".gguf", ".gif", ".gz", ".h5", ".hdf5", ".htm", ".html", ".ipynb", ".jld2", ".jpeg", ".jpg", ".json",
    ".jsonl", ".keras", ".log", ".mat", ".md", ".mlmodel", ".model", ".msgpack", ".ndjson", ".npy", ".npz", ".ods",
    ".onnx", ".orc", ".ort", ".ot", ".parquet", ".pb", ".pbtxt", ".pdf", ".pickle", ".pkl", ".png", ".pt", ".pte",
    ".pth", ".py", ".rar", ".rds", ".safetensors", ".sqlite", ".svg", ".tab", ".tar", ".tfbson", ".tflite", ".tgz",
    ".toml", ".torchscript", ".tsv", ".txt", ".vocab", ".webp", ".xls", ".xlsx", ".xml", ".xz", ".yaml", ".yml",
    ".zip", ".zst",
})  # fmt: skip

# Bytes of a target's name in that of the file beside it; file systems take 255 in all.
_MOST_NAME = 200


def check_target(target: Path, *, force: bool, sources: Sequence[Path], ours: re.Pattern[str] | None) -> None:
    """Refuse a target that exists (unless `force`), would replace one of `sources`, or cannot be written (TargetError).

    `ours` matches the names that the format writes into a directory; None where the target is one file.
    """
    if target.is_symlink() and not target.exists():
        raise TargetError(target, "a symbolic link to nothing; remove it or name another target")
    if target.exists():
        for source in sources:
            if source.exists() and (target.samefile(source) or (ours is not None and _within(source, target, ours))):
                raise TargetError(target, f"the target is the source itself ({source}); name another target")
        if not target.is_dir() and not target.is_file():
            raise TargetError(target, "a pipe or device, not a place for a model; name another target")
        if ours is None and target.is_dir():
            raise TargetError(target, "a directory, where this format writes one file; name a file")
        if ours is not None and not target.is_dir():
            raise TargetError(target, "a file, where this format writes a directory; name a directory")
        if (ours is None or our_files(target, ours)) and not force:
            replaced = "it" if ours is None else "the model in it"
            raise TargetError(target, f"exists already; --force replaces {replaced}")
    room = target if target.is_dir() else _nearest(target)
    if not room.is_dir():
        raise TargetError(room, f"a file, so {target} cannot be made below it")
    if not os.access(room, os.W_OK | os.X_OK):
        raise TargetError(room, "no permission to write there")


def meant_as_file(path: Path) -> bool:
    """Whether a name that is not there as a directory ends as the files of some known kind do."""
    return path.suffix.lower() in _FILE_KINDS and not path.is_dir()


def check_directory_name(target: Path, what: str) -> None:
    """Refuse a file's name for what is a directory (TargetError)."""
    if meant_as_file(target):
        raise TargetError(target, f"{what} is a directory, not a {target.suffix} file; name one without this ending")


def our_files(directory: Path, ours: re.Pattern[str]) -> list[str]:
    """The files of a model in a directory, as names relative to it; only directories so named are looked into."""
    return sorted(name for name in _names(directory, ours) if ours.fullmatch(name))


def _names(directory: Path, ours: re.Pattern[str], within: str = "") -> Iterator[str]:
    """What lies in a directory, and in those directories in it that a format fills (`variables` of `variables/x`)."""
    for entry in directory.iterdir():
        name = within + entry.name
        if ours.fullmatch(name) and entry.is_dir() and not entry.is_symlink():
            yield from _names(entry, ours, f"{name}/")
        else:
            yield name


def _within(source: Path, target: Path, ours: re.Pattern[str]) -> bool:
    """Whether a file is one of those that a format writes into the target."""
    return any(
        target.samefile(parent) and ours.fullmatch(source.relative_to(parent).as_posix()) is not None
        for parent in source.parents[:2]
    )


@contextlib.contextmanager
def atomic_write(target: Path, *, force: bool, ours: re.Pattern[str] | None) -> Iterator[Path]:
    """Yield a place beside `target` to build in; on success it takes the target's place, else it vanishes.

    A file or directory appears or is replaced in one step. Only files that match `ours` are replaced or removed in a
    directory: a user's other files stay. Where a directory cannot be replaced in one step (it holds subdirectories, is
    a mount or the working directory), its files are renamed one by one. Errors speak of the target, not of that place.
    """
    from concurrent.futures import ThreadPoolExecutor

    shown, target = target, Path(os.path.realpath(target))
    # A directory that is a mount, or whose parent is not ours to write, takes the place of its parent.
    inside = target.is_dir() and (target.is_mount() or not os.access(target.parent, os.W_OK | os.X_OK))
    room = target if inside else target.parent
    scratch = Scratch(room, f".{_short(target.name)}.albert-")
    beside = scratch.place
    new_parents = [path for path in target.parents if not path.exists()]
    try:
        with errors_name(shown, scratch.path), errors_name(shown, beside), file_errors(shown):
            target.parent.mkdir(parents=True, exist_ok=True)
            scratch.make()
            if ours is not None:
                beside.mkdir()
            yield beside
            _sync(beside)
            place = _place_file if ours is None else functools.partial(_place_directory, ours=ours)
            with ThreadPoolExecutor(1) as placing:  # Ctrl-C stops the main thread only: what has started is finished
                placing.submit(place, beside, target, force=force).result()
            _sync_entry(target.parent)
    finally:
        try:
            scratch.remove()
        except BaseException:  # Ctrl-C, which comes once
            scratch.remove()
            raise
        if not target.exists():
            for path in new_parents:
                with contextlib.suppress(OSError):
                    path.rmdir()


@contextlib.contextmanager
def syncing(path: Path) -> Iterator[None]:
    """Flush what was written to the disk during other work."""
    from concurrent.futures import ThreadPoolExecutor

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
    except OSError:
        if target.exists():
            raise TargetError(target, "exists already; --force replaces it") from None
        os.replace(built, target)  # a file system without hard links


def _place_directory(built: Path, target: Path, *, ours: re.Pattern[str], force: bool) -> None:
    if not target.exists():
        try:
            os.rename(built, target)
            return
        except OSError:
            if not target.exists():
                raise
    before = our_files(target, ours)
    if before and not force:
        raise TargetError(target, "exists already; --force replaces the model in it")
    if not _swap(built, target, ours):
        names = sorted(_names(built, ours))
        for name in names:
            for folder in reversed(_folders(target, name)):
                if folder.is_symlink() or folder.is_file():  # where ours is to be
                    folder.unlink()
                folder.mkdir(exist_ok=True)
            os.replace(built / name, target / name)
        for name in set(before).difference(names):
            if not (target / name).is_dir():
                (target / name).unlink()
        for folder in sorted({folder for name in before for folder in _folders(target, name)}, reverse=True):
            with contextlib.suppress(OSError):
                folder.rmdir()  # unless something is in it
    _sync_entry(target)


def _folders(target: Path, name: str) -> list[Path]:
    """The directories between a target and what is in it under that name, the inner ones first."""
    return [target / folder for folder in Path(name).parents if folder != Path()]


def _swap(built: Path, target: Path, ours: re.Pattern[str]) -> bool:
    """Exchange two directories in one step, with links to the user's other files; False where that is not possible."""
    others = [name for name in _names(target, ours) if not ours.fullmatch(name)]
    if built.parent.parent != target.parent or target.samefile(".") or target.stat().st_uid != os.geteuid():
        return False
    if any(_empty(entry) and not (built / entry.name).exists() for entry in target.iterdir()):
        return False  # the user's, even where it is named as one of ours
    try:
        for name in others:
            os.link(target / name, built / name, follow_symlinks=False)  # fails for a directory
        shutil.copystat(target, built)
    except OSError:
        return False
    if not _exchange(built, target):
        return False
    for name in list(_names(built, ours)):  # a file that the user added meanwhile
        if not ours.fullmatch(name) and not os.path.lexists(target / name):
            os.rename(built / name, target / name)
    return True


def _empty(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink() and not any(path.iterdir())


def _exchange(one: Path, other: Path) -> bool:
    """Swap two paths by the one system call that does so; False where the system or file system has none."""
    import ctypes

    paths = os.fsencode(one), os.fsencode(other)
    try:
        library = ctypes.CDLL(None)
        if sys.platform == "darwin":
            return bool(library.renamex_np(*paths, 2) == 0)  # RENAME_SWAP
        return bool(library.renameat2(-100, paths[0], -100, paths[1], 2) == 0)  # AT_FDCWD, RENAME_EXCHANGE
    except (AttributeError, OSError, TypeError):
        return False


def _sync(path: Path) -> None:
    """Flush a file, or a directory of files, to the disk."""
    for file in sorted(path.rglob("*")) if path.is_dir() else ():
        _sync_entry(file)
    _sync_entry(path)


def _sync_entry(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _nearest(path: Path) -> Path:
    """The nearest parent that exists."""
    path = Path(os.path.abspath(path)).parent
    while not path.exists():
        path = path.parent
    return path


def _short(name: str) -> str:
    """The name, or where a longer one would be none for a file system, its beginning and a digest of it."""
    data = os.fsencode(name)
    if len(data) <= _MOST_NAME:
        return name
    return os.fsdecode(data[:_MOST_NAME]).rstrip(".") + hashlib.sha256(data).hexdigest()[:8]
