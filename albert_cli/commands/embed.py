"""albert embed: texts to vectors in a Parquet file; resumable, in shards, or on a Ray cluster."""

from __future__ import annotations

import dataclasses
import glob
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from albert_cli import console, interruption, options, processes, vector_options
from albert_cli.arguments import Kind, refuse_idle, typed_options
from converters.errors import FileError
from converters.messages import escaped, shortened

if TYPE_CHECKING:
    from albert_cli.embedding.engine import Report

app = typer.Typer()

_OF_MERGE = {"source", "out", "merge", "force", "json"}
# Below this many rows their rate means nothing.
_TIMED = 1000
# As many as five digits in the name of a shard's file number.
_MOST_SHARDS = 100_000


@app.command()
def embed(
    source: Annotated[
        str,
        typer.Option(
            "--in",
            metavar="PATH",
            help="A .txt, CSV, TSV, JSONL or Parquet file (gzip, zstd or xz too), a directory or glob of them, - for "
            "standard input.",
            show_default=False,
        ),
        Kind.PATH,
        Kind.STREAM_IN,
    ],
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
    id_column: Annotated[
        str | None, typer.Option("--id-column", metavar="NAME", help="The column of unique ids; else rows from 0.")
    ] = None,
    keep_columns: Annotated[
        str | None, typer.Option("--keep-columns", metavar="A,B", help="Columns to copy into the output.")
    ] = None,
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
    the pooling.

    Examples:

        albert embed --in texts.txt --model albert-base-v2

        albert embed --in pages.jsonl.gz --text-column body --id-column url \\
            --normalize --out pages.parquet

        albert embed --in long.txt --on-truncate window --pooling mean

        # a Sentence-Transformers model with prompts
        albert embed --in questions.txt --model st/ --prompt query

        zcat corpus.gz | albert embed --in - --out corpus.parquet --resume

        # on four machines, 0/4 to 3/4; then the four files into one
        albert embed --in corpus/ --out corpus.parquet --shard 0/4
        albert embed --merge --in 'corpus-*-of-00004.parquet' --out corpus.parquet

        albert embed --in corpus/ --out corpus.parquet \\
            --engine ray --address auto --gpus-per-actor 1
    """
    if merge:
        if out is None:
            raise typer.BadParameter("--merge needs --out: the file to write")
        refuse_idle("with --merge, which copies vectors", *(typed_options().keys() - _OF_MERGE))
        _merge(source, out, force=force, json=json)
        return
    part = _shard(shard)
    target = _target(source, out, part)
    from albert_cli.embedding import kinds
    from albert_cli.embedding import resume as resuming

    kinds.check(target, shards=part[1])
    if target.suffix.lower() == ".npy":
        refuse_idle("on .npy, which holds the vectors alone", "embedding_column", "vector_type")
    elif target.suffix.lower() not in kinds.PARQUET:
        refuse_idle(f"on {target.suffix.lower()}, which has no types of lists", "vector_type")
    layers = _layers(layer)
    if engine == "local":
        processes.spare_pandas()
    if engine == "local" and (address or num_actors or gpus_per_actor):
        raise typer.BadParameter("--address, --num-actors and --gpus-per-actor need --engine ray")
    from albert_cli.embedding.embedder import Plan
    from albert_cli.embedding.engine import Job, run
    from albert_cli.embedding.parquet import Layout
    from albert_cli.embedding.settings import Settings
    from albert_cli.machine import find_device
    from albert_cli.registry.resolve import resolve
    from albert_cli.tables.columns import Columns
    from albert_cli.tables.input_files import warn_of_skipped
    from albert_cli.tables.sources import Source

    kept = tuple(keep_columns.split(",")) if keep_columns else ()
    columns = Columns(text_column, text_pair_column, id_column, kept, delimiter)
    in_parquet = target.suffix.lower() in kinds.PARQUET
    texts = Source(source, columns, kind=input_format, errors=errors, with_bytes=in_parquet)
    resuming.check_free(target, texts, resume=resume, force=force)
    warn_of_skipped(source, texts.skipped)
    # The workers of a cluster need not have what this machine has.
    there = ("cuda" if gpus_per_actor else "cpu") if engine == "ray" and device == "auto" else None
    plan = Plan.of(
        resolve(model),
        Settings(
            pooling, layers, normalize, dims, max_length, on_truncate, None if cased is None else not cased, prompt
        ),
        device=there or (device if engine == "ray" else find_device(device)),
        precision=precision,
        batch_tokens=batch_tokens,
        threads=threads,
    )
    if taken := plan.taken():
        console.warn(taken)
    layout = Layout(embedding_column, out_dtype, vector_type, keep_text)
    job = Job(texts, target, plan, layout, part, resume, force)
    done_before = resume and _begun(target)
    with interruption.keeping(lambda: interruption.of_vectors(target)), console.progress_rows(texts.size) as progress:
        if engine == "ray":
            from albert_cli.embedding import ray_engine

            report = ray_engine.run(job, ray_engine.Cluster(address, num_actors, gpus_per_actor), progress)
        else:
            report = run(job, progress)
    _print_report(report, on_truncate, json=json, done_before=done_before)


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
