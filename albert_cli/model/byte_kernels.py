"""Linear layers of bytes for inference on the CPU: every row of x and every row of the weights has its own scale.

As in `kernels`, PyTorch's private operators (`torch.ops.onednn`, `torch.ops.quantized`) are named here only, each tried
on a small case before its first use; without them the same numbers come from float32.

Letters in shapes: M rows (tokens), K inputs, N outputs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from albert_cli.model.encoder import activation
from converters.activations import ACTIVATIONS

# 1.5·2²³: a float32 near it has steps of 1, so that adding it rounds to the nearest whole number, in the lowest bits.
_ROUND = 12582912.0


# A function of converters.activations -> the same without fresh memory for the result, which would leave the cache.
_IN_PLACE: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": torch.ops.aten.gelu_,
    "gelu_tanh": partial(torch.ops.aten.gelu_, approximate="tanh"),
    "relu": torch.relu_,
}


class QuantizedRows(NamedTuple):
    """Rows of bytes, `quantized` (M, K) uint8: x ≈ scale·(quantized - 128), or, with `low`, scale·quantized + low.

    `scale` and `low` are float32 (M, 1): every row has its own, so that no token's vector depends on the tokens beside
    it.
    """

    quantized: Tensor
    scale: Tensor
    low: Tensor | None = None


# Bytes (M, K) and their zero point -> steps·scale, float32 (M, N)
Product = Callable[[Tensor, int], Tensor]


@dataclass(frozen=True)
class ByteLinear:
    """A linear layer of bytes, for rows quantized either way: act(x·Wᵀ + b) + residual, float32 (M, N).

    `product`: the rows' steps times the weights, (M, N), still to be multiplied by the rows' scales. `bias` (N,) is
    added to that, and `columns` (N,) where a row's low is 1. `function` is `act`.
    """

    product: Product
    bias: Tensor
    columns: Tensor
    act: str
    function: Callable[[Tensor], Tensor]

    def __call__(self, x: QuantizedRows, residual: Tensor | None = None) -> Tensor:
        output = self.sums(x)
        added = self.bias if x.low is None else torch.addcmul(self.bias, x.low, self.columns)  # x = scale·steps + low
        output = self.function(torch.addcmul(added, output, x.scale, out=output))
        return output if residual is None else output.add_(residual)

    def sums(self, x: QuantizedRows) -> Tensor:
        """The product alone."""
        return self.product(x.quantized, 128 if x.low is None else 0)


def quantize(x: Tensor) -> QuantizedRows:
    """float32 (M, K) to bytes: 127 steps either way of zero point 128, up to each row's largest absolute value."""
    top = torch.maximum(x.amax(1, keepdim=True), x.amin(1, keepdim=True).neg_())
    scale = top.clamp_min_(1e-30).div_(127)
    rounded = (x * scale.reciprocal()).add_(_ROUND + 128)
    return QuantizedRows(rounded.view(torch.int32).to(torch.uint8), scale)  # the lowest byte of each


def quantize_from_low(x: Tensor) -> QuantizedRows:
    """float32 (M, K) to bytes: 255 steps from each row's least value to its largest, for skewed ones, as GELU's."""
    return _fused_from_low(x) if _fused_rows_work() else _plain_from_low(x)


def _plain_from_low(x: Tensor) -> QuantizedRows:
    low, top = x.amin(1, keepdim=True), x.amax(1, keepdim=True)
    scale = (top - low).clamp_min_(1e-30).div_(255)
    rounded = (x - low).mul_(scale.reciprocal()).add_(_ROUND)
    return QuantizedRows(rounded.view(torch.int32).to(torch.uint8), scale, low)


def _fused_from_low(x: Tensor) -> QuantizedRows:
    """By what packs embedding tables, in one pass: each row of bytes is followed by its scale and its least value."""
    packed = torch.ops.quantized.embedding_bag_byte_prepack(x)
    K = x.shape[1]
    factors = packed[:, K:].contiguous().view(torch.float32)
    return QuantizedRows(packed[:, :K].contiguous(), factors[:, :1], factors[:, 1:])


@cache
def _fused_rows_work() -> bool:
    """Whether the packing of embedding tables gives the bytes, scales and least values of `_plain_from_low`."""
    x = torch.randn(17, 48, generator=torch.Generator().manual_seed(0))
    x[3] = 0.5
    exact = _plain_from_low(x)
    try:
        found = _fused_from_low(x)
        if found.quantized.dtype != torch.uint8 or found.low is None:
            return False
        back = found.quantized * found.scale + found.low
        return bool(((back - x).abs() <= exact.scale * 0.501 + 1e-6).all())
    except (AttributeError, RuntimeError, TypeError, ValueError):
        return False


def linear(weight: Tensor, bias: Tensor, act: str = "linear") -> ByteLinear:
    """A linear layer of bytes with exact integer sums, for rows quantized either way.

    `weight` (N, K) and `bias` (N,) are float32; each output's weights become whole steps from -127 to 127. Without
    oneDNN's operator the same numbers come from float32 products of the steps, at float32 speed.
    """
    function = _IN_PLACE.get(ACTIVATIONS[act], activation(act))
    scale = weight.abs().amax(1).clamp_min(1e-30) / 127  # (N,)
    steps = (weight / scale[:, None]).round_()
    sums = scale * steps.sum(1)  # (N,): what a low of 1 adds
    product = (_int8_product if _int8_operators_work() else _float_product)(steps, scale)
    return ByteLinear(product, bias, sums, act, function)


def _float_product(steps: Tensor, scale: Tensor) -> Product:
    return lambda x, zero_point: F.linear(x.float() - zero_point, steps).mul_(scale)


def _int8_product(steps: Tensor, scale: Tensor) -> Product:
    # Unsigned inputs: for signed ones oneDNN has no fast code on CPUs of AMD.
    packed = torch.ops.onednn.qlinear_prepack(steps.to(torch.int8), None)
    zeros = torch.zeros(len(steps), dtype=torch.int32)

    def product(x: Tensor, zero_point: int) -> Tensor:
        output: Tensor = torch.ops.onednn.qlinear_pointwise(
            x, 1.0, zero_point, packed, scale, zeros, None, 1.0, 0, torch.float32, "none", [], ""
        )
        return output

    return product


@cache
def _int8_operators_work() -> bool:
    """Whether oneDNN's byte products are here, exact up to the largest bytes, and no slower than in float32.

    Without VNNI instructions pairs of products overflow 16 bits; where oneDNN has no fast code for a case it takes its
    reference code, which is hundreds of times slower.
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (32, 256), generator=generator).to(torch.uint8)
    x[0] = 255
    steps = torch.randint(-127, 128, (64, 256), generator=generator).float()
    steps[0] = 127
    scale = torch.rand(64, generator=generator) + 0.5
    try:
        exact, fast = _float_product(steps, scale), _int8_product(steps, scale)
        for zero_point in (0, 128):
            if not torch.allclose(exact(x, zero_point), fast(x, zero_point), rtol=1e-5, atol=1e-5):
                return False
            if _seconds(fast, x, zero_point) > 10 * _seconds(exact, x, zero_point):
                return False
    except (AttributeError, RuntimeError, TypeError, ValueError):
        return False
    return True


def _seconds(product: Product, x: Tensor, zero_point: int) -> float:
    times = []
    for _ in range(5):
        start = time.perf_counter()
        product(x, zero_point)
        times.append(time.perf_counter() - start)
    return min(times)
