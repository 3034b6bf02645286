"""Which encoder computes on which device, in which precision."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import torch

from albert_cli.embedding.settings import Precision
from albert_cli.errors import EmbeddingError, Notice
from albert_cli.model import kernels
from albert_cli.model.packed import PackedEncoder
from albert_cli.model.plain import PlainEncoder

if TYPE_CHECKING:
    from albert_cli.model.encoder import Encoder
    from albert_cli.model.hidden_states import InferenceEncoder

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def find_precision(wanted: Precision, device: str) -> Precision:
    """bf16 on a CUDA GPU, fp32 elsewhere, unless another one is wanted.

    On a CPU without products of bfloat16 numbers fp32 is both faster and exact: it takes bf16's place, with a Notice.
    """
    if wanted == "auto":
        return "bf16" if device == "cuda" else "fp32"
    if wanted == "bf16" and device == "cpu" and not kernels.has_bfloat16():
        warnings.warn(
            "--precision bf16: this CPU has no instructions for bfloat16 (AVX512-BF16, AMX), so it would gain nothing; "
            "fp32 is used",
            Notice,
            stacklevel=2,
        )
        return "fp32"
    return wanted


def make_encoder(model: Encoder, *, device: str, precision: Precision) -> InferenceEncoder:
    """The fastest encoder for this device and precision, with a copy of the weights.

    Raises EmbeddingError for a precision that the device has no encoder for.
    """
    if device == "cpu":
        return PackedEncoder(model, precision)
    if precision not in _DTYPES:
        raise EmbeddingError(f"--precision {precision} is for the CPU; on {device} choose {' or '.join(_DTYPES)}")
    return PlainEncoder(model, device=device, dtype=_DTYPES[precision])
