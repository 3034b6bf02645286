"""TensorFlow itself, where something is written with it: imported late, without noise, and fed without copies."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from converters.checkpoint import Array, Tensor, copy_into
from converters.errors import CheckpointError

_ALIGNMENT = 64


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


@contextmanager
def tensorflow_errors(path: Path) -> Iterator[None]:
    """Turn TensorFlow's errors on writing `path` into a CheckpointError."""
    try:
        yield
    except tensorflow().errors.OpError as error:
        raise CheckpointError(path, f"TensorFlow could not write it ({error.message.splitlines()[0]})") from error


def save_bundle(tensors: Mapping[str, Tensor], prefix: Path) -> None:
    """Write a version-2 checkpoint (`converters.tensorflow.bundle` reads it); it holds all tensors at once."""
    tf = tensorflow()
    with tf.device("CPU"):
        tf.raw_ops.SaveV2(
            prefix=str(prefix),
            tensor_names=list(tensors),
            shape_and_slices=[""] * len(tensors),
            tensors=[to_tensorflow(tensor.read()) for tensor in tensors.values()],
        )
