"""Read TensorFlow's tensor bundle (`x.index` + `x.data-0000N-of-0000M`) without TensorFlow, tensor by tensor.

The index is a LevelDB-style table: data blocks of prefix-compressed keys, an index block, a 48-byte footer
(tensorflow/core/lib/io/format.cc); its values are protocol buffers (tensorflow/core/protobuf/tensor_bundle.proto).
Every block and every tensor carries a masked CRC-32C, and all of them are checked.
"""

from __future__ import annotations

import functools
import itertools
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import ml_dtypes
import numpy as np

from converters.buffer_pool import empty
from converters.checkpoint import Array, Tensor, fill
from converters.errors import CorruptError, SpecError
from converters.files import file_errors, open_regular, read_small
from converters.limits import INDEX_BYTES, VARIABLES
from converters.tensorflow import wire

# The variable that holds the graph of objects in a checkpoint of TF2.
OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
MAGIC = struct.pack("<Q", 0xDB4775248B80FB57)
FOOTER_BYTES = 48
# A thousand variables take 100 kB.
_MOST_INDEX_BYTES = 16 * 2**20

# tensorflow/core/framework/types.proto; the other types are no weights.
DTYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype(np.float32),
    2: np.dtype(np.float64),
    3: np.dtype(np.int32),
    9: np.dtype(np.int64),
    10: np.dtype(np.bool_),
    14: np.dtype(ml_dtypes.bfloat16),
    19: np.dtype(np.float16),
}
_STRING = 7
_OTHER_DTYPES = {_STRING: "string", 20: "resource", 21: "variant"}


@dataclass(frozen=True)
class _Entry:
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int
    text: bool = False


def is_index(path: Path) -> bool:
    """Whether a file ends with the table's magic number."""
    if not path.is_file() or path.stat().st_size < FOOTER_BYTES:
        return False
    with file_errors(path), open_regular(path) as file:
        file.seek(-len(MAGIC), 2)
        return file.read() == MAGIC


def read_bundle(prefix: Path, *, texts: Collection[str] = ()) -> dict[str, Tensor]:
    """The variables of the checkpoint `prefix`, in name order; CorruptError names the file, tensor and fault.

    A variable named in `texts` may be one string and comes as a row of its bytes (uint8).
    """
    index = prefix.with_name(prefix.name + ".index")
    data = read_small(index, _MOST_INDEX_BYTES)
    try:
        items = list(itertools.islice(_table(data), VARIABLES + 2))
        if len(items) > VARIABLES + 1:
            raise _Bad(f"more than {VARIABLES} variables")
        if not items or items[0][0] != b"":
            raise _Bad("no header entry")
        header = wire.fields(items[0][1])
        shards = wire.number(header, 1)
        if wire.number(header, 2) != 0:
            raise _Bad("big-endian data")
        if not 0 < shards <= len(items) + 1:
            raise _Bad(f"{shards} data files")
        # The slices of a partitioned variable have binary keys; the entry under its name describes them.
        entries = {key.decode("utf-8"): value for key, value in items[1:] if not key.startswith(b"\0")}
        parsed = {name: _entry(name, value, index, texts) for name, value in entries.items()}
    except wire.FAULTS as error:
        raise CorruptError(index, f"not a sound TensorFlow checkpoint index ({error})") from None
    sizes = []
    for number in range(shards):
        shard = shard_path(prefix, number, shards)
        if not shard.exists():
            raise CorruptError(shard, f"missing; the index names {shards} data file{'s' if shards > 1 else ''}")
        sizes.append(shard.stat().st_size)
    tensors = {}
    for name, entry in parsed.items():
        if entry.shard >= shards:
            raise CorruptError(index, f"tensor {name} lies in data file {entry.shard} of {shards}")
        shard = shard_path(prefix, entry.shard, shards)
        if entry.offset + entry.size > sizes[entry.shard]:
            raise CorruptError(
                shard,
                f"truncated; tensor {name} ends at byte {entry.offset + entry.size}, the file at {sizes[entry.shard]}",
            )
        tensors[name] = Tensor(entry.shape, entry.dtype, functools.partial(_load, shard, name, entry))
    return tensors


class _Bad(wire.WireError):
    """A structural fault of the index."""


def shard_path(prefix: Path, number: int, count: int) -> Path:
    """The data file of that number, from 0."""
    return prefix.with_name(f"{prefix.name}.data-{number:05d}-of-{count:05d}")


def _load(path: Path, name: str, entry: _Entry) -> Array:
    array = empty(entry.shape, entry.dtype)
    offset, start = entry.offset, 0
    if entry.text:  # before its bytes lie their number and the checksum of that (tensor_bundle.cc, WriteStringTensor)
        offset += entry.size - array.nbytes
        start = google_crc32c.value(struct.pack("<I", array.nbytes))
        start = google_crc32c.extend(start, struct.pack("<I", mask(start)))
    crc = fill(array, path, offset, f"tensor {name}", lambda piece, crc: int(google_crc32c.extend(crc, piece)), start)
    if mask(crc) != entry.crc:
        raise CorruptError(path, f"tensor {name} is damaged (its CRC-32C does not match the index)")
    return array


def _entry(name: str, value: bytes, index: Path, texts: Collection[str]) -> _Entry:
    fields = wire.fields(value)
    if 7 in fields:
        raise SpecError(
            index, f"variable {name} is partitioned into slices; merge it with TensorFlow before converting"
        )
    code = wire.number(fields, 1)
    shard, offset, size, crc = (wire.number(fields, key) for key in (3, 4, 5, 6))
    if code == _STRING and name in texts:
        return _Entry(np.dtype(np.uint8), (_text_bytes(name, size),), shard, offset, size, crc, text=True)
    if code not in DTYPES:
        kind = _OTHER_DTYPES.get(code, f"number {code}")
        raise SpecError(index, f"variable {name} is of type {kind}, which holds no weights")
    shape = []
    for item in fields.get(2, []):
        for dimension in wire.fields(wire.message(item)).get(2, []):
            length = wire.number(wire.fields(wire.message(dimension)), 1)
            if length >= 2**40:
                raise _Bad(f"tensor {name} has a dimension of {length}")
            shape.append(length)
    dtype = DTYPES[code]
    wanted = dtype.itemsize
    for dimension in shape:
        wanted *= dimension
    if size != wanted:
        raise _Bad(f"tensor {name} of shape {shape} takes {wanted} bytes, the index says {size}")
    return _Entry(dtype, tuple(shape), shard, offset, size, crc)


def _text_bytes(name: str, size: int) -> int:
    """The length of one string that takes `size` bytes with its own length (a varint) and a checksum before it."""
    for head in range(5, 10):
        length = size - head
        if length >= 0 and max(1, (length.bit_length() + 6) // 7) == head - 4:
            return length
    raise _Bad(f"tensor {name} of {size} bytes is not one string")


def _table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The table's keys and values, in order."""
    if len(data) < FOOTER_BYTES or data[-8:] != MAGIC:
        raise _Bad("the magic number at its end is missing: truncated, or another kind of file")
    footer = data[-FOOTER_BYTES:]
    position = 0
    offset, position = wire.varint(footer, position)
    size, position = wire.varint(footer, position)
    blocks = _Blocks(data)
    if any(blocks.entries(offset, size)):
        raise _Bad("a metaindex block, which TensorFlow leaves empty")
    offset, position = wire.varint(footer, position)
    size, position = wire.varint(footer, position)
    last: bytes | None = None
    for _, handle in blocks.entries(offset, size):
        start, position = wire.varint(handle, 0)
        length, _ = wire.varint(handle, position)
        for key, value in blocks.entries(start, length):
            if last is not None and key <= last:
                raise _Bad(f"key {key[:80]!r} is out of order")
            last = key
            yield key, value


class _Blocks:
    """The blocks of a table; what they unpack to counts together, whatever way it is packed."""

    def __init__(self, data: bytes) -> None:
        self._data, self._unpacked = data, 0

    def entries(self, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
        """The keys and values of one block, in order."""
        block = self._block(offset, size)
        (restarts,) = struct.unpack_from("<I", block, len(block) - 4)
        limit = len(block) - 4 - 4 * restarts
        if limit < 0:
            raise _Bad(f"the block at byte {offset} counts {restarts} restarts")
        position, key = 0, b""
        while position < limit:
            shared, position = wire.varint(block, position)
            fresh, position = wire.varint(block, position)
            length, position = wire.varint(block, position)
            if shared > len(key) or position + fresh + length > limit:
                raise _Bad(f"the block at byte {offset} has an entry beyond its end")
            key = key[:shared] + block[position : position + fresh]
            position += fresh
            self._count(len(key) + length)
            yield key, block[position : position + length]
            position += length

    def _block(self, offset: int, size: int) -> bytes:
        data, end = self._data, offset + size
        if end + 5 > len(data) - FOOTER_BYTES:
            raise _Bad(f"a block ends at byte {end}, beyond the table")
        (crc,) = struct.unpack_from("<I", data, end + 1)
        if mask(google_crc32c.value(data[offset : end + 1])) != crc:
            raise _Bad(f"the block at byte {offset} is damaged (CRC-32C)")
        kind, block = data[end], data[offset:end]
        if kind == 1:
            size, _ = wire.varint(block, 0)
            self._count(size)
            return _unsnap(block)
        if kind != 0:
            raise _Bad(f"the block at byte {offset} has compression type {kind}")
        return block

    def _count(self, size: int) -> None:
        """_Bad where all that was unpacked exceeds what an index may be."""
        self._unpacked += size
        if self._unpacked > INDEX_BYTES:
            raise _Bad(f"it unpacks to more than {INDEX_BYTES} bytes, which no index does")


def _unsnap(data: bytes) -> bytes:
    """Undo Snappy (google/snappy format_description.txt), which old TensorFlow used for the index."""
    size, position = wire.varint(data, 0)
    out = bytearray()
    while position < len(data):
        tag = data[position]
        position += 1
        if tag & 3 == 0:
            length = tag >> 2
            if length >= 60:
                extra = length - 59
                length = int.from_bytes(data[position : position + extra], "little")
                position += extra
            length += 1
            out += data[position : position + length]
            position += length
        else:
            if tag & 3 == 1:
                length, distance = (tag >> 2 & 7) + 4, (tag >> 5) << 8 | data[position]
                position += 1
            else:
                extra = 2 if tag & 3 == 2 else 4
                length, distance = (tag >> 2) + 1, int.from_bytes(data[position : position + extra], "little")
                position += extra
            if not 0 < distance <= len(out):
                raise _Bad("a Snappy copy from before the start")
            tail = out[-distance:]
            out += (tail * (length // distance + 1))[:length]
        if len(out) > size:
            break
    if len(out) != size:
        raise _Bad("a Snappy block of another length than it says")
    return bytes(out)


def mask(crc: int) -> int:
    """LevelDB's masking, so that a CRC of data that holds CRCs stays sound."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
