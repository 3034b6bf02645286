"""Read TensorFlow's tensor bundle (`x.index` + `x.data-0000N-of-0000M`) without TensorFlow, tensor by tensor.

The index is a LevelDB-style table: data blocks of prefix-compressed keys, an index block, a 48-byte footer
(tensorflow/core/lib/io/format.cc); its values are protocol buffers (tensorflow/core/protobuf/tensor_bundle.proto).
Every block and every tensor carries a masked CRC-32C, and all of them are checked.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import ml_dtypes
import numpy as np

from converters.checkpoint import Array, Tensor, raw
from converters.errors import CorruptError, SpecError
from converters.files import explained, open_regular, read_small

MAGIC = struct.pack("<Q", 0xDB4775248B80FB57)
_FOOTER_BYTES = 48
_READ_BYTES = 16 * 2**20
# A thousand variables take 100 kB. Shared prefixes and Snappy may unpack to this many times their size, no more.
_MOST_INDEX_BYTES = 16 * 2**20
_MOST_EXPANSION = 64

# tensorflow/core/framework/types.proto; the other types are no weights.
_DTYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype(np.float32),
    2: np.dtype(np.float64),
    3: np.dtype(np.int32),
    9: np.dtype(np.int64),
    14: np.dtype(ml_dtypes.bfloat16),
    19: np.dtype(np.float16),
}
_OTHER_DTYPES = {7: "string", 10: "bool", 20: "resource", 21: "variant"}

Fields = dict[int, list["int | bytes"]]


@dataclass(frozen=True)
class _Entry:
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int


def is_index(path: Path) -> bool:
    """Whether a file ends with the table's magic number."""
    if not path.is_file() or path.stat().st_size < _FOOTER_BYTES:
        return False
    with explained(path), open_regular(path) as file:
        file.seek(-len(MAGIC), 2)
        return file.read() == MAGIC


def read_bundle(prefix: Path) -> dict[str, Tensor]:
    """The variables of the checkpoint `prefix`, in name order; CorruptError names the file, tensor and fault."""
    index = prefix.with_name(prefix.name + ".index")
    data = read_small(index, _MOST_INDEX_BYTES)
    try:
        items = list(_table(data))
        if not items or items[0][0] != b"":
            raise _Bad("no header entry")
        header = _fields(items[0][1])
        shards = _number(header, 1)
        if _number(header, 2) != 0:
            raise _Bad("big-endian data")
        if not 0 < shards <= len(items) + 1:
            raise _Bad(f"{shards} data files")
        # The slices of a partitioned variable have binary keys; the entry under its name tells of them.
        entries = {key.decode("utf-8"): value for key, value in items[1:] if not key.startswith(b"\0")}
        parsed = {name: _entry(name, value, index) for name, value in entries.items()}
    except (_Bad, IndexError, struct.error, UnicodeDecodeError) as error:
        raise CorruptError(f"{index}: not a sound TensorFlow checkpoint index ({error})") from None
    sizes = []
    for number in range(shards):
        shard = _shard(prefix, number, shards)
        if not shard.exists():
            raise CorruptError(f"{shard}: missing; the index names {shards} data file{'s' if shards > 1 else ''}")
        sizes.append(shard.stat().st_size)
    tensors = {}
    for name, entry in parsed.items():
        if entry.shard >= shards:
            raise CorruptError(f"{index}: tensor {name} lies in data file {entry.shard} of {shards}")
        shard = _shard(prefix, entry.shard, shards)
        if entry.offset + entry.size > sizes[entry.shard]:
            raise CorruptError(
                f"{shard}: truncated; tensor {name} ends at byte {entry.offset + entry.size}, "
                f"the file at {sizes[entry.shard]}"
            )
        tensors[name] = Tensor(entry.shape, entry.dtype, functools.partial(_load, shard, name, entry))
    return tensors


class _Bad(Exception):
    """A structural fault of the index."""


def _shard(prefix: Path, number: int, count: int) -> Path:
    return prefix.with_name(f"{prefix.name}.data-{number:05d}-of-{count:05d}")


def _load(path: Path, name: str, entry: _Entry) -> Array:
    array = np.empty(entry.shape, entry.dtype)
    target = raw(array)
    crc = 0
    with explained(path), open_regular(path) as file:
        file.seek(entry.offset)
        for start in range(0, entry.size, _READ_BYTES):
            piece = target[start : start + _READ_BYTES]
            if file.readinto(piece) != len(piece):
                raise CorruptError(f"{path}: truncated inside tensor {name}")
            # Checked while the bytes are in the cache; the library wants read-only bytes.
            crc = google_crc32c.extend(crc, bytes(piece))
    if _mask(crc) != entry.crc:
        raise CorruptError(f"{path}: tensor {name} is damaged (its CRC-32C does not match the index)")
    return array


def _entry(name: str, value: bytes, index: Path) -> _Entry:
    fields = _fields(value)
    if 7 in fields:
        raise SpecError(
            f"{index}: variable {name} is partitioned into slices; merge it with TensorFlow before converting"
        )
    code = _number(fields, 1)
    if code not in _DTYPES:
        kind = _OTHER_DTYPES.get(code, f"number {code}")
        raise SpecError(f"{index}: variable {name} is of type {kind}, which holds no weights of an ALBERT")
    shape = []
    for item in fields.get(2, []):
        for dimension in _fields(_bytes(item)).get(2, []):
            size = _number(_fields(_bytes(dimension)), 1)
            if size >= 2**40:
                raise _Bad(f"tensor {name} has a dimension of {size}")
            shape.append(size)
    dtype = _DTYPES[code]
    size = _number(fields, 5)
    wanted = dtype.itemsize
    for dimension in shape:
        wanted *= dimension
    if size != wanted:
        raise _Bad(f"tensor {name} of shape {shape} takes {wanted} bytes, the index says {size}")
    return _Entry(dtype, tuple(shape), _number(fields, 3), _number(fields, 4), size, _number(fields, 6))


def _table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The table's keys and values, in order."""
    if len(data) < _FOOTER_BYTES or data[-8:] != MAGIC:
        raise _Bad("the magic number at its end is missing: truncated, or another kind of file")
    footer = data[-_FOOTER_BYTES:]
    position = 0
    offset, position = _varint(footer, position)
    size, position = _varint(footer, position)
    if any(_block(data, offset, size)):
        raise _Bad("a metaindex block, which TensorFlow leaves empty")
    offset, position = _varint(footer, position)
    size, position = _varint(footer, position)
    last: bytes | None = None
    for _, handle in _block(data, offset, size):
        start, position = _varint(handle, 0)
        length, _ = _varint(handle, position)
        for key, value in _block(data, start, length):
            if last is not None and key <= last:
                raise _Bad(f"key {key[:80]!r} is out of order")
            last = key
            yield key, value


def _block(data: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    end = offset + size
    if end + 5 > len(data) - _FOOTER_BYTES:
        raise _Bad(f"a block ends at byte {end}, beyond the table")
    (crc,) = struct.unpack_from("<I", data, end + 1)
    if _mask(google_crc32c.value(data[offset : end + 1])) != crc:
        raise _Bad(f"the block at byte {offset} is damaged (CRC-32C)")
    kind = data[end]
    block = data[offset:end]
    if kind == 1:
        block = _unsnap(block)
    elif kind != 0:
        raise _Bad(f"the block at byte {offset} has compression type {kind}")
    (restarts,) = struct.unpack_from("<I", block, len(block) - 4)
    limit = len(block) - 4 - 4 * restarts
    if limit < 0:
        raise _Bad(f"the block at byte {offset} counts {restarts} restarts")
    position, key, unpacked = 0, b"", 0
    while position < limit:
        shared, position = _varint(block, position)
        fresh, position = _varint(block, position)
        length, position = _varint(block, position)
        if shared > len(key) or position + fresh + length > limit:
            raise _Bad(f"the block at byte {offset} has an entry beyond its end")
        key = key[:shared] + block[position : position + fresh]
        position += fresh
        unpacked += len(key)
        if unpacked > _MOST_EXPANSION * len(block):
            raise _Bad(f"the names of the block at byte {offset} unpack beyond all measure")
        yield key, block[position : position + length]
        position += length


def _unsnap(data: bytes) -> bytes:
    """Undo Snappy (google/snappy format_description.txt), which old TensorFlow used for the index."""
    size, position = _varint(data, 0)
    if size > _MOST_EXPANSION * len(data):
        raise _Bad(f"a Snappy block claims {size} bytes")
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


def _fields(data: bytes) -> Fields:
    """The fields of a protocol buffer, by number; fixed-size numbers arrive as whole numbers."""
    fields: Fields = {}
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        wire = tag & 7
        value: int | bytes
        if wire == 0:
            value, position = _varint(data, position)
        elif wire in (1, 5):
            width = 8 if wire == 1 else 4
            (value,) = struct.unpack_from("<Q" if wire == 1 else "<I", data, position)
            position += width
        elif wire == 2:
            length, position = _varint(data, position)
            if position + length > len(data):
                raise _Bad("a field beyond the end of its message")
            value = data[position : position + length]
            position += length
        else:
            raise _Bad(f"a field of wire type {wire}")
        fields.setdefault(tag >> 3, []).append(value)
    return fields


def _number(fields: Fields, number: int) -> int:
    value = fields.get(number, [0])[-1]
    if not isinstance(value, int):
        raise _Bad(f"field {number} is no number")
    return value


def _bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise _Bad("a number where a message was expected")
    return value


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
        shift += 7
        if shift > 63:
            raise _Bad("a number of more than 64 bits")


def _mask(crc: int) -> int:
    """LevelDB's masking, so that a CRC of data that holds CRCs stays sound."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
