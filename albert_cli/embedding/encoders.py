"""Which encoder computes on which device, in which precision."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from albert_cli.embedding.settings import Precision
from albert_cli.errors import EmbeddingError
from albert_cli.model.packed import PRECISIONS, PackedEncoder
from albert_cli.model.plain import PlainEncoder

if TYPE_CHECKING:
    from albert_cli.model.encoder import Encoder
    from albert_cli.model.hidden_states import InferenceEncoder

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def find_precision(wanted: Precision, device: str) -> Precision:
    """bf16 on a CUDA GPU, fp32 elsewhere, unless another one is wanted."""
    if wanted == "auto":
        return "bf16" if device == "cuda" else "fp32"
    return wanted


def make_encoder(model: Encoder, *, device: str, precision: Precision) -> InferenceEncoder:
    """The fastest encoder for this device and precision, with a copy of the weights.

    Raises EmbeddingError for a precision that the device has no encoder for.
    """
    if device == "cpu" and precision in PRECISIONS:
        return PackedEncoder(model, precision)
    if precision not in _DTYPES:
        raise EmbeddingError(f"--precision {precision} is for the CPU; on {device} choose {' or '.join(_DTYPES)}")
    return PlainEncoder(model, device=device, dtype=_DTYPES[precision])
