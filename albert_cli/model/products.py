"""Linear layers in float32 on the CPU, with gradients: oneDNN's products where they work here, else PyTorch's.

PyTorch gives products of float32 numbers to MKL, which on an AMD EPYC is half as fast as oneDNN
(`bench/finetune.py`). oneDNN's are private operators (see `kernels`): tried on a small case, against plain PyTorch,
before their first use. Exporters, which trace a model, see PyTorch's own operations alone.

Letters in shapes: M rows (tokens), K inputs, N outputs.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Linear(nn.Linear):
    """As PyTorch's, with faster products."""

    def forward(self, input: Tensor) -> Tensor:
        """(…, K) -> (…, N)."""
        return linear(input, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x·Wᵀ + b: `x` (…, K), `weight` (N, K), `bias` (N,), the result (…, N)."""
    if not torch.compiler.is_compiling():
        _keep_few()
    plain = (
        x.device.type != "cpu"
        or not x.dtype == weight.dtype == torch.float32
        or torch.is_autocast_enabled("cpu")
        or not x.numel()
        or torch.compiler.is_compiling()
        or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        or not _works()
    )
    if plain:
        return F.linear(x, weight, bias)
    if not torch.is_grad_enabled():
        return onednn(x, weight, bias)
    output: Tensor = _Product.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    return output


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return onednn(x, weight, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        rows, inputs = gradient.flatten(0, -2), x.flatten(0, -2)  # (M, N), (M, K)
        return (
            onednn(gradient, weight.t()) if of_x else None,
            onednn(rows.t(), inputs.t()) if of_weight else None,
            rows.sum(0) if of_bias else None,
        )


def onednn(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x·Wᵀ + b without gradients."""
    output: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return output


@cache
def _keep_few() -> None:
    """oneDNN, and PyTorch's layer above it, each keep the last 1,024 products by their shapes. Batches of texts have
    hundreds of shapes, and fine-tuning a base shape rose to 4 GB; with fewer it is as fast (`bench/README.md`).

    Both names are read at the first product. The encoder of `packed` rounds its shapes and keeps what it meets.
    """
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(name, "64")


@cache
def _works() -> bool:
    """Whether oneDNN's products are here and agree with PyTorch's, gradients included; the same in inference mode."""
    found = []
    try:
        with torch.inference_mode(False), torch.enable_grad():
            generator = torch.Generator().manual_seed(0)
            x, weight, bias = (torch.randn(*shape, generator=generator) for shape in ((3, 17, 48), (40, 48), (40,)))
            for product in (F.linear, _Product.apply):
                parts = [part.clone().requires_grad_() for part in (x, weight, bias)]
                output = product(*parts)
                found.append([output, *torch.autograd.grad(output.square().sum(), parts)])
    except (AttributeError, RuntimeError, TypeError, ValueError):
        return False
    return all(torch.allclose(one, other, rtol=1e-4, atol=1e-4) for one, other in zip(*found, strict=True))
