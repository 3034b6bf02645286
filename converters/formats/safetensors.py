"""Hugging Face directory: `config.json`, `model.safetensors` (or shards with an index), `spiece.model`.

Read through the safetensors library's own checks of the header, then tensor by tensor; written tensor by tensor, so
that no more than one array is in memory (format: README of huggingface/safetensors).
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from converters import hf_directory
from converters.buffer_pool import empty
from converters.checkpoint import FLOATS, Array, Checkpoint, Tensor, blocks, fill, raw
from converters.choices import NONE, Choices
from converters.config import parse_json
from converters.errors import CorruptError
from converters.family import Family
from converters.files import file_errors, open_regular
from converters.libraries import require_library
from converters.limits import HEADER_BYTES, json_fault

NAME = "safetensors"
DESCRIPTION = "Hugging Face directory (config.json, model.safetensors, spiece.model)"
DTYPES = FLOATS
OURS: re.Pattern[str] | None = hf_directory.OURS
SUFFIXES: tuple[str, ...] = ()
TAKES: frozenset[str] = frozenset()
WRITES = True
HOLDS_SENTENCE_FILES = True

_WEIGHTS, _OPTIMIZER = hf_directory.SAFETENSORS[0], "optimizer.safetensors"
_CODES: Mapping[str, np.dtype[Any]] = {
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F64": np.dtype(np.float64),
    "I64": np.dtype(np.int64),  # the position_ids buffer
}
_CODE_OF = {dtype: code for code, dtype in _CODES.items()}


def recognises(path: Path) -> bool:
    if path.is_dir():
        return hf_directory.holds_safetensors(path)
    return path.is_file() and path.suffix.lower() == ".safetensors"


def fits_target(path: Path) -> bool:
    return False  # a bare directory is this format's by default: see convert.target_format


def place(path: Path) -> Path:
    return path


def holds(family: Family) -> bool:
    return True


def read(path: Path, choices: Choices = NONE) -> Checkpoint:
    kind = hf_directory.Weights(NAME, hf_directory.SAFETENSORS, _OPTIMIZER, _read_file)
    checkpoint = hf_directory.read_directory(path, kind)
    if not (path.is_dir() and hf_directory.holds_pickles(path)):
        return checkpoint
    beside = f"{hf_directory.PICKLES[0]} beside {_WEIGHTS} (--from torch reads it)"
    return dataclasses.replace(checkpoint, dropped=dict(checkpoint.dropped) | {beside: 1})


def write(checkpoint: Checkpoint, path: Path) -> None:
    metadata = {"format": "pt"}
    if checkpoint.global_step is not None:
        metadata["global_step"] = str(checkpoint.global_step)
    _write_file(checkpoint.tensors, path / _WEIGHTS, metadata)
    if checkpoint.optimizer:
        _write_file(checkpoint.optimizer, path / _OPTIMIZER, {"format": "pt"})
    hf_directory.write_beside(checkpoint, path)


def notes(checkpoint: Checkpoint) -> Sequence[str]:
    return ()


def _read_file(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and metadata of one file; the library checks the header, offsets and sizes."""
    require_library("safetensors", "reading safetensors")
    import safetensors

    with file_errors(path), open_regular(path) as file:
        prefix = file.read(8)
        length = int.from_bytes(prefix, "little")
        if HEADER_BYTES < length <= path.stat().st_size:
            raise CorruptError(path, f"a header of {length} bytes, over the limit of {HEADER_BYTES}")
        text = file.read(length) if length <= HEADER_BYTES else b""
    if fault := json_fault(text):
        raise CorruptError(path, f"not a sound safetensors file ({fault})")
    try:
        with safetensors.safe_open(path, framework="np") as checked:
            metadata = dict(checked.metadata() or {})
    except (safetensors.SafetensorError, UnicodeDecodeError) as error:
        raise CorruptError(path, f"not a sound safetensors file ({error})") from None
    header = parse_json(text, str(path))
    header.pop("__metadata__", None)
    start = 8 + length
    tensors = {}
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        if entry["dtype"] not in _CODES:
            raise CorruptError(path, f"tensor {name} is {entry['dtype']}, not one of {', '.join(_CODES)}")
        dtype, shape = _CODES[entry["dtype"]], tuple(entry["shape"])
        tensors[name] = Tensor(
            shape, dtype, functools.partial(_load, path, name, start + entry["data_offsets"][0], shape, dtype)
        )
    return tensors, metadata


def _load(path: Path, name: str, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    array = empty(shape, dtype)
    fill(array, path, offset, f"tensor {name}")
    return array


def _write_file(tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    offset = 0
    for name, tensor in tensors.items():
        header[name] = {
            "dtype": _CODE_OF[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + tensor.nbytes],
        }
        offset += tensor.nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the data starts on a multiple of 8, as the library's own writer has it
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            for block in blocks(tensor.read()):
                file.write(raw(block))
