"""Token ids to hidden states, packed one text after another without padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from albert_cli.embedding.settings import Device, Precision
from albert_cli.errors import EmbeddingError
from albert_cli.model.packed import FastEncoder, PackedHiddenStates

if TYPE_CHECKING:
    from albert_cli.model.encoder import Encoder
    from albert_cli.model.pretraining_heads import PreTrainingModel

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class BatchEncoder(Protocol):
    """What the engine needs of an encoder."""

    def encode(
        self,
        input_ids: Sequence[Any],
        token_type_ids: Sequence[Any] | None = None,
        *,
        layers: Sequence[int] = (-1,),
    ) -> PackedHiddenStates:
        """The hidden states of sequences of ids, as `FastEncoder.encode` gives them."""


class PlainEncoder:
    """The PyTorch model itself, for GPUs: padded to the longest of the batch, masked, and packed afterwards."""

    def __init__(self, model: Encoder, *, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        self.device = device
        self._model = model.to(device=device, dtype=dtype).eval()
        self._last = model.config.num_hidden_layers * model.config.inner_group_num

    @torch.inference_mode()
    def encode(
        self,
        input_ids: Sequence[NDArray[np.int32]],
        token_type_ids: Sequence[NDArray[np.uint8]] | None = None,
        *,
        layers: Sequence[int] = (-1,),
    ) -> PackedHiddenStates:
        """One batch; the hidden states stay on the device, in the dtype they are computed in."""
        lengths = np.array([len(row) for row in input_ids])
        mask = np.arange(lengths.max()) < lengths[:, None]  # (rows, width)
        ids = self._padded(input_ids, mask)
        kinds = None if token_type_ids is None else self._padded(token_type_ids, mask)
        padded = None if mask.all() else torch.from_numpy(mask).to(self.device)
        only_last = all(layer in (-1, self._last) for layer in layers)
        output = self._model(ids, padded, kinds, output_hidden_states=not only_last)
        states = [output.sequence_output if only_last else output.hidden_states[layer] for layer in layers]
        packed = [state.flatten(0, 1) if padded is None else state[padded] for state in states]
        return PackedHiddenStates(tuple(packed), np.concatenate([[0], np.cumsum(lengths)]))

    def _padded(
        self, rows: Sequence[NDArray[np.int32]] | Sequence[NDArray[np.uint8]], mask: NDArray[np.bool_]
    ) -> Tensor:
        filled = np.zeros(mask.shape, np.int64)
        filled[mask] = np.concatenate(rows)
        return torch.from_numpy(filled).to(self.device)


def find_device(wanted: Device = "auto") -> str:
    """The type of the device to compute on; EmbeddingError where the one that was named is not there."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return next(name for name, present in there.items() if present)
    if not there[wanted]:
        raise EmbeddingError(f"--device {wanted}: PyTorch {torch.__version__} finds no such device; choose cpu or auto")
    return wanted


def find_precision(wanted: Precision, device: str) -> Precision:
    """bf16 on a CUDA GPU, fp32 elsewhere, unless another one is wanted."""
    if wanted == "auto":
        return "bf16" if device == "cuda" else "fp32"
    return wanted


def make_encoder(model: PreTrainingModel, *, device: str, precision: Precision, batch_tokens: int) -> BatchEncoder:
    """The fastest encoder for this device and precision. The model may be moved to them, and is not to be used after.

    Raises EmbeddingError for a precision that the device has no encoder for.
    """
    if device == "cpu":
        return FastEncoder(model, precision, batch_tokens=batch_tokens)
    if precision not in _DTYPES:
        raise EmbeddingError(f"--precision {precision} is for the CPU; on {device} choose {' or '.join(_DTYPES)}")
    return PlainEncoder(model.encoder, device=torch.device(device), dtype=_DTYPES[precision])
