"""Julia's values as the documents that BSON.jl makes of them (its extensions.jl), and back.

Documents are taken for what they say they hold and nothing else: no name in a file is ever looked up, and a tag or type
that is not listed here is refused by that name. (BSON.jl itself may run code from a file that it loads.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from converters import messages
from converters.checkpoint import Array
from converters.errors import CheckpointError, CorruptError

_MOST_RANK = 32
_MOST_SHOWN = 120
_REFERENCE_BYTES = 512  # that following one counts for, whatever its size

_BITS: Mapping[tuple[str, ...], np.dtype[Any]] = {
    ("Core", name): np.dtype(kind)
    for name, kind in {
        "Float16": "<f2",
        "Float32": "<f4",
        "Float64": "<f8",
        "Int8": "i1",
        "Int16": "<i2",
        "Int32": "<i4",
        "Int64": "<i8",
        "UInt8": "u1",
        "UInt16": "<u2",
        "UInt32": "<u4",
        "UInt64": "<u8",
        "Bool": "?",
    }.items()
}
_NAME_OF = {dtype: name for name, dtype in _BITS.items()}
_WIDE: Mapping[tuple[str, ...], bool] = {("Core", "Int128"): True, ("Core", "UInt128"): False}  # signed?
_COMPLEX, DICT, VARIABLE = ("Base", "Complex"), ("Base", "Dict"), ("Core", "TypeVar")
_OTHERS = {("Core", name) for name in ("Any", "Array", "Nothing", "String", "Symbol", "Tuple")}
_KNOWN = {*_BITS, *_WIDE, *_OTHERS, _COMPLEX, DICT, VARIABLE}


class Node(NamedTuple):
    """Where a value lies in a file: its BSON kind and the span of its bytes."""

    kind: int
    start: int
    end: int


class Reader(Protocol):
    """The file that values are read from; `what` names a value in errors."""

    def decoded(self, node: Node, what: str, limit: int) -> Any:
        """What pymongo makes of a small value, of at most `limit` bytes."""

    def referred(self, number: Any, what: str) -> Node:
        """The node that a backref of that number stands for."""

    def fault(self, what: str, text: str) -> CorruptError:
        """The error of a value that is not sound."""


class Symbol(str):
    """A Julia Symbol."""

    __slots__ = ()


@dataclass(frozen=True)
class Type:
    """A Julia type, such as `Type(("Base", "Dict"), (Type(("Core", "String")), …))`.

    `name` is without the leading `Main` of older Julias; parameters left free by a `where` are left out.
    """

    name: tuple[str, ...]
    params: tuple[Any, ...] = ()

    def __str__(self) -> str:
        return self.name[-1] + (f"{{{', '.join(map(str, self.params))}}}" if self.params else "")

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """The numpy dtype of plain numbers (complex integers: fields `re`, `im`), or None."""
        if self.name == _COMPLEX and len(self.params) == 1 and isinstance(self.params[0], Type):
            part = _BITS.get(self.params[0].name)
            if part is None:
                return None
            if part.str in ("<f4", "<f8"):
                return np.dtype(f"<c{2 * part.itemsize}")
            return np.dtype([("re", part), ("im", part)])
        return _BITS.get(self.name)

    @classmethod
    def of(cls, dtype: np.dtype[Any]) -> Type:
        """The type of a numpy array's elements; CheckpointError where Julia's files have none."""
        if dtype.kind == "c":
            return cls(_COMPLEX, (cls.of(np.empty(0, dtype).real.dtype),))
        if dtype.names == ("re", "im"):
            return cls(_COMPLEX, (cls.of(dtype["re"]),))
        if dtype.hasobject:
            return ANY
        if dtype.newbyteorder("<") not in _NAME_OF:
            raise CheckpointError(f"Julia has no {dtype.name}")
        return cls(_NAME_OF[dtype.newbyteorder("<")])


ANY, STRING = Type(("Core", "Any")), Type(("Core", "String"))
UINT8 = Type(("Core", "UInt8"))


class Document(dict[str, Any]):
    """A document that refuses a key it has already."""

    def __setitem__(self, key: str, value: Any) -> None:
        if key in self:
            raise ValueError(f"key {brief(key)} occurs twice")
        super().__setitem__(key, value)


class Values:
    """From decoded documents to values. What is referred to counts against the limit each time."""

    def __init__(self, file: Reader, what: str, limit: int) -> None:
        self._file, self._what, self._limit, self._left = file, what, limit, limit
        self._inside: set[int] = set()

    def decoded(self, node: Node) -> Any:
        self._left -= node.end - node.start
        if self._left < 0:
            raise self._fault(f"more than {self._limit} bytes, with all that it refers to")
        return self._file.decoded(node, self._what, self._limit)

    def value(self, item: Any) -> Any:
        if item is None or type(item) in (bool, float, str, int):
            return item
        if isinstance(item, int):
            return int(item)  # pymongo's Int64
        if isinstance(item, bytes):
            return bytes(item)
        if isinstance(item, list):
            return [self.value(part) for part in item]
        if not isinstance(item, Document):
            raise self._fault(f"a BSON {type(item).__name__}, as no value of Julia's is")
        if "tag" not in item:
            return {Symbol(key): self.value(part) for key, part in item.items()}
        tag = item["tag"]
        if tag == "backref":
            return self._referred(item, self.value)
        if tag == "symbol" and isinstance(item.get("name"), str):
            return Symbol(item["name"])
        if tag == "tuple" and isinstance(item.get("data"), list):
            return tuple(self.value(part) for part in item["data"])
        if tag in ("datatype", "unionall"):
            return self.type_of(item)
        if tag == "array":
            return self._array(self.type_of(item.get("type")), self.value(item.get("size")), item.get("data"))
        if tag == "struct":
            return self._struct(self.type_of(item.get("type")), self.value(item.get("data")))
        raise self._fault(f"tag {brief(tag)}, which is not read here")

    def type_of(self, item: Any) -> Type:
        found = self._parameter(item)
        if not isinstance(found, Type):
            raise self._fault(f"{brief(item)} where a type belongs")
        return found

    def _parameter(self, item: Any) -> Type | int | None:
        """A type, a whole number (the rank of an array), or None for a variable bound by a `where`."""
        if whole(item):
            return int(item)
        tag = item.get("tag") if isinstance(item, Document) else None
        if tag == "backref":
            found: Type | int | None = self._referred(item, self._parameter)
            return found
        if tag == "unionall":
            if self._parameter(item.get("var")) is not None:
                raise self._fault("a unionall over no type variable")
            return self.type_of(item.get("body"))
        if tag == "struct" and self.type_of(item.get("type")).name == VARIABLE:
            return None
        if tag != "datatype":
            raise self._fault(f"{brief(item if tag is None else tag)} where a type belongs")
        name, params = item.get("name"), item.get("params", [])
        named = isinstance(name, list) and name and all(isinstance(part, str) for part in name)
        if not named or not isinstance(params, list):
            raise self._fault(f"a type named {brief(name)}")
        path = tuple(name[1:] if name[:1] == ["Main"] else name)
        if path not in _KNOWN:
            unknown = f"the type {brief('.'.join(path))} is not read here"
            raise self._fault(f"{unknown}, and no name in a file is looked up or run")
        found_params = [self._parameter(part) for part in params]
        return Type(path, tuple(part for part in found_params if part is not None))

    def _array(self, kind: Type, size: Any, data: Any) -> Array:
        if isinstance(data, Document) and data.get("tag") == "backref":
            data = self._referred(data, self.value)
        try:
            if isinstance(data, bytes):
                shape, dtype = shape_of(kind, size, len(data))
                return np.frombuffer(data, dtype).reshape(shape[::-1]).T
            if not isinstance(data, list):
                raise ValueError("an array without data")
            shape, _ = shape_of(UINT8, size, len(data))  # one byte in the place of each item
        except ValueError as error:
            raise self._fault(str(error)) from None
        items = np.empty(len(data), object)
        for place, item in enumerate(data):
            items[place] = self.value(item)
        return items.reshape(shape[::-1]).T

    def _struct(self, kind: Type, data: Any) -> Any:
        if kind.name == DICT:
            parts = data if isinstance(data, list) else []
            parts = [part.tolist() if isinstance(part, np.ndarray) else part for part in parts]
            if len(parts) != 2 or not all(isinstance(part, list) for part in parts) or len(parts[0]) != len(parts[1]):
                raise self._fault("a Dict without as many keys as values")
            try:
                found = dict(zip(*parts, strict=True))
            except TypeError:
                raise self._fault("a Dict with keys that are no plain values") from None
            if len(found) < len(parts[0]):
                raise self._fault(f"key {brief(repeated(parts[0]))} occurs twice")
            return found
        if kind.name in _WIDE and isinstance(data, bytes) and len(data) == 16:
            return int.from_bytes(data, "little", signed=_WIDE[kind.name])
        if kind.name in _BITS and isinstance(data, bytes) and len(data) == _BITS[kind.name].itemsize:
            return np.frombuffer(data, _BITS[kind.name])[0].item()
        raise self._fault(f"a struct of type {kind}, which is not read here")

    def _referred(self, item: Document, read: Callable[[Any], Any]) -> Any:
        node = self._file.referred(item.get("ref"), self._what)
        if node.start in self._inside:
            raise self._fault(f"backref {item['ref']} lies within what it refers to")
        self._inside.add(node.start)
        self._left -= _REFERENCE_BYTES
        found = read(self.decoded(node))
        self._inside.remove(node.start)
        return found

    def _fault(self, text: str) -> CorruptError:
        return self._file.fault(self._what, text)


def lower(value: Any) -> Any:
    """The documents of a value, for pymongo to encode; CheckpointError for what Julia's files have no place for.

    A dict with Symbol keys becomes a Dict{Symbol}, any other a Dict{String,Any}; a list a Vector{Any}; bytes, or a
    vector of uint8, a Vector{UInt8}; an int beyond 64 bits an Int128.
    """
    from bson.int64 import Int64

    if value is None or isinstance(value, (bool, bytes)):
        return value
    if isinstance(value, float):
        return float(value)  # of numpy's too
    if isinstance(value, int):
        if -(2**63) <= value < 2**63:
            return Int64(value)
        if -(2**127) <= value < 2**127:
            data = value.to_bytes(16, "little", signed=True)
            return {"tag": "struct", "type": lower(Type(("Core", "Int128"))), "data": data}
        raise CheckpointError(f"a whole number of {value.bit_length()} bits, where Julia's have 128 at the most")
    if isinstance(value, Symbol):
        return {"tag": "symbol", "name": str(value)}
    if isinstance(value, str):
        return checked(value)
    if isinstance(value, list):
        return [lower(item) for item in value]
    if isinstance(value, tuple):
        return {"tag": "tuple", "data": [lower(item) for item in value]}
    if isinstance(value, Type):
        return {"tag": "datatype", "params": [lower(item) for item in value.params], "name": list(value.name)}
    if isinstance(value, dict):
        if value and all(isinstance(key, Symbol) for key in value):
            if taken := [key for key in value if key == "tag" or "\0" in key]:
                raise CheckpointError(
                    f"a Dict with the Symbol {brief(taken[0])}, which a file cannot distinguish from others"
                )
            return {checked(key): lower(item) for key, item in value.items()}
        return {
            "tag": "struct",
            "type": lower(Type(DICT, (STRING, ANY))),
            "data": [lower(list(value)), lower(list(value.values()))],
        }
    if isinstance(value, np.ndarray):
        if value.dtype == np.uint8 and value.ndim == 1:
            return value.tobytes()
        items = value.T.reshape(-1)  # column-major
        data = lower(items.tolist()) if value.dtype == object else _little(items).tobytes()
        return {"tag": "array", "type": lower(Type.of(value.dtype)), "size": lower(list(value.shape)), "data": data}
    raise CheckpointError(f"a {type(value).__name__}, for which Julia's files have no place")


def shape_of(kind: Type, size: Any, length: int) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """The shape and dtype of an array of `length` bytes; ValueError where they do not agree."""
    dtype = kind.dtype
    if dtype is None:
        raise ValueError(f"an array of {kind}, which is no plain number")
    if not isinstance(size, list) or len(size) > _MOST_RANK or not all(whole(n) and n >= 0 for n in size):
        raise ValueError(f"an array of size {brief(size)}, not a list of at most {_MOST_RANK} whole numbers from 0 up")
    shape = tuple(int(number) for number in size)
    if math.prod(shape) * dtype.itemsize != length:
        raise ValueError(f"size {list(shape)} of {kind} takes {math.prod(shape) * dtype.itemsize} bytes, not {length}")
    return shape, dtype


def whole(item: Any) -> bool:
    """Whether it is an integer, and no Bool."""
    return isinstance(item, int) and not isinstance(item, bool)


def checked(text: str) -> str:
    """The text, if it can be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise CheckpointError(f"{text!r}, which is no Unicode text") from None
    return str(text)


def repeated(items: list[Any]) -> Any:
    """The first item that was there before."""
    seen: set[Any] = set()
    return next(item for item in items if item in seen or seen.add(item))  # type: ignore[func-returns-value]


def brief(item: Any) -> str:
    """The item for a message: on one line, and not too long."""
    return messages.brief(item, _MOST_SHOWN)


def _little(items: Array) -> Array:
    return items.astype(items.dtype.newbyteorder("<"), copy=False)
