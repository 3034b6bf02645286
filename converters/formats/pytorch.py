"""Hugging Face directory as PyTorch alone writes it: `config.json`, `pytorch_model.bin` (or shards), `spiece.model`.

The file is read without PyTorch (`converters.torch_files`), its arrays when they are wanted. It is written by
`torch.save`, so the whole model is in memory once.
"""

from __future__ import annotations

import re
import traceback
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from converters import fairseq, hf_directory, torch_files
from converters.checkpoint import FLOATS, Checkpoint, Tensor, copy_into
from converters.choices import NONE, Choices
from converters.errors import CorruptError, TargetError
from converters.family import Family
from converters.files import file_errors, open_regular
from converters.libraries import require_library

if TYPE_CHECKING:
    import torch

NAME = "torch"
DESCRIPTION = "Hugging Face directory of older date (config.json, pytorch_model.bin, spiece.model)"
DTYPES = FLOATS
OURS: re.Pattern[str] | None = hf_directory.OURS
SUFFIXES: tuple[str, ...] = ()
TAKES: frozenset[str] = frozenset()
WRITES = True
HOLDS_SENTENCE_FILES = True

_WEIGHTS = hf_directory.PICKLES[0]
_OPTIMIZER = "optimizer_slots.bin"  # accelerate has an optimizer.bin of its own
_FILES = (".bin", ".pt", ".pth")


def recognises(path: Path) -> bool:
    if path.is_dir():
        # Where both are, safetensors is what every other program loads.
        return hf_directory.holds_pickles(path) and not hf_directory.holds_safetensors(path)
    if not path.is_file():
        return False
    if path.suffix.lower() in _FILES:  # damaged ones too, but no document of BSON, which begins with its own length
        with file_errors(path), open_regular(path) as file:
            if int.from_bytes(file.read(4), "little") == path.stat().st_size:
                return False
    elif not torch_files.begins_as_one(path):
        return False
    return not fairseq.claims(path)


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
    found = torch_files.read(path)
    state = found.value
    if not isinstance(state, dict) or not state:
        kind = torch_files.kind_of(state)
        raise CorruptError(path, f"holds a {kind}, not tensors by name; save a model's state_dict()")
    step = _noted_step(getattr(state, "state", None))
    return found.tensors(state), {} if step is None else {"global_step": str(step)}


def _noted_step(attributes: Any) -> Any:
    metadata = attributes.get("_metadata") if isinstance(attributes, dict) else None
    own = metadata.get("") if isinstance(metadata, dict) else None
    return own.get("global_step") if isinstance(own, dict) else None


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
        except BaseException as error:
            # PyTorch's writer, if it is still there when the file is closed, ends the process.
            traceback.clear_frames(error.__traceback__)
            if isinstance(error, RuntimeError) and isinstance(error.__context__, OSError):
                raise error.__context__ from None  # PyTorch hides what the disk said
            raise
