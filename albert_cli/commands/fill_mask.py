"""albert fill-mask: the words that a model expects where a text has [MASK]."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from albert_cli import console, options
from albert_cli.arguments import refuse_idle
from converters.messages import escaped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from albert_cli.scoring.fill_mask import Candidate

app = typer.Typer()


@app.command("fill-mask")
def fill_mask(
    texts: options.Texts = None,
    model: options.ModelName = None,
    top: Annotated[int | None, typer.Option("--top", min=1, metavar="K", help="The K likeliest; 5 by default.")] = None,
    targets: Annotated[
        str | None, typer.Option("--targets", metavar="A,B", help="Compare these words instead, each of one piece.")
    ] = None,
    source: options.TextSource = None,
    input_format: options.InputFormat = None,
    text_column: options.TextColumn = None,
    delimiter: options.Delimiter = None,
    errors: options.Errors = "strict",
    json: options.Json = False,
    out: options.OutTable = None,
    force: options.Force = False,
    device: options.Device = "auto",
    threads: options.Threads = None,
    precision: options.Precision = "auto",
    batch_tokens: options.BatchTokens = None,
) -> None:
    """Fill in the [MASK] of a text: the likeliest pieces of the vocabulary, each with its probability.

    <mask>, as RoBERTa's vocabulary has it, is the same; every model takes both. A text may hold several masks; each has
    a table of its own, in which the others stay masked. A piece that begins a word starts with `▁`, a RoBERTa's with
    `Ġ`; a BERT's that continues one with `##`.

    Examples:

        albert fill-mask "Paris is the [MASK] of France." --model albert-base-v2

        albert fill-mask "The [MASK] barked at the [MASK]." --top 3 --json

        albert fill-mask "She works as a [MASK]." --targets nurse,doctor,lawyer

        albert fill-mask --in masked.txt --out filled.csv
    """
    words = [word.strip() for word in targets.split(",") if word.strip()] if targets is not None else []
    if targets is not None and (top is not None or not words):
        raise typer.BadParameter("--targets takes comma-separated words, and does not go with --top")
    if bool(texts) == bool(source):
        raise typer.BadParameter("give texts, or --in FILE")
    if source is None:
        refuse_idle("without --in", *options.OF_TABLES)
    if out is None:
        refuse_idle("without --out", "force")
    from albert_cli.machine import Machine
    from albert_cli.scoring.fill_mask import fill_masks
    from albert_cli.scoring.load import load
    from albert_cli.tables.texts import given_or_read
    from albert_cli.tables.write import check, write_rows

    check(out, source, force=force)
    given = given_or_read(texts, source, text_column=text_column, kind=input_format, delimiter=delimiter, errors=errors)
    with Machine(device, threads, precision).at_work():
        heads = load(model, "mlm", device=device)
        with console.progress_count("filling in") as tick:
            filled = fill_masks(
                heads.model,
                heads.tokenizer,
                given.firsts,
                top=top or 5,
                targets=words,
                places=given.places,
                batch_tokens=batch_tokens,
                tick=tick,
            )
    if out is not None:
        rows = write_rows(_rows(given.firsts, filled), out, force=force)
        console.print_written(out, rows, json=json)
    elif json:
        console.print_json(
            [
                {"text": text, "masks": [[candidate._asdict() for candidate in mask] for mask in masks]}
                for text, masks in zip(given.firsts, filled, strict=True)
            ]
        )
    else:
        console.write(_blocks(given.firsts, filled))


def _blocks(texts: list[str], filled: list[list[list[Candidate]]]) -> Iterator[str | console.Table]:
    blank = ""
    for text, masks in zip(texts, filled, strict=True):
        for number, mask in enumerate(masks, 1):
            yield f"{blank}{escaped(text)}{f'  (mask {number} of {len(masks)})' if len(masks) > 1 else ''}\n"
            rows = [(str(c.rank), f"{c.probability:.4g}", str(c.id), escaped(c.piece), escaped(c.filled)) for c in mask]
            yield console.Table(rows, ("rank", "probability", "id", "piece", "filled in"), (0, 1, 2))
            blank = "\n"


def _rows(texts: list[str], filled: list[list[list[Candidate]]]) -> Iterator[dict[str, Any]]:
    """A row for each candidate."""
    for row, (text, masks) in enumerate(zip(texts, filled, strict=True)):
        for number, mask in enumerate(masks, 1):
            yield from ({"row": row, "text": text, "mask": number} | candidate._asdict() for candidate in mask)
