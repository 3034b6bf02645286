"""One writer at a time: a lock on a directory that the system lets go of when its holder ends, however it does."""

from __future__ import annotations

import contextlib
import datetime
import errno
import json
import os
import socket
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from albert_cli.errors import Notice
from converters.errors import TargetError
from converters.files import file_errors

NAME = ".albert-lock"
# A file system without locks, or a server that keeps none: NFS without its lock daemon, some FUSE systems.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF, errno.EIO)


@contextlib.contextmanager
def locked(directory: Path, what: Path, *, temporary: bool = False) -> Iterator[None]:
    """Hold a directory, which is made if need be; TargetError names the process that holds it already.

    `what` is the target as the user named it. Directories made here vanish again where nothing else came into them;
    a `temporary` one always does.
    """
    made = [path for path in (directory, *directory.parents) if not path.exists() or (temporary and path == directory)]
    try:
        with _held(directory, what):
            yield
    finally:
        for path in made:
            with contextlib.suppress(OSError):
                path.rmdir()  # unless something is in it


@contextlib.contextmanager
def _held(directory: Path, what: Path) -> Iterator[None]:
    try:
        import fcntl
    except ImportError:  # Windows
        with file_errors(directory):
            directory.mkdir(parents=True, exist_ok=True)
        yield
        return
    path = directory / NAME
    while True:
        with file_errors(directory):
            directory.mkdir(parents=True, exist_ok=True)
        try:
            file = open(path, "a+", encoding="utf-8")  # noqa: SIM115
        except FileNotFoundError:  # the last holder removed the directory just now
            continue
        except OSError:
            with file_errors(path):
                raise
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise TargetError(
                    f"{what}: another run is writing it now{_holder(file)}; wait for it, or name another --out"
                ) from None
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
                warnings.warn(
                    f"{what}: this file system has no locks ({error.strerror}); see to it yourself that no other run "
                    "writes there",
                    Notice,
                    stacklevel=4,
                )
            if not _is(file, path):  # the last holder removed it before it let go
                continue
            _sign(file)
            try:
                yield
            finally:
                if _is(file, path):
                    path.unlink(missing_ok=True)
            return


def _is(file: IO[str], path: Path) -> bool:
    """Whether an open file is still the one at a path."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _sign(file: IO[str]) -> None:
    since = datetime.datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    with contextlib.suppress(OSError):  # a full disk
        file.truncate(0)
        file.write(json.dumps({"process": os.getpid(), "host": socket.gethostname(), "since": since}) + "\n")
        file.flush()


def _holder(file: IO[str]) -> str:
    """Who signed the lock, as ` (process 123 on host, since …)`; empty where that cannot be read yet."""
    try:
        file.seek(0)
        data = json.loads(file.read(4096))
        return f" (process {data['process']} on {data['host']}, since {data['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""
