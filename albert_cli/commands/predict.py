"""albert predict: labels or numbers for texts, by a run's model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from albert_cli import console, options
from albert_cli.arguments import Kind

app = typer.Typer()


@app.command()
def predict(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="A directory that albert finetune wrote.", show_default=False)
    ],
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="TEXT", help="A text, or the two texts of a pair.", show_default=False)
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(
            "--in", metavar="FILE", help="A table: .csv, .tsv, .jsonl or .parquet; SQuAD's .json for answers."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Where to write it, of any of these kinds."),
        Kind.STREAM_OUT,
    ] = None,
    text_column: Annotated[
        str | None, typer.Option("--text-column", metavar="NAME", help="The text; by default as in training.")
    ] = None,
    text_pair_column: Annotated[
        str | None, typer.Option("--text-pair-column", metavar="NAME", help="The second text of a pair.")
    ] = None,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Add a column with the probability of each label.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the file that --out names.")] = False,
    json: options.Json = False,
) -> None:
    """Predict with a fine-tuned model: one text, one pair, or a whole table.

    Examples:

        albert predict runs/sst2 "A film of rare charm."

        albert predict runs/qnli "Who wrote it?" "Jane Austen did." --json

        albert predict runs/sst2 --in texts.csv --out predictions.parquet --probabilities
    """
    texts = texts or []
    if bool(texts) == (source is not None):
        raise typer.BadParameter("give texts, or --in FILE with --out FILE")
    if (source is None) != (out is None):
        raise typer.BadParameter("--in and --out go together")
    if len(texts) > 2:
        raise typer.BadParameter(f"a text or a pair, not {len(texts)} texts; for many use --in FILE")
    from albert_cli.training import predict as predictions
    from albert_cli.training.run import load_run

    loaded = load_run(run)
    if source is not None and out is not None:
        with console.progress_count("predicting") as tick:
            rows = predictions.file(
                loaded,
                source,
                out,
                text_column=text_column,
                text_pair_column=text_pair_column,
                probabilities=probabilities,
                force=force,
                tick=tick,
            )
        if json:
            console.print_json({"out": str(out), "rows": rows})
        else:
            typer.echo(f"{out}: {rows} rows")
        return
    result = predictions.one(loaded, texts[0], texts[1] if len(texts) == 2 else None)
    if json:
        console.print_json(result)
    elif "probabilities" not in result:
        typer.echo(f"{result['prediction']:.4f}")
    else:
        typer.echo(result["prediction"])
        console.print_table([[label, f"{share:.4f}"] for label, share in result["probabilities"].items()], right=[1])
