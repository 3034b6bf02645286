"""albert evaluate: a run's model on labelled data, several runs side by side; a model's vectors on pairs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from albert_cli import console, options, vector_options
from albert_cli.arguments import Kind, refuse_idle
from converters.errors import AlbertError

if TYPE_CHECKING:
    from albert_cli.embedding.embedder import Plan
    from albert_cli.embedding.retrieval import Retrieval
    from albert_cli.embedding.sts import Agreement
    from albert_cli.machine import DeviceName

app = typer.Typer()

_OF_RUNS = ("data", "curves")
_OF_VECTORS = (
    "model", "plot", "input_format", "errors", "pooling", "layer", "normalize", "dims", "prompt", "max_length", "cased",
)  # fmt: skip
_OF_DATA = ("delimiter", "text_column", "text_pair_column", "label_column")


@app.command(rich_help_panel="Look")
def evaluate(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RUN...",
            help="Directories that albert finetune wrote.",
            show_default=False,
            autocompletion=options.complete_run,
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="PATH", help="A file with labels or a data directory; else the run's own."),
    ] = None,
    sts: Annotated[
        Path | None,
        typer.Option(
            "--sts",
            metavar="FILE",
            help="Pairs of texts with a score each: compare the cosines of --model's vectors with the scores.",
        ),
        Kind.STREAM_IN,
    ] = None,
    retrieval: Annotated[
        Path | None,
        typer.Option(
            "--retrieval",
            metavar="FILE",
            help="Queries with a text that belongs to each: where --model's vectors rank it among all texts of FILE.",
        ),
        Kind.STREAM_IN,
    ] = None,
    model: options.ModelName = None,
    text_column: Annotated[
        str | None,
        typer.Option(
            "--text-column",
            metavar="NAME",
            help="The column of the texts: as in training by default, of --sts sentence1, of --retrieval query.",
        ),
    ] = None,
    text_pair_column: Annotated[
        str | None,
        typer.Option(
            "--text-pair-column",
            metavar="NAME",
            help="That of the second texts: as in training by default, of --sts sentence2, of --retrieval positive.",
        ),
    ] = None,
    label_column: Annotated[
        str | None,
        typer.Option(
            "--label-column",
            metavar="NAME",
            help="The column of the labels: as in training by default, of --sts score, of --retrieval negatives.",
        ),
    ] = None,
    input_format: options.InputFormat = None,
    delimiter: options.Delimiter = None,
    errors: options.Errors = "strict",
    pooling: vector_options.Pooling = None,
    layer: vector_options.Layer = None,
    normalize: vector_options.Normalize = None,
    dims: vector_options.Dims = None,
    prompt: vector_options.Prompt = None,
    max_length: options.MaxLength = None,
    cased: options.Cased = None,
    curves: Annotated[
        Path | None,
        typer.Option("--curves", metavar="PNG", help="Draw the training curves of all runs in one figure."),
        Kind.FILE_OUT,
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", help="Draw cosines over scores, or recall at k: .png, .svg, .pdf."),
        Kind.FILE_OUT,
    ] = None,
    skip_bad: options.SkipBad = False,
    force: options.Force = False,
    json: options.Json = False,
    device: options.Device = "auto",
    threads: options.Threads = None,
    precision: Annotated[Literal["auto", "fp32", "bf16", "fp16", "int8"], options.PRECISION] = "auto",
    batch_tokens: options.BatchTokens = None,
) -> None:
    """Measure a fine-tuned model on labelled data by its task's metrics, or a model's vectors by --sts or --retrieval.

    --sts computes the cosine of each pair, and its correlation with the scores: Pearson's, and Spearman's, by which
    sentence vectors are usually judged. The columns are those of STS-B unless options name others.

    --retrieval ranks all texts of FILE by their cosine with each query, a row for each query and positive; a column
    negatives may hold further texts, one or a list. It prints the mean reciprocal rank of the first positive (MRR), the
    share of the positives among the first 1, 5 and 10 (recall) and nDCG@10.

    Pooling, prompt and all else are as albert embed has them: as the model's Sentence-Transformers files say, else the
    mean. Prompts called query and document are used for what they are called after, unless --prompt names one.

    Examples:

        albert evaluate runs/qnli

        albert evaluate runs/qnli --data glue/QNLI/dev.tsv --json

        albert evaluate runs/frozen runs/fine-tuned --curves overlay.png

        albert evaluate --sts glue/STS-B/dev.tsv --model minilm/ --plot sts.png

        albert evaluate --sts pairs.csv --text-column a --text-pair-column b \\
            --label-column similarity --pooling cls

        albert evaluate --retrieval questions.jsonl --model minilm/ --plot recall.svg
    """
    named = {"text_column": text_column, "text_pair_column": text_pair_column, "label_column": label_column}
    if sts is None and retrieval is None:
        columns = {name: value for name, value in named.items() if value is not None}
        _evaluate_runs(
            runs or [], (data, delimiter, columns), curves, (device, threads, precision, batch_tokens),
            skip_bad=skip_bad, force=force, json=json,
        )  # fmt: skip
        return
    if sts is not None and retrieval is not None:
        raise typer.BadParameter("--sts and --retrieval do not go together; choose one")
    source, option = (sts, "--sts") if sts is not None else (retrieval, "--retrieval")
    assert source is not None
    if runs:
        raise typer.BadParameter(f"{option} measures --model; leave out RUN, or name it with --model")
    refuse_idle(f"with {option}", *_OF_RUNS)
    if precision == "fp16":
        raise typer.BadParameter("fp16 is for runs; vectors are fp32, bf16 or int8", param_hint="--precision")
    if plot is None:
        refuse_idle("without --plot or --curves", "force")
    else:
        from albert_cli import pictures
        from albert_cli.errors import EmbeddingError

        pictures.check(plot, EmbeddingError, force=force, sources=[source])
    settings = vector_options.settings_of(
        layer, cased, pooling=pooling, normalize=normalize, dims=dims, max_length=max_length, prompt=prompt
    )
    computing = {"precision": precision, "batch_tokens": batch_tokens, "threads": threads}
    table = {"kind": input_format, "delimiter": delimiter, "errors": errors, "skip_bad": skip_bad}
    measure = partial(_measure_retrieval, own_prompts=prompt is None) if sts is None else _measure_sts

    def load() -> Plan:
        from albert_cli.machine import find_device

        return vector_options.plan_of(model, settings, find_device(device), **computing)

    measure(source, list(named.values()), table, load, plot, force, json)


def _measure_sts(
    source: Path,
    columns: list[str | None],
    table: dict[str, Any],
    load: Callable[[], Plan],
    plot: Path | None,
    force: bool,
    json: bool,
) -> None:
    from albert_cli.embedding import sts as engine

    first, second, score = columns
    pairs = engine.read_pairs(source, first=first, second=second, score=score, **table)
    plan = load()
    with console.progress_count("embedding", "texts") as tick:
        cosines, truncated = engine.cosines_of(plan, pairs, tick)
    found = engine.agreement(plan, pairs, cosines, truncated)
    if plot is not None:
        engine.draw(found, pairs.scores, cosines, plot, force=force)
    _print(found, ("pairs", "pearson", "spearman"), json=json)
    if plot is not None and not json:
        console.say(f"{plot}: {found.pairs:,} cosines")


def _measure_retrieval(
    source: Path,
    columns: list[str | None],
    table: dict[str, Any],
    load: Callable[[], Plan],
    plot: Path | None,
    force: bool,
    json: bool,
    *,
    own_prompts: bool,
) -> None:
    from albert_cli.embedding import retrieval as engine
    from albert_cli.embedding.ranks import METRICS

    query, positive, negatives = columns
    collection = engine.read_collection(source, query=query, positive=positive, negatives=negatives, **table)
    plan = load()
    with console.progress_count("embedding", "texts") as tick:
        found, ranks = engine.measure(plan, collection, tick, own_prompts=own_prompts)
    if plot is not None:
        engine.draw(found, ranks, plot, force=force)
    _print(found, ("queries", "texts", *METRICS), json=json)
    if plot is not None and not json:
        console.say(f"{plot}: recall at k of {found.queries:,} queries")


@contextlib.contextmanager
def _naming(run: Path) -> Iterator[None]:
    """Let an error name the one of several runs that it is of."""
    try:
        yield
    except AlbertError as error:
        if not str(error).startswith(str(run)):
            error.where = f"{run}: {error.where}" if error.where else str(run)
        raise


def _print(found: Agreement | Retrieval, shown: tuple[str, ...], *, json: bool) -> None:
    if found.texts_truncated:
        console.warn(f"{found.texts_truncated:,} texts are longer than --max-length, and were cut")
    if json:
        console.print_report(found)
        return
    values = [(name, getattr(found, name)) for name in shown]
    rows = [[name, f"{value:,}" if isinstance(value, int) else console.figure(value)] for name, value in values]
    console.print_table(rows, right=[1])


def _evaluate_runs(
    runs: list[Path],
    labelled: tuple[Path | None, str | None, dict[str, str]],
    curves: Path | None,
    how: tuple[DeviceName, int | None, Literal["auto", "fp32", "bf16", "fp16", "int8"], int | None],
    *,
    skip_bad: bool,
    force: bool,
    json: bool,
) -> None:
    if not runs:
        raise typer.BadParameter("name a RUN that albert finetune wrote, or pairs with --sts or --retrieval FILE")
    refuse_idle("without --sts or --retrieval", *_OF_VECTORS)
    (data, delimiter, columns), (device, threads, precision, batch_tokens) = labelled, how
    if precision == "int8":
        raise typer.BadParameter("int8 is for vectors; runs compute in fp32, bf16 or fp16", param_hint="--precision")
    if data is None:
        refuse_idle("without --data", *_OF_DATA)
    if curves is None:
        refuse_idle("without --curves", "force")
    else:
        from albert_cli import pictures
        from albert_cli.errors import RunError

        pictures.check(curves, RunError, force=force, sources=[data] if data else [])
        from albert_cli.runs.log import read_log

        for path in runs:
            read_log(path)
    from albert_cli.machine import Machine
    from albert_cli.training import prediction
    from albert_cli.training.run_directory import load_run, read_history

    found = {}
    for path in runs:
        named = _naming(path) if len(runs) > 1 else contextlib.nullcontext()
        with named, console.progress_count(str(path)) as tick, Machine(device, threads, precision).at_work() as where:
            loaded = load_run(path, device=where, batch_tokens=batch_tokens)
            splits = prediction.dev_splits(loaded, data, delimiter, columns=columns, skip_bad=skip_bad)
            rows = sum(len(split.rows) for split in splits.values())
            found[str(path)] = {
                name: prediction.measure(loaded, split, tick=lambda done, rows=rows: tick(done, rows))  # type: ignore[misc]
                for name, split in splits.items()
            }
    if curves is not None:
        from albert_cli.training import figures

        figures.curves({path.name or str(path): read_history(path) for path in runs}, curves, force=force)
    if json:
        console.print_json(found)
        return
    table = [
        [path, name, metric, console.figure(value)]
        for path, parts in found.items()
        for name, values in parts.items()
        for metric, value in values.items()
    ]
    console.print_table(table, ["run", "data", "metric", "value"], right=[3])
