"""The wire format of protocol buffers, read and written field by field (protobuf.dev/programming-guides/encoding).

Just what the files of TensorFlow need: a message is taken apart one level at a time, so that no nesting is followed
further than its reader asks, and nothing but the bytes themselves is held.
"""

from __future__ import annotations

import struct

# The kind of a field whose length comes before it: a message, a text, bytes.
BYTES = 2

Fields = dict[int, list["int | bytes"]]

# No message of a model has nearly as many; a number takes many times the memory of its byte.
_MOST_FIELDS = 2**20


class WireError(Exception):
    """A fault in the structure of a message."""


# What reading beyond the end of damaged bytes raises besides.
FAULTS = (WireError, IndexError, struct.error, UnicodeDecodeError)


def fields(data: bytes) -> Fields:
    """The fields of a message, by number; fixed-size numbers arrive as whole numbers."""
    found: Fields = {}
    position = count = 0
    while position < len(data):
        count += 1
        if count > _MOST_FIELDS:
            raise WireError(f"a message of more than {_MOST_FIELDS} fields")
        tag, position = varint(data, position)
        wire = tag & 7
        value: int | bytes
        if wire == 0:
            value, position = varint(data, position)
        elif wire in (1, 5):
            width = 8 if wire == 1 else 4
            (value,) = struct.unpack_from("<Q" if wire == 1 else "<I", data, position)
            position += width
        elif wire == BYTES:
            length, position = varint(data, position)
            if position + length > len(data):
                raise WireError("a field beyond the end of its message")
            value = data[position : position + length]
            position += length
        else:
            raise WireError(f"a field of wire type {wire}")
        found.setdefault(tag >> 3, []).append(value)
    return found


def number(found: Fields, key: int) -> int:
    """The last whole number of a field, 0 where there is none."""
    value = found.get(key, [0])[-1]
    if not isinstance(value, int):
        raise WireError(f"field {key} is no number")
    return value


def message(value: int | bytes) -> bytes:
    """A field's value that must be a message or text."""
    if not isinstance(value, bytes):
        raise WireError("a number where a message was expected")
    return value


def messages(found: Fields, key: int) -> list[bytes]:
    """All messages or texts of a repeated field."""
    return [message(value) for value in found.get(key, [])]


def text(found: Fields, key: int) -> str:
    """The last text of a field, empty where there is none."""
    return message(found.get(key, [b""])[-1]).decode("utf-8")


def entries(found: Fields, key: int) -> dict[str, bytes]:
    """A map from text to messages."""
    pairs = [fields(item) for item in messages(found, key)]
    return {text(pair, 1): message(pair.get(2, [b""])[-1]) for pair in pairs}


def varint(data: bytes, position: int) -> tuple[int, int]:
    """A number of variable length and the place after it."""
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
        shift += 7
        if shift > 63:
            raise WireError("a number of more than 64 bits")


def encoded(value: int) -> bytes:
    """A number from 0 on as one of variable length."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def encoded_field(key: int, value: int | bytes) -> bytes:
    """A field of a message: a number, or a message, text or bytes."""
    if isinstance(value, int):
        return encoded(key << 3) + encoded(value)
    return encoded(key << 3 | BYTES) + encoded(len(value)) + value
