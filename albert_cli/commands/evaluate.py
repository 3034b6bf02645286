"""albert evaluate: a run's model on labelled data, several runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from albert_cli import console, options
from albert_cli.arguments import Kind, refuse_idle

app = typer.Typer()


@app.command()
def evaluate(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Directories that albert finetune wrote.", show_default=False)
    ],
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="PATH", help="A file with labels or a data directory; else the run's own."),
    ] = None,
    delimiter: options.Delimiter = None,
    curves: Annotated[
        Path | None,
        typer.Option("--curves", metavar="PNG", help="Draw the training curves of all runs in one figure."),
        Kind.FILE_OUT,
    ] = None,
    skip_bad: options.SkipBad = False,
    force: options.Force = False,
    json: options.Json = False,
    device: options.Device = "auto",
    threads: options.Threads = None,
    precision: options.Precision = "auto",
    batch_tokens: options.BatchTokens = None,
) -> None:
    """Measure a fine-tuned model on labelled data, by its task's metrics.

    Examples:

        albert evaluate runs/qnli

        albert evaluate runs/qnli --data glue/QNLI/dev.tsv --json

        albert evaluate runs/frozen runs/fine-tuned --curves overlay.png
    """
    if data is None:
        refuse_idle("without --data", "delimiter")
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
        with console.progress_count(str(path)) as tick, Machine(device, threads, precision).at_work() as where:
            loaded = load_run(path, device=where, batch_tokens=batch_tokens)
            splits = prediction.dev_splits(loaded, data, delimiter, skip_bad=skip_bad)
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
