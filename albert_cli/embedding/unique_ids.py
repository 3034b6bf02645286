"""Refuse an id that comes twice, whatever the number of rows, in bounded memory."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np

from albert_cli.errors import TextError
from albert_cli.tables.sources import Source, place

# Hashes that come twice are as good as ids that do; a few are enough to name one.
_SUSPECTS = 1000


def check_unique(source: Source) -> None:
    """TextError, with both places, where two rows of the source have the same id.

    One pass over the input writes a hash of eight bytes per row to a temporary file, which is sorted in place through
    the page cache; only where two hashes are equal is the input read again, to compare the ids themselves.
    """
    source.read_twice()
    with tempfile.TemporaryFile() as file:
        rows = 0
        for _, hashes in _hashes(source):
            file.write(hashes.tobytes())
            rows += len(hashes)
        if rows < 2:
            return
        file.flush()
        every = np.memmap(file, np.uint64, "r+", shape=(rows,))
        every.sort()
        suspects = every[1:][every[1:] == every[:-1]][:_SUSPECTS].tolist()
        del every
    if not suspects:
        return
    first: dict[Any, str] = {}
    for batch, hashes in _hashes(source):
        for row in np.flatnonzero(np.isin(hashes, np.array(suspects, np.uint64))).tolist():
            number = batch["id"][row].as_py()
            if number in first:
                raise TextError(
                    f"{place(batch, row)}: the id {number!r} is that of {first[number]} already; ids must be unique"
                )
            first[number] = place(batch, row)


def _hashes(source: Source) -> Iterator[tuple[Any, Any]]:
    """Each batch with the hash of every id, uint64 (rows)."""
    for batch in source.batches():
        digests = b"".join(
            hashlib.blake2b(repr(number).encode("utf-8", "surrogatepass"), digest_size=8).digest()
            for number in batch["id"].to_pylist()
        )
        yield batch, np.frombuffer(digests, np.uint64)
