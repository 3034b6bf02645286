"""albert score: how expected each token of a text is, to spot the odd word."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from albert_cli import console, options
from albert_cli.arguments import Kind, refuse_idle
from converters.messages import escaped

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from albert_cli.scoring.pseudo_likelihood import TextScore
    from albert_cli.tokenization.tokenizer import Tokenizer

app = typer.Typer()

# How a terminal shows a token that is at least this likely.
_STYLES = ((0.5, "green"), (0.01, ""), (0.0001, "yellow"), (0.0, "red"))


@app.command()
def score(
    texts: options.Texts = None,
    model: options.ModelName = None,
    source: options.TextSource = None,
    input_format: options.InputFormat = None,
    text_column: options.TextColumn = None,
    delimiter: options.Delimiter = None,
    errors: options.Errors = "strict",
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

    Examples:

        albert score "He drank a cup of gravel." --model albert-base-v2

        albert score "The cat sat." "The cat sit." --totals

        albert score --in sentences.txt --odd 2 --out tokens.csv

        albert score "He drank a cup of gravel." --plot tokens.png --json
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
    from albert_cli.scoring.pseudo_likelihood import score_texts
    from albert_cli.tables.texts import given_or_read
    from albert_cli.tables.write import check, write_rows

    check(out, source, force=force)
    if plot is not None:
        from albert_cli.scoring import bars

        bars.check(plot, force=force, sources=[Path(source)] if source else [])
    given = given_or_read(texts, source, text_column=text_column, kind=input_format, delimiter=delimiter, errors=errors)
    with Machine(device, threads, precision).at_work():
        heads = load(model, "mlm", device=device)
        tokenizer = heads.tokenizer
        with console.progress_count("scoring") as tick:
            found = score_texts(
                heads.model,
                tokenizer,
                given.firsts,
                mask=mask,
                places=given.places,
                batch_tokens=batch_tokens,
                tick=tick,
            )
    empty = sum(not len(one) for one in found)
    if empty:
        console.warn(f"{empty:,} of {len(found):,} texts are empty")
    if plot is not None:
        bars.draw(found, plot, odd=odd, force=force)
    if out is not None:
        rows = _totals(found) if totals else _rows(found, tokenizer, odd)
        console.print_written(out, write_rows(rows, out, force=force), json=json)
    elif json:
        console.print_json(
            [
                data | {"mask": mask} | ({} if totals else {"token_scores": list(_tokens(one, tokenizer, odd))})
                for one, data in zip(found, _totals(found), strict=True)
            ]
        )
    elif totals:
        console.write(_total_blocks(found))
    else:
        console.write(_blocks(found, tokenizer, odd))


def _blocks(found: Sequence[TextScore], tokenizer: Tokenizer, odd: int) -> Iterator[str | console.Table]:
    headers = ("", "log p", "rank", "piece", "text", "first choice", "log p")
    for number, one in enumerate(found):
        rows, styles = [], []
        yield ("\n" if number else "") + escaped(one.text) + "\n"
        for data in _tokens(one, tokenizer, odd):
            logs = [f"{data[name]:.2f}" for name in ("log_probability", "choice_log_probability")]
            text = escaped(one.text[data["start"] : data["end"]])
            mark = "odd" if data["odd"] else ""
            rows.append(
                (mark, logs[0], str(data["rank"]), escaped(data["piece"]), text, escaped(data["choice"]), logs[1])
            )
            likely = next(style for least, style in _STYLES if math.exp(data["log_probability"]) >= least)
            styles.append(f"bold {likely}".strip() if data["odd"] else likely)
        if rows:
            yield console.Table(rows, headers, (1, 2, 6), styles)
        yield console.Prose(_summary([one]))
    if len(found) > 1:
        yield console.Prose(f"\n{len(found):,} texts: {_summary(found)}")


def _total_blocks(found: Sequence[TextScore]) -> Iterator[str | console.Table]:
    headers = ("row", "tokens", "log-likelihood", "per token", "pseudo-perplexity", "text")
    rows = []
    for data in _totals(found):
        figures = [data["log_likelihood"], data["per_token"], data["pseudo_perplexity"]]
        shown = ["" if figure is None else f"{figure:.2f}" for figure in figures]
        rows.append((str(data["row"] + 1), str(data["tokens"]), *shown, escaped(data["text"])))
    yield console.Table(rows, headers, range(5))
    if len(found) > 1:
        yield console.Prose(f"\n{len(found):,} texts: {_summary(found)}")


def _summary(found: Sequence[TextScore]) -> str:
    """One line on some texts together."""
    from albert_cli.scoring.pseudo_likelihood import perplexity

    tokens, total = sum(map(len, found)), sum(one.log_likelihood for one in found)
    if not tokens:
        return "no tokens\n"
    mean = total / tokens
    return (
        f"log-likelihood {total:.2f} of {tokens:,} token{'s' * (tokens > 1)}, {mean:.2f} per token, "
        f"pseudo-perplexity {perplexity(mean):.2f}\n"
    )


def _totals(found: Sequence[TextScore]) -> Iterator[dict[str, Any]]:
    for row, one in enumerate(found):
        perplexity = one.pseudo_perplexity
        yield {
            "row": row,
            "text": one.text,
            "tokens": len(one),
            "log_likelihood": one.log_likelihood,
            "per_token": one.mean,
            # JSON has no infinity
            "pseudo_perplexity": perplexity if perplexity is None or math.isfinite(perplexity) else None,
        }


def _tokens(one: TextScore, tokenizer: Tokenizer, odd: int) -> Iterator[dict[str, Any]]:
    marked = one.odd(odd)
    for place, (start, end) in enumerate(one.offsets):
        yield {
            "id": one.ids[place],
            "piece": one.pieces[place],
            "start": start,
            "end": end,
            "log_probability": float(one.log_probabilities[place]),
            "rank": int(one.ranks[place]),
            "choice_id": int(one.choices[place]),
            "choice": tokenizer.segmenter.piece(int(one.choices[place])),
            "choice_log_probability": float(one.choice_log_probabilities[place]),
            "odd": place in marked,
        }


def _rows(found: Sequence[TextScore], tokenizer: Tokenizer, odd: int) -> Iterator[dict[str, Any]]:
    """A row for each token."""
    for row, one in enumerate(found):
        for number, data in enumerate(_tokens(one, tokenizer, odd)):
            yield {"row": row, "token": number} | data | {"text": one.text[data["start"] : data["end"]]}
