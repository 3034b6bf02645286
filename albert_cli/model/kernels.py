"""Linear layers of floats for inference on the CPU: oneDNN's packed ones where they work here, else plain PyTorch's.

PyTorch offers oneDNN's packed weights and fused operations as private operators only (`torch.ops.mkldnn`, and for bytes
`torch.ops.onednn`), the ones its own compiler emits. They may change or be missing with any release, so nothing outside
this module, `byte_kernels` and `products` names them, and each is tried on a small case, against plain PyTorch,
before its first use.

Letters in shapes: M rows (tokens), K inputs, N outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from albert_cli.model.encoder import activation
from converters.activations import ACTIVATIONS

# A function of converters.activations -> what oneDNN calls it (attr, algorithm). Others are applied after the product.
_FUSED = {"gelu": ("gelu", "none"), "gelu_tanh": ("gelu", "tanh"), "linear": ("none", ""), "relu": ("relu", "")}

# How far a sum may be off: in bfloat16 one rounding of the result, and one before a residual is added.
_TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 2e-2}

# What a CPU calls its products of bfloat16 numbers (torch.cpu.get_capabilities).
_BFLOAT16 = ("amx_bf16", "avx512_bf16", "arm_bf16", "sve_bf16")

# x (M, K) and perhaps a residual (M, N) -> act(x·Wᵀ + b) + residual, (M, N), all of one type
Linear = Callable[[Tensor, "Tensor | None"], Tensor]


def has_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 numbers by itself (AVX512-BF16, AMX); without that they only cost time."""
    if not hasattr(torch.cpu, "get_capabilities"):  # an older PyTorch
        return bool(torch.cpu._is_avx512_bf16_supported())
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in _BFLOAT16)


def linear(weight: Tensor, bias: Tensor, act: str = "linear") -> Linear:
    """A linear layer with its activation: `weight` (N, K), `bias` (N,), both float32 or both bfloat16, as x is too."""
    function = activation(act)
    fused = ACTIVATIONS[act] in _FUSED and _operators_work(act, weight.dtype)
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
def _operators_work(act: str, dtype: torch.dtype) -> bool:
    """Whether oneDNN's linear layer is here and agrees with PyTorch's in float32, residual included."""
    x, weight, bias = (part.to(dtype) for part in _sample())
    exact = _plain(weight.float(), bias.float(), activation(act))
    tolerance = _TOLERANCES[dtype]
    try:
        layer, residual = _packed(weight, bias, act), x[:, : len(bias)].contiguous()
        for added in (None, residual):
            expected = exact(x.float(), None if added is None else added.float())
            got = layer(x, added)
            if got.dtype != dtype or not torch.allclose(expected, got.float(), rtol=tolerance, atol=tolerance):
                return False
    except (AttributeError, RuntimeError, TypeError, ValueError):
        return False
    return True


def _sample() -> tuple[Tensor, Tensor, Tensor]:
    """x (17, 48), weight (40, 48), bias (40,): no size a multiple of what the CPU does at once."""
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(17, 48, generator=generator), torch.randn(40, 48, generator=generator)
    return x, weight * 0.3, torch.randn(40, generator=generator)
