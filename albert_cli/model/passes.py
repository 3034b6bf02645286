"""The passes between the encoder's matrix products by our own compiled code (passes.c), where it was built.

It is optional: without a C compiler at installation the same is computed by PyTorch's operators, which go through
memory more often. It runs on the calling thread alone, and is tried on a small case before its first use.

Letters in shapes: M rows (tokens), N their width, H hidden size.
"""

from __future__ import annotations

import ctypes
import importlib.util
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from albert_cli.model.byte_kernels import ByteLinear, QuantizedRows
from albert_cli.model.encoder import activation
from converters.activations import ACTIVATIONS

# A function of converters.activations -> (its number in passes.c, whether by tanh)
_ACTS = {"linear": (0, 0), "relu": (1, 0), "gelu": (2, 0), "gelu_tanh": (2, 1)}
# What each function takes: a pointer, a long, an int or a float.
_TYPES = {"p": ctypes.c_void_p, "l": ctypes.c_long, "i": ctypes.c_int, "f": ctypes.c_float}
_SIGNATURES = {
    "albert_activate_rows": "pllppppiippp",
    "albert_norm_rows": "pllpppppppfppp",
    "albert_attention": "pppplllpp",
    "albert_instructions": "i",
}
_MULTIPLE = 16  # of numbers in a head


def work() -> bool:
    """Whether passes.c was compiled and computes what PyTorch does."""
    return _library() is not None and _agrees()


def knows(act: str) -> bool:
    """Whether `activate` has this activation."""
    return ACTIVATIONS[act] in _ACTS


def attends(head_size: int) -> bool:
    """Whether `attention` takes heads of this size."""
    return head_size % _MULTIPLE == 0


def activate(layer: ByteLinear, rows: QuantizedRows) -> QuantizedRows:
    """`layer` with its activation, (M, N) as bytes from each row's least value to its largest; GELU within 3e-6."""
    sums = layer.sums(rows)
    M, N = sums.shape
    new = QuantizedRows(torch.empty(M, N, dtype=torch.uint8), torch.empty(M, 1), torch.empty(M, 1))
    _call("albert_activate_rows", *_arguments(layer, rows, sums), *_ACTS[ACTIVATIONS[layer.act]], *new)
    return new


def norm(layer: ByteLinear, rows: QuantizedRows, residual: Tensor, norm: nn.LayerNorm) -> tuple[Tensor, QuantizedRows]:
    """LayerNorm of `layer` and a residual (M, H), as float32 and as bytes around 128."""
    sums = layer.sums(rows)
    output, new = torch.empty_like(sums), QuantizedRows(torch.empty_like(sums, dtype=torch.uint8), _column(sums))
    parameters = (residual, norm.weight, norm.bias, norm.eps)
    _call("albert_norm_rows", *_arguments(layer, rows, sums), *parameters, output, new.quantized, new.scale)
    return output, new


def attention(layer: ByteLinear, rows: QuantizedRows, lengths: list[int], head_size: int) -> QuantizedRows:
    """Attention over what `layer` gives, queries scaled by 1/√head_size, keys and values (M, 3H): bytes around 128."""
    sums = layer.sums(rows)
    M, N = sums.shape
    new = QuantizedRows(torch.empty(M, N // 3, dtype=torch.uint8), _column(sums))
    of_lengths = np.array(lengths, np.dtype("long"))
    sizes = (of_lengths, len(lengths), N // 3 // head_size, head_size)
    _call("albert_attention", sums, rows.scale, layer.bias, *sizes, new.quantized, new.scale)
    return new


def _arguments(layer: ByteLinear, rows: QuantizedRows, sums: Tensor) -> tuple[Tensor | int | None, ...]:
    return sums, *sums.shape, rows.scale, rows.low, layer.columns, layer.bias


def _column(sums: Tensor) -> Tensor:
    return torch.empty(len(sums), 1)


def _call(name: str, *arguments: Tensor | NDArray[Any] | float | None) -> None:
    if getattr(_library(), name)(*map(_as_c, arguments)):
        raise MemoryError


def _as_c(value: Tensor | NDArray[Any] | float | None) -> float | None:
    """The address of an array, which must be contiguous."""
    if isinstance(value, Tensor):
        if not value.is_contiguous():
            raise ValueError(f"a tensor of shape {tuple(value.shape)} is not contiguous")
        return value.data_ptr()
    return value.ctypes.data if isinstance(value, np.ndarray) else value


@cache
def _library() -> ctypes.CDLL | None:
    """The compiled code with its signatures; None where it was not built."""
    spec = importlib.util.find_spec("albert_cli.model._passes")
    if spec is None or spec.origin is None:
        return None
    try:
        library = ctypes.CDLL(spec.origin)
        for name, letters in _SIGNATURES.items():
            getattr(library, name).argtypes = [_TYPES[letter] for letter in letters]
    except (OSError, AttributeError):  # of another machine or another version
        return None
    return library


@cache
def _agrees() -> bool:
    """Whether each pass gives what PyTorch gives, on a case whose sizes are no multiples of what is done at once."""
    generator = torch.Generator().manual_seed(0)
    M, H, lengths, size = 23, 96, [1, 5, 17], 32

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    def layer(width: int, act: str = "linear") -> ByteLinear:
        sums = random(M, width)
        return ByteLinear(lambda x, zero_point: sums, random(width), random(width), act, activation(act))

    for low in (None, random(M, 1)):
        rows = QuantizedRows(torch.empty(0, dtype=torch.uint8), random(M, 1).abs() + 0.5, low)
        for act in ("linear", "relu", "gelu", "gelu_new"):
            one = layer(H + 3, act)
            if not _near(activate(one, rows), _exact(one, rows)):
                return False
        one, residual, last = layer(H), random(M, H), nn.LayerNorm(H)
        last.weight.data, last.bias.data = random(H), random(H)
        expected = last(_exact(one, rows) + residual).detach()
        output, new = norm(one, rows, residual, last)
        if not torch.allclose(output, expected, rtol=1e-5, atol=1e-5) or not _near(new, expected):
            return False
    one, rows = layer(3 * H), QuantizedRows(rows.quantized, rows.scale)
    return _near(attention(one, rows, lengths, size), _attention(_exact(one, rows), lengths, size))


def _exact(layer: ByteLinear, rows: QuantizedRows) -> Tensor:
    return layer.function(
        layer.sums(rows) * rows.scale + layer.bias + (0 if rows.low is None else rows.low * layer.columns)
    )


def _near(rows: QuantizedRows, expected: Tensor) -> bool:
    """Whether the bytes are within half a step of what is expected."""
    low = rows.scale * -128 if rows.low is None else rows.low
    found = rows.quantized * rows.scale + low
    return bool(((found - expected).abs() <= rows.scale * 0.501 + 1e-5).all())


def _attention(states: Tensor, lengths: list[int], size: int) -> Tensor:
    parts = []
    for own in torch.split(states, lengths):
        query, key, value = own.view(len(own), 3, -1, size).permute(1, 2, 0, 3)  # (heads, length, size)
        parts.append(((query @ key.transpose(1, 2)).softmax(-1) @ value).transpose(0, 1).flatten(1))
    return torch.cat(parts)
