"""Linear layers of bytes for inference on the CPU: every row of x and every row of the weights has its own scale.

As in `kernels`, PyTorch's private operators (`torch.ops.onednn`, `torch.ops.quantized`) are named here only, each tried
on a small case before its first use; without them the same numbers come from float32.

Letters in shapes: M rows (tokens), K inputs, N outputs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from albert_cli.model.encoder import activation

# 1.5·2²³: a float32 near it has steps of 1, so that adding it rounds to the nearest whole number, in the lowest bits.
_ROUND = 12582912.0

# GELU in place makes a pass over memory cheaper than one that must fill a fresh array.
_IN_PLACE: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": torch._C._nn.gelu_ if hasattr(torch._C._nn, "gelu_") else torch.nn.functional.gelu,
}


class QuantizedRows(NamedTuple):
    """Rows of bytes, `quantized` (M, K) uint8: x ≈ scale·(quantized - 128), or, with `low`, scale·quantized + low.

    `scale` and `low` are float32 (M, 1): every row has its own, so that no token's vector depends on the tokens beside
    it.
    """

    quantized: Tensor
    scale: Tensor
    low: Tensor | None = None
