"""The rows that a run trains and develops on, and their targets: all that can be wrong with them is told here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from albert_cli.errors import DataError
from albert_cli.tasks.examples import Examples, Questions
from albert_cli.training import data

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from albert_cli.tasks.task import Task
    from albert_cli.training.run_directory import RunInfo
    from albert_cli.training.settings import Settings

# Without a development set, so much of the training set is held out for it.
_HELD_OUT = 0.1
# Which rows --limit-train and a held-out part take is the same for every seed.
_SUBSET_SEED = 20191


@dataclass
class Read:
    """The data as read: `whole` the training rows, `train` those of them that are trained on."""

    whole: Examples | Questions
    train: Examples | Questions
    dev: dict[str, Examples | Questions]
    notes: list[str]


def read_rows(task: Task, settings: Settings) -> Read:
    """The rows to train and to develop on; a part of the training rows where there is no development set."""
    import numpy as np

    read = task.read(settings.sources, "train")
    if read is None:
        raise DataError(f"{task.name} has no training data; name it with --data DIR or --train FILE")
    if settings.skip_bad:
        read = usable(read, task, task.labels)
    notes = []
    dev = {name: part for name in task.dev_splits if (part := task.read(settings.sources, name)) is not None}
    shuffled = np.random.default_rng(_SUBSET_SEED).permutation(len(read))
    if not dev:
        _check_labels(read, task)
        held = _held_out(read, shuffled.tolist(), task)
        dev = {"dev": read.take(sorted(held))}
        read = read.take(sorted(set(range(len(read))).difference(held)))
        shuffled = np.arange(len(read))
        notes.append(f"there is no development set: {len(held)} of the training rows are held out as one")
    train = read
    if settings.limit_train is not None and settings.limit_train < len(read):
        train = read.take(sorted(shuffled[: settings.limit_train].tolist()))
    return Read(read, train, dev, notes)


def _check_labels(read: Examples | Questions, task: Task) -> None:
    """Tell the faults of all labels at once, before some of the rows are held out."""
    if isinstance(read, Examples) and task.problem == "regression":
        data.targets(read, task.value_range)
    elif isinstance(read, Examples) and task.problem == "classification":
        data.class_numbers(read, task.labels or data.found_labels(read))


def _held_out(read: Examples | Questions, shuffled: Sequence[int], task: Task) -> list[int]:
    """The rows to hold out, of no class the last."""
    if len(read) < 2:
        raise DataError(f"{read.where}: has but one row to train on, so none can be held out; name a development set")
    wanted = max(1, round(_HELD_OUT * len(read)))
    if task.problem != "classification" or not isinstance(read, Examples) or read.labels is None:
        return list(shuffled[:wanted])
    left = Counter(read.labels)
    held: list[int] = []
    for row in shuffled:
        if len(held) < wanted and left[read.labels[row]] > 1:
            left[read.labels[row]] -= 1
            held.append(row)
    if not held:
        raise DataError(f"{read.where}: no class has two rows, so none can be held out; name a development set")
    return held


def usable(part: Examples | Questions, task: Task, labels: Sequence[str]) -> Examples | Questions:
    """The rows with a label that can be used, one of `labels` if there are any."""
    if isinstance(part, Questions):
        return part  # its reader leaves out what is bad
    return data.without_bad_labels(part, task.problem, labels, task.value_range)


def targets(parts: Mapping[str, Examples | Questions], info: RunInfo, task: Task) -> dict[str, NDArray[Any]]:
    """The targets of every part that has labels; one DataError tells the faults of all."""
    found, faults = {}, []
    for name, part in parts.items():
        try:
            if isinstance(part, Examples):
                found[name] = targets_of(part, info, task)
        except DataError as error:  # noqa: PERF203 (a handful of parts)
            faults.append(str(error))
    if faults:
        raise DataError("; ".join(faults))
    return found


def targets_of(examples: Examples, info: RunInfo, task: Task | None) -> NDArray[Any]:
    """Class numbers (int64), or values (float64) in the labels' unit. DataError tells all that cannot be."""
    if info.kind == "regression":
        return data.targets(examples, task.value_range if task else None)
    return data.class_numbers(examples, info.labels)


def scale_notes(values: NDArray[np.float64], where: str) -> list[str]:
    """What the labels of a regression make hard."""
    import numpy as np

    if (values == values[0]).all():
        return [f"{where}: every row has the label {values[0]:g}, so nothing but that number can be learnt"]
    if float(np.spacing(np.float32(np.abs(values).max()))) > values.std() / 100:
        text = "the labels differ so little for their size that predictions, which are float32, tell them apart badly"
        return [f"{where}: {text}; subtract a number from all of them"]
    return []
