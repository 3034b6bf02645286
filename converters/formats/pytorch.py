"""Hugging Face directory as PyTorch alone writes it: `config.json`, `pytorch_model.bin` (or shards), `spiece.model`.

The file is a pickle, of which `torch.load(weights_only=True)` interprets tensors, dictionaries and plain values, and
refuses all else; it is asked for the places of the tensors only (`map_location="meta"`). The arrays are then read
straight from the file when wanted, their CRC-32 checked on the way. Files from before PyTorch 1.6 are no zip archives
and are read at once. Written by `torch.save`, so the whole model is in memory once.
"""

from __future__ import annotations

import functools
import math
import pickle
import re
import struct
import sys
import warnings
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from converters import hf_directory, zip_members
from converters.buffer_pool import empty
from converters.checkpoint import FLOATS, Array, Checkpoint, Tensor, copy_into, fill
from converters.choices import NONE, Choices
from converters.errors import CorruptError, MissingLibraryError, TargetError
from converters.family import Family
from converters.files import SMALL_FILE_BYTES, file_errors, open_regular
from converters.libraries import require_library

if TYPE_CHECKING:
    import torch

NAME = "torch"
DESCRIPTION = "Hugging Face directory of older date (config.json, pytorch_model.bin, spiece.model)"
DTYPES = FLOATS
OURS: re.Pattern[str] | None = hf_directory.OURS
SUFFIXES: tuple[str, ...] = ()
TAKES: frozenset[str] = frozenset()
HOLDS_SENTENCE_FILES = True

_WEIGHTS = hf_directory.PICKLES[0]
_OPTIMIZER = "optimizer_slots.bin"  # accelerate has an optimizer.bin of its own
_FILES = (".bin", ".pt", ".pth")
_DTYPES: Mapping[str, np.dtype[Any]] = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float64": np.dtype(np.float64),
    "int64": np.dtype(np.int64),  # the position_ids buffer
}

# With older ones a file could run code of its own in spite of weights_only (CVE-2025-32434, CVE-2026-24747).
_SAFE_FROM = (2, 10)
_MOST_MEMBERS = 100_000
_KIND = "PyTorch file"  # in "not a sound PyTorch file"
_LEGACY_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # torch.serialization.MAGIC_NUMBER, pickled


def recognises(path: Path) -> bool:
    if path.is_dir():
        # Where both are, safetensors is what every other program loads.
        return hf_directory.holds_pickles(path) and not hf_directory.holds_safetensors(path)
    if not path.is_file():
        return False
    with file_errors(path), open_regular(path) as file:
        start = file.read(2 + len(_LEGACY_MAGIC))
    if path.suffix.lower() in _FILES:  # damaged ones too, but no document of BSON, which begins with its own length
        return int.from_bytes(start[:4], "little") != path.stat().st_size
    if start[:4] != b"PK\3\4":
        return start[2:] == _LEGACY_MAGIC
    try:
        with zip_members.opened(path, _KIND) as archive:
            return any(name.endswith("/data.pkl") for name in archive.namelist())
    except CorruptError:
        return False


def fits_target(path: Path) -> bool:
    return False


def place(path: Path) -> Path:
    """The directory to write; a name of one file is refused."""
    if path.suffix.lower() in _FILES and not path.is_dir():
        raise TargetError(path, f"{NAME} is a directory of {_WEIGHTS}, config.json and tokenizer; name a directory")
    return path


def holds(family: Family) -> bool:
    return True


def read(path: Path, choices: Choices = NONE) -> Checkpoint:
    kind = hf_directory.Weights(NAME, hf_directory.PICKLES, _OPTIMIZER, _read_file)
    return hf_directory.read_directory(path, kind)


def write(checkpoint: Checkpoint, path: Path) -> None:
    _save(checkpoint.tensors, path / _WEIGHTS, checkpoint.global_step)
    if checkpoint.optimizer:
        _save(checkpoint.optimizer, path / _OPTIMIZER)
    hf_directory.write_beside(checkpoint, path)


def notes(checkpoint: Checkpoint) -> Sequence[str]:
    return ()


def _read_file(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of one file, and the training step in `_metadata`, the attribute that PyTorch's state dicts have."""
    require_library("torch", "reading a PyTorch file")
    import torch

    version = tuple(int(number) for number in re.findall(r"\d+", torch.__version__)[:2])
    if version < _SAFE_FROM:
        raise MissingLibraryError(
            path,
            f"a pickle, which PyTorch reads safely from version {'.'.join(map(str, _SAFE_FROM))} on, and "
            f"{torch.__version__} is installed (CVE-2026-24747): pip install --upgrade torch",
        )
    with file_errors(path), open_regular(path) as file:
        members = _members(path) if file.read(4) == b"PK\3\4" else None
    state = _unpickled(path, lazy=members is not None)
    if not isinstance(state, dict) or not state:
        raise CorruptError(path, f"holds a {type(state).__name__}, not tensors by name; save a model's state_dict()")
    others = [name for name, value in state.items() if not (isinstance(name, str) and isinstance(value, torch.Tensor))]
    if others:
        inner = [name for name in others if isinstance(state[name], dict)]
        hint = f"; if the model is in {inner[0]!r}, save that alone" if inner else ""
        raise CorruptError(path, f"{others[0]!r} is a {type(state[others[0]]).__name__}, not a tensor{hint}")
    tensors = {name: _tensor(path, name, value, members) for name, value in state.items()}
    step = _noted_step(getattr(state, "_metadata", None))
    return tensors, {} if step is None else {"global_step": str(step)}


def _noted_step(metadata: Any) -> Any:
    own = metadata.get("") if isinstance(metadata, dict) else None
    return own.get("global_step") if isinstance(own, dict) else None


def _unpickled(path: Path, *, lazy: bool) -> Any:
    """What the file holds; lazy: tensors without values, which know their places in the file."""
    import torch

    try:
        with file_errors(path), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it warns of is an error below, or harmless
            return torch.load(path, map_location="meta" if lazy else "cpu", weights_only=True)
    except MemoryError:
        raise CorruptError(path, "asks for more memory than there is") from None
    except _UNPICKLING_FAULTS as error:
        text = str(error)
        if asked := re.search(r"GLOBAL:? (\S+)", text):
            raise CorruptError(
                path,
                f"holds {asked[1]}, which is neither a tensor nor a plain value, and is never run; save the "
                "model's state_dict() alone",
            ) from None
        # PyTorch's own advice, to load it without weights_only, is the last thing to hand on.
        lines = [line for line in text.splitlines() if line.strip() and "weights_only" not in line]
        reason = lines[0].strip() if lines else type(error).__name__
        raise CorruptError(path, f"not a sound PyTorch file ({reason})") from None


# What torch.load and the unpickler in it raise for a damaged or hostile file.
_UNPICKLING_FAULTS = (
    pickle.UnpicklingError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    RecursionError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)


def _members(path: Path) -> dict[int, zipfile.ZipInfo]:
    """The members of a zip archive by the offset of their first byte.

    What `torch.save` makes and nothing else: plain copies, each once, so that nothing can swell.
    """
    with zip_members.opened(path, _KIND) as archive, file_errors(path), open_regular(path) as file:
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
            # PyTorch 2.13 crashes when it swaps bytes of tensors without values.
            if info.filename.endswith("/byteorder") and archive.read(info) != sys.byteorder.encode():
                raise CorruptError(path, "written on a machine of another byte order", "save it again on a usual one")
        return {zip_members.offset_of(file, info): info for info in infos}


def _tensor(path: Path, name: str, value: torch.Tensor, members: Mapping[int, zipfile.ZipInfo] | None) -> Tensor:
    """One tensor, to be read lazily; every oddity of where and how it lies is refused here."""
    import torch

    kind = str(value.dtype).removeprefix("torch.")
    if kind not in _DTYPES or value.layout is not torch.strided or value.is_neg():
        raise CorruptError(path, f"tensor {name} is {kind}, {value.layout}, not one of {', '.join(_DTYPES)} plainly")
    dtype, shape, strides = _DTYPES[kind], tuple(value.shape), value.stride()
    if members is None:
        return Tensor(shape, dtype, functools.partial(_held, value, dtype))
    offset = getattr(value.untyped_storage(), "_checkpoint_offset", -1)
    info = members.get(offset)
    if info is None:
        raise CorruptError(path, f"tensor {name} has no values in the file")
    first = int(value.storage_offset())
    length = 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True)) if value.numel() else 0
    if (first + length) * dtype.itemsize > info.file_size:
        raise CorruptError(
            path, f"tensor {name} of shape {list(shape)} reaches beyond the {info.file_size} bytes of its storage"
        )
    place = _Place(path, offset, info, first, length, strides)
    return Tensor(shape, dtype, functools.partial(_load, place, name, shape, dtype))


@dataclass(frozen=True)
class _Place:
    """Where a tensor's values lie: `length` elements from the element `first` of a storage, under `strides`."""

    path: Path
    offset: int
    info: zipfile.ZipInfo
    first: int
    length: int
    strides: tuple[int, ...]


def _load(place: _Place, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    flat = empty((place.length,), dtype)
    whole = place.first == 0 and flat.nbytes == place.info.file_size
    where, what = place.offset + place.first * dtype.itemsize, f"tensor {name}"
    if whole:
        crc = fill(flat, place.path, where, what, lambda piece, crc: zlib.crc32(piece.data, crc))
        if crc != place.info.CRC:
            raise CorruptError(place.path, f"{what} is damaged (its CRC-32 does not match)")
    else:
        fill(flat, place.path, where, what)
    if place.length == math.prod(shape) and place.strides == _row_major(shape):
        return flat.reshape(shape)
    return np.lib.stride_tricks.as_strided(flat, shape, [stride * dtype.itemsize for stride in place.strides])


def _row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def _held(value: torch.Tensor, dtype: np.dtype[Any]) -> Array:
    import torch

    value = value.detach()
    if value.dtype == torch.bfloat16:  # numpy has none of its own, so its two bytes cross as int16
        return value.view(torch.int16).numpy().view(dtype)
    array: Array = value.numpy()
    return array


def _save(tensors: Mapping[str, Tensor], path: Path, step: int | None = None) -> None:
    require_library("torch", "writing a PyTorch file")
    import torch

    state: OrderedDict[str, torch.Tensor] = OrderedDict()
    for name, tensor in tensors.items():
        held = np.empty(tensor.shape, tensor.dtype)
        copy_into(held, tensor.read())
        brief = held.dtype == ml_dtypes.bfloat16
        made = torch.from_numpy(held.view(np.int16) if brief else held)
        state[name] = made.view(torch.bfloat16) if brief else made
    if step is not None:
        # Where PyTorch notes the version of a module's own parameters; no loader minds a further key.
        state.__dict__["_metadata"] = OrderedDict([("", {"version": 1, "global_step": step})])
    with open(path, "wb") as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):  # PyTorch hides what the disk said
                raise error.__context__ from None
            raise
