"""A judge's predictions: for one text, and for every row of a file."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

from albert_cli import tasks
from albert_cli.tables.blocks import ROWS
from albert_cli.training import problems
from albert_cli.training.prediction import Predicted, with_predictions
from albert_cli.training.problems import AnyProblem, Choices
from albert_cli.training.run_info import RunInfo
from albert_cli.zero_shot.judges import Judge

# Any table is read, and its predictions are written, as those of your own rows.
_TASK = tasks.named("csv")


def problem() -> AnyProblem:
    """The kind of problem that it is: one label of several."""
    return problems.named(_TASK.problem)


def info_of(labels: Sequence[str]) -> RunInfo:
    """What a run trained on such labels would be for."""
    return RunInfo(_TASK.name, _TASK.problem, tuple(labels), max_length=0)


def one(judge: Judge, labels: Sequence[str], text: str) -> dict[str, Any]:
    """The label of a text, how it was found, and the figure of each label."""
    scores = judge.scores([text])[0]
    return {
        "prediction": labels[int(scores.argmax())],
        "method": judge.method,
        "template": judge.template,
        judge.figures: dict(zip(labels, map(float, scores), strict=True)),
    }


def file(
    judge: Judge,
    labels: Sequence[str],
    source: Path,
    choices: Choices,
    *,
    figures: bool,
    tick: Callable[[int, int], None],
) -> Generator[Predicted]:
    """Every row of what `source` names, some rows at a time: its columns, `prediction`, and with `figures` those of
    each label. Faults of the file are raised before anything is predicted. `tick`: rows done now, and all of them.
    """
    with contextlib.closing(problem().read(source, info_of(labels), _TASK, choices)) as blocks:
        for block in blocks:
            for given in block.parts(ROWS):
                scores = judge.scores(given.examples.texts, lambda done, total=given.total: tick(done, total))  # type: ignore[misc]
                added: dict[str, list[Any]] = {"prediction": [labels[place] for place in scores.argmax(axis=1)]}
                if figures:
                    added |= {
                        f"{judge.figure}_{label}": [round(float(score), 6) for score in column]
                        for label, column in zip(labels, scores.T, strict=True)
                    }
                yield with_predictions(given, added, source)
