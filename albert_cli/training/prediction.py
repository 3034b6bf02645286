"""What a run's model says: about a development set, worst errors on top; about any file; about one text or question."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from albert_cli.arguments import STANDARD_OUTPUT
from albert_cli.errors import DataError, Notice, RunError
from albert_cli.finite import check_finite
from albert_cli.memory import out_of_memory
from albert_cli.tables.blocks import ROWS
from albert_cli.tables.input_files import streams, there
from albert_cli.tables.write import write_table
from albert_cli.tasks.task import Task
from albert_cli.training.inference import Tick, infer
from albert_cli.training.problems import AnyProblem, Choices, Unlabelled
from albert_cli.training.rows import Predictions, Split
from albert_cli.training.run_directory import LoadedRun
from albert_cli.training.settings import sources_of
from albert_cli.training.splits import score
from albert_cli.training.submission import cells, write_tsv


def run_on(loaded: LoadedRun, split: Split[Any], *, tick: Tick | None = None) -> Predictions[Any]:
    """The model's predictions for every row of a split."""
    where = torch.device(loaded.device)
    model = loaded.model.to(where)
    with out_of_memory(
        lambda: "out of memory while predicting; lower --batch-tokens, or compute on --device cpu", RunError
    ):
        found = infer(model, split.rows, device=where, batch_tokens=loaded.batch_tokens, tick=tick)
    outputs = [found[row] for row in range(len(split.rows))]
    if outputs:
        largest = np.array([np.max(np.abs(output), initial=0) for output in outputs])  # NaN where one of them is
        check_finite(largest, RunError, lambda bad, rows: f"{loaded.directory}: {bad} of {rows} outputs of its model")
    return Predictions(outputs, loaded.problem.decide(split, outputs, loaded.info))


def measure(loaded: LoadedRun, split: Split[Any], *, tick: Tick | None = None) -> dict[str, float]:
    """The task's metrics, and the loss, on a labelled split."""
    outputs = run_on(loaded, split, tick=tick).outputs
    return score(loaded.problem, split, outputs, loaded.info, loaded.task.metrics)


def dev_splits(
    loaded: LoadedRun,
    path: Path | None,
    delimiter: str | None = None,
    *,
    columns: Mapping[str, Any] | None = None,
    skip_bad: bool = False,
) -> dict[str, Split[Any]]:
    """The labelled data to evaluate on, by split; `delimiter` of the file at `path`.

    `columns`: other names than those of training, by setting (text_column, text_pair_column, label_column). Bad rows
    are left out with `skip_bad`, or where the run was so trained.
    """
    info, task, problem = loaded.info, loaded.task, loaded.problem
    if problem.not_measured:
        raise RunError(f"{loaded.directory}: {problem.not_measured}")
    sources = sources_of(info.settings)
    skip_bad = skip_bad or sources.skip_bad
    columns = columns or {}
    if idle := [f"--{name.replace('_', '-')}" for name in columns if name not in task.layout.options]:
        raise RunError(f"{loaded.directory}: the columns of {task.name} have names of their own; leave out {idle[0]}")
    sources = replace(sources, skip_bad=skip_bad, **columns)
    if path is not None and streams(path):
        raise DataError(f"{path}: labelled data is read from files, not from a stream; write it to a file first")
    if path is not None and not there(path):
        raise DataError(f"{path}: no such file or directory")
    found: dict[str, Any]
    if path is not None and not path.is_dir():
        found = {path.name: task.layout.read_file(path, replace(sources, delimiter=delimiter))}
    else:
        if path is not None:
            sources = replace(sources, data=path, files={})
        found = {name: part for name in task.dev_splits if (part := task.read(sources, name)) is not None}
    if not found:
        hashes = info.hashes
        if hashes.get("dev") and hashes["dev"] == hashes.get("train"):
            source = sources.files.get("train") or sources.data
            raise DataError(
                f"{loaded.directory}: its development rows were held out of {source}, and no file has them alone; name "
                "labelled data with --data (summary.json has what was measured on them)"
            )
        raise DataError(f"{loaded.directory}: no development set is known for it; name a file with --data")
    if skip_bad:
        found = {name: problem.usable(part, info.labels, task) for name, part in found.items()}
    for part in found.values():
        if note := part.left_out_note():
            warnings.warn(note, Notice, stacklevel=2)
    return {name: problem.split(part, info, task, loaded.tokenizer) for name, part in found.items()}


def answering(loaded: LoadedRun, top: int | None, threshold: float | None) -> LoadedRun:
    """The same, but answers have their `top` candidates, and "no answer" another threshold; None: as it is.

    RunError for a model that gives no answers, or always one.
    """
    asked = [option for option, value in (("--top", top), ("--no-answer-threshold", threshold)) if value is not None]
    if not asked:
        return loaded
    where = loaded.directory
    if loaded.problem.command != "answer":
        raise RunError(f"{where}: {asked[0]} is for answers to questions, but its model {loaded.problem.advice}")
    if threshold is not None and not loaded.info.no_answer:
        raise RunError(f"{where}: its model was trained to answer every question; leave --no-answer-threshold out")
    info = loaded.info
    kept = info.no_answer_threshold if threshold is None else threshold
    return replace(loaded, info=replace(info, top=top or 0, no_answer_threshold=kept))


def one(loaded: LoadedRun, command: str, *texts: str) -> dict[str, Any]:
    """The prediction for what was given to a command: a text or pair, or a question and its text.

    RunError where the model answers to another command, or takes fewer texts.
    """
    problem = loaded.problem
    if command != problem.command:
        raise RunError(f"{loaded.directory}: its model {problem.advice}")
    if len(texts) > problem.most_texts:
        takes = "a text or a pair" if problem.most_texts == 2 else "one text"
        raise RunError(f"{loaded.directory}: its model takes {takes}, not {len(texts)} texts; for many use --in FILE")
    try:
        example = problem.example(texts)
    except RunError as error:
        error.where = str(loaded.directory)
        raise
    split = problem.split(example, loaded.info, loaded.task, loaded.tokenizer, labelled=False)
    return problem.answer(split, run_on(loaded, split), loaded.info)


@dataclass(frozen=True)
class Predicted:
    """Rows of a file with their predictions: all columns, the names of those added, and what each row is called."""

    columns: dict[str, list[Any]]
    texts: list[list[str]]
    added: list[str]
    ids: list[str] | None

    def __len__(self) -> int:
        return len(self.columns[self.added[0]])

    def rows(self) -> Iterator[dict[str, Any]]:
        """Each row as its columns."""
        for row in zip(*self.columns.values(), strict=True):
            yield dict(zip(self.columns, row, strict=True))


def check_out(problem: AnyProblem, out: Path | None) -> None:
    """Refuse a kind of file that this model's predictions are not written as (RunError)."""
    if out is None or out == STANDARD_OUTPUT:
        return
    if out.suffix.lower() not in problem.outputs:
        raise RunError(f"{out}: predictions are written as {', '.join(problem.outputs)}; name such a file")


def file(
    loaded: LoadedRun,
    source: Path,
    choices: Choices = Choices(),  # noqa: B008 (frozen)
    *,
    probabilities: bool = False,
    tick: Callable[[int, int], None] = lambda done, total: None,
) -> Generator[Predicted]:
    """Predict every row of what `source` names, some rows at a time: its columns, then `prediction` or `answer`, and
    probabilities.

    Faults of the file are raised before anything is predicted. `tick`: called with rows done now, and all of them.
    """
    with contextlib.closing(loaded.problem.read(source, loaded.info, loaded.task, choices)) as blocks:
        for block in blocks:
            for given in block.parts(ROWS):
                yield _predicted(loaded, source, given, probabilities, tick)


def _predicted(
    loaded: LoadedRun, source: Path, given: Unlabelled, probabilities: bool, tick: Callable[[int, int], None]
) -> Predicted:
    problem, info = loaded.problem, loaded.info
    split = problem.split(given.examples, info, loaded.task, loaded.tokenizer, labelled=False)
    rows, windows, done = len(given.examples), len(split.rows), 0

    def advance(more: int) -> None:
        """A row may have several windows."""
        nonlocal done
        before, done = rows * done // windows, done + more
        tick(rows * done // windows - before, given.total)

    found = run_on(loaded, split, tick=advance)
    return with_predictions(given, problem.columns(found, info, probabilities=probabilities), source)


def with_predictions(given: Unlabelled, added: dict[str, list[Any]], source: Path) -> Predicted:
    """Rows with the columns of their predictions; DataError where the file has one of that name."""
    if clash := added.keys() & given.columns.keys():
        raise DataError(
            f"{source}: has a column {min(clash)!r} already; rename it, for the predictions are called that"
        )
    return Predicted(given.columns | added, given.texts, list(added), given.ids)


def write_dev(loaded: LoadedRun, split: Split[Any], predictions: Predictions[Any], out: Path, name: str) -> None:
    """Write `<name>_predictions.csv`, errors on top, the surest (or largest) error first."""
    rows = loaded.problem.errors_first(split, predictions, loaded.info)
    columns = {key: [row[key] for row in rows] for key in rows[0]}
    write_table(columns, out / f"{name}_predictions.csv", force=True)


def write_submissions(loaded: LoadedRun, task: Task, out: Path) -> dict[str, Path]:
    """Where the data has GLUE test files, the predictions for them as the GLUE server takes them, by file name."""
    sources, written = replace(sources_of(loaded.info.settings), skip_bad=False), {}  # every row has its prediction
    for name, filename in task.submission.items():
        examples: Any = task.read(sources, name)
        if examples is not None:
            split = loaded.problem.split(examples, loaded.info, task, loaded.tokenizer, labelled=False)
            values = run_on(loaded, split).values
            write_tsv(out / filename, examples.ids, cells(filename, values, loaded.info.labels))
            written[filename] = out / filename
    return written
