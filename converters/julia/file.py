"""BSON files as Julia's BSON.jl writes and reads them (its write.jl, read.jl): what they hold is `julia.values`'s.

pymongo's `bson` package does the bytes of all that is small. Arrays are found by the lengths around them, stay in the
file until they are read, and are written one after the other.
"""

from __future__ import annotations

import io
import struct
from array import array
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from converters.checkpoint import Tensor, blocks, raw
from converters.errors import CheckpointError, CorruptError
from converters.files import file_errors, open_regular
from converters.julia.values import (
    ANY,
    DICT,
    STRING,
    UINT8,
    VARIABLE,
    Document,
    Node,
    Symbol,
    Type,
    Values,
    brief,
    checked,
    lower,
    repeated,
    shape_of,
    whole,
)
from converters.libraries import require_library

# Every length in BSON is a signed 32-bit number.
MOST_BYTES = 2**31 - 1

_DOUBLE, _STRING, _DOCUMENT, _ARRAY, _BINARY, _BOOL, _NULL, _INT32, _INT64 = 1, 2, 3, 4, 5, 8, 10, 16, 18
_FIXED = {_DOUBLE: 8, _BOOL: 1, _NULL: 0, _INT32: 4, _INT64: 8}
_COUNTED = {_STRING: (1, 4), _DOCUMENT: (5, 0), _ARRAY: (5, 0), _BINARY: (0, 5)}  # least length, bytes besides
_INT = struct.Struct("<i")
_BINARY_HEAD = 5  # length and subtype
_LEAST_BYTES = 5  # of a document: length and end
_WINDOW = 1 << 16
_TYPE_BYTES = 1 << 16
_TEXT_BYTES = 1 << 12
# Far above any model: no file makes the lists of what it holds endless.
_MOST_KEY = 255
_MOST_HEAD = 1 + _MOST_KEY + 1 + 4  # kind, key, length
_MOST_KEYS = 64
_MOST_REFERENCES = 100_000
_MOST_LINES = 500_000


class Stored(NamedTuple):
    """An array of plain numbers in a file: Julia's shape, and where its column-major bytes begin."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    type: Type
    offset: int


@contextmanager
def opened(path: Path) -> Iterator[File]:
    """A BSON file to read from, its size and outermost lengths checked; CorruptError for anything else."""
    with file_errors(path), open_regular(path) as file:
        size = file.seek(0, io.SEEK_END)
        if size > MOST_BYTES:
            raise CorruptError(path, f"{size} bytes, more than the {MOST_BYTES} that a BSON file can have")
        yield File(file, size, str(path))


class File:
    """The top level of a BSON file, and what its nodes hold. Every length is checked before it is followed.

    A method's `what` names the value in errors (CorruptError).
    """

    def __init__(self, file: BinaryIO, size: int, where: str) -> None:
        self._file, self._where = file, where
        self._window, self._window_start = b"", 0
        self._types: dict[bytes, Type] = {}
        self._references = array("q")
        if size < _LEAST_BYTES:
            raise CorruptError(where, f"{size} bytes, too few for a BSON file")
        if (said := _INT.unpack(self._bytes(0, 4))[0]) != size:
            why = "followed by something else" if _LEAST_BYTES <= said < size else "truncated"
            raise CorruptError(where, f"{size} bytes, and {said} by its first four: {why}, or no BSON file")
        self.top = self._keyed(Node(_DOCUMENT, 0, size), "the file")
        shared = self.top.pop("_backrefs", None)
        if shared is not None:
            if shared.kind != _ARRAY:
                raise self.fault("_backrefs", "not an array")
            self._references_end = shared.end - 1
            for position, _, _ in self._elements(shared, "_backrefs"):
                if len(self._references) == _MOST_REFERENCES:
                    raise self.fault("_backrefs", f"more than {_MOST_REFERENCES} items")
                self._references.append(position)

    def follow(self, node: Node, what: str) -> Node:
        """The node itself, or the one in `_backrefs` that it stands for."""
        if node.kind != _DOCUMENT:
            return node
        fields = self._keyed(node, what)
        if self._tag(fields, what) != "backref":
            return node
        return self.referred(self.decoded(fields["ref"], what, 8) if "ref" in fields else None, what)

    def referred(self, number: Any, what: str) -> Node:
        """The node in `_backrefs` of that number, from 1."""
        if not whole(number) or not 0 < number <= len(self._references):
            raise self.fault(what, f"a backref to {brief(number)}, of {len(self._references)} in _backrefs")
        _, node = self._element(self._references[number - 1], self._references_end, "_backrefs")
        if node.kind == _DOCUMENT and self._tag(self._keyed(node, "_backrefs"), "_backrefs") == "backref":
            raise self.fault(what, f"backref {number} leads to a backref again")
        return node

    def value(self, node: Node, what: str, limit: int) -> Any:
        """The Julia value in a node as Python's; `limit` is the most bytes it may take, with all that it refers to.

        A Dict becomes a dict, a Dict{Symbol} one with Symbol keys, a vector of anything a list, an array of numbers a
        numpy array, an Int128 an int.
        """
        values = Values(self, what, limit)
        try:
            return values.value(values.decoded(node))
        except RecursionError:
            raise self.fault(what, "nested too deeply") from None

    def stored(self, node: Node, what: str) -> Stored:
        """Where an array of plain numbers lies, without reading it."""
        node = self.follow(node, what)
        if node.kind == _BINARY:
            return self._stored(UINT8, [node.end - node.start - _BINARY_HEAD], node, what)
        fields = self._tagged(node, what, "array", ("type", "size", "data"))
        size = self.value(fields["size"], f"{what}, its size", _TYPE_BYTES)
        return self._stored(self._type(fields["type"], what), size, fields["data"], what)

    def pairs(self, node: Node, what: str, limit: int) -> list[tuple[str, Node]]:
        """The keys and values of a Dict with String keys, at most `limit` of them."""
        fields = self._tagged(self.follow(node, what), what, "struct", ("type", "data"))
        kind = self._type(fields["type"], what)
        if kind.name != DICT:
            raise self.fault(what, f"a struct of type {kind}, not a Dict")
        data = self.vector(fields["data"], what, 2)
        if len(data) != 2:
            raise self.fault(what, "a Dict without keys and values")
        keys, values = (self.vector(part, what, limit) for part in data)
        if len(keys) != len(values):
            raise self.fault(what, f"a Dict of {len(keys)} keys and {len(values)} values")
        names = [self.text(key, f"{what}, key {number}") for number, key in enumerate(keys, 1)]
        if len(set(names)) < len(names):
            raise self.fault(what, f"key {brief(repeated(names))} occurs twice")
        return list(zip(names, values, strict=True))

    def vector(self, node: Node, what: str, limit: int) -> list[Node]:
        """The items of a vector that is no array of plain numbers, at most `limit` of them."""
        node = self.follow(node, what)
        if node.kind != _ARRAY:
            raise self.fault(what, "not a vector")
        items: list[Node] = []
        for _, _, item in self._elements(node, what):
            if len(items) == limit:
                raise self.fault(what, f"more than {limit} items")
            items.append(item)
        return items

    def lines(self, node: Node, what: str, limit: int) -> bytes:
        """A vector of strings, each with a line end; at most `limit` bytes in the file."""
        node = self.follow(node, what)
        if node.kind != _ARRAY:
            raise self.fault(what, "not a vector of strings")
        self._check_length(node, what, limit)
        data = self._bytes(node.start, node.end - node.start)
        found, number, position, end = bytearray(), 0, 4, len(data) - 1
        while position < end:  # as _elements, but several times as fast
            start = data.find(b"\0", position + 1, end) + 1
            if data[position] != _STRING or not position < start <= end - 4:
                raise self.fault(what, f"item {number + 1} is not a string")
            stop = start + 4 + _INT.unpack_from(data, start)[0]
            if not start + 4 < stop <= end or data[stop - 1]:
                raise self.fault(what, f"item {number + 1} is a string without its end")
            if (number := number + 1) > _MOST_LINES:
                raise self.fault(what, f"more than {_MOST_LINES} strings")
            found += data[start + 4 : stop - 1] + b"\n"
            position = stop
        return bytes(found)

    def text(self, node: Node, what: str) -> str:
        """A short string."""
        self._check_length(node, what, _TEXT_BYTES)
        try:
            return self._string(node, what).decode()
        except UnicodeDecodeError as error:
            raise self.fault(what, f"not UTF-8 text ({error.reason} at byte {error.start})") from None

    def bytes_of(self, node: Node, what: str, limit: int) -> bytes:
        """A vector of UInt8."""
        found = self.stored(node, what)
        if found.dtype != np.uint8 or len(found.shape) != 1:
            raise self.fault(what, f"an array of {found.type} of size {list(found.shape)}, not a vector of UInt8")
        self._check_length(Node(_BINARY, found.offset, found.offset + found.shape[0]), what, limit)
        return self._bytes(found.offset, found.shape[0])

    # What follows reads bytes or refuses them.

    def fault(self, what: str, text: str) -> CorruptError:
        return CorruptError(self._where, f"{what}: {text}")

    def _bytes(self, start: int, count: int) -> bytes:
        if count <= _MOST_HEAD:
            window, at = self._around(start)
            piece = window[at : at + count]
        else:
            self._file.seek(start)
            piece = self._file.read(count)
        if len(piece) < count:
            raise CorruptError(self._where, "became shorter while it was read")
        return piece

    def _around(self, start: int) -> tuple[bytes, int]:
        """A piece of the file and where `start` is in it, followed by all of an element's head unless the file ends."""
        at = start - self._window_start
        if at < 0 or at + _MOST_HEAD > len(self._window):
            self._file.seek(start)
            self._window, self._window_start, at = self._file.read(_WINDOW), start, 0
            if not self._window:
                raise CorruptError(self._where, "became shorter while it was read")
        return self._window, at

    def _elements(self, node: Node, what: str) -> Iterator[tuple[int, bytes, Node]]:
        """Position, key and value of each element of a document or array."""
        position, end = node.start + 4, node.end - 1
        while position < end:
            key, item = self._element(position, end, what)
            yield position, key, item
            position = item.end
        if self._bytes(end, 1) != b"\0":
            raise self.fault(what, "a document that does not end where its length says")

    def _element(self, position: int, end: int, what: str) -> tuple[bytes, Node]:
        window, at = self._around(position)
        kind, close = window[at], window.find(b"\0", at + 1, at + 2 + min(_MOST_KEY, end - position - 2))
        if close < 0:
            raise self.fault(what, f"a key of more than {_MOST_KEY} bytes, or without an end")
        key, start = window[at + 1 : close], position + close + 1 - at
        if kind in _FIXED:
            stop = start + _FIXED[kind]
        elif kind in _COUNTED:
            least, around = _COUNTED[kind]
            length = _INT.unpack_from(window, close + 1)[0] if start + 4 <= end else -1
            if length < least:
                raise self.fault(what, f"{_shown(key)} with a length of {length} bytes")
            stop = start + around + length
        else:
            raise self.fault(what, f"{_shown(key)} is of BSON type 0x{kind:02x}, as no value of Julia's is")
        if stop > end:
            raise self.fault(what, f"{_shown(key)} ends {stop - end} bytes after what holds it")
        return key, Node(kind, start, stop)

    def _keyed(self, node: Node, what: str) -> dict[str, Node]:
        """The elements of a small document by key."""
        found: dict[str, Node] = {}
        for _, name, item in self._elements(node, what):
            try:
                key = name.decode()
            except UnicodeDecodeError:
                raise self.fault(what, f"the key {name!r} is not UTF-8 text") from None
            if key in found:
                raise self.fault(what, f"key {brief(key)} occurs twice")
            if len(found) == _MOST_KEYS:
                raise self.fault(what, f"a document of more than {_MOST_KEYS} keys")
            found[key] = item
        return found

    def _tagged(self, node: Node, what: str, tag: str, keys: tuple[str, ...]) -> dict[str, Node]:
        fields = self._keyed(node, what) if node.kind == _DOCUMENT else {}
        if (found := self._tag(fields, what)) != tag:
            raise self.fault(what, f"tag {brief(found)} where {tag!r} belongs" if found else f"not tagged {tag!r}")
        if fields.keys() != {"tag", *keys}:
            raise self.fault(what, f"tag {tag!r} with {brief([*fields])}, not {', '.join(keys)}")
        return fields

    def _tag(self, fields: Mapping[str, Node], what: str) -> str | None:
        tag = fields.get("tag")
        return None if tag is None else self.text(tag, f"{what}, its tag")

    def decoded(self, node: Node, what: str, limit: int) -> Any:
        """What pymongo makes of a small value."""
        import bson
        from bson.codec_options import CodecOptions

        self._check_length(node, what, limit)
        element = bytes([node.kind]) + b"\0" + self._bytes(node.start, node.end - node.start)
        try:
            document = bson.decode(_INT.pack(len(element) + 5) + element + b"\0", CodecOptions(document_class=Document))
        except (bson.errors.BSONError, ValueError, OverflowError) as error:
            raise self.fault(what, f"not sound BSON ({error})") from None
        except RecursionError:
            raise self.fault(what, "nested too deeply") from None
        return document[""]

    def _check_length(self, node: Node, what: str, limit: int) -> None:
        if node.end - node.start > limit:
            raise self.fault(what, f"{node.end - node.start} bytes exceed the limit of {limit}")

    def _string(self, node: Node, what: str) -> bytes:
        if node.kind != _STRING:
            raise self.fault(what, "not a string")
        data = self._bytes(node.start + 4, node.end - node.start - 4)
        if data[-1]:
            raise self.fault(what, "a string without its end")
        return data[:-1]

    def _type(self, node: Node, what: str) -> Type:
        """A type; a file names the same few over and over."""
        content = self._bytes(node.start, min(node.end - node.start, _MOST_KEY))
        found = self._types.get(content)
        if found is None:
            values = Values(self, what, _TYPE_BYTES)
            try:
                found = values.type_of(values.decoded(node))
            except RecursionError:
                raise self.fault(what, "nested too deeply") from None
            if len(content) == node.end - node.start and len(self._types) < _MOST_KEYS:
                self._types[content] = found
        return found

    def _stored(self, kind: Type, size: Any, data: Node, what: str) -> Stored:
        data = self.follow(data, what)
        if data.kind != _BINARY:
            raise self.fault(what, f"an array of {kind} whose data are no bytes")
        try:
            shape, dtype = shape_of(kind, size, data.end - data.start - _BINARY_HEAD)
        except ValueError as error:
            raise self.fault(what, str(error)) from None
        return Stored(shape, dtype, kind, data.start + _BINARY_HEAD)


@dataclass(frozen=True)
class Arrays:
    """A Dict{String,Array}."""

    tensors: Mapping[str, Tensor]


Part = bytes | Tensor


def write(path: Path, values: Mapping[str, Any]) -> None:
    """Write a file as `BSON.@save` does, its values by name: what `lower` takes, Tensors, and Arrays.

    Tensors are read one after the other. Raises CheckpointError, before anything is written or read, where the file
    would pass the 2 GiB that BSON can have.
    """
    require_library("bson", "writing Julia's BSON")
    parts = [part for key, value in values.items() for part in _element(key, value)]
    if any(isinstance(value, Arrays) for value in values.values()):
        parts += _small({"_backrefs": [_variable("T"), _variable("N")]})
    parts = _sized(parts)
    if (size := _length(parts)) > MOST_BYTES:
        raise CheckpointError(
            path,
            f"would take {size} bytes, and a BSON file can have {MOST_BYTES}: choose another format, as npz, "
            "or fewer bytes with --dtype float16",
        )
    with open(path, "wb") as file:
        for part in parts:
            for block in [part] if isinstance(part, bytes) else map(raw, blocks(part.read().T)):
                file.write(block)


def _element(key: str, value: Any) -> list[Part]:
    """The bytes of a document's element, arrays still unread among them."""
    if isinstance(value, Tensor):
        head = {"tag": "array", "type": lower(Type.of(value.dtype)), "size": lower(list(value.shape))}
        data: list[Part] = [_head(_BINARY, "data"), _INT.pack(min(value.nbytes, MOST_BYTES)), b"\0", value]
        return [_head(_DOCUMENT, key), *_sized([*_small(head), *data])]
    if isinstance(value, Arrays):
        kind = {"tag": "datatype", "params": [lower(STRING), _array_type()], "name": ["Base", "Dict"]}
        items = [part for at, item in enumerate(value.tensors.values()) for part in _element(str(at), item)]
        pair: list[Part] = [
            *_small({"0": [checked(name) for name in value.tensors]}),
            _head(_ARRAY, "1"),
            *_sized(items),
        ]
        data = [_head(_ARRAY, "data"), *_sized(pair)]
        return [_head(_DOCUMENT, key), *_sized([*_small({"tag": "struct", "type": kind}), *data])]
    try:
        return _small({key: lower(value)})
    except CheckpointError as error:
        raise CheckpointError(f"{key} holds {error.detail}") from None
    except RecursionError:
        raise CheckpointError(f"{key} is nested too deeply for a BSON file") from None


def _small(document: Mapping[str, Any]) -> list[Part]:
    """The elements of a document, without what is around them."""
    import bson

    return [bson.encode(document)[4:-1]]


def _head(kind: int, key: str) -> bytes:
    return bytes([kind]) + key.encode() + b"\0"


def _sized(parts: list[Part]) -> list[Part]:
    """Elements as a whole document."""
    return [_INT.pack(min(_length(parts) + 5, MOST_BYTES)), *parts, b"\0"]


def _length(parts: list[Part]) -> int:
    return sum(len(part) if isinstance(part, bytes) else part.nbytes for part in parts)


def _array_type() -> dict[str, Any]:
    """`Array{T,N} where N where T`. Each variable must be one object wherever it is named: that is what backrefs do."""
    t, n = ({"tag": "backref", "ref": lower(number)} for number in (1, 2))
    body: dict[str, Any] = {"tag": "datatype", "params": [t, n], "name": ["Core", "Array"]}
    for variable in (n, t):
        body = {"tag": "unionall", "body": body, "var": variable}
    return body


def _variable(name: str) -> dict[str, Any]:
    """A type variable without bounds."""
    data = [lower(Symbol(name)), {"tag": "jl_bottom_type"}, lower(ANY)]
    return {"tag": "struct", "type": lower(Type(VARIABLE)), "data": data}


def _shown(key: bytes) -> str:
    return repr(key.decode("utf-8", "backslashreplace"))
