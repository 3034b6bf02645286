"""What a run's model says: about a development set, worst errors on top; about any file; about one text."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from albert_cli.errors import DataError, RunError
from albert_cli.tasks import Columns, Sources, Task, named
from albert_cli.training import data, questions
from albert_cli.training.data import Examples, Table
from albert_cli.training.finetune import Split, decide, of_kind, score, split_of
from albert_cli.training.questions import Answer, Question, Questions
from albert_cli.training.rows import Tick, infer, out_of_memory
from albert_cli.training.run import LoadedRun, RunInfo
from albert_cli.training.submission import cells, write_tsv
from converters.files import check_target, need, staged

KINDS = (".csv", ".tsv", ".jsonl", ".parquet")


@dataclass(frozen=True)
class Predictions:
    """`outputs` are logits by row (windows, for questions); `values` classes, numbers or answers, one per row."""

    outputs: list[NDArray[np.float32]]
    values: NDArray[Any] | list[Answer]

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """Softmax of the logits: (rows, labels)."""
        logits = np.stack(self.outputs).astype(np.float64)
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
    if isinstance(split.examples, Questions):
        assert split.cut is not None
        no_answer = loaded.info.no_answer
        return Predictions(outputs, questions.answers(split.examples.items, split.cut, outputs, no_answer=no_answer))
    return Predictions(outputs, decide(np.stack(outputs), loaded.info, task_of(loaded.info)))


def measure(loaded: LoadedRun, split: Split, *, tick: Tick | None = None) -> dict[str, float]:
    """The task's metrics, and the loss, on a labelled split."""
    return score(split, run_on(loaded, split, tick=tick).outputs, loaded.info, task_of(loaded.info))


def dev_splits(loaded: LoadedRun, path: Path | None) -> dict[str, Split]:
    """The labelled data to evaluate on, by split."""
    info, task, settings = loaded.info, task_of(loaded.info), loaded.info.settings
    if path is not None and path.is_file():
        return {"dev": split_of(_read_file(info, task, path, labelled=True), info, task, loaded.tokenizer)}
    sources = _sources(settings)
    if path is not None:
        sources = Sources(path, {}, sources.text_column, sources.text_pair_column, sources.label_column)
    found = {
        name: split_of(examples, info, task, loaded.tokenizer)
        for name in task.dev_splits
        if (examples := task.read(task, sources, name)) is not None
    }
    if not found:
        raise DataError(f"{loaded.directory}: no development set is known for it; name a file with --data")
    return found


def one(loaded: LoadedRun, text: str, pair: str | None = None) -> dict[str, Any]:
    """The prediction for one text or pair, with the probability of each label."""
    info = loaded.info
    if info.kind == "answers":
        raise RunError(f"{loaded.directory}: its model answers questions; use albert answer RUN QUESTION CONTEXT")
    examples = Examples("the command line", ["0"], [text], None if pair is None else [pair], None, [1], "")
    found = run_on(loaded, split_of(examples, info, None, loaded.tokenizer, labelled=False))
    values = np.asarray(found.values)
    if info.kind == "regression":
        return {"prediction": float(values[0])}
    shares = dict(zip(info.labels, map(float, found.probabilities[0]), strict=True))
    return {"prediction": info.labels[int(values[0])], "probabilities": shares}


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


def file(
    loaded: LoadedRun,
    source: Path,
    out: Path,
    *,
    text_column: str | None = None,
    text_pair_column: str | None = None,
    probabilities: bool = False,
    force: bool = False,
    tick: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Predict every row of a table into another one: its columns, then `prediction` (and a probability per label).

    Questions (SQuAD's JSON) become SQuAD's JSON of answers by id. Returns the number of rows.
    """
    info = loaded.info
    check_target(out, force=force, sources=[source], ours=None)
    kinds = (".json",) if info.kind == "answers" else KINDS
    if out.suffix.lower() not in kinds:
        raise RunError(f"{out}: predictions are written as {', '.join(kinds)}; name such a file")
    if info.kind == "answers":
        asked = questions.read_squad(source)
        split = split_of(asked, info, None, loaded.tokenizer, labelled=False)
        found = run_on(loaded, split, tick=lambda done: tick(done, len(split.rows)))
        answers = {item.id: answer.text for item, answer in zip(asked.items, found.values, strict=True)}
        with staged(out, force=force, ours=None) as beside:
            beside.write_text(json.dumps(answers, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        return len(asked)
    table, examples = _table(info, source, text_column, text_pair_column)
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
    write_table(columns | added, out, force=force)
    return len(examples)


def write_table(columns: dict[str, list[Any]], out: Path, *, force: bool = False) -> None:
    """Write columns as CSV, TSV, JSON lines or Parquet, by the name's suffix."""
    with staged(out, force=force, ours=None) as beside:
        kind = out.suffix.lower()
        if kind == ".parquet":
            need("pyarrow", "writing Parquet")
            import pyarrow as pa
            from pyarrow import parquet

            parquet.write_table(pa.table(columns), beside)
            return
        rows = zip(*columns.values(), strict=True)
        if kind == ".jsonl":
            lines = (json.dumps(dict(zip(columns, row, strict=True)), ensure_ascii=False) for row in rows)
            beside.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            return
        if kind == ".tsv":
            beside.write_text("".join(_tsv_lines([tuple(columns), *rows], out)), "utf-8")
            return
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows([list(columns), *rows])
        beside.write_text(text.getvalue(), encoding="utf-8")


def _tsv_lines(rows: list[tuple[Any, ...]], out: Path) -> Iterator[str]:
    for number, row in enumerate(rows):
        cells = ["" if cell is None else str(cell) for cell in row]
        if any(set(cell) & {"\t", "\n", "\r"} for cell in cells):
            raise DataError(
                f"{out}: row {number} holds a tab or line break, which TSV has no way to write; name a .csv, .jsonl or "
                ".parquet file"
            )
        yield "\t".join(cells) + "\n"


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
        labels: list[Any] = [round(float(value), 6) for value in wanted]
        order, columns = np.argsort(-error, kind="stable"), {"error": [round(float(value), 6) for value in error]}
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
    sources, written = _sources(loaded.info.settings), {}
    for name, filename in task.submission.items():
        examples = task.read(task, sources, name)
        if isinstance(examples, Examples):
            split = split_of(examples, loaded.info, task, loaded.tokenizer, labelled=False)
            values = run_on(loaded, split).values
            write_tsv(out / filename, examples.ids, cells(filename, np.asarray(values), loaded.info.labels))
            written[filename] = out / filename
    return written


def _prediction_columns(info: RunInfo, found: Predictions, probabilities: bool) -> dict[str, list[Any]]:
    values = np.asarray(found.values)
    if info.kind == "regression":
        return {"prediction": [round(float(value), 6) for value in values]}
    columns: dict[str, list[Any]] = {"prediction": [info.labels[int(number)] for number in values]}
    if probabilities:
        shares = found.probabilities
        columns |= {
            f"probability_{label}": [round(float(share), 6) for share in shares[:, number]]
            for number, label in enumerate(info.labels)
        }
    return columns


def _table(info: RunInfo, path: Path, first: str | None, second: str | None) -> tuple[Table, Examples]:
    """A table to predict, by the columns named, the run's own, or those of its GLUE task."""
    task, settings = named(info.task), info.settings
    first = first or settings.get("text_column")
    if first is None and task.splits:
        split = task.splits["test"]
        columns, width = split.columns, None
        if path.suffix != ".tsv":
            columns = Columns(split.columns.first, split.columns.second)
        table = data.read_table(path, width=width, skip_short=task.skip_short_rows)
    else:
        columns = Columns(first or "text", second or settings.get("text_pair_column"))
        table = data.read_table(path)
    return table, table.examples(columns, labelled=False)


def _read_file(info: RunInfo, task: Task, path: Path, *, labelled: bool) -> Examples | Questions:
    if info.kind == "answers":
        found = questions.read_squad(path)
        if not found.labelled:
            raise DataError(f"{path}: has no answers; it can only be predicted: albert predict RUN --in {path}")
        return found
    if task.splits:
        return data.read_glue_file(task, path, labelled=labelled)
    settings = info.settings
    sources = Sources(
        None,
        {"dev": path},
        settings.get("text_column"),
        settings.get("text_pair_column"),
        settings.get("label_column"),
    )
    table_task = named("csv")
    try:
        examples = table_task.read(table_task, sources, "dev")
    except DataError as error:
        if "for the label" in str(error):
            raise DataError(
                f"{error}; without labels it can only be predicted: albert predict RUN --in {path}"
            ) from None
        raise
    assert isinstance(examples, Examples)
    return examples


def _sources(settings: Any) -> Sources:
    files = {name: Path(settings[name]) for name in ("train", "dev", "test") if settings.get(name)}
    return Sources(
        Path(settings["data"]) if settings.get("data") else None,
        files,
        settings.get("text_column"),
        settings.get("text_pair_column"),
        settings.get("label_column"),
    )
