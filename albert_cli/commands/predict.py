"""albert predict: labels or numbers for texts, by a run's model."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from albert_cli import console, options
from albert_cli.arguments import STANDARD_OUTPUT, Kind, refuse_idle
from albert_cli.machine import Machine
from converters.messages import escaped

if TYPE_CHECKING:
    from albert_cli.training.prediction import Predicted
    from albert_cli.training.problems import AnyProblem
    from albert_cli.training.run_info import RunInfo

app = typer.Typer()


@app.command()
def predict(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN",
            help="A directory that albert finetune wrote; with --labels any model.",
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
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels",
            metavar="A,B,…",
            help="Zero-shot, with labels of your own: by entailment where RUN was trained on MNLI, else by the nearest "
            "vector, by RUN or any model.",
        ),
    ] = None,
    template: Annotated[
        str | None,
        typer.Option(
            "--template",
            metavar="TEXT",
            help="With --labels: the sentence in which a label stands for {}; by default 'This text is about {}.'.",
        ),
    ] = None,
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

    --labels gives a text one of these, for which nothing was trained. A model of MNLI, or of another label called
    entailment, judges which sentence (--template) follows from the text, as transformers' zero-shot pipeline does; any
    other one embeds both, and the nearest label is taken. A line says which of the two it was.

    A model that tags words reads columns (.conll, a .txt that is such), lists (`tokens`) and plain texts, which are cut
    at white space and punctuation, and writes columns, lists, or (.csv, .tsv) a row for each word.

    Examples:

        albert predict runs/sst2 "A film of rare charm."

        albert predict runs/qnli "Who wrote it?" "Jane Austen did." --json

        albert predict runs/sst2 --in texts.txt

        albert predict runs/race "He left." "Is he here?" "Yes" "No"

        albert predict runs/ner --in raw.txt --out tagged.conll

        albert predict runs/sst2 --in texts.csv --out labels.parquet --probabilities

        albert predict runs/mnli "The goalkeeper saved it." --labels sport,politics

        albert predict all-MiniLM-L6-v2/ --in texts.txt --labels sport,politics

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
    if labels is not None:
        refuse_idle("with --labels", "top", "no_answer_threshold", "text_pair_column")
        given = texts, source, (input_format, delimiter, text_column, None, errors)
        how: dict[str, Any] = {"out": out, "probabilities": probabilities, "force": force, "json": json}
        computing = Machine(device, threads, precision), batch_tokens
        _zero_shot(run, _labels(labels), template, given, *computing, **how)
        return
    refuse_idle("without --labels", "template")
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
                _give(found, problem, loaded.info, out, force=force, json=json)
        return
    with machine.at_work():
        result = predictions.one(loaded, "predict", *texts)
    if json:
        console.print_json(result)
    else:
        _show(*loaded.problem.shown(result))


def _show(line: str, rows: list[list[str]]) -> None:
    if line:
        console.say(line)
    if rows:
        console.print_table(rows, right=[len(rows[0]) - 1])


def _labels(text: str) -> list[str]:
    found = [label.strip() for label in text.split(",")]
    if len(found) < 2 or not all(found) or len(set(found)) < len(found):
        raise typer.BadParameter(f"{text!r}; name two different labels or more, as a,b", param_hint="'--labels'")
    return found


def _zero_shot(
    run: Path,
    labels: list[str],
    template: str | None,
    given: tuple[list[str], Path | None, tuple[Any, ...]],
    machine: Machine,
    batch_tokens: int | None,
    *,
    out: Path | None,
    probabilities: bool,
    force: bool,
    json: bool,
) -> None:
    """Predict by labels that nothing was trained on; `given`: texts, or a source and the choices on it."""
    texts, source, choices = given
    if source is None and len(texts) != 1:
        raise typer.BadParameter(f"--labels are for one text, not {len(texts)}; for many use --in FILE")
    if template is not None and template.count("{}") != 1:
        raise typer.BadParameter(f"{template!r}; write {{}} once, where the label stands", param_hint="'--template'")
    from albert_cli.training import prediction
    from albert_cli.training.problems import Choices
    from albert_cli.zero_shot import predictions
    from albert_cli.zero_shot.judges import judge_of

    problem = predictions.problem()
    if source is not None:
        prediction.check_out(problem, out)
    judge = judge_of(run, labels, template, machine, batch_tokens)
    console.warn(judge.describe())
    if source is not None:
        with console.progress_count("predicting") as tick:
            found = predictions.file(judge, labels, source, Choices(*choices), figures=probabilities, tick=tick)
            with contextlib.closing(found):
                _give(found, problem, predictions.info_of(labels), out, force=force, json=json)
        return
    result = predictions.one(judge, labels, texts[0])
    if json:
        console.print_json(result)
    else:
        _show(result["prediction"], [[label, f"{score:.4f}"] for label, score in result[judge.figures].items()])


def _give(
    found: Iterator[Predicted], problem: AnyProblem, info: RunInfo, out: Path | None, *, force: bool, json: bool
) -> None:
    """Write or print predictions as they come; a table on the screen is printed when its columns' widths are known."""
    if out is not None and out != STANDARD_OUTPUT:
        rows = 0
        with problem.writer(out, force=force) as add:
            for part in found:
                add(part.columns)
                rows += len(part)
        console.print_written(out, rows, json=json)
    elif out is not None or json:
        every = (row for part in found for row in part.rows())
        (console.print_lines if out else console.print_array)(every)
    else:
        _print_predictions(found, problem, info)


def _print_predictions(found: Iterator[Predicted], problem: AnyProblem, info: RunInfo) -> None:
    """A line for each row, by the file's own id or numbered from 1."""
    lines: list[list[str]] = []
    headers: list[str] = []
    right: list[int] = []
    for part in found:
        shown = problem.brief(part.columns, part.added, info)
        ids = part.ids or list(map(str, range(len(lines) + 1, len(lines) + len(part) + 1)))
        headers = ["row" if part.ids is None else "id", *shown, "text", *["pair"] * (len(part.texts) - 1)]
        rows = zip(ids, *shown.values(), *part.texts, strict=True)
        lines += [list(map(escaped, row)) for row in rows]
        figures = [place for place, name in enumerate(shown, 1) if isinstance(part.columns.get(name, [""])[0], float)]
        right = [*([0] if part.ids is None else []), *figures]
    console.print_table(lines, headers, right=right)
