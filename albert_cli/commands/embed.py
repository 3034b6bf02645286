"""albert embed: texts to vectors in a Parquet file; resumable, in shards, or on a Ray cluster."""

from __future__ import annotations

import dataclasses
import glob
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from albert_cli import console, interruption, options, processes, vector_options
from albert_cli.arguments import Kind, refuse_idle, typed_options
from converters.errors import FileError
from converters.messages import escaped, shortened

if TYPE_CHECKING:
    from albert_cli.embedding.engine import Job, Report
    from albert_cli.embedding.settings import Settings
    from albert_cli.machine import DeviceName

app = typer.Typer()

_OF_MERGE = {"source", "out", "merge", "force", "json"}
_OF_TEXTS = {"model", "pooling", "layer", "normalize", "dims", "prompt", "errors", "max_length", "cased", "on_truncate",
             "device", "threads", "precision", "batch_tokens", "json"}  # fmt: skip
_NOT_UPDATED = ("resume", "force", "shard", "engine")
# Below this many rows their rate means nothing.
_TIMED = 1000
# As many as five digits in the name of a shard's file number.
_MOST_SHARDS = 100_000


@app.command()
def embed(
    texts: options.Texts = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--in",
            metavar="PATH",
            help="A .txt, CSV, TSV, JSONL or Parquet file (gzip, zstd or xz too), a directory or glob of them, - for "
            "standard input.",
            show_default=False,
        ),
        Kind.PATH,
        Kind.STREAM_IN,
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="What to write: .parquet, .jsonl, .csv, or .npy for the vectors alone; Parquet beside the input.",
        ),
        Kind.FILE_OUT,
    ] = None,
    model: options.ModelName = None,
    pooling: vector_options.PoolingOrTokens = None,
    layer: Annotated[
        str, typer.Option("--layer", metavar="N", help="0 is the embeddings, -1 the last; several as 1,2, or all.")
    ] = "-1",
    normalize: vector_options.Normalize = None,
    dims: vector_options.Dims = None,
    prompt: vector_options.Prompt = None,
    text_column: options.TextColumn = None,
    text_pair_column: options.TextPairColumn = None,
    id_column: options.IdColumn = None,
    keep_columns: options.KeepColumns = None,
    keep_text: Annotated[bool, typer.Option("--keep-text", help="Copy the texts into the output.")] = False,
    input_format: options.InputFormat = None,
    delimiter: options.Delimiter = None,
    errors: options.Errors = "strict",
    embedding_column: Annotated[
        str, typer.Option("--embedding-column", metavar="NAME", help="What the column of vectors is called.")
    ] = "embedding",
    vector_type: Annotated[
        Literal["fixed", "list"], typer.Option("--vector-type", help="Lists of fixed or of any length (ClickHouse).")
    ] = "fixed",
    out_dtype: Annotated[
        Literal["float32", "float16", "int8", "binary"], typer.Option("--out-dtype", help="How numbers are stored.")
    ] = "float32",
    max_length: options.MaxLength = None,
    cased: options.Cased = None,
    on_truncate: vector_options.OnTruncate = "warn",
    device: options.Device = "auto",
    threads: options.Threads = None,
    precision: options.VectorPrecision = "auto",
    batch_tokens: options.BatchTokens = None,
    resume: options.Resume = False,
    force: options.Force = False,
    shard: Annotated[
        str | None, typer.Option("--shard", metavar="I/N", help="Only every N-th row, from row I (0 to N-1) on.")
    ] = None,
    update: Annotated[
        bool,
        typer.Option(
            "--update", help="Add to --out only rows that are new or changed, by id and text; the others are kept."
        ),
    ] = False,
    merge: Annotated[bool, typer.Option("--merge", help="Merge the shards that --in names into --out.")] = False,
    engine: Annotated[Literal["local", "ray"], typer.Option("--engine", help="Here, or on a Ray cluster.")] = "local",
    address: Annotated[
        str | None, typer.Option("--address", metavar="ADDRESS", help="The Ray cluster; else one on this machine.")
    ] = None,
    num_actors: Annotated[
        int | None, typer.Option("--num-actors", min=1, metavar="N", help="Ray workers; as many as fit by default.")
    ] = None,
    gpus_per_actor: Annotated[
        float, typer.Option("--gpus-per-actor", min=0, metavar="G", help="GPUs of each Ray worker; parts are allowed.")
    ] = 0,
    json: options.Json = False,
) -> None:
    """Embed texts: a vector for each, in a Parquet file that pyarrow, pandas, Polars and DuckDB open, or another.

    The order of the input is kept, no row is lost: an empty text has the vector of the empty sequence and `empty` is
    true; of a text that is too long, `truncated` says how many tokens were left out. A run that is interrupted, even
    by kill -9, is resumed by --resume; the file is bit-identical. Pooling, normalization, length, prompt and number of
    dimensions of a Sentence-Transformers model are its own, unless an option says otherwise; its Dense layers follow
    the pooling. The vector of a TEXT is printed as JSON, of several one on each line.

    --update adds to the file what the input has that is new: rows whose id, text or kept columns the file does not have
    so. Those that the input no longer has are kept. A file without texts is to be begun with --update, too, so that it
    holds their SHA-256.

    Examples:

        albert embed "How old are you?" --model albert-base-v2

        albert embed --in texts.txt --model albert-base-v2

        albert embed --in pages.jsonl.gz --text-column body --id-column url \\
            --normalize --out pages.parquet

        albert embed --in long.txt --on-truncate window --pooling mean

        # a Sentence-Transformers model with prompts
        albert embed --in questions.txt --model st/ --prompt query

        zcat corpus.gz | albert embed --in - --out corpus.parquet --resume

        # tonight's articles
        albert embed --in news.csv --id-column url --keep-text \\
            --out news.parquet --update

        # on four machines, 0/4 to 3/4; then the four files into one
        albert embed --in corpus/ --out corpus.parquet --shard 0/4
        albert embed --merge --in 'corpus-*-of-00004.parquet' --out corpus.parquet

        albert embed --in corpus/ --out corpus.parquet \\
            --engine ray --address auto --gpus-per-actor 1
    """
    if merge:
        if source is None or out is None:
            what = "--in: the shards" if source is None else "--out: the file to write"
            raise typer.BadParameter(f"--merge needs {what}")
        refuse_idle("with --merge, which copies vectors", *(typed_options().keys() - _OF_MERGE))
        _merge(source, out, force=force, json=json)
        return
    from albert_cli.embedding.settings import Settings

    settings = Settings(
        pooling, _layers(layer), normalize, dims, max_length, on_truncate, None if cased is None else not cased, prompt
    )
    computing: dict[str, Any] = {"precision": precision, "batch_tokens": batch_tokens, "threads": threads}
    if texts:
        _print_vectors(texts, source, model, settings, device, computing, json=json)
        return
    if source is None:
        raise typer.BadParameter("nothing to embed; give a TEXT, or --in FILE")
    part = _shard(shard)
    target = _target(source, out, part)
    _check_kind(target, part, update=update)
    if engine == "local":
        processes.spare_pandas()
    if engine == "local" and (address or num_actors or gpus_per_actor):
        raise typer.BadParameter("--address, --num-actors and --gpus-per-actor need --engine ray")
    from albert_cli.embedding import kinds
    from albert_cli.embedding import resume as resuming
    from albert_cli.embedding.engine import Job
    from albert_cli.embedding.parquet import Layout
    from albert_cli.tables.columns import Columns
    from albert_cli.tables.input_files import warn_of_skipped
    from albert_cli.tables.sources import Source

    kept = tuple(keep_columns.split(",")) if keep_columns else ()
    columns = Columns(text_column, text_pair_column, id_column, kept, delimiter)
    in_parquet = target.suffix.lower() in kinds.PARQUET
    rows = Source(source, columns, kind=input_format, errors=errors, with_bytes=in_parquet)
    resuming.check_free(target, rows, resume=resume or update, force=force)
    warn_of_skipped(source, rows.skipped)
    plan = vector_options.plan_of(model, settings, _device(engine, device, gpus_per_actor), **computing)
    layout = Layout(embedding_column, out_dtype, vector_type, keep_text, text_hash=update and not keep_text)
    job = Job(rows, target, plan, layout, part, resume or update, force)
    if update and target.exists():
        _update(job, json=json)
        return
    done_before = resume and _begun(target)
    with interruption.keeping(lambda: interruption.of_vectors(target)), console.progress_rows(rows.size) as progress:
        if engine == "ray":
            from albert_cli.embedding import ray_engine

            report = ray_engine.run(job, ray_engine.Cluster(address, num_actors, gpus_per_actor), progress)
        else:
            from albert_cli.embedding.engine import run

            report = run(job, progress)
    _print_report(report, on_truncate, json=json, done_before=done_before)


def _print_vectors(
    texts: list[str],
    source: str | None,
    model: str | None,
    settings: Settings,
    device: DeviceName,
    computing: dict[str, Any],
    *,
    json: bool,
) -> None:
    """The vector of each text of the command line: a JSON array on a line of its own, or one document of all."""
    if source is not None:
        raise typer.BadParameter("give a TEXT, whose vector is printed, or --in FILE, not both")
    refuse_idle("on a TEXT, whose vector is printed", *(typed_options().keys() - _OF_TEXTS))
    if settings.pooling == "tokens" or len(settings.layers or ()) != 1:
        raise typer.BadParameter("of a TEXT one vector is printed; --in FILE takes several layers, and tokens")
    from albert_cli.embedding.embedder import Embedder
    from albert_cli.embedding.similarity import vectors_of
    from albert_cli.machine import find_device

    vectors = vectors_of(Embedder(vector_options.plan_of(model, settings, find_device(device), **computing)), texts)
    # The fewest digits that tell a float32 from every other.
    rows = [[float(number) for number in vector.astype("U").tolist()] for vector in vectors]
    if json:
        console.print_json([{"text": text, "embedding": row} for text, row in zip(texts, rows, strict=True)])
        return
    for row in rows:
        console.print_line(row)


def _device(engine: str, device: DeviceName, gpus_per_actor: float) -> str:
    """Where vectors are computed; the workers of a cluster need not have what this machine has."""
    from albert_cli.machine import find_device

    if engine != "ray":
        return find_device(device)
    return ("cuda" if gpus_per_actor else "cpu") if device == "auto" else device


def _check_kind(target: Path, part: tuple[int, int], *, update: bool) -> None:
    """Refuse a file that cannot be written, or updated, as its name and the options ask."""
    from albert_cli.embedding import kinds

    kinds.check(target, shards=part[1])
    if update:
        refuse_idle("with --update, which keeps what is there and takes what is new", *_NOT_UPDATED)
    if update and target.suffix.lower() not in kinds.PARQUET:
        raise typer.BadParameter(f"--update needs a .parquet file, which says how its vectors were made, not {target}")
    if target.suffix.lower() == ".npy":
        refuse_idle("on .npy, which holds the vectors alone", "embedding_column", "vector_type")
    elif target.suffix.lower() not in kinds.PARQUET:
        refuse_idle(f"on {target.suffix.lower()}, which has no types of lists", "vector_type")


def _update(job: Job, *, json: bool) -> None:
    from albert_cli.embedding.update import update

    with console.progress_rows(job.source.size) as progress:
        report = update(job, progress)
    if json:
        console.print_report(report)
        return
    kept = f", {report.not_in_the_input:,} that are not in the input" if report.not_in_the_input else ""
    rows = [
        ("updated", f"{report.target}: {report.rows:,} rows"),
        ("embedded", f"{report.added:,} new rows, {report.changed:,} changed ones"),
        ("kept", f"{report.unchanged:,} unchanged rows{kept}"),
        ("took", f"{report.seconds:.1f} s"),
    ]
    console.print_table(rows)


def _begun(target: Path) -> bool:
    """Whether a file that is to be resumed is there already; a note where nothing of it is."""
    from albert_cli.embedding.resume import directory_of
    from albert_cli.runs import resumption

    if not target.exists() and not any(directory_of(target).glob("part-*.arrow")):
        console.warn(f"note: {resumption.none_yet(target)}")
    return target.exists()


def _print_report(report: Report, on_truncate: str, *, json: bool, done_before: bool) -> None:
    if done_before and report.rows_resumed == report.rows:
        from albert_cli.runs import resumption

        console.warn(f"note: {resumption.finished(Path(report.target))}")
    if report.rows_truncated and on_truncate != "window":
        console.warn(
            f"{report.rows_truncated:,} of {report.rows:,} texts were longer than --max-length: "
            f"{report.tokens_truncated:,} tokens were left out (column truncated); --on-truncate window embeds them"
        )
    if report.rows_empty:
        console.warn(f"{report.rows_empty:,} of {report.rows:,} texts are empty (column empty)")
    if json:
        console.print_report(report)
        return
    done = report.rows - report.rows_resumed
    vectors = f"{', '.join(report.columns)} of {report.dims} numbers"
    took = f"{report.seconds:.1f} s"
    if report.rows_resumed:
        took += f" for {done:,} rows; {report.rows_resumed:,} were done before"
    if done >= _TIMED and report.seconds:  # fewer take no longer than loading the model
        took += f", {done / report.seconds:,.0f} rows/s"
    rows = [
        ("embedded", f"{report.rows:,} rows, {report.tokens:,} tokens -> {report.target}"),
        ("vectors", vectors),
        ("made by", report.described),
        ("took", took),
    ]
    console.print_table(rows)


def _merge(source: str, out: Path, *, force: bool, json: bool) -> None:
    from albert_cli.embedding.merge import merge
    from albert_cli.tables.sources import Source

    summary = merge(Source(source).files, out, force=force)
    if json:
        console.print_json({"out": str(out)} | dataclasses.asdict(summary))
    else:
        console.say(f"{out}: {summary.rows:,} rows, {summary.tokens:,} tokens")


def _shard(text: str | None) -> tuple[int, int]:
    if text is None:
        return 0, 1
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    if not match or not int(match[1]) < int(match[2]) <= _MOST_SHARDS:
        wanted = f"I/N with I from 0 to N-1, such as 0/4, and N of at most {_MOST_SHARDS:,}"
        raise typer.BadParameter(f"--shard {shortened(escaped(text), 60)}: give {wanted}")
    return int(match[1]), int(match[2])


def _target(source: str, out: Path | None, shard: tuple[int, int]) -> Path:
    """The output's path; every shard has a name of its own, so that one command line serves all."""
    from albert_cli.tables.input_files import plain_name

    if out is None:
        given = Path(source)
        if not (given.exists() or glob.has_magic(source) or source == "-"):
            raise FileError(f"{given}: no such file or directory")
        if not given.is_file():
            raise typer.BadParameter("--out is needed, as --in is not one file")
        name = plain_name(given)
        out = given.with_name(f"{name}.embeddings.parquet" if given.suffix == ".parquet" else f"{name}.parquet")
    index, count = shard
    if count > 1:
        return out.with_name(f"{out.stem}-{index:05d}-of-{count:05d}{out.suffix}")
    return out


def _layers(text: str) -> tuple[int, ...] | None:
    if text == "all":
        return None
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"--layer {text}: give a number, several with commas, or all") from None
