"""The files of all shards to one, in input order."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from albert_cli.embedding import kinds, parquet
from albert_cli.embedding.resume import Summary, summary_of
from albert_cli.errors import EmbeddingError
from converters.files import file_errors
from converters.staging import atomic_write, check_target

# Rows taken from each shard at once.
_CHUNK = 256
_OWN = {"shard", "input_sha256", *Summary.__dataclass_fields__}
# Whether a setting was given or is the model's own does not change a vector.
_ORIGIN = "settings_of_the_model"


def merge(files: Sequence[Path], target: Path, *, force: bool = False) -> Summary:
    """Write the rows of shards 0/n to (n-1)/n as the file of one run; shard i holds the rows i, i + n, i + 2n, …

    Raises EmbeddingError where a shard is missing, comes twice, or was made otherwise than the others.
    """
    kinds.check(target)
    shards = _ordered(files)
    check_target(target, force=force, sources=list(shards), ours=None)
    metadata = [parquet.read_metadata(file) for file in shards]
    summaries = [summary_of(file, facts) for file, facts in zip(shards, metadata, strict=True)]
    names = Summary.__dataclass_fields__
    summary = Summary(**{key: sum(getattr(one, key) for one in summaries) for key in names})
    totals = {key: str(getattr(summary, key)) for key in names}
    facts = {key: value for key, value in metadata[0].items() if key not in _OWN} | {"shard": "0/1"} | totals
    with contextlib.ExitStack() as stack:
        sources = [stack.enter_context(pa.OSFile(os.fsencode(file))) for file in shards]  # a name need not be UTF-8
        opened = [stack.enter_context(pq.ParquetFile(it, pre_buffer=False, buffer_size=2**16)) for it in sources]
        for file, found in zip(shards, opened, strict=True):
            if found.schema_arrow.remove_metadata() != opened[0].schema_arrow.remove_metadata():
                raise EmbeddingError(f"{file}: its columns are not those of {shards[0]}")
        schema = opened[0].schema_arrow.remove_metadata()
        with atomic_write(target, force=force, ours=None) as built:
            kinds.write(schema, _interleaved(opened, schema), built, target, facts)
    return summary


def _ordered(files: Sequence[Path]) -> list[Path]:
    """The files by the number of their shard; all of them must be there, made alike."""
    found: dict[int, Path] = {}
    first: tuple[Path, dict[str, str]] | None = None
    for file in files:
        with file_errors(file):
            try:
                facts = parquet.read_metadata(file)
            except pa.ArrowInvalid:
                facts = {}
        match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", facts.get("shard", ""))
        if not match:
            raise EmbeddingError(f"{file}: not a file that `albert embed --shard` has written")
        first = first or (file, facts)
        different = [
            f"{key.replace('_', ' ')} is {facts.get(key)}, there {value}"
            for key, value in first[1].items()
            if key not in {*_OWN, _ORIGIN} and facts.get(key) != value
        ]
        if facts["shard"].split("/")[1] != first[1]["shard"].split("/")[1]:
            different.insert(0, f"it is shard {facts['shard']}, there {first[1]['shard']}")
        if different:
            raise EmbeddingError(f"{file}: was not made as {first[0]} was: {'; '.join(different)}")
        number = int(match[1])
        if number in found:
            raise EmbeddingError(f"{file}: shard {facts['shard']} is {found[number]} already")
        found[number] = file
    if first is None:
        raise EmbeddingError("no shards to merge")
    count = int(first[1]["shard"].split("/")[1])
    missing = [f"{number}/{count}" for number in range(count) if number not in found]
    if missing:
        raise EmbeddingError(f"shard {', '.join(missing)} is missing; all {count} of them make the whole")
    return [found[number] for number in range(count)]


def _interleaved(shards: list[Any], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    readers = [_chunks(shard) for shard in shards]
    while True:
        chunks = [next(reader, None) for reader in readers]
        if not chunks[0]:
            return
        there = [chunk for chunk in chunks if chunk]
        place = np.concatenate([np.arange(chunk.num_rows) for chunk in there])
        shard = np.repeat(np.arange(len(there)), [chunk.num_rows for chunk in there])
        rows = pa.concat_tables(chunk.replace_schema_metadata(None) for chunk in there).combine_chunks()
        mixed = rows.take(pa.array(np.lexsort((shard, place)))).cast(schema)
        yield from mixed.combine_chunks().to_batches()


def _chunks(shard: Any) -> Iterator[pa.Table]:
    """Tables of exactly _CHUNK rows, but for the last."""
    waiting: list[pa.RecordBatch] = []
    held = 0
    for read in shard.iter_batches(batch_size=_CHUNK):
        batch = read
        while held + batch.num_rows >= _CHUNK:
            yield pa.Table.from_batches([*waiting, batch.slice(0, _CHUNK - held)])
            batch, waiting, held = batch.slice(_CHUNK - held), [], 0
        if batch.num_rows:
            waiting.append(batch)
            held += batch.num_rows
    if held:
        yield pa.Table.from_batches(waiting)
