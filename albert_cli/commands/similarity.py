"""albert similarity: cosines of texts or of embedding files, nearest neighbours, a heat map."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from albert_cli import arguments, console, options, processes, vector_options
from albert_cli.arguments import Kind
from albert_cli.errors import EmbeddingError, TextError

if TYPE_CHECKING:
    from collections.abc import Callable

    from albert_cli.embedding.settings import Settings
    from albert_cli.embedding.similarity import Neighbour, VectorFile, Vectors

app = typer.Typer()

# How many are shown of a cosine, and how much of a label at least, where the terminal is narrow.
_DECIMALS, _LABEL = (3, 2, 1), 12
# A larger table is no use to a reader.
_LARGEST_TABLE = 100


@app.command()
def similarity(
    items: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TEXT|FILE]...", help="Texts, or one or two .parquet files of albert embed."),
        Kind.RAW,
    ] = None,
    source: options.TextSource = None,
    top: Annotated[
        int | None, typer.Option("--top", min=1, metavar="K", help="The K nearest of each instead of the table.")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", help="Draw a heat map: .png, .svg, .pdf."),
        Kind.FILE_OUT,
    ] = None,
    json: options.Json = False,
    model: options.ModelName = None,
    pooling: vector_options.Pooling = None,
    layer: vector_options.Layer = None,
    dims: vector_options.Dims = None,
    prompt: vector_options.Prompt = None,
    max_length: options.MaxLength = None,
    cased: options.Cased = None,
    input_format: options.InputFormat = None,
    text_column: options.TextColumn = None,
    delimiter: options.Delimiter = None,
    errors: options.Errors = "strict",
    embedding_column: vector_options.ReadEmbeddingColumn = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    precision: options.VectorPrecision = "auto",
    batch_tokens: options.BatchTokens = None,
    force: options.Force = False,
) -> None:
    """Compare texts or embedding files by the cosine of their vectors.

    Texts are compared with one another, or, given --in or a file of vectors, with those. Texts, and those of --in, that
    are compared with a file of vectors are embedded as the file was, but for --prompt. An ALBERT that was not
    fine-tuned for it is a weak judge of meaning: all its cosines lie close together.

    Examples:

        albert similarity "How old are you?" "what is your age?"

        albert similarity --in sentences.txt --model albert-base-v2 --plot heat.png

        albert similarity "Who wrote it?" answers.parquet --top 5

        albert similarity --in questions.txt answers.parquet --top 3

        albert similarity questions.parquet answers.parquet --top 3 --json
    """
    from albert_cli.embedding import similarity as engine
    from albert_cli.embedding.nearest import cosines
    from albert_cli.tables.texts import given_or_read

    processes.spare_pandas()
    files, texts = _sorted(items or [], errors)
    if len(files) > 2 or (len(files) == 2 and (texts or source)):
        raise typer.BadParameter("give texts, or texts and one file of vectors, or two files")
    if not (files or texts or source):
        raise typer.BadParameter("nothing to compare; give texts, --in FILE, or .parquet files of albert embed")
    if plot is not None:
        from albert_cli import pictures

        pictures.check(plot, EmbeddingError, force=force, sources=[*files, *([Path(source)] if source else [])])
    _refuse_idle(files, texts=bool(texts or source), source=source, plot=plot)
    stored = [engine.VectorFile(path, embedding_column) for path in files]
    given = {
        "--pooling": pooling,
        "--layer": layer,
        "--dims": dims,
        "--max-length": max_length,
        "--cased/--uncased": cased,
    }
    _check_settings(files, given)
    settings = vector_options.settings_of(
        layer, cased, pooling=pooling, dims=dims, max_length=max_length, prompt=prompt
    )
    lines = given_or_read(
        None, source, text_column=text_column, kind=input_format, delimiter=delimiter, errors=errors
    ).firsts
    if files and lines:
        texts, lines = [*texts, *lines], []
    if top is None or plot is not None:
        _check_size([len(file) for file in stored] + [len(texts), len(lines)], plot if top else None)
    _warn_of_names(stored)
    with console.progress_count("embedding", "texts") as tick:
        how = {"device": device, "threads": threads, "precision": precision, "batch_tokens": batch_tokens}
        a, b = _sides(stored, texts, lines, model, settings, how, tick)
    same = a is b or (len(stored) == 1 and not texts)
    if top is not None:
        found = engine.nearest(a, b, top, same=same)
        _print_nearest(a, found, numbered=b.numbered, json=json)
        if plot is None:
            return
    other = b if isinstance(b, engine.Vectors) else b.all()
    table = cosines(a.values, other.values)
    if top is None:
        _print_table(a, other, table, json=json)
    if plot is not None:
        from albert_cli.embedding.heat_map import draw

        draw(table, a.labels, other.labels, plot, force=force)
        if not json:
            console.say(f"{plot}: {len(a)} x {len(other)} cosines")


def _refuse_idle(files: list[Path], *, texts: bool, source: str | None, plot: Path | None) -> None:
    """Refuse options of what is not done in this call."""
    if source is None:
        arguments.refuse_idle("without --in", *options.OF_TABLES)
    if not files:
        arguments.refuse_idle("without a file of vectors", "embedding_column")
    elif not texts:
        arguments.refuse_idle("where all vectors are ready", *options.OF_COMPUTING, "prompt")
    if plot is None:
        arguments.refuse_idle("without --plot", "force")


def _warn_of_names(stored: list[VectorFile]) -> None:
    """Say what rows are called in files that hold no texts."""
    for file in stored:
        if file.note_of_names:
            console.warn(file.note_of_names)


def _check_size(sides: list[int], plot: Path | None) -> None:
    """Refuse a table too large to read, before any work is done; of a picture that `plot` names, too."""
    if max(sides) > _LARGEST_TABLE:
        what, advice = ("picture", "leave out --plot") if plot else ("table", "--top K lists the nearest")
        raise typer.BadParameter(f"{max(sides):,} rows are too many for a {what} of at most {_LARGEST_TABLE}; {advice}")


def _check_settings(files: list[Path], given: dict[str, Any]) -> None:
    """Refuse settings that a file of vectors has decided already."""
    named = [option for option, value in given.items() if value is not None]
    if files and named:
        raise typer.BadParameter(f"{' and '.join(named)}: texts are embedded as {files[0]} was; leave it out")


def _sorted(items: list[str], errors: str) -> tuple[list[Path], list[str]]:
    """The files of vectors and the texts; TextError for another file, whose name would be compared."""
    files: list[Path] = []
    texts: list[str] = []
    for item in items:
        path = Path(arguments.expanded(item)) if item.startswith("~/") else Path(item)
        there = arguments.is_file(path)
        if path.suffix.lower() == ".parquet" and (there or not any(map(str.isspace, item))):
            files.append(path)
        elif there:
            if path.suffix.lower() == ".npy":
                raise TextError(f"{item}: vectors without their model; albert embed --out FILE.parquet names it")
            raise TextError(f"{item}: a file where a text is expected; --in {item} compares its lines")
        else:
            texts.append(arguments.decoded(item, "TEXT", errors))
    return files, texts


def _sides(
    stored: list[VectorFile],
    texts: list[str],
    lines: list[str],
    model: str | None,
    settings: Settings,
    how: dict[str, Any],
    tick: Callable[[int, int], None],
) -> tuple[Vectors, Vectors | VectorFile]:
    """What is compared with what; the same twice where texts are compared with one another."""
    from albert_cli.embedding import similarity as engine

    if stored and texts:
        return engine.embedded_like(stored[0], texts, model, prompt=settings.prompt, tick=tick, **how), stored[0]
    if stored:
        return stored[0].all(), stored[-1]
    if texts and lines:
        both = engine.embedded([*texts, *lines], model, settings, tick=tick, **how)
        return engine.Vectors(texts, both.values[: len(texts)]), engine.Vectors(lines, both.values[len(texts) :])
    same = engine.embedded(texts or lines, model, settings, tick=tick, **how)
    return same, same


def _print_table(a: Vectors, b: Vectors, table: Any, *, json: bool) -> None:
    if json:
        console.print_json(
            {"rows": a.labels, "columns": b.labels, "cosines": [[float(x) for x in row] for row in table]}
        )
        return
    headers = ["", *(str(number) for number in range(1, len(b) + 1)), ""]
    square = a.labels == b.labels
    labels, others = _shown(a.labels, numbered=a.numbered), _shown(b.labels, numbered=b.numbered)
    fitting = _fitting(labels, table)
    if fitting is None:
        console.say(
            f"{len(b)} columns of cosines need more than the {console.width()} columns of this terminal; --top K lists "
            "the nearest of each text, --json and a pipe give all"
        )
        return
    decimals, labels = fitting
    rows = [
        [str(number), *(f"{cosine:.{decimals}f}" for cosine in row), label]
        for number, (label, row) in enumerate(zip(labels, table, strict=True), 1)
    ]
    console.print_table(rows, headers, right=range(len(b) + 1))
    if not square:
        console.say()
        console.print_table([[str(number), label] for number, label in enumerate(others, 1)], right=[0])


def _fitting(labels: list[str], table: Any) -> tuple[int, list[str]] | None:
    """Decimals and labels with which the table is no wider than the terminal; None where no figure would be left."""
    if not sys.stdout.isatty():
        return _DECIMALS[0], labels
    from albert_cli.layout import GAP, cropped, width_of

    numbers = max(len(str(len(labels))), 1)
    longest = max(map(width_of, labels), default=0)
    for decimals in _DECIMALS:
        figures = sum(
            GAP + max(len(str(number)), *(len(f"{cosine:.{decimals}f}") for cosine in column))
            for number, column in enumerate(table.T, 1)
        )
        room = console.width() - numbers - figures - GAP
        if room >= min(longest, _LABEL):
            return decimals, [cropped(label, room) for label in labels]
    return None


def _print_nearest(a: Vectors, found: list[list[Neighbour]], *, numbered: bool, json: bool) -> None:
    if json:
        pairs = zip(a.labels, found, strict=True)
        console.print_json([{"query": label, "nearest": [_facts(one) for one in row]} for label, row in pairs])
        return
    rows = [
        [
            label if rank == 0 else "",
            f"{one.cosine:.3f}",
            str(one.row + 1) if one.id is None else one.id,
            *_shown([one.label], numbered=numbered),
        ]
        for label, row in zip(_shown(a.labels, numbered=a.numbered), found, strict=True)
        for rank, one in enumerate(row)
    ]
    named = any(one.id is not None for row in found for one in row)
    headers = ["text", "cosine", "id" if named else "row", "nearest"]
    console.print_table(rows, headers, right=[1] if named else [1, 2])


def _facts(one: Neighbour) -> dict[str, Any]:
    return {name: value for name, value in one._asdict().items() if value is not None}


def _shown(labels: list[str], *, numbered: bool) -> list[str]:
    """Labels for people: rows that have no other name are counted from 1."""
    return [str(int(label) + 1) for label in labels] if numbered else labels
