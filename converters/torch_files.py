"""What `torch.save` wrote, read without PyTorch: the zip archives of today and the pickles in a row of before 1.6.

Only tensors and plain values are made of a file, and no code in it is run (`converters.pickles`). Arrays stay in the
file until they are wanted; their CRC-32, where there is one, is checked then.
Layout: PyTorch's torch/serialization.py (`_save`, `_legacy_save`) and torch/_utils.py.
"""

from __future__ import annotations

import functools
import io
import math
import re
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from converters import pickles, zip_members
from converters.buffer_pool import empty
from converters.checkpoint import Array, Tensor, fill
from converters.errors import CorruptError
from converters.files import SMALL_FILE_BYTES, file_errors, open_regular
from converters.messages import brief, escaped, shortened
from converters.pickles import Dictionary, Global

_DTYPES: Mapping[str, np.dtype[Any]] = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float64": np.dtype(np.float64),
    "int64": np.dtype(np.int64),  # the position_ids buffer
}
# The kinds of storages: what they are called, what PyTorch calls their elements, and the bytes of one.
_STORAGES: Mapping[str, tuple[str, int]] = {
    "Float": ("float32", 4),
    "Half": ("float16", 2),
    "BFloat16": ("bfloat16", 2),
    "Double": ("float64", 8),
    "Long": ("int64", 8),
    "Int": ("int32", 4),
    "Short": ("int16", 2),
    "Char": ("int8", 1),
    "Byte": ("uint8", 1),
    "Bool": ("bool", 1),
    "ComplexFloat": ("complex64", 8),
    "ComplexDouble": ("complex128", 16),
    "Untyped": ("bytes", 1),
}
_STORAGE = re.compile(r"torch\.(?:cuda\.|storage\.)?(\w+)Storage")
_DTYPE = re.compile(r"torch\.(float|bfloat|u?int|complex)\d+|torch\.bool")

_MOST_MEMBERS = 100_000
_MOST_AXES = 8
_MOST_SHOWN, _MOST_CHARACTERS = 120, 1000
_MOST_SIZE = 2**40
# A tensor of more elements than lie in the file repeats them; a large one would never end.
_MOST_REPEATED = 2**20
_PIECE_BYTES = 2**20
KIND = "PyTorch file"  # in "not a sound PyTorch file"
_ZIP = b"PK\3\4"
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_BEGINS = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # _MAGIC pickled, after the two bytes of the pickle's own version
ADVICE = "save the model's state_dict() alone"
_OTHER_ORDER = ("written on a machine of another byte order", "save it again on a usual one")


@dataclass(frozen=True)
class Storage:
    """The elements of tensors, in the file under `key`; `kind` is PyTorch's name of their dtype."""

    key: str
    kind: str
    offset: int = 0


@dataclass(frozen=True)
class Stored:
    """A tensor as it is pickled. `oddity`: what it is where it is no plain tensor."""

    kind: str
    storage: Storage | None
    first: int = 0
    shape: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    oddity: str = ""


@dataclass
class _Place:
    """Where a storage lies in the file; `crc` is the CRC-32 of all of it, if it has one that is still to be checked."""

    offset: int
    nbytes: int
    crc: int | None = None

    def check(self, path: Path, what: str) -> None:
        """Read all of the storage, once; CorruptError where its CRC-32 is another."""
        piece = np.empty(min(self.nbytes, _PIECE_BYTES), np.uint8)
        crc = 0
        for start in range(0, self.nbytes, _PIECE_BYTES):
            part = piece[: self.nbytes - start]
            crc = fill(part, path, self.offset + start, what, lambda piece, crc: zlib.crc32(piece.data, crc), crc)
        self.found(crc, path, what)

    def found(self, crc: int, path: Path, what: str) -> None:
        if self.crc not in (None, crc):
            raise CorruptError(path, f"{what} is damaged (its CRC-32 does not match)")
        self.crc = None


@dataclass(frozen=True)
class TorchFile:
    """What a file holds: `value`, in which tensors are `Stored`."""

    path: Path
    value: Any
    places: Mapping[str, _Place]

    def tensor(self, name: str, stored: Stored) -> Tensor:
        """One tensor, to be read lazily; every oddity of where and how it lies is refused here."""
        called = f"tensor {shortened(escaped(name), _MOST_SHOWN)}"
        dtype = _DTYPES.get(stored.kind)
        if dtype is None or stored.oddity:
            known = ", ".join(_DTYPES)
            raise CorruptError(self.path, f"{called} is {stored.oddity or stored.kind}, not plainly one of {known}")
        place = None if stored.storage is None else self.places.get(stored.storage.key)
        if stored.storage is None or place is None:
            raise CorruptError(self.path, f"{called} has no values in the file")
        shape, strides = stored.shape, stored.strides
        count = math.prod(shape)
        length = 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True)) if count else 0
        first = stored.first + stored.storage.offset
        if (first + length) * dtype.itemsize > place.nbytes:
            what = f"{called} of shape {list(shape)} reaches beyond the {place.nbytes} bytes of its storage"
            raise CorruptError(self.path, what)
        if count > max(length, _MOST_REPEATED):
            what = f"{called} of shape {list(shape)} repeats the {length} elements that it has in the file"
            raise CorruptError(self.path, what, "save a copy of it (torch.Tensor.contiguous)")
        lies = _Lies(self.path, place, first, length, strides)
        return Tensor(shape, dtype, functools.partial(_load, lies, called, shape, dtype))

    def tensors(self, value: Mapping[Any, Any], inside: str = "") -> dict[str, Tensor]:
        """A state dict's tensors by name; CorruptError where anything else is among them."""
        for name, item in value.items():
            if isinstance(name, str) and len(name) > _MOST_CHARACTERS:
                what = f"a tensor's name of {len(name)} characters begins {brief(name)}"
                raise CorruptError(self.path, f"{what}; none has more than {_MOST_CHARACTERS}")
            if not (isinstance(name, str) and isinstance(item, Stored)):
                inner = isinstance(item, dict) and not inside
                hint = f"; if the model is in {brief(name)}, save that alone" if inner else ""
                what = f"{brief(name)}{f' of {inside}' if inside else ''}"
                raise CorruptError(self.path, f"{what} is a {kind_of(item)}, not a tensor{hint}")
        return {name: self.tensor(name, item) for name, item in value.items()}


def begins_as_one(path: Path) -> bool:
    """Whether a file is one of PyTorch's by its first bytes, or by the names of its members."""
    with file_errors(path), open_regular(path) as file:
        start = file.read(2 + len(_BEGINS))
    if not start.startswith(_ZIP):
        return start[2:] == _BEGINS
    try:
        with zip_members.opened(path, KIND) as archive:
            return any(name.endswith("/data.pkl") for name in archive.namelist())
    except CorruptError:
        return False


def read(path: Path, *, records: bool = False) -> TorchFile:
    """What is in a file, its arrays unread; `records`: objects of other classes become records of them.

    Raises CorruptError for a file that is damaged, or holds what could run code, or with no `records` any object.
    """
    try:
        with file_errors(path), open_regular(path) as file:
            is_zip = file.read(len(_ZIP)) == _ZIP
        return _read_zip(path, records) if is_zip else _read_legacy(path, records)
    except pickles.RefusedNameError as error:
        name = shortened(escaped(error.name), _MOST_SHOWN)
        what = f"holds {name}, which is neither a tensor nor a plain value, and is never run"
        raise CorruptError(path, what, ADVICE) from None
    except pickles.FAULTS as error:
        reason = str(error).strip() or type(error).__name__
        raise CorruptError(path, f"not a sound {KIND} ({shortened(escaped(reason), _MOST_SHOWN)})") from None


def kind_of(value: object) -> str:
    """What a value of a file is, for messages."""
    if isinstance(value, pickles.Record):
        return shortened(escaped(value.made_by), _MOST_SHOWN)
    names = {Stored: "Tensor", Dictionary: "dict", Global: "name of a class"}
    return names.get(type(value), type(value).__name__)


# --- the two layouts


def _read_zip(path: Path, records: bool) -> TorchFile:
    """What `torch.save` makes and nothing else: plain copies, each once, so that nothing can swell."""
    with zip_members.opened(path, KIND) as archive, file_errors(path), open_regular(path) as file:
        infos = archive.infolist()
        if len(infos) > _MOST_MEMBERS:
            raise CorruptError(path, f"holds {len(infos)} members, more than any model has")
        zip_members.check_names(path, infos)
        for info in infos:
            member = f"member {info.filename!r}"
            if info.flag_bits & 1 or info.compress_type != zipfile.ZIP_STORED:
                raise CorruptError(path, f"{member} is packed or encrypted, where PyTorch stores plain copies")
            if info.filename.endswith(".pkl") and info.file_size > SMALL_FILE_BYTES:
                raise CorruptError(path, f"{member} has {info.file_size} bytes, which no list of tensors takes")
        for info in infos:
            if info.filename.endswith("/byteorder") and archive.read(info) != sys.byteorder.encode():
                raise CorruptError(path, *_OTHER_ORDER)
        lists = [info for info in infos if re.fullmatch(r"[^/]*/data\.pkl", info.filename)]
        if len(lists) != 1:
            raise CorruptError(path, f"not a sound {KIND} (it has {len(lists)} members called data.pkl)")
        with archive.open(lists[0]) as member_file:
            content = b"".join(iter(lambda: member_file.read(_PIECE_BYTES), b""))
        within = lists[0].filename.removesuffix(".pkl") + "/"
        places = {
            info.filename.removeprefix(within): _Place(zip_members.offset_of(file, info), info.file_size, info.CRC)
            for info in infos
            if info.filename.startswith(within)
        }
    return TorchFile(path, _unpickled(io.BytesIO(content), _Storages(), records), places)


def _read_legacy(path: Path, records: bool) -> TorchFile:
    """Pickles in a row (a magic number, a version, what the machine was, the value, the storages' keys), then those."""
    with file_errors(path), open_regular(path) as file:
        begin = io.BytesIO(file.read(SMALL_FILE_BYTES))
        whole = file.seek(0, io.SEEK_END)
        storages = _Storages()
        if (_unpickled(begin, storages, records), _unpickled(begin, storages, records)) != (_MAGIC, _PROTOCOL):
            raise CorruptError(path, f"not a sound {KIND} (it does not begin as one)")
        machine = _unpickled(begin, storages, records)
        if not isinstance(machine, dict) or machine.get("little_endian") is not (sys.byteorder == "little"):
            raise CorruptError(path, *_OTHER_ORDER)
        value = _unpickled(begin, storages, records)
        keys = _unpickled(begin, storages, records)
        if not isinstance(keys, list) or len(keys) > _MOST_MEMBERS:
            raise CorruptError(path, f"not a sound {KIND} (its storages are no list)")
        places, at = {}, begin.tell()
        for key in keys:
            if not isinstance(key, str) or key not in storages.sizes or key in places:
                raise CorruptError(path, f"not a sound {KIND} (its storages are not those of its tensors)")
            file.seek(at)
            (count,) = struct.unpack("<q", file.read(8))
            nbytes = count * storages.sizes[key]
            if count < 0 or at + 8 + nbytes > whole:
                raise CorruptError(path, f"truncated inside the values of storage {key!r}")
            places[key] = _Place(at + 8, nbytes)
            at += 8 + nbytes
    return TorchFile(path, value, places)


class _Storages:
    """The storages that the tensors of a file name; `sizes`: the bytes of an element of each."""

    def __init__(self) -> None:
        self.sizes: dict[str, int] = {}

    def __call__(self, said: Any) -> Any:
        if not isinstance(said, tuple) or len(said) not in (5, 6) or said[0] != "storage":
            return None  # the source of a module, in old files
        _, made_by, key, _, _, *view = said
        match = _STORAGE.fullmatch(made_by.name) if isinstance(made_by, Global) else None
        if match is None or match[1] not in _STORAGES or not isinstance(key, str):
            raise ValueError("a storage of a kind that is not known")
        kind, size = _STORAGES[match[1]]
        if self.sizes.setdefault(key, size) != size:
            raise ValueError("a storage of two kinds")
        offset = view[0][1] if view and view[0] is not None else 0
        return Storage(key, kind, _sizes([offset])[0])


def _unpickled(file: io.BytesIO, storages: _Storages, records: bool) -> Any:
    def accepts(name: str) -> bool:
        plain = _STORAGE.fullmatch(name) or _DTYPE.fullmatch(name)
        return plain is not None or (records and pickles.is_harmless(name))

    return pickles.load(file, _KNOWN, storages, accepts=accepts)


# --- what is called in a file, and what is done in its place


def _sizes(value: Sequence[Any]) -> tuple[int, ...]:
    found = tuple(value)
    if len(found) > _MOST_AXES or not all(type(size) is int and 0 <= size <= _MOST_SIZE for size in found):
        raise ValueError("a tensor of sizes that none has")
    return found


def _tensor(
    storage: Any, first: Any, shape: Any, strides: Any, grad: Any = None, hooks: Any = None, said: Any = None
) -> Stored:
    return _made(storage, getattr(storage, "kind", ""), first, shape, strides, said)


def _tensor_of_dtype(
    storage: Any, first: Any, shape: Any, strides: Any, grad: Any, hooks: Any, dtype: Any, said: Any = None
) -> Stored:
    return _made(storage, dtype.name.removeprefix("torch."), first, shape, strides, said)


def _made(storage: Any, kind: str, first: Any, shape: Any, strides: Any, said: Any) -> Stored:
    """`said`: PyTorch's notes on how the values are to be taken, such as that they are negated."""
    shape, strides, (first,) = _sizes(shape), _sizes(strides), _sizes([first])
    if not isinstance(storage, Storage) or len(shape) != len(strides):
        raise ValueError("a tensor that is not whole")
    notes = sorted(key for key, value in said.items() if value) if isinstance(said, dict) else []
    return Stored(kind, storage, first, shape, strides, f"{kind} with the mark {notes[0]!r}" if notes else "")


def _of_kind(oddity: str) -> Callable[..., Stored]:
    return lambda *arguments: Stored("", None, oddity=oddity)


def _without_values(dtype: Any, *arguments: Any) -> Stored:
    return Stored(dtype.name.removeprefix("torch."), None)


def _parameter(data: Any, *arguments: Any) -> Any:
    return data


def _dictionary(pairs: Any = ()) -> Dictionary:
    items = pairs.items() if isinstance(pairs, dict) else pairs
    return Dictionary((pickles.hashable(key), value) for key, value in items)


def _defaultdict(factory: Any = None, pairs: Any = ()) -> Dictionary:
    return _dictionary(pairs)


def _set(items: Any = ()) -> set[Any]:
    return set(map(pickles.hashable, items))


def _no_bytes() -> bytes:
    return b""


def _encoded(text: str, encoding: str) -> bytes:
    """Bytes, as the second version of pickles has them."""
    if encoding != "latin1":
        raise ValueError("bytes in an encoding of their own")
    return text.encode("latin-1")


_KNOWN: Mapping[str, Callable[..., Any]] = {
    "collections.OrderedDict": _dictionary,
    "collections.Counter": _dictionary,
    "collections.defaultdict": _defaultdict,
    "builtins.set": _set,
    "builtins.bytes": _no_bytes,
    "builtins.complex": complex,
    "_codecs.encode": _encoded,
    "torch.Size": _sizes,
    "torch.device": lambda *said: ":".join(map(str, said)),
    "torch.serialization._get_layout": lambda name: name,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_of_dtype,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._utils._rebuild_meta_tensor_no_storage": _without_values,
    "torch._utils._rebuild_sparse_tensor": _of_kind("sparse"),
    "torch._utils._rebuild_sparse_csr_tensor": _of_kind("sparse"),
    "torch._utils._rebuild_qtensor": _of_kind("quantized"),
}


# --- values


@dataclass(frozen=True)
class _Lies:
    """Where a tensor's values are: `length` elements from the element `first` of a storage, under `strides`."""

    path: Path
    place: _Place
    first: int
    length: int
    strides: tuple[int, ...]


def _load(lies: _Lies, what: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    flat = empty((lies.length,), dtype)
    where = lies.place.offset + lies.first * dtype.itemsize
    if lies.place.crc is not None and flat.nbytes == lies.place.nbytes:  # all of the storage
        crc = fill(flat, lies.path, where, what, lambda piece, crc: zlib.crc32(piece.data, crc))
        lies.place.found(crc, lies.path, what)
    else:
        if lies.place.crc is not None:  # of a part there is none: what lies around it is read, too
            lies.place.check(lies.path, what)
        fill(flat, lies.path, where, what)
    if lies.length == math.prod(shape) and lies.strides == _row_major(shape):
        return flat.reshape(shape)
    return np.lib.stride_tricks.as_strided(flat, shape, [stride * dtype.itemsize for stride in lies.strides])


def _row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
