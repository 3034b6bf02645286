"""The examples that a run trains and develops on; a part of the training set is held out where there are none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from albert_cli.errors import DataError

if TYPE_CHECKING:
    from albert_cli.tasks.task import Task
    from albert_cli.training.problems import AnyProblem
    from albert_cli.training.settings import Settings

# Without a development set, so much of the training set is held out for it.
_HELD_OUT = 0.1
# Which rows --limit-train and a held-out part take is the same for every seed.
_SUBSET_SEED = 20191


@dataclass
class Read:
    """The data as read: `whole` the training examples, `train` those of them that are trained on."""

    whole: Any
    train: Any
    dev: dict[str, Any]
    notes: list[str]


def read_examples(task: Task, problem: AnyProblem, settings: Settings) -> Read:
    """The examples to train and to develop on; a part of the training set where there is no development set."""
    import numpy as np

    read: Any = task.read(settings.sources, "train")
    if read is None:
        raise DataError(f"{task.name} has no training data; name it with --data DIR or --train FILE")
    if settings.skip_bad:
        read = problem.usable(read, task.labels, task)
    notes = []
    dev: dict[str, Any] = {
        name: part for name in task.dev_splits if (part := task.read(settings.sources, name)) is not None
    }
    shuffled = np.random.default_rng(_SUBSET_SEED).permutation(len(read))
    if not dev:
        problem.check(read, task.labels, task)
        held = _held_out(read.where, len(read), shuffled.tolist(), problem.strata(read))
        dev = {"dev": read.take(sorted(held))}
        read = read.take(sorted(set(range(len(read))).difference(held)))
        shuffled = np.arange(len(read))
        notes.append(f"there is no development set: {len(held)} of the training rows are held out as one")
    train = read
    if settings.limit_train is not None and settings.limit_train < len(read):
        train = read.take(sorted(shuffled[: settings.limit_train].tolist()))
    return Read(read, train, dev, notes)


def _held_out(where: str, rows: int, shuffled: Sequence[int], strata: Sequence[str] | None) -> list[int]:
    """The rows to hold out, of no class the last."""
    if rows < 2:
        raise DataError(f"{where}: has but one row to train on, so none can be held out; name a development set")
    wanted = max(1, round(_HELD_OUT * rows))
    if strata is None:
        return list(shuffled[:wanted])
    left = Counter(strata)
    held: list[int] = []
    for row in shuffled:
        if len(held) < wanted and left[strata[row]] > 1:
            left[strata[row]] -= 1
            held.append(row)
    if not held:
        raise DataError(f"{where}: no class has two rows, so none can be held out; name a development set")
    return held


def check_labels(parts: Mapping[str, Any], labels: Sequence[str], task: Task, problem: AnyProblem) -> None:
    """Raise one DataError with the faults of the labels of all parts."""
    faults = []
    for part in parts.values():
        try:
            problem.check(part, labels, task)
        except DataError as error:  # noqa: PERF203 (a handful of parts)
            faults.append(str(error))
    if faults:
        raise DataError("; ".join(faults))
