"""The run: read -> tokenize (in the background) -> embed -> commit in parts -> one Parquet file, in input order."""

from __future__ import annotations

import contextlib
import hashlib
import json
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pyarrow as pa

from albert_cli import __version__
from albert_cli.embedding import kinds, parquet
from albert_cli.embedding import resume as resuming
from albert_cli.embedding.embedder import Embedder, Plan, Tokens
from albert_cli.embedding.parquet import Layout
from albert_cli.embedding.resume import Parts, facts_of, summary_of
from albert_cli.embedding.unique_ids import check_unique
from albert_cli.errors import EmbeddingError, TextError
from albert_cli.tables.lines import ABANDONED, STANDARD_INPUT
from albert_cli.tables.sources import Source, place
from converters.dialects import to_hf

# On a GPU a thousand rows are a matter of milliseconds.
_BLOCK_ROWS = {"cpu": 1024, "cuda": 8192, "mps": 4096}
_BLOCK_CHARACTERS = 2**20
_BLOCK_BYTES = 128 * 2**20

# Rows that are done now, and how many bytes of the input have been dealt with so far.
Progress = Callable[[int, int], None]
T = TypeVar("T")


@dataclass(frozen=True)
class Report:
    """What a run did. `rows_resumed` were there before; `seconds` is the time of the others."""

    target: str
    rows: int
    rows_resumed: int
    rows_truncated: int
    tokens_truncated: int
    rows_empty: int
    tokens: int
    dims: int
    columns: list[str]
    seconds: float
    settings: dict[str, Any]
    settings_of_the_model: list[str]

    @property
    def described(self) -> str:
        """How the vectors were made, in words."""
        made = self.settings
        parts = [f"pooling {made['pooling']}", made["modules"], "of length 1" if made["normalize"] is True else ""]
        parts += [f"prompt {made['prompt']}"] if made["prompt_text"] else []
        parts += [f"computed in {made['precision']}"] if made["precision"] != "fp32" else []
        return ", ".join(filter(None, parts))


@dataclass(frozen=True)
class Job:
    """Everything a run needs to know.

    `shard` (i, n) takes every n-th row from the i-th on. A block of at most `block_rows` is what a killed run can
    lose, and the window in which texts are sorted by length.
    """

    source: Source
    target: Path
    plan: Plan
    layout: Layout
    shard: tuple[int, int] = (0, 1)
    resume: bool = False
    force: bool = False
    block_rows: int | None = None

    def block_size(self) -> tuple[int, int]:
        """Rows and characters of a block, so that its vectors stay within _BLOCK_BYTES."""
        settings = self.plan.settings
        per_vector = len(settings.layers or ()) * max(self.plan.pooled_width, settings.dims or 0) * 4
        room = _BLOCK_BYTES // per_vector
        rows = max(1, min(self.block_rows or _BLOCK_ROWS[self.plan.device], room))
        # English has about four characters to a token, never fewer than one.
        return rows, min(_BLOCK_CHARACTERS, room) if settings.pooling == "tokens" else _BLOCK_CHARACTERS

    def facts(self) -> dict[str, str]:
        """Everything that the result depends on."""
        columns, (rows, characters) = self.source.columns, self.block_size()
        inputs = {
            "input": self.source.listing(),
            "text_column": columns.text,
            "pair_column": columns.pair,
            "id_column": columns.id,
            "keep_columns": list(columns.keep),
            **({"delimiter": columns.delimiter} if columns.delimiter else {}),
            "encoding_errors": self.source.errors,
            "shard": "/".join(map(str, self.shard)),
            "block_rows": rows,
            "block_characters": characters,
        }
        return facts_of({**_plan_facts(self.plan), **self.layout.facts(), **inputs})

    def notes(self) -> dict[str, str]:
        notes: dict[str, Any] = {"model": self.plan.model.name, "revision": self.plan.model.revision or ""}
        if self.plan.from_model:
            notes["settings_of_the_model"] = list(self.plan.from_model)
        return facts_of(notes)


class Block(NamedTuple):
    """Rows that are embedded and committed together; `digest` is the SHA-256 of all they hold, `begin` and `end` their
    place in the bytes of the input, roughly."""

    number: int
    rows: pa.RecordBatch
    digest: str
    begin: int = 0
    end: int = 0


def run(job: Job, progress: Progress | None = None) -> Report:
    """Embed the source into the target. Raises AlbertError's children; what was done stays for --resume."""
    started = time.monotonic()
    with open_work(job) as work:
        if work.complete:
            return finished(job, work, started)
        embedder = Embedder(job.plan)

        def ready() -> Iterator[tuple[Block, Tokens]]:
            for block in blocks(job, work, progress):
                yield block, tokenize(embedder, block.rows)

        with background(ready()) as tokenized, ThreadPoolExecutor(1) as writer:
            written: Future[None] | None = None
            for block, tokens in tokenized:
                rows = embed(embedder, job.layout, block, tokens, progress)
                if written:
                    written.result()
                written = writer.submit(resuming.commit, work.directory, block.number, rows, block.digest)
            if written:
                written.result()
        return finished(job, work, started)


@contextlib.contextmanager
def open_work(job: Job) -> Iterator[Work]:
    """The checks before any work is done, and the place of the parts."""
    resuming.check_free(job.target, job.source, resume=job.resume, force=job.force)
    if job.source.columns.pair and job.plan.settings.on_truncate == "window":
        raise EmbeddingError("--on-truncate window cuts single texts only; it does not go with --text-pair-column")
    check_names(job)
    kinds.check(job.target, shards=job.shard[1])
    kinds.check_vectors_alone(job.target, job.plan.settings, job.layout, job.source.columns)
    with Parts.open(job.target, job.facts(), job.notes(), resume=job.resume, force=job.force) as opened:
        if not opened.complete and job.source.columns.id:
            check_unique(job.source)
        yield Work(opened)


class Work:
    """The parts of a run, and how many blocks and rows it turned out to have."""

    def __init__(self, opened: Parts) -> None:
        self.parts, self.directory, self.complete = opened, opened.directory, opened.complete
        self.total = self.resumed = 0


def blocks(job: Job, work: Work, progress: Progress | None = None) -> Iterator[Block]:
    """The blocks that are still to be embedded; those committed already are compared with the input."""
    begin = end = 0

    def read(position: int) -> None:
        nonlocal end
        end = position

    rows, characters = job.block_size()
    for number, batch in enumerate(job.source.blocks(rows, characters, shard=job.shard, progress=read)):
        work.total = number + 1
        digest = hashlib.sha256(parquet.serialized(batch)).hexdigest()
        if number in work.parts.committed:
            work.parts.check(number, digest, f"{place(batch, 0)} and the {batch.num_rows - 1} rows after it")
            work.resumed += batch.num_rows
            if progress:
                progress(batch.num_rows, end)
        else:
            yield Block(number, batch, digest, begin, end)
        begin = end
    if not work.total:
        # A shard may have no rows; no rows at all are a mistake.
        whole = next(job.source.blocks(rows, characters), None)
        if whole is None:
            where = "standard input" if STANDARD_INPUT in job.source.files else job.source.path
            raise TextError(f"{where}: there is no text to read")
        work.total = 1
        if not work.parts.committed:
            yield Block(0, whole.slice(0, 0), hashlib.sha256().hexdigest())


def tokenize(embedder: Embedder, block: pa.RecordBatch) -> Tokens:
    """The tokens of a block's texts; a null is an empty text. EmbeddingError for one too long, if that is refused."""
    pairs = block["pair"].fill_null("").to_pylist() if "pair" in block.schema.names else None
    tokens = embedder.tokenize(block["text"].fill_null("").to_pylist(), pairs)
    embedder.check_whole(tokens, lambda row: place(block, row))
    return tokens


def embed(
    embedder: Embedder, layout: Layout, block: Block, tokens: Tokens, progress: Progress | None = None
) -> pa.RecordBatch:
    """The output rows of a block."""
    windows, done = len(tokens.windows), 0

    def advance(count: int) -> None:
        # Progress in rows is proportional to the windows, of which a row may have several.
        nonlocal done
        before, done = block.rows.num_rows * done // windows, done + count
        if progress:
            position = block.begin + (block.end - block.begin) * done // windows
            progress(block.rows.num_rows * done // windows - before, position)

    vectors = embedder.vectors(tokens, advance)
    return parquet.rows_of(block.rows, tokens, vectors, embedder.settings, layout)


def finished(job: Job, work: Work, started: float) -> Report:
    """Write the target, unless it is there already, and report."""
    if work.complete:
        summary = summary_of(job.target, parquet.read_metadata(job.target))
    else:
        work.parts.refresh()
        summary = work.parts.finish(work.total)
    return Report(
        target=str(job.target),
        rows=summary.rows,
        rows_resumed=summary.rows if work.complete else work.resumed,
        rows_truncated=summary.rows_truncated,
        tokens_truncated=summary.tokens_truncated,
        rows_empty=summary.rows_empty,
        tokens=summary.tokens,
        dims=job.plan.settings.dims or 0,
        columns=job.layout.columns(job.plan.settings),
        seconds=round(time.monotonic() - started, 3),
        settings=job.plan.facts() | {"precision": job.plan.precision},
        settings_of_the_model=list(job.plan.from_model),
    )


def _plan_facts(plan: Plan) -> dict[str, Any]:
    """What identifies the model, the program and the way of computing."""
    checkpoint = plan.checkpoint
    config = json.dumps(to_hf(checkpoint.config), sort_keys=True)
    return {
        "version": __version__,
        "weights_sha256": plan.weights_sha256,
        "config_sha256": hashlib.sha256(config.encode()).hexdigest(),
        "tokenizer_sha256": checkpoint.tokenizer.digest() or "",
        "tokenizer_settings": checkpoint.tokenizer.settings,
        **plan.facts(),
        "precision": plan.precision,
        "device": plan.device,
    }


@contextlib.contextmanager
def background(items: Iterable[T], depth: int = 2) -> Iterator[Iterator[T]]:
    """Iterate in a thread, at most `depth` items ahead; its exceptions are raised where the items are taken."""
    ready: queue.Queue[tuple[T | None, BaseException | None] | None] = queue.Queue(depth)
    stop = threading.Event()

    def put(item: tuple[T | None, BaseException | None] | None) -> bool:
        while not stop.is_set():
            with contextlib.suppress(queue.Full):
                ready.put(item, timeout=0.1)
                return True
        return False

    def work() -> None:
        ABANDONED.set(stop)
        try:
            for item in items:
                if not put((item, None)):
                    return
        except BaseException as error:  # it is raised again in the other thread
            put((None, error))
        put(None)

    def taken() -> Iterator[T]:
        while (found := ready.get()) is not None:
            item, error = found
            if error is not None:
                raise error
            yield item  # type: ignore[misc]

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield taken()
    finally:
        stop.set()
        thread.join()


def check_names(job: Job) -> None:
    """EmbeddingError where two columns of the output would have one name, before any work is done."""
    columns, layout, settings = job.source.columns, job.layout, job.plan.settings
    names = ["id", *columns.keep, *(["text"] if layout.keep_text else []), "n_tokens", "truncated", "empty"]
    if layout.keep_text and columns.pair:
        names.append("pair")
    if layout.text_hash:
        names.append(parquet.TEXT_HASH)
    if settings.pooling == "tokens":
        names += ["pieces", "starts", "ends", "token_type_ids"]
    for name in layout.columns(settings):
        names += [name, f"{name}_scale"] if layout.dtype == "int8" else [name]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise EmbeddingError(
            f"two columns of the output would be called {', '.join(map(repr, twice))}; rename the vectors with "
            f"--embedding-column, or do not keep the column{'; --id-column id keeps it as the id' * ('id' in twice)}"
        )
