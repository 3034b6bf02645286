"""The BSON-compatible npz: what Julia's `npzread` reads as `BSON.load` would a `.tfbson`.

Members: `config` and `vocab` (UTF-8 bytes as uint8), `spiece` (the SentencePiece model's bytes), `weights/<variable>`
in Julia's orientation (TensorFlow's, transposed; a vector of n is 1 x n) and column-major, so that the raw bytes are
TensorFlow's own. Read with numpy, without pickle; written member by member.
"""

from __future__ import annotations

import functools
import math
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.lib import format as npy

from converters import variables
from converters.buffer_pool import empty
from converters.checkpoint import Array, Checkpoint, Tensor, blocks, fill, raw
from converters.config import dump_json, parse_json
from converters.dialects import config_from_json, to_google
from converters.errors import CorruptError
from converters.families import families
from converters.files import SMALL_FILE_BYTES, Bounded, file_errors, open_regular
from converters.formats import tf
from converters.names import Layout, Row, T
from converters.tokenizers.files import TokenizerFiles

NAME = "npz"
DESCRIPTION = "Julia-readable .npz with the members of a BSON file (config, weights, vocab)"
OURS = None
SUFFIXES = (".npz",)
# NPZ.jl knows no bfloat16.
DTYPES = (np.dtype(np.float32), np.dtype(np.float16))

_WEIGHTS = "weights/"
_TEXTS = ("config", "vocab", "spiece", "wordpiece")
_OTHER_DTYPES = (np.dtype(np.int64), np.dtype(np.int32), np.dtype(np.uint8))
_READ_BYTES = 1 << 22
# The lengths of the name and of the extra field end the header before a member's bytes.
_LOCAL_HEADER = struct.Struct("<26xHH")
_ZIP64_FROM = 1 << 31
_MOST_EXPANSION = 200
# What zipfile raises for a damaged, encrypted or hostile archive.
_ZIP_FAULTS = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OverflowError, RuntimeError, ValueError)
# Fixed, so that the same model gives the same bytes.
_DATE = (1980, 1, 1, 0, 0, 0)


# Julia's orientation of TensorFlow's arrays: a matrix is transposed, a vector of n becomes 1 x n (and n is read too).
_MATRIX = T
_VECTOR = Layout(lambda array, config: array.reshape(-1), lambda array, config: array.reshape(1, -1))
_FAMILY = families()["albert"]


def julia(row: Row) -> Layout:
    """How Julia's files hold a row's TensorFlow variable."""
    return _VECTOR if _FAMILY.ranks[row.canonical] == 1 else _MATRIX


NAMES = _FAMILY.google.within(julia, _WEIGHTS)


def recognises(path: Path) -> bool:
    if not path.is_file():
        return False
    with file_errors(path), open_regular(path) as file:
        begins = file.read(2) == b"PK"  # others may end as one, such as a .tar of one
    if not begins or not zipfile.is_zipfile(path):
        return path.suffix.lower() in SUFFIXES  # damaged
    with _archive(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(".npy")]
    return any(name == "config.npy" or name.startswith(_WEIGHTS) for name in names)


def fits_target(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def read(path: Path) -> Checkpoint:
    members = _members(path)
    if "config" not in members:
        raise CorruptError(path, "no member 'config'; this is another kind of .npz")
    where = f"{path} member config"
    data, settings = variables.split_settings(parse_json(_text(members, "config", path), where))
    config = config_from_json(data, where, dialect="google")
    spiece, vocab, wordpiece = (
        _text(members, name, path) if name in members else None for name in ("spiece", "vocab", "wordpiece")
    )
    step = members.pop(_WEIGHTS + tf.STEP, None)
    weights = {name: tensor for name, tensor in members.items() if name not in _TEXTS}
    canonical = variables.to_canonical(weights, NAMES, config, str(path))
    return Checkpoint(
        config=config,
        tensors=canonical.tensors,
        tokenizer=TokenizerFiles.of(
            str(path),
            spiece=spiece,
            vocab=None if vocab is None else vocab + b"\n",  # lines are joined by \n, files end with one
            wordpiece=wordpiece,
            settings=settings,
            origin=f"member {'spiece' if spiece else 'vocab' if vocab else 'wordpiece'}",
        ),
        optimizer=canonical.optimizer,
        global_step=None if step is None else tf.scalar(step, tf.STEP, str(path)),
        dropped=canonical.dropped,
        format=NAME,
        where=str(path),
    )


def write(checkpoint: Checkpoint, path: Path) -> None:
    tokenizer = checkpoint.tokenizer
    texts = {
        "config": dump_json(to_google(checkpoint.config) | tokenizer.settings),
        "vocab": (tokenizer.lines() or b"").removesuffix(b"\n") or None,
        "spiece": tokenizer.spiece,
        "wordpiece": tokenizer.wordpiece,
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, text in texts.items():
            if text is not None:
                _write_member(archive, name, np.frombuffer(text, np.uint8))
        for name, tensor in variables.to_foreign(checkpoint, NAMES).items():
            _write_member(archive, name, tensor.read())
        if checkpoint.global_step is not None:
            _write_member(archive, _WEIGHTS + tf.STEP, np.asarray(checkpoint.global_step, np.int64))


def notes(checkpoint: Checkpoint) -> list[str]:
    """What a reader of the written file should know."""
    return checkpoint.tokenizer.notes_for_google()


def _write_member(archive: zipfile.ZipFile, name: str, array: Array) -> None:
    """One .npy member, column-major when it has rows and columns; streamed in blocks."""
    info = zipfile.ZipInfo(name + ".npy", _DATE)
    info.create_system = 3
    header = {"descr": npy.dtype_to_descr(array.dtype), "fortran_order": array.ndim > 1, "shape": array.shape}
    with archive.open(info, "w", force_zip64=array.nbytes > _ZIP64_FROM) as member:
        npy.write_array_header_1_0(member, header)
        for block in blocks(array.T):
            member.write(raw(block))


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with file_errors(path), open_regular(path) as file, zipfile.ZipFile(Bounded(file, path)) as archive:
            yield archive
    except _ZIP_FAULTS as error:
        raise CorruptError(path, f"not a sound .npz ({error})") from None


def _members(path: Path) -> dict[str, Tensor]:
    """The arrays of an archive by member name, none of them read; every oddity of the archive is refused here."""
    tensors: dict[str, Tensor] = {}
    with _archive(path) as archive:
        total = sum(info.file_size for info in archive.infolist())
        if total > _MOST_EXPANSION * path.stat().st_size + SMALL_FILE_BYTES:
            raise CorruptError(path, f"unpacks to {total} bytes from {path.stat().st_size}, which no weights do")
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy")
            if name == info.filename or ".." in name.split("/") or name.startswith("/") or "\\" in name:
                raise CorruptError(path, f"member {info.filename!r} is not a plain .npy name")
            if info.flag_bits & 1:
                raise CorruptError(path, f"member {info.filename!r} is encrypted; save it without a password")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise CorruptError(path, f"member {info.filename!r} is not compressed as numpy does; save it anew")
            if name in tensors:
                raise CorruptError(path, f"member {info.filename!r} occurs twice")
            tensors[name] = _member(path, archive, info)
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
        _fill_stored(array, path, info, start)
    else:
        target = raw(array)
        with _archive(path) as archive, archive.open(info) as member:
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


def _fill_stored(array: Array, path: Path, info: zipfile.ZipInfo, start: int) -> None:
    """Read an uncompressed member straight from the file, several times as fast as through zipfile (APPNOTE 4.3.7)."""
    with file_errors(path), open_regular(path) as file:
        file.seek(info.header_offset)
        local = file.read(_LOCAL_HEADER.size)
        name_length, extra_length = _LOCAL_HEADER.unpack(local) if len(local) == _LOCAL_HEADER.size else (0, 0)
        offset = info.header_offset + _LOCAL_HEADER.size + name_length + extra_length
        file.seek(offset)
        crc = zlib.crc32(file.read(start))
    member = f"member {info.filename}"
    if fill(array, path, offset + start, member, lambda piece, crc: zlib.crc32(piece.data, crc), crc) != info.CRC:
        raise CorruptError(path, f"{member} is damaged (its CRC-32 does not match)")


def _text(members: dict[str, Tensor], name: str, path: Path) -> bytes:
    tensor = members[name]
    if tensor.dtype != np.uint8 or len(tensor.shape) != 1 or tensor.nbytes > SMALL_FILE_BYTES:
        raise CorruptError(f"{path} member {name}", f"{tensor.dtype.name}{list(tensor.shape)}, not a row of bytes")
    return tensor.read().tobytes()
