"""Casts of weights to another dtype: the largest error is reported, and every value that does not fit."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from converters.checkpoint import Array, Checkpoint, Tensor
from converters.errors import CheckpointError

DTYPES = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}
_LARGEST = {"float32": 3.4028235e38, "float16": 65504.0, "bfloat16": 3.3895314e38}
_ROWS_BYTES = 2**20  # small, for the gaps take several arrays of float64


@dataclass
class Cast:
    """A change of dtype and what it cost; the figures grow as tensors are read."""

    dtype: str
    tensors: int = 0
    max_abs_error: float = 0.0
    worst: str = ""

    def apply(self, checkpoint: Checkpoint) -> Checkpoint:
        """The checkpoint with its weights in the new dtype; optimizer slots keep theirs."""
        tensors = {name: self._tensor(name, tensor) for name, tensor in checkpoint.tensors.items()}
        return dataclasses.replace(checkpoint, tensors=tensors)

    def _tensor(self, name: str, tensor: Tensor) -> Tensor:
        dtype = DTYPES[self.dtype]
        if tensor.dtype == dtype:
            return tensor
        self.tensors += 1
        return Tensor(tensor.shape, dtype, lambda: self._cast(name, tensor.read(), dtype))

    def _cast(self, name: str, array: Array, dtype: np.dtype[np.generic]) -> Array:
        with np.errstate(all="ignore"):
            return self._checked(name, array, array.astype(dtype))

    def _checked(self, name: str, array: Array, cast: Array) -> Array:
        rows = max(1, _ROWS_BYTES // max(1, array.nbytes // max(1, len(array))))
        for start in range(0, len(array), rows):
            before = array[start : start + rows].astype(np.float64)
            gap = np.abs(cast[start : start + rows].astype(np.float64) - before)
            if np.any(np.isinf(gap)):
                raise CheckpointError(
                    f"{name} holds {float(np.abs(before[np.isinf(gap)]).max()):.6g}, beyond the largest {self.dtype} "
                    f"({_LARGEST[self.dtype]:.6g}); --dtype bfloat16 has the range of float32"
                )
            error = float(np.nanmax(gap, initial=0.0))
            if not math.isnan(error) and error > self.max_abs_error:
                self.max_abs_error, self.worst = error, name
        return cast


def check_dtypes(checkpoint: Checkpoint, form: str, dtypes: Sequence[np.dtype[Any]]) -> None:
    """CheckpointError for tensors of a type that is none of those that the format of that name has a place for."""
    held = ", ".join(dtype.name for dtype in dtypes)
    misfits = [name for name, tensor in checkpoint.everything().items() if tensor.dtype not in dtypes]
    if misfits:
        kind = checkpoint.everything()[misfits[0]].dtype.name
        raise CheckpointError(
            f"{form} holds {held}; {len(misfits)} tensors are {kind}, as {misfits[0]}: add --dtype {dtypes[0].name}"
        )
