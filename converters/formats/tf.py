"""Google's TF1 checkpoint: `albert_config.json`, `model.ckpt-best.{index,data-…}`, `30k-clean.{model,vocab}`.

Read without TensorFlow (tensorflow.bundle); written by TensorFlow's own saver, so that its readers restore it.
Variable names: `converters.families`.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from converters import strangers, variables
from converters.checkpoint import FLOATS, Array, Checkpoint, Tensor, copy_into
from converters.config import dump_json, parse_json
from converters.dialects import config_from_json, notes_for_google, to_google
from converters.errors import PLACE, CheckpointError, FormatError, SpecError, TargetError
from converters.families import families
from converters.files import read_optional, read_small
from converters.libraries import require_library
from converters.tensorflow.bundle import is_index, read_bundle
from converters.tokenizers.settings import tokenizer_beside

NAME = "tf"
_ALIGNMENT = 64
DESCRIPTION = "Google's TF1 checkpoint (albert_config.json, model.ckpt-best.*, 30k-clean.*)"
DTYPES = FLOATS

CONFIG = families()["albert"].config.google_file
_PREFIX = "model.ckpt-best"
_SPIECE, _VOCAB, _WORDPIECE = "30k-clean.model", "30k-clean.vocab", "vocab_chinese.txt"
STEP = "global_step"
OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
OURS = re.compile(
    r"albert_config\.json|checkpoint|model\.ckpt[-\w]*\.(index|meta|data-\d{5}-of-\d{5})"
    r"|30k-clean\.(model|vocab)|vocab_chinese\.txt"
)

_FAMILY = families()["albert"]


def recognises(path: Path) -> bool:
    return bool(_checkpoints(path)) if path.is_dir() else _prefix(path).name in _checkpoints(path.parent)


def fits_target(path: Path) -> bool:
    return path.name.startswith("model.ckpt") or path.suffix.lower() in (".ckpt", ".index")


def place(path: Path) -> Path:
    """The directory to write for a target that may also name the checkpoint in it."""
    if path.is_dir() or not fits_target(path):
        return path
    if path.name.removesuffix(".index") != _PREFIX:
        raise TargetError(path, f"the checkpoint in a directory is always written as {_PREFIX}; name the directory")
    return path.parent


def read(path: Path) -> Checkpoint:
    prefix = _prefix(path)
    directory = prefix.parent
    found = read_bundle(prefix, texts=[OBJECT_GRAPH])
    strangers.refuse(found, str(prefix), kind="variable")
    if OBJECT_GRAPH in found:
        raise SpecError(
            prefix,
            "a TF2 object checkpoint (tf.train.Checkpoint, Keras's save_weights), whose variables have no "
            "names of their own; save the model with tf.saved_model.save, which is read",
        )
    found, notes = _unwrapped(found)
    if not (directory / CONFIG).exists():
        raise CheckpointError(directory, f"no {CONFIG} beside {prefix.name}; copy the model's one there")
    data, settings = variables.split_settings(parse_json(read_small(directory / CONFIG), str(directory / CONFIG)))
    config = config_from_json(data, str(directory / CONFIG), dialect="google")
    step = found.pop(STEP, None)
    canonical = variables.to_canonical(found, _FAMILY.google, config, str(prefix), head=_of_a_head)
    return Checkpoint(
        config=config,
        tensors=canonical.tensors,
        tokenizer=tokenizer_beside(directory, settings),
        optimizer=canonical.optimizer,
        global_step=None if step is None else scalar(step, STEP, str(prefix)),
        dropped=canonical.dropped,
        format=NAME,
        where=str(prefix),
        notes=notes,
    )


def write(checkpoint: Checkpoint, path: Path) -> None:
    require_library("tensorflow", "writing a TensorFlow checkpoint")
    _save(variables.to_foreign(checkpoint, _FAMILY.google), checkpoint.global_step, path / _PREFIX)
    (path / CONFIG).write_bytes(dump_json(to_google(checkpoint.config) | checkpoint.tokenizer.settings))
    (path / "checkpoint").write_text(
        f'model_checkpoint_path: "{_PREFIX}"\nall_model_checkpoint_paths: "{_PREFIX}"\n', encoding="utf-8"
    )
    for name, part in (
        (_SPIECE, checkpoint.tokenizer.model()),
        (_VOCAB, checkpoint.tokenizer.lines()),
        (_WORDPIECE, checkpoint.tokenizer.wordpiece),
    ):
        if part is not None:
            (path / name).write_bytes(part)


def notes(checkpoint: Checkpoint) -> list[str]:
    """What a reader of the written checkpoint should know."""
    return notes_for_google(checkpoint.config) + checkpoint.tokenizer.notes_for_google()


def scalar(tensor: Tensor, name: str, where: str) -> int:
    """The whole number in a 0-d variable."""
    if tensor.shape not in ((), (1,)) or tensor.dtype.kind != "i":
        raise SpecError(where, f"{name} is {tensor.dtype.name}{list(tensor.shape)}, not one whole number")
    return int(tensor.read().reshape(()))


def _of_a_head(name: str) -> bool:
    return not name.startswith("bert/")


def _unwrapped(found: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The variables as Google's code calls them, and a note of the scope that was left off.

    A fine-tuned TF-Hub module has one, `module/`.
    """
    own = _FAMILY.foreign("google", "embeddings.words")
    words = [name for name in found if name.endswith(f"/{own}")]
    scope = words[0].removesuffix(own) if len(words) == 1 and own not in found else ""
    notes = [f"variables begin with {scope!r}, which is left off"] if scope else []
    return {name.removeprefix(scope): tensor for name, tensor in found.items()}, notes


def _prefix(path: Path) -> Path:
    """The checkpoint's prefix: named, or the only one in a directory (several: the `checkpoint` file may choose)."""
    if not path.is_dir():
        return path.with_suffix("") if path.suffix == ".index" else path
    found = _checkpoints(path)
    if not found:
        raise FormatError(path, "holds no TensorFlow checkpoint (no .index file)")
    if len(found) > 1:
        named = re.search(r'^model_checkpoint_path: "(?:.*/)?([^"/]+)"', _state(path), re.MULTILINE)
        if not named or named[1] not in found:
            raise FormatError(path, f"holds several checkpoints ({', '.join(found)}); name one, as {PLACE}/{found[0]}")
        found = [named[1]]
    return path / found[0]


def _checkpoints(directory: Path) -> list[str]:
    """The checkpoints of a directory by name, damaged or incomplete ones too."""
    indices = {path.name.removesuffix(".index") for path in directory.glob("*.index") if is_index(path)}
    return sorted(indices | {path.name.rpartition(".data-")[0] for path in directory.glob("*.data-?????-of-?????")})


def _state(directory: Path) -> str:
    """The `checkpoint` file, of which only base names are believed: it often holds paths of another machine."""
    return (read_optional(directory / "checkpoint") or b"").decode("utf-8", "replace")


def _save(tensors: Mapping[str, Tensor], step: int | None, prefix: Path) -> None:
    """Write a version-2 checkpoint with TensorFlow; it holds the whole model once."""
    tf = tensorflow()
    names = list(tensors)
    try:
        with tf.device("CPU"):
            held = [to_tensorflow(tensor.read()) for tensor in tensors.values()]
            if step is not None:
                names.append(STEP)
                held.append(tf.constant(step, tf.int64))
            tf.raw_ops.SaveV2(prefix=str(prefix), tensor_names=names, shape_and_slices=[""] * len(names), tensors=held)
    except tf.errors.OpError as error:
        raise CheckpointError(prefix, f"TensorFlow could not write it ({error.message.splitlines()[0]})") from error


def tensorflow() -> Any:
    """TensorFlow, imported without its announcements on stderr and without Keras, which `tf.keras` still loads."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # saving needs none of it, and it announces itself
    # Keras brings matplotlib, pandas, SciPy and more, two of five seconds; TensorFlow passes over one that is absent.
    hidden = "keras" not in sys.modules
    if hidden:
        sys.modules["keras"] = None  # type: ignore[assignment]
    try:
        import tensorflow as tf
    finally:
        if hidden:
            del sys.modules["keras"]
    return tf


def to_tensorflow(array: Array) -> Any:
    """TensorFlow's tensor of an array, copied once: into memory that it takes over as it is.

    `tf.constant` takes three times the memory on the way. TensorFlow asks for multiples of 64 bytes (EIGEN_MAX_ALIGN).
    """
    tf = tensorflow()
    memory = np.empty(array.nbytes + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    brief = array.dtype == ml_dtypes.bfloat16  # which numpy cannot hand over under its name
    held = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy_into(held, array)
    tensor = tf.experimental.dlpack.from_dlpack((held.view(np.uint16) if brief else held).__dlpack__())
    return tf.bitcast(tensor, tf.bfloat16) if brief else tensor
