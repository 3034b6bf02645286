"""Linear layers for inference on the CPU: oneDNN's packed ones where they work here, plain PyTorch's otherwise.

PyTorch offers oneDNN's packed weights and fused operations as private operators only (`torch.ops.mkldnn`,
`torch.ops.onednn`), the ones its own compiler emits. They may change or be missing with any release, so nothing outside
this module names them, and each is tried on a small case, against plain PyTorch, before its first use.

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
from converters.activations import ACTIVATIONS

# A function of converters.activations -> what oneDNN calls it (attr, algorithm). Others are applied after the product.
_FUSED = {"gelu": ("gelu", "none"), "gelu_tanh": ("gelu", "tanh"), "linear": ("none", ""), "relu": ("relu", "")}

# The least value of an activation: its outputs then use all 256 steps of a byte, not little more than the upper half.
_FLOORS = {"gelu": -0.1701, "gelu_tanh": -0.1701, "relu": 0.0}
FLOORS = {name: _FLOORS[function] for name, function in ACTIVATIONS.items() if function in _FLOORS}

# x (M, K), or its bytes, and perhaps a residual (M, N) -> act(x·Wᵀ + b) + residual, float32 (M, N)
Linear = Callable[[Tensor, "Tensor | None"], Tensor]
Int8Linear = Callable[["QuantizedRows", "Tensor | None"], Tensor]


def linear(weight: Tensor, bias: Tensor, act: str = "linear") -> Linear:
    """A float32 linear layer with its activation: `weight` (N, K), `bias` (N,)."""
    function = activation(act)
    fused = ACTIVATIONS[act] in _FUSED and _float_operators_work(act)
    return _packed(weight, bias, act) if fused else _plain(weight, bias, function)


def _plain(weight: Tensor, bias: Tensor, function: Callable[[Tensor], Tensor]) -> Linear:
    def layer(x: Tensor, residual: Tensor | None = None) -> Tensor:
        output = function(F.linear(x, weight, bias))
        return output if residual is None else output + residual

    return layer


def _packed(weight: Tensor, bias: Tensor, act: str) -> Linear:
    attr, algorithm = _FUSED[ACTIVATIONS[act]]
    packed = torch.ops.mkldnn._reorder_linear_weight(weight)

    def layer(x: Tensor, residual: Tensor | None = None) -> Tensor:
        output: Tensor
        if residual is not None and act == "linear":
            output = torch.ops.mkldnn._linear_pointwise.binary(x, residual, packed, bias, "add")
            return output
        output = torch.ops.mkldnn._linear_pointwise(x, packed, bias, attr, [], algorithm)
        return output if residual is None else output + residual

    return layer


@cache
def _float_operators_work(act: str) -> bool:
    """Whether oneDNN's linear layer is here and agrees with PyTorch's, residual included."""
    x, weight, bias = _sample()
    try:
        layer, residual = _packed(weight, bias, act), x[:, : len(bias)].contiguous()
        for expected, got in (
            (_plain(weight, bias, activation(act))(x, None), layer(x, None)),
            (_plain(weight, bias, activation(act))(x, residual), layer(x, residual)),
        ):
            if not torch.allclose(expected, got, rtol=1e-5, atol=1e-5):
                return False
    except (AttributeError, RuntimeError, TypeError, ValueError):
        return False
    return True


class QuantizedRows(NamedTuple):
    """Rows of bytes, x ≈ scale·(quantized - zero_point) + floor: `quantized` (M, K) uint8, `scale` (M, 1) float32.

    Every row has its own scale, so that no token's vector depends on the tokens beside it.
    """

    quantized: Tensor
    scale: Tensor


def quantize(x: Tensor, floor: float | None = None) -> QuantizedRows:
    """float32 (M, K) to bytes: from `floor` to each row's largest value in 255 steps, or, without a floor, 127 steps
    either way of zero point 128."""
    top = x.amax(1, keepdim=True)
    if floor is None:
        top = torch.maximum(top, x.amin(1, keepdim=True).neg_())
        scale = top.clamp_min_(1e-30).div_(127)
        scaled = (x * scale.reciprocal()).add_(128.5)
    else:
        scale = top.sub_(floor).clamp_min_(1e-30).div_(255)
        inverse = scale.reciprocal()
        scaled = (x * inverse).add_(inverse.mul_(-floor).add_(0.5))
    return QuantizedRows(scaled.to(torch.uint8), scale)  # cut off, hence the halves


def int8_linear(weight: Tensor, bias: Tensor, act: str = "linear", floor: float | None = None) -> Int8Linear:
    """A linear layer of bytes with exact integer sums, for rows quantized with `floor`.

    `weight` (N, K) and `bias` (N,) are float32; each output's weights become whole steps from -127 to 127. Without
    oneDNN's operator the same numbers come from float32 products of the steps, at float32 speed.
    """
    function = activation(act)
    scale = weight.abs().amax(1).clamp_min(1e-30) / 127  # (N,)
    steps = (weight / scale[:, None]).round_()
    if floor is not None:
        bias = bias + floor * scale * steps.sum(1)  # x = scale·steps + floor: the same floor·Σw in every row
    zero_point = 128 if floor is None else 0
    product = (_int8_product if _int8_operators_work() else _float_product)(steps, scale, zero_point)

    def layer(x: QuantizedRows, residual: Tensor | None = None) -> Tensor:
        output = function(product(x.quantized).mul_(x.scale).add_(bias))
        return output if residual is None else output.add_(residual)

    return layer


def _float_product(steps: Tensor, scale: Tensor, zero_point: int) -> Callable[[Tensor], Tensor]:
    return lambda x: F.linear(x.float() - zero_point, steps).mul_(scale)


def _int8_product(steps: Tensor, scale: Tensor, zero_point: int) -> Callable[[Tensor], Tensor]:
    # Unsigned inputs: for signed ones oneDNN has no fast code on CPUs of AMD.
    packed = torch.ops.onednn.qlinear_prepack(steps.to(torch.int8), None)
    zeros = torch.zeros(len(steps), dtype=torch.int32)

    def product(x: Tensor) -> Tensor:
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
        for zero_point in (0, 128):
            exact, fast = _float_product(steps, scale, zero_point), _int8_product(steps, scale, zero_point)
            if not torch.allclose(exact(x), fast(x), rtol=1e-5, atol=1e-5):
                return False
            if _seconds(fast, x) > 10 * _seconds(exact, x):
                return False
    except (AttributeError, RuntimeError, TypeError, ValueError):
        return False
    return True


def _sample() -> tuple[Tensor, Tensor, Tensor]:
    """x (17, 48), weight (40, 48), bias (40,): no size a multiple of what the CPU does at once."""
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(17, 48, generator=generator), torch.randn(40, 48, generator=generator)
    return x, weight * 0.3, torch.randn(40, generator=generator)


def _seconds(product: Callable[[Tensor], Tensor], x: Tensor) -> float:
    times = []
    for _ in range(5):
        start = time.perf_counter()
        product(x)
        times.append(time.perf_counter() - start)
    return min(times)
