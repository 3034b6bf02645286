"""One file, one format: a container of tensors. A module here that has every member of `Format` is registered by that;
one that is `Writable`, and says so, is written too.

No format imports another, and none holds a tensor's name: what several need stands in `converters` beside this folder.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np

    from converters.checkpoint import Checkpoint
    from converters.choices import Choices
    from converters.family import Family


class Format(Protocol):
    """What a module here defines at least. Errors are those of `converters.errors`, and name the file."""

    NAME: str
    """How `--from` and `--to` call it."""

    DESCRIPTION: str
    """What it is, in half a line."""

    DTYPES: tuple[np.dtype[Any], ...]
    """What its arrays may be; the first is what others are best cast to."""

    OURS: re.Pattern[str] | None
    """The names of the files that it has in a directory; None for a format of one file."""

    TAKES: frozenset[str]
    """The fields of `Choices` that `read` has a use for."""

    WRITES: bool
    """Whether it is a `Writable`."""

    def recognises(self, path: Path) -> bool:
        """Whether what is at `path` is of this format, by its contents; a damaged one is too, by its name."""

    def holds(self, family: Family) -> bool:
        """Whether it has a place for the models of a family."""

    def read(self, path: Path, choices: Choices) -> Checkpoint:
        """The model at `path`, its arrays unread."""


class Writable(Format, Protocol):
    """A format that is written as well: of all families that it holds."""

    SUFFIXES: tuple[str, ...]
    """What the names of its files end in; none for a directory."""

    HOLDS_SENTENCE_FILES: bool
    """Whether it has a place for the files of Sentence-Transformers."""

    def fits_target(self, path: Path) -> bool:
        """Whether the name of a target asks for this format."""

    def place(self, path: Path) -> Path:
        """The file or directory to write for a target of that name; TargetError for a name that cannot be."""

    def write(self, checkpoint: Checkpoint, path: Path) -> None:
        """Write a model whose arrays are of DTYPES to a file, or into an empty directory, array by array."""

    def notes(self, checkpoint: Checkpoint) -> Sequence[str]:
        """What a reader of the written file should know, in words."""


@functools.cache
def formats() -> dict[str, Format]:
    """Every format by name."""
    return {module.NAME: module for module in _modules()}


@functools.cache
def writable() -> dict[str, Writable]:
    """Every format that is written, by name."""
    return {module.NAME: module for module in _modules() if module.WRITES}


def _modules() -> list[Any]:
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return [importlib.import_module(f"{__name__}.{name}") for name in names]


if TYPE_CHECKING:  # mypy checks each module against its protocol; a test holds the lists complete
    from converters.formats import bson, fairseq, npz, pytorch, safetensors, saved_model, tf

    _CHECKED: list[Format] = [bson, fairseq, npz, pytorch, safetensors, saved_model, tf]
    _CHECKED_TO_WRITE: list[Writable] = [bson, npz, pytorch, safetensors, saved_model, tf]
