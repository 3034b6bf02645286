"""albert sop: whether two segments are in order, by the sentence-order head, or a BERT's next-sentence head."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer

from albert_cli import console, options
from albert_cli.arguments import refuse_idle
from converters.messages import escaped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from albert_cli.scoring.sentence_pairs import Order
    from albert_cli.tables.texts import Texts

app = typer.Typer()


class _Question(NamedTuple):
    """What the pair head of a family was trained to answer: its name, in words, and its two labels in order."""

    name: str
    words: str
    yes: str
    no: str


_QUESTIONS = {
    "sop": _Question("sentence order", "are the segments in order, or were they swapped?", "in order", "swapped"),
    "nsp": _Question(
        "next sentence", "is the second segment next to the first, or of another text?", "is next", "is not next"
    ),
}


@app.command()
def sop(
    segments: Annotated[
        list[str] | None, typer.Argument(metavar="FIRST SECOND", help="Two segments of text.", show_default=False)
    ] = None,
    model: options.ModelName = None,
    source: options.TextSource = None,
    input_format: options.InputFormat = None,
    text_column: options.TextColumn = None,
    text_pair_column: options.TextPairColumn = None,
    delimiter: options.Delimiter = None,
    errors: options.Errors = "strict",
    on_truncate: Annotated[
        Literal["warn", "error"],
        typer.Option("--on-truncate", help="A pair too long for the model: cut its longer text, or refuse it."),
    ] = "warn",
    json: options.Json = False,
    out: options.OutTable = None,
    force: options.Force = False,
    device: options.Device = "auto",
    threads: options.Threads = None,
    precision: options.Precision = "auto",
    batch_tokens: options.BatchTokens = None,
) -> None:
    """Show how likely it is that two segments are in order, the second following the first.

    That is ALBERT's sentence-order prediction: the model was shown consecutive segments of one document, half of them
    swapped. Of a BERT it is next-sentence prediction: the second follows the first, or is of another document. Which of
    the two was asked is shown, and stands as `question` in JSON and files. In a table the second texts are in the
    column pair, unless --text-pair-column names another. ALBERTs of the Hugging Face Hub lack this head, Google's
    checkpoints have it; RoBERTa, ELECTRA and SpanBERT were trained without one.

    Examples:

        albert sop "She opened the door." "Then she went in." --model tf/

        albert sop --in pairs.tsv --text-column first --text-pair-column second --json

        albert sop --in pairs.jsonl --out orders.csv
    """
    if bool(segments) == bool(source) or (segments and len(segments) != 2):
        raise typer.BadParameter("give two segments, or --in FILE")
    if source is None:
        refuse_idle("without --in", *options.OF_TABLES)
    if out is None:
        refuse_idle("without --out", "force")
    from albert_cli.machine import Machine
    from albert_cli.scoring.load import load
    from albert_cli.scoring.sentence_pairs import sentence_order
    from albert_cli.tables.texts import Texts, read
    from albert_cli.tables.write import check, write_rows
    from converters.families import family_of

    check(out, source, force=force)
    if source:
        given = read(
            source,
            paired=True,
            text_column=text_column,
            pair_column=text_pair_column,
            kind=input_format,
            delimiter=delimiter,
            errors=errors,
        )
    else:
        given = Texts((segments or [])[:1], (segments or [])[1:])
    with Machine(device, threads, precision).at_work():
        heads = load(model, "pair", device=device)
        with console.progress_count("ordering") as tick:
            order = sentence_order(
                heads.model,
                heads.tokenizer,
                given.firsts,
                given.seconds or [],
                on_truncate=on_truncate,
                places=given.places,
                batch_tokens=batch_tokens,
                tick=tick,
            )
    _warn_of_cut(order, heads.model.config.max_tokens)
    asked = _QUESTIONS[family_of(heads.model.config).pair or ""]
    rows = _rows(given, order, asked)
    if out is not None:
        console.print_written(out, write_rows(rows, out, force=force), json=json)
    elif json:
        console.print_json(rows)
    else:
        console.write(_blocks(given, order, asked, paired=source is None))


def _warn_of_cut(order: Order, limit: int) -> None:
    cut = int((order.truncated > 0).sum())
    if cut:
        console.warn(
            f"{cut:,} of {len(order.truncated):,} pairs are longer than the {limit} tokens the model takes: "
            f"{int(order.truncated.sum()):,} tokens were left out, of the longer text first (column truncated); "
            "--on-truncate error refuses such pairs"
        )


def _blocks(given: Texts, order: Order, asked: _Question, *, paired: bool) -> Iterator[str | console.Table]:
    """The question, and its answers for one pair (`paired`) or for those of a file."""
    yield console.Prose(f"{asked.name}: {asked.words}\n")
    if paired:
        share = float(order.in_order[0])
        yield console.Table([(asked.yes, f"{share:.4f}"), (asked.no, f"{1 - share:.4f}")], (), (1,))
        return
    pairs = zip(order.in_order, given.firsts, given.seconds or [], strict=True)
    rows = [(str(row), f"{share:.4f}", escaped(a), escaped(b)) for row, (share, a, b) in enumerate(pairs, 1)]
    yield console.Table(rows, ("row", asked.yes, "first", "second"), (0, 1))


def _rows(given: Texts, order: Order, asked: _Question) -> list[dict[str, Any]]:
    return [
        {
            "row": row,
            "first": first,
            "second": second,
            "question": asked.name,
            asked.yes.replace(" ", "_"): float(order.in_order[row]),
            "n_tokens": int(order.n_tokens[row]),
            "truncated": int(order.truncated[row]),
        }
        for row, (first, second) in enumerate(zip(given.firsts, given.seconds or [], strict=True))
    ]
