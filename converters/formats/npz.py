"""The BSON-compatible npz: what Julia's `npzread` reads as `BSON.load` would a `.tfbson`.

Members: `config` and `vocab` (UTF-8 bytes as uint8), the bytes of the tokenizer's files (`spiece`, the SentencePiece
model; `wordpiece`; `vocab_json` and `merges` of a byte-level BPE), `weights/<variable>`
in Julia's orientation (TensorFlow's, transposed; a vector of n is 1 x n) and column-major, so that the raw bytes are
TensorFlow's own. Read with numpy, without pickle; written member by member.
"""

from __future__ import annotations

import functools
import io
import itertools
import math
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.lib import format as npy

from converters import families, google, variables, zip_members
from converters.buffer_pool import empty
from converters.checkpoint import Array, Checkpoint, Tensor, blocks, raw
from converters.choices import NONE, Choices
from converters.config import dump_json
from converters.errors import CorruptError
from converters.family import Family
from converters.files import SMALL_FILE_BYTES, file_errors, open_regular
from converters.julia import layout
from converters.tokenizers.files import TokenizerFiles

NAME = "npz"
DESCRIPTION = "Julia-readable .npz with the members of a BSON file (config, weights, vocab)"
OURS: re.Pattern[str] | None = None
SUFFIXES: tuple[str, ...] = (".npz",)
TAKES: frozenset[str] = frozenset()
WRITES = True
HOLDS_SENTENCE_FILES = False
# NPZ.jl knows no bfloat16.
DTYPES: tuple[np.dtype[Any], ...] = (np.dtype(np.float32), np.dtype(np.float16))

_WEIGHTS = "weights/"
_TEXTS = ("config", "vocab", "spiece", "wordpiece", "vocab_json", "merges")
_OTHER_DTYPES: tuple[np.dtype[Any], ...] = (np.dtype(np.int64), np.dtype(np.int32), np.dtype(np.uint8))
_READ_BYTES = 1 << 22
_MOST_EXPANSION = 200
_KIND = ".npz"  # in "not a sound .npz"


def recognises(path: Path) -> bool:
    if not path.is_file():
        return False
    with file_errors(path), open_regular(path) as file:
        begins = file.read(2) == b"PK"  # others may end as one, such as a .tar of one
    if not begins:
        return path.suffix.lower() in SUFFIXES
    try:
        with zip_members.opened(path, _KIND) as archive:
            names = [name for name in archive.namelist() if name.endswith(".npy")]
    except CorruptError:
        return path.suffix.lower() in SUFFIXES
    return any(name == "config.npy" or name.startswith(_WEIGHTS) for name in names)


def fits_target(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def place(path: Path) -> Path:
    return path


def holds(family: Family) -> bool:
    return True


def read(path: Path, choices: Choices = NONE) -> Checkpoint:
    members = _members(path)
    if "config" not in members:
        raise CorruptError(path, "no member 'config'; this is another kind of .npz")
    weights = {name: tensor for name, tensor in members.items() if name not in _TEXTS}
    own = [name.removeprefix(_WEIGHTS) for name in weights]
    settled, settings = google.parse_config(_text(members, "config", path), f"{path} member config", own)
    parts: dict[str, Any] = {name: _text(members, name, path) for name in _TEXTS[1:] if name in members}
    if "vocab" in parts:
        parts["vocab"] += b"\n"  # lines are joined by \n, files end with one
    tokenizer = TokenizerFiles.of(
        str(path),
        **parts,
        settings=settings,
        table=families.family_of(settled).tokenizer,
        origin={name: f"member {name}" for name in _TEXTS},
    )
    step = weights.pop(_WEIGHTS + variables.STEP, None)
    names = layout.names(settled, variables.components_of(own, settled), _WEIGHTS)
    return variables.to_canonical(weights, names, settled, str(path)).checkpoint(NAME, tokenizer, step)


def write(checkpoint: Checkpoint, path: Path) -> None:
    tokenizer = checkpoint.tokenizer
    texts = {
        "config": dump_json(google.config_of(checkpoint)),
        "vocab": (tokenizer.lines() or b"").removesuffix(b"\n") or None,
        "spiece": tokenizer.spiece,
        "wordpiece": tokenizer.wordpiece,
        "vocab_json": tokenizer.vocab_json,
        "merges": tokenizer.merges,
    }
    with open(path, "wb") as file:
        archive = zip_members.Archive(file)
        for name, text in texts.items():
            if text is not None:
                _write_member(archive, name, np.frombuffer(text, np.uint8))
        names = layout.names(checkpoint.config, checkpoint.components, _WEIGHTS)
        weights = variables.to_foreign(checkpoint, names) | variables.step_of(checkpoint, _WEIGHTS)
        for name, tensor in weights.items():
            _write_member(archive, name, tensor.read())
        archive.finish()


def notes(checkpoint: Checkpoint) -> Sequence[str]:
    return checkpoint.tokenizer.notes_for_google()


def _write_member(archive: zip_members.Archive, name: str, array: Array) -> None:
    """One .npy member, column-major when it has rows and columns; streamed in blocks."""
    head = io.BytesIO()
    header = {"descr": npy.dtype_to_descr(array.dtype), "fortran_order": array.ndim > 1, "shape": array.shape}
    npy.write_array_header_1_0(head, header)
    pieces = itertools.chain([head.getbuffer()], map(raw, blocks(array.T)))
    archive.add(name + ".npy", pieces, size=len(head.getbuffer()) + array.nbytes, mode=0o600)


def _members(path: Path) -> dict[str, Tensor]:
    """The arrays of an archive by member name, none of them read; every oddity of the archive is refused here."""
    tensors: dict[str, Tensor] = {}
    with zip_members.opened(path, _KIND) as archive:
        infos = archive.infolist()
        for info in infos:
            name = info.filename.removesuffix(".npy")
            if name == info.filename or ".." in name.split("/") or name.startswith("/") or "\\" in name:
                raise CorruptError(path, f"member {info.filename!r} is not a plain .npy name")
        zip_members.check_names(path, infos)
        zip_members.check_members(path, infos, most=_MOST_EXPANSION * path.stat().st_size + SMALL_FILE_BYTES)
        for info in infos:
            tensors[info.filename.removesuffix(".npy")] = _member(path, archive, info)
    return tensors


def _member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Tensor:
    where = f"{path} member {info.filename}"
    with archive.open(info) as member:
        try:
            version = npy.read_magic(member)
            read_header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
            shape, fortran, dtype = read_header(member)
        except (ValueError, KeyError, SyntaxError, TokenError, RecursionError) as error:
            raise CorruptError(where, f"not a sound .npy array ({error})") from None
        start = member.tell()
    if dtype.hasobject:
        raise CorruptError(where, "holds pickled objects, which are never read")
    if dtype.newbyteorder("=") not in (*DTYPES, *_OTHER_DTYPES):
        raise CorruptError(where, f"holds {dtype}, not float32, float16, int64 or bytes")
    if any(size < 0 for size in shape) or start + math.prod(shape) * dtype.itemsize != info.file_size:
        raise CorruptError(where, f"shape {list(shape)} does not match its {info.file_size - start} bytes")
    return Tensor(shape, dtype.newbyteorder("="), functools.partial(_load, path, info, start, shape, fortran, dtype))


def _load(
    path: Path, info: zipfile.ZipInfo, start: int, shape: tuple[int, ...], fortran: bool, dtype: np.dtype[Any]
) -> Array:
    """The array of one member; the archive's CRC-32 is checked on the way."""
    array = empty(shape[::-1] if fortran else shape, dtype)
    if info.compress_type == zipfile.ZIP_STORED:
        zip_members.fill_stored(array, path, info, start, f"member {info.filename}")
    else:
        target = raw(array)
        with zip_members.opened(path, _KIND) as archive, archive.open(info) as member:
            member.read(start)
            for begin in range(0, len(target), _READ_BYTES):
                piece = target[begin : begin + _READ_BYTES]
                data = member.read(len(piece))
                if len(data) != len(piece):
                    raise CorruptError(path, f"truncated inside member {info.filename}")
                piece[:] = data
            if member.read(1):
                raise CorruptError(path, f"member {info.filename} is longer than its array")
    array = array.astype(dtype.newbyteorder("="), copy=False)
    return array.T if fortran else array


def _text(members: dict[str, Tensor], name: str, path: Path) -> bytes:
    tensor = members[name]
    if tensor.dtype != np.uint8 or len(tensor.shape) != 1 or tensor.nbytes > SMALL_FILE_BYTES:
        raise CorruptError(f"{path} member {name}", f"{tensor.dtype.name}{list(tensor.shape)}, not a row of bytes")
    return tensor.read().tobytes()
