"""albert predict: labels or numbers for texts, by a run's model."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from albert_cli import console, options
from albert_cli.arguments import STANDARD_OUTPUT, Kind, refuse_idle
from converters.messages import escaped

if TYPE_CHECKING:
    from albert_cli.training.prediction import Predicted
    from albert_cli.training.run_directory import LoadedRun

app = typer.Typer()


@app.command()
def predict(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN",
            help="A directory that albert finetune wrote.",
            show_default=False,
            autocompletion=options.complete_run,
        ),
    ],
    texts: Annotated[
        list[str] | None,
        typer.Argument(metavar="TEXT", help="A text, a pair, or text, question, choices.", show_default=False),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(
            "--in",
            metavar="PATH",
            help="Texts from a file, as albert embed reads them; questions from SQuAD's .json; - is standard input.",
        ),
        Kind.STREAM_IN,
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="Write .csv, .tsv, .jsonl or .parquet (.json for answers, .conll for tags); - prints JSON lines.",
        ),
        Kind.STREAM_OUT,
    ] = None,
    input_format: options.InputFormat = None,
    delimiter: options.Delimiter = None,
    text_column: Annotated[
        str | None,
        typer.Option("--text-column", metavar="NAME", help="The column of the texts; as in training by default."),
    ] = None,
    text_pair_column: options.TextPairColumn = None,
    errors: options.Errors = "strict",
    probabilities: Annotated[
        bool,
        typer.Option(
            "--probabilities",
            help="Add a column with the probability of each label; the answer to one text has them anyway.",
        ),
    ] = False,
    top: options.TopAnswers = None,
    no_answer_threshold: options.NoAnswerThreshold = None,
    force: options.Force = False,
    json: options.Json = False,
    device: options.Device = "auto",
    threads: options.Threads = None,
    precision: options.Precision = "auto",
    batch_tokens: options.BatchTokens = None,
) -> None:
    """Predict with a fine-tuned model: one text, one pair, or a whole table.

    RUN may also be a model fine-tuned elsewhere: a directory, or a name on the Hugging Face Hub. Where its config says
    `multi_label_classification`, each label has a probability of its own (a sigmoid) and the prediction is every label
    whose probability is above 0.5: a list in JSON, .jsonl and .parquet, labels separated by `|` in .csv and .tsv.

    A model that tags words reads columns (.conll, a .txt that is such), lists (`tokens`) and plain texts, which are cut
    at white space and punctuation, and writes columns, lists, or (.csv, .tsv) a row for each word.

    Examples:

        albert predict runs/sst2 "A film of rare charm."

        albert predict runs/qnli "Who wrote it?" "Jane Austen did." --json

        albert predict runs/sst2 --in texts.txt

        albert predict runs/race "He left." "Is he here?" "Yes" "No"

        albert predict runs/ner --in raw.txt --out tagged.conll

        albert predict runs/sst2 --in texts.csv --out labels.parquet --probabilities

        albert predict runs/squad --in dev-v2.0.json --out nbest.json --top 20
    """
    texts = texts or []
    if bool(texts) == (source is not None):
        raise typer.BadParameter("give texts, or --in FILE")
    if source is None and out is not None:
        raise typer.BadParameter("--out needs --in: the rows to predict")
    if source is None:
        refuse_idle("without --in", *options.OF_TABLES)
    if out is None:
        refuse_idle("without --out", "force")
    if source is not None:
        from albert_cli.tables.write import check

        others = list(run.iterdir()) if run.is_dir() else []
        check(out, str(source), force=force, others=others, what="predictions are", answers=True)
    from albert_cli.machine import Machine
    from albert_cli.training import prediction as predictions
    from albert_cli.training.problems import Choices
    from albert_cli.training.run_directory import load_run

    machine = Machine(device, threads, precision)
    with machine.at_work() as where:
        loaded = load_run(run, device=where, batch_tokens=batch_tokens)
        loaded = predictions.answering(loaded, top, no_answer_threshold)
    if source is not None:
        problem = loaded.problem
        idle = {*options.OF_TABLES, "errors", "probabilities"} - {*problem.file_options}
        refuse_idle(f"on a model that {problem.advice.partition(';')[0]}", *idle)
        predictions.check_out(problem, out)
        with console.progress_count("predicting") as tick, machine.at_work():
            choices = Choices(input_format, delimiter, text_column, text_pair_column, errors)
            found = predictions.file(loaded, source, choices, probabilities=probabilities, tick=tick)
            with contextlib.closing(found):
                _give(found, loaded, out, force=force, json=json)
        return
    with machine.at_work():
        result = predictions.one(loaded, "predict", *texts)
    if json:
        console.print_json(result)
    else:
        line, rows = loaded.problem.shown(result)
        if line:
            console.say(line)
        if rows:
            console.print_table(rows, right=[len(rows[0]) - 1])


def _give(found: Iterator[Predicted], loaded: LoadedRun, out: Path | None, *, force: bool, json: bool) -> None:
    """Write or print predictions as they come; a table on the screen is printed when its columns' widths are known."""
    if out is not None and out != STANDARD_OUTPUT:
        rows = 0
        with loaded.problem.writer(out, force=force) as add:
            for part in found:
                add(part.columns)
                rows += len(part)
        console.print_written(out, rows, json=json)
    elif out is not None or json:
        every = (row for part in found for row in part.rows())
        (console.print_lines if out else console.print_array)(every)
    else:
        _print_predictions(found, loaded)


def _print_predictions(found: Iterator[Predicted], loaded: LoadedRun) -> None:
    """A line for each row, by the file's own id or numbered from 1."""
    lines: list[list[str]] = []
    headers: list[str] = []
    right: list[int] = []
    for part in found:
        shown = loaded.problem.brief(part.columns, part.added, loaded.info)
        ids = part.ids or list(map(str, range(len(lines) + 1, len(lines) + len(part) + 1)))
        headers = ["row" if part.ids is None else "id", *shown, "text", *["pair"] * (len(part.texts) - 1)]
        rows = zip(ids, *shown.values(), *part.texts, strict=True)
        lines += [list(map(escaped, row)) for row in rows]
        figures = [place for place, name in enumerate(shown, 1) if isinstance(part.columns.get(name, [""])[0], float)]
        right = [*([0] if part.ids is None else []), *figures]
    console.print_table(lines, headers, right=right)
