"""albert search: the texts of a file that are nearest to a query."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from albert_cli import console, options, processes, vector_options
from albert_cli.arguments import Kind, refuse_idle

if TYPE_CHECKING:
    from albert_cli.embedding.search import Hit
    from albert_cli.embedding.settings import Settings
    from albert_cli.embedding.similarity import VectorFile
    from albert_cli.tables.conditions import Condition

app = typer.Typer()

_SETTINGS = ("pooling", "layer", "dims", "max_length", "cased")


def _condition(text: str) -> Condition:
    from albert_cli.tables.conditions import condition_of

    try:
        return condition_of(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


@app.command()
def search(
    queries: Annotated[
        list[str] | None,
        typer.Argument(metavar="QUERY", help="What to look for, each in quotes.", show_default=False),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--in",
            metavar="PATH",
            help="Where to look: a .parquet file with a column of vectors, of albert embed or another program; or "
            "texts, which are embedded first, as albert embed reads them.",
            show_default=False,
        ),
        Kind.PATH,
        Kind.STREAM_IN,
    ] = None,
    queries_file: Annotated[
        str | None,
        typer.Option("--queries", metavar="PATH", help="Queries from a file: its lines, or its column text."),
        Kind.PATH,
        Kind.STREAM_IN,
    ] = None,
    top: Annotated[int, typer.Option("--top", min=1, metavar="K", help="How many to show of each query.")] = 10,
    where: Annotated[
        list[str] | None,
        typer.Option(
            "--where",
            metavar="CONDITION",
            help="Only rows whose column has this value: lang=en, year>=2020; =, !=, <, <=, >, >=. Repeated, all of "
            "them must hold.",
        ),
    ] = None,
    keep_columns: options.KeepColumns = None,
    json: options.Json = False,
    model: options.ModelName = None,
    pooling: vector_options.Pooling = None,
    layer: vector_options.Layer = None,
    dims: vector_options.Dims = None,
    prompt: vector_options.Prompt = None,
    max_length: options.MaxLength = None,
    cased: options.Cased = None,
    text_column: options.TextColumn = None,
    id_column: options.IdColumn = None,
    input_format: options.InputFormat = None,
    delimiter: options.Delimiter = None,
    errors: options.Errors = "strict",
    embedding_column: vector_options.ReadEmbeddingColumn = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    precision: options.VectorPrecision = "auto",
    batch_tokens: options.BatchTokens = None,
) -> None:
    """Find the rows of a file that are nearest to a query, by the cosine of their vectors.

    The search is exact: every vector is compared, and memory does not grow with the file. A file of albert embed says
    which model made its vectors, and how; queries are embedded alike, but for --prompt. For vectors of another program
    --model names the model, and the options say how it made them. The file's texts, ids and other columns are shown
    where it has them: albert embed --keep-text, --id-column and --keep-columns copy them into it.

    Examples:

        albert search "How old are you?" --in answers.parquet --top 3

        albert search "a cheap phone" --in reviews.parquet \\
            --where "stars>=4" --where lang=en --json

        albert search --queries questions.txt --in answers.parquet

        # texts that were not embedded before
        albert search "global warming" --in news.csv --text-column body

        # vectors of another program
        albert search "a query" --in vectors.parquet --model st/ --prompt query
    """
    from albert_cli.tables.texts import read

    processes.spare_pandas()
    if source is None:
        raise typer.BadParameter("nowhere to look; --in names a file of vectors, or of texts")
    if source == queries_file == "-":
        raise typer.BadParameter("--in and --queries cannot both be standard input; name a file")
    if not queries and queries_file is None:
        raise typer.BadParameter("nothing to look for; give a QUERY, or --queries FILE")
    conditions = [_condition(text) for text in where or ()]
    wanted = keep_columns.split(",") if keep_columns else None
    texts = list(queries or [])
    if queries_file is not None:
        texts += read(queries_file, errors=errors).firsts
    settings = vector_options.settings_of(
        layer, cased, pooling=pooling, dims=dims, max_length=max_length, prompt=prompt
    )
    how = {"device": device, "threads": threads, "precision": precision, "batch_tokens": batch_tokens}
    kept = [*(wanted or ()), *(one.column for one in conditions)]
    of_texts = {"text": text_column, "id": id_column, "kind": input_format, "delimiter": delimiter, "errors": errors}
    with _file(source, embedding_column, of_texts, kept, model, settings, how) as file:
        _search(file, texts, model, settings, how, conditions=conditions, wanted=wanted, top=top, json=json)


@contextlib.contextmanager
def _file(
    source: str,
    embedding_column: str | None,
    of_texts: dict[str, Any],
    kept: list[str],
    model: str | None,
    settings: Settings,
    how: dict[str, Any],
) -> Iterator[VectorFile]:
    """The file of vectors, or one that is made of the texts of `source` for as long as it is needed."""
    from albert_cli.embedding import search as engine
    from albert_cli.embedding.similarity import VectorFile

    if embedding_column or engine.holds_vectors(Path(source)):
        refuse_idle("where vectors are ready", *options.OF_TABLES, "id_column")
        file = VectorFile(Path(source), embedding_column)
        if file.names_model:
            refuse_idle(f"on {source}, which says how its vectors were made", *_SETTINGS)
        yield file
        return
    from albert_cli.tables.columns import Columns
    from albert_cli.tables.input_files import warn_of_skipped
    from albert_cli.tables.sources import Source

    text, name = of_texts["text"], of_texts["id"]
    there = {"text" if text in (None, "text") else None, "id" if name == "id" else None}
    keep = tuple(column for column in dict.fromkeys(kept) if column not in there)
    columns = Columns(text, None, name, keep, of_texts["delimiter"])
    texts = Source(source, columns, kind=of_texts["kind"], errors=of_texts["errors"])
    warn_of_skipped(source, texts.skipped)
    with (
        console.progress_rows(texts.size) as progress,
        engine.embedded_texts(texts, model, settings, progress, **how) as file,
    ):
        yield file


def _search(
    file: VectorFile,
    texts: list[str],
    model: str | None,
    settings: Settings,
    how: dict[str, Any],
    *,
    conditions: list[Condition],
    wanted: list[str] | None,
    top: int,
    json: bool,
) -> None:
    from albert_cli.embedding import search as engine
    from albert_cli.tables.conditions import Conditions

    columns = engine.columns_of(file, wanted)
    where = Conditions(conditions, file.schema, file.path) if conditions else None
    if file.note_of_names and not columns:
        console.warn(file.note_of_names)
    with console.progress_count("embedding", "queries") as tick:
        queries = engine.queries_for(file, texts, model, settings, tick=tick, **how)
    found = engine.search(file, queries, top, where=where, columns=columns)
    if json:
        pairs = zip(texts, found, strict=True)
        console.print_array({"query": text, "nearest": [_facts(hit) for hit in hits]} for text, hits in pairs)
        return
    if conditions and not any(found):
        console.warn("note: no row meets the conditions")
        return
    for number, (text, hits) in enumerate(zip(texts, found, strict=True)):
        if number:
            console.say()
        _print_hits(file, text, hits, columns)


def _print_hits(file: VectorFile, text: str, hits: list[Hit], columns: list[str]) -> None:
    console.say(text)
    headers = ["rank", "cosine", "id" if file.has_ids else "row", *(["text"] if file.has_texts else []), *columns]
    rows = [
        [
            str(rank),
            f"{hit.cosine:.3f}",
            str(hit.row + 1 if hit.id is None else hit.id),
            *([hit.text or ""] if file.has_texts else []),
            *("" if value is None else str(value) for value in (hit.columns or {}).values()),
        ]
        for rank, hit in enumerate(hits, 1)
    ]
    console.print_table(rows, headers, right=[0, 1] if file.has_ids else [0, 1, 2])


def _facts(hit: Hit) -> dict[str, Any]:
    """A row as JSON: what it has of an id, a text and columns, dates and the like as text."""
    facts = {"row": hit.row, "cosine": hit.cosine, "id": _plain(hit.id), "text": hit.text}
    columns = {name: _plain(value) for name, value in (hit.columns or {}).items()}
    return {name: value for name, value in facts.items() if value is not None} | (
        {"columns": columns} if columns else {}
    )


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, (str, int, float, bool)) else str(value)
