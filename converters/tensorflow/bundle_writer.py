"""Write TensorFlow's tensor bundle (`x.index` + `x.data-00000-of-00001`) without TensorFlow, tensor by tensor.

The inverse of `bundle.py`, and byte for byte what TensorFlow's own SaveV2 writes: the values in the order given
(tensorflow/core/util/tensor_bundle/tensor_bundle.cc), and a table that is not compressed, of blocks and restarts as
large as TensorFlow's (tensorflow/core/lib/io/table_builder.cc, block_builder.cc, table_options.h).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import google_crc32c
import numpy as np

from converters.checkpoint import Tensor, blocks
from converters.tensorflow.bundle import DTYPES, FOOTER_BYTES, MAGIC, mask, shard_path
from converters.tensorflow.wire import encoded, encoded_field

_CODES = {dtype: code for code, dtype in DTYPES.items()}
_BLOCK_BYTES = 2**18
_RESTART_INTERVAL = 16
_NOT_COMPRESSED = b"\0"
# BundleHeaderProto: one shard, little-endian (the default), version {producer: 1}.
_HEADER = encoded_field(1, 1) + encoded_field(3, encoded_field(1, 1))


def write_bundle(tensors: Mapping[str, Tensor], prefix: Path) -> None:
    """Write the variables as a checkpoint of version 2 in one shard; one array is in memory at a time.

    Their types are those of `DTYPES`, and no name is empty. The same variables in the same order give the same bytes.
    """
    entries = {b"": _HEADER}
    offset = 0
    with open(shard_path(prefix, 0, 1), "wb") as file, ThreadPoolExecutor(1) as writing:
        for name, tensor in tensors.items():
            entries[name.encode()] = _entry(tensor, offset, _append_values(tensor, file, writing))
            offset += tensor.nbytes
    prefix.with_name(prefix.name + ".index").write_bytes(_table(sorted(entries.items())))


def _append_values(tensor: Tensor, file: BinaryIO, writing: Executor) -> int:
    """Append a tensor's values, and return their CRC-32C; a block is written while the next is brought into C order."""
    crc = 0
    written: Future[int] | None = None
    for block in blocks(tensor.read()):
        octets = block.view(np.uint8)
        if written:
            written.result()
        written = writing.submit(file.write, octets.data)
        crc = google_crc32c.extend(crc, octets)
    if written:
        written.result()
    return crc


def _entry(tensor: Tensor, offset: int, crc: int) -> bytes:
    """BundleEntryProto of a variable in shard 0, which is the default; so is an offset or a size of 0."""
    shape = b"".join(encoded_field(2, encoded_field(1, length) if length else b"") for length in tensor.shape)
    place = b"".join(encoded_field(key, value) for key, value in ((4, offset), (5, tensor.nbytes)) if value)
    checksum = encoded(6 << 3 | 5) + struct.pack("<I", mask(crc))
    return encoded_field(1, _CODES[tensor.dtype]) + encoded_field(2, shape) + place + checksum


def _table(items: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The file of a table: data blocks, an empty metaindex block, the index block, the footer."""
    out = bytearray()
    index, block = _Block(1), _Block(_RESTART_INTERVAL)
    handle = b""  # of the last full block, whose key in the index depends on the one that follows it
    for key, value in items:
        if handle:
            index.add(_separator(block.last, key), handle)
            handle, block = b"", _Block(_RESTART_INTERVAL)
        block.add(key, value)
        if block.size >= _BLOCK_BYTES:
            handle = _append(out, block)
    if not handle:
        handle = _append(out, block)
    metaindex = _append(out, _Block(_RESTART_INTERVAL))
    index.add(_successor(block.last), handle)
    footer = metaindex + _append(out, index)
    return bytes(out + footer.ljust(FOOTER_BYTES - len(MAGIC), b"\0") + MAGIC)


class _Block:
    """A block of a table: each key but every `interval`-th one, a restart, leaves out what it shares with the last."""

    def __init__(self, interval: int) -> None:
        self.last = b""
        self._interval, self._count = interval, 0
        self._data, self._restarts = bytearray(), [0]

    @property
    def size(self) -> int:
        return len(self._data) + 4 * len(self._restarts) + 4

    def add(self, key: bytes, value: bytes) -> None:
        shared = 0
        if self._count == self._interval:
            self._restarts.append(len(self._data))
            self._count = 0
        else:
            shared = _shared(self.last, key)
        self._data += encoded(shared) + encoded(len(key) - shared) + encoded(len(value)) + key[shared:] + value
        self._count += 1
        self.last = key

    def finished(self) -> bytes:
        return bytes(self._data) + struct.pack(f"<{len(self._restarts) + 1}I", *self._restarts, len(self._restarts))


def _append(out: bytearray, block: _Block) -> bytes:
    """Append a block with its kind and checksum; its handle: where it is, and how long."""
    data, offset = block.finished(), len(out)
    out += data + _NOT_COMPRESSED + struct.pack("<I", mask(google_crc32c.value(data + _NOT_COMPRESSED)))
    return encoded(offset) + encoded(len(data))


def _shared(one: bytes, other: bytes) -> int:
    """How many bytes two keys begin with in common."""
    length = min(len(one), len(other))
    return next((place for place in range(length) if one[place] != other[place]), length)


def _separator(last: bytes, following: bytes) -> bytes:
    """A short key from `last` on and below `following`: the block's in the index."""
    shared = _shared(last, following)
    if shared < len(last) and last[shared] + 1 < following[shared]:
        return last[:shared] + bytes([last[shared] + 1])
    return last


def _successor(last: bytes) -> bytes:
    """A short key from `last` on: the last block's in the index."""
    for place, byte in enumerate(last):
        if byte != 0xFF:
            return last[:place] + bytes([byte + 1])
    return last
