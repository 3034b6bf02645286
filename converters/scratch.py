"""Directories to build in, each held by a lock: what a killed run left is known by its lock being free, and removed.

A process id would not tell: the processes of containers, and of one that restarts, have the same ones.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

_LOCK, _PLACE = "lock", "new"
_NAME = r"[0-9a-f]{8}"


class Scratch:
    """A directory in `room` whose name begins with `prefix`, and those of killed runs that are so named.

    `place` is a name in it for what is built; nothing is there yet. Making and removing it may be interrupted anywhere.
    """

    def __init__(self, room: Path, prefix: str) -> None:
        self._room, self._prefix = room, prefix
        self.path = room / f"{prefix}{secrets.token_hex(4)}"
        self.place = self.path / _PLACE
        self._lock: int | None = None

    def make(self) -> None:
        """Make the directory, after removing those that killed runs left; OSError where the room is not ours."""
        self._remove_stale()
        while True:
            self.path.mkdir(mode=0o700, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # taken for a leftover before the lock was there
                self._lock = _open(self.path)
                if _take(self._lock, wait=True) is False or _is(self._lock, self.path / _LOCK):
                    return
                self._release()

    def remove(self) -> None:
        """Remove the directory and all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            number, self._lock = self._lock, None
            os.close(number)

    def _remove_stale(self) -> None:
        pattern = re.compile(re.escape(self._prefix) + _NAME)
        with contextlib.suppress(OSError):
            for path in [path for path in self._room.iterdir() if pattern.fullmatch(path.name)]:
                with contextlib.suppress(OSError):
                    _remove_if_free(path)


@contextlib.contextmanager
def temporary_directory(prefix: str, room: Path | None = None) -> Iterator[Path]:
    """An empty directory in `room`, by default where the system keeps temporary files, removed at the end."""
    scratch = Scratch(room or Path(tempfile.gettempdir()), prefix)
    try:
        scratch.make()
        scratch.place.mkdir()
        yield scratch.place
    finally:
        scratch.remove()


def _remove_if_free(path: Path) -> None:
    if path.is_symlink() or path.stat().st_uid != os.geteuid():
        return
    lock = _open(path)
    try:
        if _take(lock, wait=False):
            shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(lock)


def _open(directory: Path) -> int:
    return os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)


def _take(lock: int, *, wait: bool) -> bool:
    """Whether the lock is ours now; False where another holds it, or where the file system (or Windows) has none."""
    try:
        import fcntl

        fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except (ImportError, OSError):
        return False
    return True


def _is(lock: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(lock), path.stat())
    except FileNotFoundError:
        return False
