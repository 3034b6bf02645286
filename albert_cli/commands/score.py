"""albert score: how expected each token of a text is, or whether it was replaced, to spot the odd word."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from albert_cli import console, options
from albert_cli.arguments import Kind, refuse_idle

if TYPE_CHECKING:
    from albert_cli.scoring.load import Heads
    from albert_cli.scoring.messages import Places
    from albert_cli.scoring.pseudo_likelihood import Masking
    from albert_cli.scoring.reports import Report

app = typer.Typer()


@app.command()
def score(
    texts: options.Texts = None,
    model: options.ModelName = None,
    source: options.TextSource = None,
    input_format: options.InputFormat = None,
    text_column: options.TextColumn = None,
    delimiter: options.Delimiter = None,
    errors: options.Errors = "strict",
    on_truncate: options.OnTruncate = "warn",
    odd: Annotated[
        int, typer.Option("--odd", min=0, metavar="N", help="Mark the N least likely tokens of each text.")
    ] = 1,
    mask: Annotated[
        Literal["word-l2r", "piece"],
        typer.Option("--mask", help="Mask with a token the rest of its word, which gives it away, or the token alone."),
    ] = "word-l2r",
    totals: Annotated[bool, typer.Option("--totals", help="A line for each text instead of its tokens.")] = False,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", help="Draw the tokens as bars: .png, .svg, .pdf."),
        Kind.FILE_OUT,
    ] = None,
    json: options.Json = False,
    out: options.OutTable = None,
    force: options.Force = False,
    device: options.Device = "auto",
    threads: options.Threads = None,
    precision: options.Precision = "auto",
    batch_tokens: options.BatchTokens = None,
) -> None:
    """Score each token of a text by how likely the model finds it where it is masked, and mark the odd one.

    Each token is masked in turn, so a text of n tokens costs as much as n texts; and with it what follows in its word
    (Kauf and Ivanova 2023, arXiv 2305.10588), unless --mask piece says otherwise. The sum of the natural logarithms is
    the text's pseudo-log-likelihood (Salazar et al. 2020, arXiv 1910.14659); exp(-mean) is its pseudo-perplexity. The
    rank is the token's place among the whole vocabulary, and beside it stands the model's own first choice.

    The discriminator of an ELECTRA says of each token how likely it was replaced, all at once; those above 0.5 are
    marked.

    Examples:

        albert score "He drank a cup of gravel." --model albert-base-v2

        albert score "The cat sat." "The cat sit." --totals

        albert score --in sentences.txt --odd 2 --out tokens.csv

        albert score "He drank a cup of gravel." --plot tokens.png --json

        albert score "The brown duck jumps over the lazy dog" --model electra/
    """
    if bool(texts) == bool(source):
        raise typer.BadParameter("give texts, or --in FILE")
    if source is None:
        refuse_idle("without --in", *options.OF_TABLES)
    if out is None and plot is None:
        refuse_idle("without --out or --plot", "force")
    if totals and plot is None:
        refuse_idle("with --totals, which shows no tokens", "odd")
    from albert_cli.machine import Machine
    from albert_cli.scoring.load import load
    from albert_cli.tables.texts import rereadable
    from albert_cli.tables.write import check, write_rows

    check(out, source, force=force)
    if plot is not None:
        from albert_cli.scoring import bars

        bars.check(plot, force=force, sources=[Path(source)] if source else [])
    with contextlib.ExitStack() as stack:
        given: Collection[str] = texts or []
        places: Places = None
        if source is not None:
            how: dict[str, Any] = {"kind": input_format, "delimiter": delimiter, "errors": errors}
            given = file = stack.enter_context(rereadable(source, text_column=text_column, **how))
            places = file.place
        stack.enter_context(Machine(device, threads, precision).at_work())
        tick = stack.enter_context(console.progress_count("scoring"))
        heads = load(model, "mlm", "rtd", device=device)
        if heads.head == "rtd":
            why = "with an ELECTRA's discriminator, which masks nothing and marks what is above 0.5"
            refuse_idle(why, "mask", "odd")
        common: dict[str, Any] = {"on_truncate": on_truncate, "batch_tokens": batch_tokens, "tick": tick}
        report = _report(heads, given, mask=mask, odd=odd, places=places, **common)
        if plot is not None:
            report.found = list(report.found)
            report.draw(plot, force=force)
        found, empty = report.found, 0

        def counted() -> Iterator[Any]:
            nonlocal empty
            for one in found:
                empty += not len(one)
                yield one

        report.found = counted()
        if out is not None:
            console.print_written(out, write_rows(report.rows(totals=totals), out, force=force), json=json)
        elif json:
            console.print_array(report.document(totals=totals))
        else:
            console.write(report.blocks(totals=totals))
    if empty:
        console.warn(f"{empty:,} of {len(given):,} texts are empty")


def _report(heads: Heads, given: Collection[str], *, mask: Masking, odd: int, **common: Any) -> Report[Any]:
    """The scores of the texts by the head that the model has; `common`: what is asked of either."""
    from albert_cli.scoring.pseudo_likelihood import scores_of
    from albert_cli.scoring.replaced_tokens import replaced_in
    from albert_cli.scoring.reports import LikelihoodReport, ReplacedReport

    if heads.head == "rtd":
        return ReplacedReport(replaced_in(heads.model, heads.tokenizer, given, **common))
    scores = scores_of(heads.model, heads.tokenizer, given, mask=mask, **common)
    return LikelihoodReport(scores, heads.tokenizer, odd, mask)
