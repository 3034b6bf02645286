"""Token ids to hidden states, packed one text after another without padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from albert_cli.embedding.settings import Device, Precision
from albert_cli.errors import EmbeddingError

if TYPE_CHECKING:
    from albert_cli.model.encoder import Albert
    from albert_cli.model.heads import AlbertPreTraining

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Packed(NamedTuple):
    """`states`: per layer asked for (tokens, H). `offsets` int64 (rows + 1): row i has the tokens from `offsets[i]` to
    `offsets[i + 1]`."""

    states: list[Tensor]
    offsets: Tensor


class Encoder(Protocol):
    """What the engine needs of an encoder."""

    device: torch.device

    def encode(
        self,
        ids: Sequence[NDArray[np.int32]],
        token_type_ids: Sequence[NDArray[np.uint8]] | None = None,
        *,
        layers: Sequence[int],
    ) -> Packed:
        """The hidden states of one batch; layer 0 is the projected embeddings, the last one the encoder's output."""


class PlainEncoder:
    """The PyTorch model itself: texts are padded to the longest of the batch, masked, and packed afterwards."""

    def __init__(self, model: Albert, *, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        self.device = device
        self._model = model.to(device=device, dtype=dtype).eval()
        self._last = model.config.num_hidden_layers * model.config.inner_group_num

    @torch.inference_mode()
    def encode(
        self,
        ids: Sequence[NDArray[np.int32]],
        token_type_ids: Sequence[NDArray[np.uint8]] | None = None,
        *,
        layers: Sequence[int],
    ) -> Packed:
        lengths = np.array([len(row) for row in ids])
        mask = np.arange(lengths.max()) < lengths[:, None]  # (rows, width)
        input_ids = self._padded(ids, mask)
        kinds = None if token_type_ids is None else self._padded(token_type_ids, mask)
        padded = None if mask.all() else torch.from_numpy(mask).to(self.device)
        only_last = all(layer == self._last for layer in layers)
        output = self._model(input_ids, padded, kinds, output_hidden_states=not only_last)
        states = [output.sequence_output if only_last else output.hidden_states[layer] for layer in layers]
        packed = [state.flatten(0, 1) if padded is None else state[padded] for state in states]
        offsets = torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)])).to(self.device)
        return Packed(packed, offsets)

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


def make_encoder(model: AlbertPreTraining, *, device: torch.device, precision: Precision) -> Encoder:
    """The fastest encoder for this device and precision; the model is moved to them.

    Raises EmbeddingError for a precision that the device has no encoder for.
    """
    if precision not in _DTYPES:
        raise EmbeddingError(
            f"--precision {precision}: no encoder computes so on {device.type}; choose {' or '.join(_DTYPES)}"
        )
    return PlainEncoder(model.albert, device=device, dtype=_DTYPES[precision])
