"""What can go wrong, as data: each error is one line of what is wrong, where, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from converters.messages import escaped

# In a detail or an advice this stands for the error's `where`, as it is called when the error is shown.
PLACE = "{where}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'bson'?` where a known name is near, else nothing."""
    lower = {item.lower(): item for item in reversed(list(known))}
    near = difflib.get_close_matches(name.lower().strip(), lower, n=1)
    return f"; did you mean {lower[near[0]]!r}?" if near else ""


class AlbertError(Exception):
    """Any error of this project; `str` gives the one line `where: detail; advice`.

    `where` is the file (and perhaps the place in it) or the name that is wrong, `detail` what is seen and what was
    wanted, `advice` what to do. With one argument alone that is the detail: the others are optional. Whatever a file
    has in them that is not printable is written as an escape.
    """

    def __init__(self, where: Path | str, detail: str | None = None, advice: str = "") -> None:
        self.where = "" if detail is None else str(where)
        self.detail = str(where) if detail is None else detail
        self.advice = advice

    def __str__(self) -> str:
        text = f"{self.detail}; {self.advice}" if self.advice else self.detail
        text = text.replace(PLACE, self.where)
        return "\n".join(map(escaped, (f"{self.where}: {text}" if self.where else text).split("\n")))


@contextmanager
def errors_name(shown: Path | str, root: Path | str) -> Iterator[None]:
    """Let errors on `root`, and on what is in it, name `shown` in its place."""
    try:
        yield
    except AlbertError as error:
        error.where = renamed(error.where, root, shown)
        raise


def renamed(where: str, root: Path | str, shown: Path | str) -> str:
    """A place (a path, or one followed by what is meant in it) with `shown` for `root`, if it is in that."""
    rest = where.removeprefix(str(root))
    return where if rest == where or rest[:1] not in ("", "/", "\\", ":", " ") else f"{shown}{rest}"


class UsageError(AlbertError):
    """What was asked for has no meaning: a name that nothing has, options that do not go together."""


class FileError(AlbertError):
    """The system refuses a file: it is not there, is not ours to read or write, or the disk is full."""


class TargetError(AlbertError):
    """A target exists already, cannot be written, or is the source itself."""


class MissingLibraryError(AlbertError):
    """An optional library is not installed."""


class CheckpointError(AlbertError):
    """A fault of a checkpoint, or of what a format can do with it."""


class FormatError(CheckpointError):
    """The format of a source or target cannot be detected, or is ambiguous."""


class UnknownFormatError(FormatError, UsageError):
    """A format that is not one of those there are."""


class ConfigError(CheckpointError):
    """A configuration is missing, malformed or contradicts itself."""


class CorruptError(CheckpointError):
    """A file is truncated, damaged or not what its name says."""


class SpecError(CheckpointError):
    """Tensors are missing, unknown or of another shape than the configuration asks for."""
