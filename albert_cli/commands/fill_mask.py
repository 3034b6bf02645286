"""albert fill-mask: the words that a model expects where a text has [MASK], or a span of them."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Annotated, Any

import typer

from albert_cli import console, options
from albert_cli.arguments import refuse_idle
from converters.messages import escaped

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from albert_cli.scoring.fill_mask import Candidate
    from albert_cli.scoring.masked_spans import FilledSpans

app = typer.Typer()


@app.command("fill-mask")
def fill_mask(
    texts: options.Texts = None,
    model: options.ModelName = None,
    top: Annotated[int | None, typer.Option("--top", min=1, metavar="K", help="The K likeliest; 5 by default.")] = None,
    targets: Annotated[
        str | None, typer.Option("--targets", metavar="A,B", help="Compare these words instead, each of one piece.")
    ] = None,
    span: Annotated[
        bool,
        typer.Option("--span", help="Fill spans of masks from the tokens around them, too (SpanBERT with its heads)."),
    ] = False,
    source: options.TextSource = None,
    input_format: options.InputFormat = None,
    text_column: options.TextColumn = None,
    delimiter: options.Delimiter = None,
    errors: options.Errors = "strict",
    on_truncate: options.OnTruncate = "warn",
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

    --span asks SpanBERT's span-boundary head (SBO) as well. It finds each word of a span of masks from the tokens right
    before and after the span and the word's place in it. Each place has a table: the candidates of the border head, of
    the masked-word head (MLM), and of both, their probabilities multiplied, as the model was trained on the sum of the
    two losses. The text is filled in with the first of both. Each word is found for itself, so the words of a span
    need not go together. At an edge of the text [CLS] or [SEP] is the border.

    Examples:

        albert fill-mask "Paris is the [MASK] of France." --model albert-base-v2

        albert fill-mask "The [MASK] barked at the [MASK]." --top 3 --json

        albert fill-mask "She works as a [MASK]." --targets nurse,doctor,lawyer

        albert fill-mask --in masked.txt --out filled.csv

        albert fill-mask --span "He lives in [MASK] [MASK]." --model spanbert/
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
    if span:
        refuse_idle("with --span", "targets")
    from albert_cli.machine import Machine
    from albert_cli.scoring.load import load
    from albert_cli.tables.texts import given_or_read
    from albert_cli.tables.write import check, write_rows

    check(out, source, force=force)
    given = given_or_read(texts, source, text_column=text_column, kind=input_format, delimiter=delimiter, errors=errors)
    common: dict[str, Any] = {"top": top or 5, "on_truncate": on_truncate}
    common |= {"places": given.places, "batch_tokens": batch_tokens}
    rows: Iterable[dict[str, Any]]
    blocks: Iterable[str | console.Table]
    with Machine(device, threads, precision).at_work():
        heads = load(model, "sbo" if span else "mlm", device=device)
        with console.progress_count("filling in") as tick:
            if span:
                from albert_cli.scoring.masked_spans import fill_spans

                spans = fill_spans(heads.model, heads.tokenizer, given.firsts, **common, tick=tick)
                rows, document, blocks = _span_rows(spans), [_as_json(one) for one in spans], _span_blocks(spans)
            else:
                from albert_cli.scoring.fill_mask import fill_masks

                filled = fill_masks(heads.model, heads.tokenizer, given.firsts, targets=words, **common, tick=tick)
                rows, blocks = _rows(given.firsts, filled), _blocks(given.firsts, filled)
                document = [
                    {"text": text, "masks": [[candidate._asdict() for candidate in mask] for mask in masks]}
                    for text, masks in zip(given.firsts, filled, strict=True)
                ]
    if out is not None:
        console.print_written(out, write_rows(rows, out, force=force), json=json)
    elif json:
        console.print_json(document)
    else:
        console.write(blocks)


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


# What each head's candidates are called.
_HEADS = {"both": "both", "sbo": "borders (SBO)", "mlm": "masked word (MLM)"}


def _span_blocks(found: list[FilledSpans]) -> Iterator[str | console.Table]:
    for number, one in enumerate(found):
        yield ("\n" if number else "") + escaped(one.text) + "\n"
        for place, span in enumerate(one.spans, 1):
            which = f"span {place} of {len(one.spans)}" if len(one.spans) > 1 else "the span"
            between = f"between '{escaped(span.before)}' and '{escaped(span.after)}'"
            for at, heads in enumerate(span.places, 1):
                yield f"\n{which} {between}: word {at} of {len(span.places)}\n"
                rows = []
                for words in zip(*heads.values(), strict=True):
                    cells = ((f"{word.probability:.4g}", escaped(word.piece)) for word in words)
                    rows.append((str(words[0].rank), *itertools.chain.from_iterable(cells)))
                headers = [cell for name in heads for cell in (_HEADS[name], "piece")]
                yield console.Table(rows, ("rank", *headers), (0, *range(1, 2 * len(heads), 2)))
        yield f"\nfilled in: {escaped(one.filled)}\n"


def _as_json(one: FilledSpans) -> dict[str, Any]:
    spans = []
    for span in one.spans:
        places = [{name: [word._asdict() for word in words] for name, words in heads.items()} for heads in span.places]
        spans.append(span._asdict() | {"places": places})
    return one._asdict() | {"spans": spans}


def _span_rows(found: list[FilledSpans]) -> Iterator[dict[str, Any]]:
    """A row for each candidate of each head."""
    for row, one in enumerate(found):
        for number, span in enumerate(one.spans, 1):
            for place, heads in enumerate(span.places, 1):
                for name, words in heads.items():
                    at = {"row": row, "text": one.text, "span": number, "place": place, "head": name}
                    yield from (at | word._asdict() for word in words)
