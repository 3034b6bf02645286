"""What is done to sound models, and what is reported then: one file per format, found by existing.

A module `corruptions.FORMAT` has `make(folder)`, which writes a sound model and gives its path, `FILE`, the file below
that path that is damaged ("" where the path is the file), and functions that list what is done to it: `corruptions()`,
and where the format has them `series()`, `fuzzes()`, `bombs()` and `SHRINKS`, the damage and message of a file that
loses bytes after it was opened.

In a message, `$source` stands for the model's path, `$file` for that file, and `<any>` for any text.
"""

import importlib
import pkgutil
import re
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, NamedTuple


class Corruption(NamedTuple):
    """One damage, and the message of the command that meets it."""

    name: str
    damage: Callable[..., Any]  # damage(source) changes the model at that path
    message: str
    command: str = "inspect"  # or "convert"
    seconds: float = 10  # of processor time, at most


class Series(NamedTuple):
    """Many contents for one file, each loaded and refused."""

    name: str
    contents: Callable[..., Iterator[tuple[bytes, str | None]]]  # contents(sound bytes): those and the message
    prepare: Callable[..., Any] = lambda source: None
    tensors: int | None = None  # how many there are where the message is None, if it is read at all


class Fuzz(NamedTuple):
    """Any damage of a kind: a checkpoint whose tensors can be read, or our own error in one line."""

    name: str
    strategy: Any
    damage: Callable[..., Any]  # damage(source, what was drawn), each time of the sound file
    examples: int = 150
    prepare: Callable[..., Any] = lambda source: None
    refused: bool = False  # whether no such damage leaves a model
    tensors: int | None = None  # how many tensors every checkpoint read has


class Bomb(NamedTuple):
    """Contents of a file that are refused in a second of processor time and four times the file's memory."""

    name: str
    content: Callable[[], bytes]
    message: str
    slack: int = 2**20  # bytes of memory besides
    memory: bool = True  # whether the memory is measured, which takes time
    slow: bool = False


def formats() -> dict[str, ModuleType]:
    return {item.name: importlib.import_module(f"corruptions.{item.name}") for item in pkgutil.iter_modules(__path__)}


def agrees(message, wanted, source, file) -> bool:
    """Whether a message is the wanted one."""
    wanted = wanted.replace("$source", str(source)).replace("$file", str(file))
    return re.fullmatch(".*".join(map(re.escape, wanted.split("<any>"))), message) is not None


def cuts(content, *more):
    """Lengths to cut a file to: every hundredth, and those named."""
    places = {len(content) * percent // 100 for percent in range(100)}.union(*more)
    return sorted(place for place in places if 0 <= place < len(content))
