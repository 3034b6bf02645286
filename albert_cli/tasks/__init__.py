"""One file, one task: where its columns are, its labels in order, its metrics, Google's hyper-parameters.

A module here is a task by existing and defining `TASK`; `named` finds it. Hyper-parameters are those of Google's
run_glue.sh (google-research/albert) unless the file says otherwise. task.py says what a task consists of,
layouts/ reads its files.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING

from albert_cli.errors import UnknownTaskError
from converters.errors import did_you_mean

if TYPE_CHECKING:
    from albert_cli.tasks.task import Task

# Modules that are no tasks, but what tasks are made of.
_PARTS = frozenset({"examples", "task"})


def names() -> list[str]:
    """Every task, without importing any."""
    return sorted(item.name for item in pkgutil.iter_modules(__path__) if not item.ispkg and item.name not in _PARTS)


def known_as(name: str) -> str | None:
    """The task's name here, in whatever spelling it is given (QNLI, sst-2); None where there is none."""
    key = _plain(name)
    return key if key in names() else None


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


def named(name: str) -> Task:
    """The task of that name, in any spelling (QNLI, sst-2); UnknownTaskError lists the known ones."""
    key = known_as(name)
    if key is None:
        known = names()
        raise UnknownTaskError(
            f"{name!r} is no task here; the tasks are {', '.join(known)}{did_you_mean(_plain(name), [*known, 'glue'])}"
        )
    task: Task = importlib.import_module(f"{__name__}.{key}").TASK
    return task
