"""What a run's model says: about a development set, worst errors on top; about any file; about one text."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from albert_cli.arguments import STANDARD_OUTPUT
from albert_cli.errors import DataError, Notice, RunError
from albert_cli.finite import check_finite
from albert_cli.memory import out_of_memory
from albert_cli.tables.input_files import Kind, find_files, streams, there
from albert_cli.tables.lines import STANDARD_INPUT, Errors
from albert_cli.tables.table import Table, read_table
from albert_cli.tables.write import SUFFIXES, write_table
from albert_cli.tasks import named
from albert_cli.tasks.examples import ExampleColumns, Examples, Question, Questions
from albert_cli.tasks.layouts.squad import read_squad
from albert_cli.tasks.task import Sources, Task
from albert_cli.training import questions
from albert_cli.training.finetune import Split, decide, of_kind, score, split_of
from albert_cli.training.inference import Tick, infer
from albert_cli.training.questions import Answer
from albert_cli.training.reading import usable
from albert_cli.training.run_directory import LoadedRun, RunInfo
from albert_cli.training.submission import cells, write_tsv
from converters.staging import atomic_write

# The options of albert predict that messages advise.
_OPTIONS = frozenset({"--text-column", "--errors", "--input-format"})


@dataclass(frozen=True)
class Predictions:
    """`outputs` are logits by row (windows, for questions); `values` classes, numbers or answers, one per row.

    Where several labels may be right (`several`), a row of `values` says of each label whether it is.
    """

    outputs: list[NDArray[np.float32]]
    values: NDArray[Any] | list[Answer]
    several: bool = False

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """(rows, labels): a softmax of the logits, or of each a sigmoid where several labels may be right."""
        logits = np.stack(self.outputs).astype(np.float64)
        if self.several:
            each: NDArray[np.float64] = np.exp(-np.logaddexp(0, -logits))  # without overflow
            return each
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
        return shares


def device() -> torch.device:
    """Where predictions are computed: the GPU, if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def task_of(info: RunInfo) -> Task:
    return of_kind(named(info.task), info.kind)


def run_on(loaded: LoadedRun, split: Split, *, tick: Tick | None = None) -> Predictions:
    """The model's predictions for every row of a split."""
    where = device()
    model = loaded.model.to(where)
    with out_of_memory(lambda: "out of memory while predicting; split the file, or cut its texts", RunError):
        found = infer(model, split.rows, device=where, tick=tick)
    outputs = [found[row] for row in range(len(split.rows))]
    if outputs:
        largest = np.array([np.max(np.abs(output), initial=0) for output in outputs])  # NaN where one of them is
        check_finite(largest, RunError, lambda bad, rows: f"{loaded.directory}: {bad} of {rows} outputs of its model")
    if isinstance(split.examples, Questions):
        assert split.cut is not None
        no_answer = loaded.info.no_answer
        return Predictions(outputs, questions.answers(split.examples.items, split.cut, outputs, no_answer=no_answer))
    return Predictions(outputs, decide(np.stack(outputs), loaded.info), loaded.info.kind == "labels")


def measure(loaded: LoadedRun, split: Split, *, tick: Tick | None = None) -> dict[str, float]:
    """The task's metrics, and the loss, on a labelled split."""
    return score(split, run_on(loaded, split, tick=tick).outputs, loaded.info, task_of(loaded.info))


def dev_splits(
    loaded: LoadedRun, path: Path | None, delimiter: str | None = None, *, skip_bad: bool = False
) -> dict[str, Split]:
    """The labelled data to evaluate on, by split; `delimiter` of the file at `path`.

    Bad rows are left out with `skip_bad`, or where the run was so trained.
    """
    info, task = loaded.info, task_of(loaded.info)
    if info.kind == "labels":
        raise RunError(
            f"{loaded.directory}: gives a text several labels (multi_label_classification), which the metrics here do "
            "not measure; albert predict --in FILE --out FILE --probabilities writes what it says"
        )
    sources = _sources(info.settings)
    skip_bad = skip_bad or sources.skip_bad
    sources = replace(sources, skip_bad=skip_bad)
    if path is not None and streams(path):
        raise DataError(f"{path}: labelled data is read from files, not from a stream; write it to a file first")
    if path is not None and not path.is_dir() and there(path):
        found = {"dev": task.layout.read_file(path, replace(sources, delimiter=delimiter))}
    else:
        if path is not None:
            sources = replace(sources, data=path, files={})
        found = {name: rows for name in task.dev_splits if (rows := task.read(sources, name)) is not None}
    if not found:
        raise DataError(f"{loaded.directory}: no development set is known for it; name a file with --data")
    if skip_bad:
        found = {name: usable(rows, task, info.labels) for name, rows in found.items()}
    for rows in found.values():
        if note := rows.left_out_note():
            warnings.warn(note, Notice, stacklevel=2)
    return {name: split_of(rows, info, task, loaded.tokenizer) for name, rows in found.items()}


def one(loaded: LoadedRun, text: str, pair: str | None = None) -> dict[str, Any]:
    """The prediction for one text or pair, with the probability of each label.

    Where several labels may be right, it is a list of those whose probability is above a half.
    """
    info = loaded.info
    if info.kind == "answers":
        raise RunError(f"{loaded.directory}: its model answers questions; use albert answer RUN QUESTION CONTEXT")
    examples = Examples("the command line", ["0"], [text], None if pair is None else [pair], None, [1], "")
    found = run_on(loaded, split_of(examples, info, None, loaded.tokenizer, labelled=False))
    if info.kind == "regression":
        return {"prediction": significant(np.asarray(found.values))[0]}
    shares = dict(zip(info.labels, map(float, found.probabilities[0]), strict=True))
    return {"prediction": _named_values(info, found)[0], "probabilities": shares}


def answer(loaded: LoadedRun, question: str, context: str) -> dict[str, Any]:
    """The answer to a question in a text, with its span in characters; empty where there is none."""
    if loaded.info.kind != "answers":
        raise RunError(f"{loaded.directory}: its model labels texts; use albert predict RUN TEXT")
    asked = Questions("the command line", [Question("0", question, context, [])], False, "")
    split = split_of(asked, loaded.info, None, loaded.tokenizer, labelled=False)
    found = next(iter(run_on(loaded, split).values))
    assert isinstance(found, Answer)
    scores = {"score": found.score, "no_answer_score": found.null_score}
    return {"answer": found.text, "start": found.start, "end": found.end} | scores


@dataclass(frozen=True)
class Predicted:
    """A file with its predictions: all columns, the names of those added, and what each row is called."""

    columns: dict[str, list[Any]]
    texts: list[list[str]]
    added: list[str]
    ids: list[str] | None

    def __len__(self) -> int:
        return len(self.columns[self.added[0]])

    def rows(self) -> Iterator[dict[str, Any]]:
        for row in zip(*self.columns.values(), strict=True):
            yield dict(zip(self.columns, row, strict=True))


def check_out(info: RunInfo, out: Path | None) -> None:
    """Refuse a kind of file that this model's predictions are not written as (RunError)."""
    if out is None or out == STANDARD_OUTPUT:
        return
    kinds = (".json",) if info.kind == "answers" else SUFFIXES
    if out.suffix.lower() not in kinds:
        raise RunError(f"{out}: predictions are written as {', '.join(kinds)}; name such a file")


def file(
    loaded: LoadedRun,
    source: Path,
    *,
    kind: Kind | None = None,
    delimiter: str | None = None,
    text_column: str | None = None,
    text_pair_column: str | None = None,
    probabilities: bool = False,
    errors: Errors = "strict",
    tick: Callable[[int, int], None] = lambda done, total: None,
) -> Predicted:
    """Predict every row of what `source` names (see `read_table`): its columns, then `prediction`, and a probability
    per label.

    Questions (SQuAD's JSON) give the columns `id` and `answer`.
    """
    info = loaded.info
    if info.kind == "answers":
        asked = read_squad(source, misplaced="keep")
        split = split_of(asked, info, None, loaded.tokenizer, labelled=False)
        found = run_on(loaded, split, tick=lambda done: tick(done, len(split.rows)))
        ids = [item.id for item in asked.items]
        answers = [answer.text for answer in found.values]
        return Predicted({"id": ids, "answer": answers}, [[item.question for item in asked.items]], ["answer"], ids)
    table, examples = _table(info, source, text_column, text_pair_column, kind, delimiter, errors)
    if twice := [name for name in table.header if table.header.count(name) > 1]:
        raise DataError(f"{source}: several columns are called {twice[0]!r}; rename all but one")
    split = split_of(examples, info, None, loaded.tokenizer, labelled=False)
    found = run_on(loaded, split, tick=lambda done: tick(done, len(split.rows)))
    columns: dict[str, list[Any]] = {
        name: [row[place] for row in table.rows] for place, name in enumerate(table.header)
    }
    added = _prediction_columns(info, found, probabilities)
    if clash := added.keys() & columns.keys():
        raise DataError(
            f"{source}: has a column {min(clash)!r} already; rename it, for the predictions are called that"
        )
    own = next((columns[name] for name in ("id", "idx", "index") if name in columns), None)
    texts = [examples.texts, *([] if examples.pairs is None else [examples.pairs])]
    return Predicted(columns | added, texts, list(added), own)


def write(info: RunInfo, found: Predicted, out: Path, *, force: bool) -> None:
    """Write predictions as a table, answers as SQuAD's JSON of answers by id."""
    if info.kind != "answers":
        write_table(found.columns, out, force=force)
        return
    answers = dict(zip(found.columns["id"], found.columns["answer"], strict=True))
    with atomic_write(out, force=force, ours=None) as beside:
        beside.write_text(json.dumps(answers, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def sameness(name: str, split: Split, predictions: Predictions, info: RunInfo) -> str | None:
    """A note where the model says the same of every row, though the rows are not the same."""
    if isinstance(split.examples, Questions):
        texts = {answer.text for answer in predictions.values}
        same = texts == {""} and any(item.answers for item in split.examples.items)
        return f"{name}: the best model finds no answer to any of {len(split.examples)} questions" if same else None
    assert split.rows.targets is not None
    values, wanted = np.asarray(predictions.values), split.rows.targets.numpy()
    if len(values) < 2 or (wanted == wanted[0]).all() or (values != values[0]).any():
        return None
    given = f"label {info.labels[int(values[0])]!r}" if info.kind == "classification" else f"value {values[0]:.7g}"
    return f"{name}: the best model gives all {len(values)} rows the {given}; it tells nothing apart"


def write_dev(loaded: LoadedRun, split: Split, predictions: Predictions, out: Path, name: str) -> list[dict[str, Any]]:
    """Write `<name>_predictions.csv`, errors on top, the surest (or largest) error first; its rows are returned."""
    rows = dev_rows(loaded.info, split, predictions)
    columns = {key: [row[key] for row in rows] for key in rows[0]}
    write_table(columns, out / f"{name}_predictions.csv", force=True)
    return rows


def dev_rows(info: RunInfo, split: Split, predictions: Predictions) -> list[dict[str, Any]]:
    """Every row with its label and prediction, errors first."""
    examples = split.examples
    if isinstance(examples, Questions):
        found: list[Answer] = list(predictions.values)
        exact, f1 = questions.scores(examples.items, [answer.text for answer in found])
        rows = [
            {
                "id": item.id,
                "question": item.question,
                "answers": " | ".join(text for text, _ in item.answers),
                "prediction": answer.text,
                "exact": exact[number],
                "f1": round(f1[number], 4),
            }
            for number, (item, answer) in enumerate(zip(examples.items, found, strict=True))
        ]
        return sorted(rows, key=lambda row: row["f1"])
    assert split.rows.targets is not None
    wanted = split.rows.targets.numpy()
    added = _prediction_columns(info, predictions, probabilities=info.kind == "classification")
    if info.kind == "regression":
        error = np.abs(np.asarray(predictions.values) - wanted)
        labels: list[Any] = [float(value) for value in wanted]
        order, columns = np.argsort(-error, kind="stable"), {"error": significant(error)}
    else:
        wrong = np.asarray(predictions.values) != wanted
        labels = [info.labels[number] for number in wanted]
        sure = predictions.probabilities.max(axis=1)
        order, columns = np.lexsort((np.where(wrong, -sure, sure), ~wrong)), {"wrong": wrong.astype(int).tolist()}
    table = {"index": examples.ids, "text": examples.texts}
    if examples.pairs is not None:
        table["pair"] = examples.pairs
    everything: dict[str, list[Any]] = table | {"label": labels} | added | columns
    return [{key: values[row] for key, values in everything.items()} for row in order]


def write_submissions(loaded: LoadedRun, task: Task, out: Path) -> dict[str, Path]:
    """Where the data has GLUE test files, the predictions for them as the GLUE server takes them, by file name."""
    sources, written = replace(_sources(loaded.info.settings), skip_bad=False), {}  # every row has its prediction
    for name, filename in task.submission.items():
        examples = task.read(sources, name)
        if isinstance(examples, Examples):
            split = split_of(examples, loaded.info, task, loaded.tokenizer, labelled=False)
            values = run_on(loaded, split).values
            write_tsv(out / filename, examples.ids, cells(filename, np.asarray(values), loaded.info.labels))
            written[filename] = out / filename
    return written


def _prediction_columns(info: RunInfo, found: Predictions, probabilities: bool) -> dict[str, list[Any]]:
    values = np.asarray(found.values)
    if info.kind == "regression":
        return {"prediction": significant(values)}
    columns: dict[str, list[Any]] = {"prediction": _named_values(info, found)}
    if probabilities:
        shares = found.probabilities
        columns |= {
            f"probability_{label}": [round(float(share), 6) for share in shares[:, number]]
            for number, label in enumerate(info.labels)
        }
    return columns


def significant(values: NDArray[Any]) -> list[float]:
    """Numbers of any size with the digits that float32 has, and no more."""
    return [float(np.format_float_positional(value, unique=True)) for value in values.astype(np.float32)]


def _named_values(info: RunInfo, found: Predictions) -> list[Any]:
    """The label of each row; a list of them where several may be right."""
    values = np.asarray(found.values)
    if found.several:
        return [[info.labels[number] for number in np.flatnonzero(row)] for row in values]
    return [info.labels[int(number)] for number in values]


def _table(
    info: RunInfo,
    path: Path,
    first: str | None,
    second: str | None,
    kind: Kind | None,
    delimiter: str | None,
    errors: Errors,
) -> tuple[Table, Examples]:
    """A table to predict, by the columns named, the run's own, or those of its GLUE task."""
    task, settings = named(info.task), info.settings
    first = first or settings.get("text_column")
    second = second or settings.get("text_pair_column")
    columns = ExampleColumns(first or "text", second)
    if first is None and task.layout.columns is not None:
        columns = task.layout.columns
    if kind is None and path == STANDARD_INPUT and columns.second is not None:
        kind = "tsv"
    kinds = set(find_files(str(path), kind, options=_OPTIONS).kinds)
    if "txt" in kinds:
        if columns.second is not None:
            raise DataError(
                f"{path}: lines of text hold no pairs, which this model judges; give a table with the columns "
                f"{columns.first} and {columns.second}"
            )
        columns = ExampleColumns("text")
    elif kinds != {"tsv"}:
        columns = ExampleColumns(columns.first, columns.second)
    wanted = [str(name) for name in (columns.first, columns.second) if name is not None]
    # Each row has its prediction, in order: none is left out.
    table = read_table(
        path, kind=kind, delimiter=delimiter, wanted=wanted, skip_bad=None, errors=errors, options=_OPTIONS
    )
    return table, Examples.of(table, columns, labelled=False)


def _sources(settings: Any) -> Sources:
    files = {name: Path(settings[name]) for name in ("train", "dev", "test") if settings.get(name)}
    return Sources(
        Path(settings["data"]) if settings.get("data") else None,
        files,
        settings.get("text_column"),
        settings.get("text_pair_column"),
        settings.get("label_column"),
        settings.get("delimiter"),
        bool(settings.get("skip_bad")),
    )
