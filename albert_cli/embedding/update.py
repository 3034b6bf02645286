"""Add to a Parquet file of vectors the rows of its input that are new or changed; the others keep their vectors.

A row is known by its id, and changed where its text, by SHA-256, or a kept column is another than in the file. Changed
rows take their old place, new ones follow at the end, and what the input no longer has is kept. The new file takes the
old one's place in one step.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from albert_cli import locks
from albert_cli.embedding import engine, parquet
from albert_cli.embedding.embedder import Embedder, Tokens
from albert_cli.embedding.engine import Block, Job, Progress
from albert_cli.embedding.resume import Facts, Summary, differences, directory_of, facts_of
from albert_cli.embedding.unique_ids import check_unique
from albert_cli.errors import EmbeddingError
from albert_cli.tables.sources import place
from converters.files import file_errors
from converters.messages import listing
from converters.scratch import temporary_directory
from converters.staging import atomic_write

# What may differ: the input itself, and what changes a vector by no more than rounding.
_MAY_DIFFER = ("version", "device", "input", "text_column", "delimiter", "encoding_errors", "block_rows",
               "block_characters", "tokenizer_settings")  # fmt: skip
# What the summary counts.
_COUNTED = ("n_tokens", "truncated", "empty")
_CHUNK = 1024
# Bytes of a digest that is held for each row.
_DIGEST_BYTES = 16


@dataclass(frozen=True)
class Updated:
    """What an update did: of the file's `rows` those that were added, changed, unchanged, and not in the input."""

    target: str
    rows: int
    added: int
    changed: int
    unchanged: int
    not_in_the_input: int
    seconds: float


def update(job: Job, progress: Progress | None = None) -> Updated:
    """Update the target of a job, which is there, by its source. The file is left alone where nothing is new.

    Raises EmbeddingError where the file was made otherwise than the job would, names neither texts nor their hashes, or
    is damaged, TextError for ids that come twice; the file is then as it was.
    """
    started = time.monotonic()
    engine.check_names(job)
    target = job.target
    with locks.locked(directory_of(target), target, temporary=True), contextlib.ExitStack() as stack:
        with file_errors(target), _damage(target):
            facts = parquet.read_metadata(target)
            _check_made_alike(job, facts)
            file = parquet.opened(target)
            stack.callback(file.close, force=True)
            known = _Known.of(file, job)
        if job.source.columns.id:
            check_unique(job.source)
        room = target.resolve().parent
        scratch = stack.enter_context(temporary_directory(f".{target.name[:100]}.albert-update-", room))
        changes = _embed_changes(job, known, scratch, progress)
        if len(changes.places):
            _write(job, file, facts, known, changes)
        added = int((changes.places < 0).sum())
        return Updated(
            target=str(target),
            rows=known.rows + added,
            added=added,
            changed=len(changes.places) - added,
            unchanged=changes.unchanged,
            not_in_the_input=known.rows - changes.unchanged - (len(changes.places) - added),
            seconds=round(time.monotonic() - started, 3),
        )


@contextlib.contextmanager
def _damage(target: Path) -> Iterator[None]:
    """An EmbeddingError of the file for what cannot be read of it."""
    try:
        yield
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise EmbeddingError(
            f"{target}: not a Parquet file, or a damaged one ({str(error).splitlines()[0]}); --force, without "
            "--update, embeds it again"
        ) from None


def _check_made_alike(job: Job, facts: Facts) -> None:
    """EmbeddingError where the job's vectors would be others than those of the file, or there is nothing to compare."""
    if "weights_sha256" not in facts:
        raise EmbeddingError(f"{job.target}: not a file of albert embed; --update needs one")
    if facts.get("shard") != "0/1":
        raise EmbeddingError(f"{job.target}: a shard; merge all of them (--merge), and update the whole")
    wanted = {key: value for key, value in job.facts().items() if key not in _MAY_DIFFER}
    if job.layout.text_hash and "text_hash" not in facts and facts.get("keep_text") == "false":
        raise EmbeddingError(
            f"{job.target}: holds neither texts nor their SHA-256, by which --update knows what is new; embed it again "
            "with --force and --keep-text, then --update works"
        )
    if different := differences(facts, wanted):
        raise EmbeddingError(
            f"{job.target}: was made otherwise ({different}); repeat its settings, or embed it again with --force, "
            "without --update"
        )


@dataclass
class _Known:
    """What the file has: the place of each id, as text, a digest of each row, and what the summary counts."""

    schema: pa.Schema
    by_id: dict[str, int] = field(default_factory=dict)
    digests: bytearray = field(default_factory=bytearray)
    counted: list[pa.RecordBatch] = field(default_factory=list)

    @property
    def rows(self) -> int:
        return len(self.digests) // _DIGEST_BYTES

    @classmethod
    def of(cls, file: pq.ParquetFile, job: Job) -> _Known:
        known = cls(file.schema_arrow.remove_metadata())
        kept = job.source.columns.keep
        texts = (
            [parquet.TEXT_HASH] if job.layout.text_hash else ["text", *(["pair"] if job.source.columns.pair else [])]
        )
        names = ["id", *kept, *texts, *_COUNTED]
        if wrong := [name for name in names if known.schema.names.count(name) != 1]:
            count = known.schema.names.count(wrong[0])
            held = f"{count or 'no'} column{'s' * (count > 1)}"
            raise EmbeddingError(f"{job.target}: is damaged: it has {held} {wrong[0]!r}; embed it again")
        for batch in file.iter_batches(batch_size=_CHUNK, columns=names):
            hashes = batch[texts[0]].to_pylist() if job.layout.text_hash else parquet.text_hashes(batch)
            known.by_id.update((repr(name), known.rows + row) for row, name in enumerate(batch["id"].to_pylist()))
            for digest in _digests(batch, hashes, kept):
                known.digests += digest
            known.counted.append(batch.select(_COUNTED))
        return known

    def place_of(self, name: Any) -> int:
        """The place of an id, -1 of one that is not there."""
        return self.by_id.get(repr(name), -1)

    def has(self, place: int, digest: bytes) -> bool:
        """Whether the row at a place has this digest; -1 is no place."""
        return place >= 0 and self.digests[place * _DIGEST_BYTES : (place + 1) * _DIGEST_BYTES] == digest

    def summary(self, added: pa.Table, places: NDArray[np.int64]) -> Summary:
        """What the file holds with rows added, or changed where they have a place."""
        old = pa.Table.from_batches(self.counted, pa.schema([self.schema.field(name) for name in _COUNTED]))
        counts = {}
        for name in _COUNTED:
            before, after = (
                table[name].cast(pa.float64(), safe=False).fill_null(0).to_numpy().astype(np.int64)
                for table in (old, added)
            )
            before[places[places >= 0]] = 0
            counts[name] = np.concatenate([before, after])
        cut = counts["truncated"]
        return Summary(
            rows=self.rows + int((places < 0).sum()),
            rows_truncated=int(np.count_nonzero(cut)),
            tokens_truncated=int(cut.sum()),
            rows_empty=int(counts["empty"].sum()),
            tokens=int(counts["n_tokens"].sum()),
        )

    def cast(self, batch: pa.RecordBatch, target: Path) -> pa.RecordBatch:
        """The rows of a source with the types that the file has; EmbeddingError where a value has none such."""
        columns = {}
        for name in batch.schema.names:
            own = name.removeprefix("kept.")
            columns[name] = batch[name]
            if own == name != "id":
                continue
            kind = self.schema.field(own).type
            try:
                columns[name] = batch[name].cast(kind)
            except pa.ArrowException:
                raise EmbeddingError(
                    f"{place(batch, 0)} and the rows after it: {own!r} is {batch[name].type}, which does not fit the "
                    f"{kind} that it is in {target}"
                ) from None
        return pa.record_batch(columns)

    def fitted(self, rows: pa.RecordBatch, target: Path) -> pa.RecordBatch:
        """Embedded rows as rows of the file; EmbeddingError where its columns are not those that embed writes."""
        names = rows.schema.names
        if sorted(names) != sorted(self.schema.names):
            raise EmbeddingError(
                f"{target}: is damaged: its columns are {listing(self.schema.names)}, not {listing(names)}; embed it "
                "again"
            )
        try:
            return rows.select(self.schema.names).cast(self.schema)
        except pa.ArrowException as error:
            raise EmbeddingError(
                f"{target}: is damaged: its columns do not hold what vectors have ({str(error).splitlines()[0]}); "
                "embed it again"
            ) from None


def _digests(batch: pa.RecordBatch, hashes: list[str], kept: tuple[str, ...], prefix: str = "") -> list[bytes]:
    """A digest of each row's text and kept columns."""
    columns = [hashes, *(batch[prefix + name].to_pylist() for name in kept)]
    return [hashlib.sha256(repr(row).encode()).digest()[:_DIGEST_BYTES] for row in zip(*columns, strict=True)]


@dataclass
class _Changes:
    """The rows that were embedded: int64 place of each in the old file, -1 of a new one; digests of their sources."""

    places: NDArray[np.int64]
    parts: list[Path]
    digest: str
    unchanged: int


def _embed_changes(job: Job, known: _Known, scratch: Path, progress: Progress | None) -> _Changes:
    """Embed the rows that are new or changed into Arrow files in `scratch`."""
    embedder = functools.cache(lambda: Embedder(job.plan))
    places: list[NDArray[np.int64]] = []
    parts: list[Path] = []
    sha, unchanged, end = hashlib.sha256(), 0, 0

    def read(position: int) -> None:
        nonlocal end
        end = position

    def ready() -> Iterator[tuple[NDArray[np.int64], Block, Tokens]]:
        nonlocal unchanged
        begin = 0
        for number, whole in enumerate(job.source.blocks(*job.block_size(), progress=read)):
            batch = known.cast(whole, job.target)
            digests = _digests(batch, parquet.text_hashes(batch), job.source.columns.keep, "kept.")
            found = np.array([known.place_of(name) for name in batch["id"].to_pylist()], np.int64)
            same = [known.has(place, digest) for place, digest in zip(found.tolist(), digests, strict=True)]
            chosen = np.flatnonzero(~np.array(same, np.bool_))
            unchanged += batch.num_rows - len(chosen)
            if progress:
                progress(batch.num_rows - len(chosen), end)
            if len(chosen):
                block = Block(number, batch.take(pa.array(chosen)), b"".join(digests).hex(), begin, end)
                yield found[chosen], block, engine.tokenize(embedder(), block.rows)
            begin = end

    with engine.background(ready()) as blocks:
        for old_places, block, tokens in blocks:
            rows = engine.embed(embedder(), job.layout, block, tokens, progress)
            parts.append(scratch / f"part-{block.number:08d}.arrow")
            with parts[-1].open("wb") as file:
                parquet.save_part(file, known.fitted(rows, job.target), {})
            places.append(old_places)
            sha.update(bytes.fromhex(block.digest))
    return _Changes(np.concatenate([np.empty(0, np.int64), *places]), parts, sha.hexdigest(), unchanged)


def _write(job: Job, file: pq.ParquetFile, facts: Facts, known: _Known, changes: _Changes) -> None:
    """Put a file of the old rows and the changes in the place of the old one."""
    added = pa.Table.from_batches([parquet.load_part(part)[0] for part in changes.parts], known.schema)
    with _damage(job.target):
        summary = known.summary(added, changes.places)
    digest = hashlib.sha256((facts.get("input_sha256", "") + changes.digest).encode()).hexdigest()
    totals = {name: getattr(summary, name) for name in Summary.__dataclass_fields__} | {"input_sha256": digest}
    with atomic_write(job.target, force=True, ours=None) as built:
        rows = _rows(file, added, changes.places)
        parquet.write_parquet(known.schema, rows, built, {**facts, **facts_of(totals)})


def _rows(file: pq.ParquetFile, added: pa.Table, places: NDArray[np.int64]) -> Iterator[pa.RecordBatch]:
    """The rows of the file, those at `places` changed for rows of `added`, and those of `added` that have none."""
    order = np.argsort(places, kind="stable")
    start = 0
    for batch in file.iter_batches(batch_size=_CHUNK):
        low, high = np.searchsorted(places[order], [start, start + batch.num_rows])
        if low < high:
            chosen = np.arange(batch.num_rows)
            chosen[places[order[low:high]] - start] = batch.num_rows + np.arange(high - low)
            changed = added.take(pa.array(order[low:high]))
            both = pa.concat_tables([pa.Table.from_batches([batch]).replace_schema_metadata(None), changed])
            yield from both.combine_chunks().take(pa.array(chosen)).to_batches()
        else:
            yield batch.replace_schema_metadata(None)
        start += batch.num_rows
    yield from added.filter(pa.array(places < 0)).to_batches(max_chunksize=_CHUNK)
