"""What can go wrong with a checkpoint. Each message is one line: what, where, value seen, value wanted, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'bson'?` where a known name is near, else nothing."""
    lower = {item.lower(): item for item in reversed(list(known))}
    near = difflib.get_close_matches(name.lower().strip(), lower, n=1)
    return f"; did you mean {lower[near[0]]!r}?" if near else ""


class CheckpointError(Exception):
    """Any fault of a checkpoint, its place on disk, or the request made of it."""


class UsageError(CheckpointError):
    """What was asked for has no meaning: a name that nothing has, options that do not go together."""


class FormatError(CheckpointError):
    """The format of a source or target cannot be told, or is ambiguous."""


class UnknownFormatError(FormatError, UsageError):
    """A format that is not one of those there are."""


class ConfigError(CheckpointError):
    """A configuration is missing, malformed or contradicts itself."""


class CorruptError(CheckpointError):
    """A file is truncated, damaged or not what its name says."""


class SpecError(CheckpointError):
    """Tensors are missing, unknown or of another shape than the configuration asks for."""


class TargetError(CheckpointError):
    """A target exists already, cannot be written, or is the source itself."""


class MissingLibraryError(CheckpointError):
    """An optional library is not installed."""
