"""The packed encoder's linear layers, rows of bytes and attention against formulas; operators that are not there."""

from types import SimpleNamespace

import pytest
import torch

from albert_cli.model import byte_kernels, kernels, packed_attention
from albert_cli.model.encoder import activation
from converters.activations import ACTIVATIONS


def error(a, b):
    return (a - b).abs().max().item()


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_linear_equals_the_formula(act):
    torch.manual_seed(0)
    x, weight, bias, residual = torch.randn(33, 40), torch.randn(24, 40) * 0.2, torch.randn(24), torch.randn(33, 24)
    layer = kernels.linear(weight, bias, act)
    expected = activation(act)(x @ weight.T + bias)
    assert error(layer(x, None), expected) < 2e-5
    assert error(layer(x, residual), expected + residual) < 2e-5


QUANTIZERS = {
    "both ways": byte_kernels.quantize,
    "from the least, plain": byte_kernels._plain_from_low,
    "from the least, fused": byte_kernels._fused_from_low,
}


def rows_again(rows):
    """What rows of bytes stand for, in float64."""
    steps = rows.quantized.double()
    return (steps - 128) * rows.scale if rows.low is None else steps * rows.scale + rows.low


@pytest.mark.parametrize("quantize", QUANTIZERS.values(), ids=QUANTIZERS.keys())
def test_quantize_rounds_to_the_nearest_step(quantize):
    torch.manual_seed(0)
    x = torch.randn(50, 64) * torch.logspace(-3, 3, 50)[:, None]
    x[3] = 0
    x[4] = x[4].clamp(min=-0.17)
    x[5] = 7
    rows = quantize(x)
    assert rows.quantized.dtype == torch.uint8
    assert rows.quantized.is_contiguous()
    assert ((rows_again(rows) - x).abs() <= rows.scale * 0.501 + 1e-5).all()
    spread = x.abs().amax(1) * 2 if rows.low is None else x.amax(1) - x.amin(1)
    assert (rows.scale[:, 0] <= spread / 253 + 1e-6).all()
    assert torch.equal(quantize(x[7:8]).quantized, rows.quantized[7:8])


def test_the_two_ways_to_quantize_from_the_least_value_agree():
    x = torch.nn.functional.gelu(torch.randn(40, 200, generator=torch.Generator().manual_seed(1)))
    plain, fused = byte_kernels._plain_from_low(x), byte_kernels._fused_from_low(x)
    assert (plain.quantized.int() - fused.quantized.int()).abs().max() <= 1
    assert (plain.quantized != fused.quantized).float().mean() < 1e-3
    assert error(plain.scale, fused.scale) < 1e-7
    assert torch.equal(plain.low, fused.low)


@pytest.mark.parametrize("quantize", QUANTIZERS.values(), ids=QUANTIZERS.keys())
@pytest.mark.parametrize("operators", [True, False])
def test_int8_linear_equals_its_formula(quantize, operators, monkeypatch):
    if operators and not byte_kernels._int8_operators_work():
        pytest.skip("this PyTorch or CPU has no exact byte products (VNNI), so they are not used")
    monkeypatch.setattr(byte_kernels, "_int8_operators_work", lambda: operators)
    torch.manual_seed(0)
    x, weight, bias = torch.randn(33, 40), torch.randn(24, 40), torch.randn(24)
    weight[5] = 0
    rows = quantize(x)
    layer = byte_kernels.linear(weight, bias)
    row_scale = (weight.abs().amax(1, keepdim=True) / 127).clamp(min=1e-30).double()
    rounded = (weight / row_scale).round() * row_scale
    expected = rows_again(rows) @ rounded.T + bias
    assert error(layer(rows, None), expected) < 1e-4
    residual = torch.randn(33, 24)
    assert error(layer(rows, residual.clone()), expected + residual) < 1e-4


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("lengths", [[1, 1, 5, 16, 16, 17, 31, 31, 40, 80, 81, 90]])
def test_attention_equals_its_formula(dtype, lengths):
    torch.manual_seed(0)
    heads, size = 3, 64
    packed_rows = torch.randn(sum(lengths), 3 * heads * size)
    packed_rows[:, : heads * size] /= 8
    packed_rows = packed_rows.to(dtype)
    output = packed_attention.attend(packed_rows, lengths, size)
    assert output.dtype == dtype
    start = 0
    for length in lengths:
        own = packed_rows[start : start + length].double()
        query, key, value = own.view(length, 3, heads, size).permute(1, 2, 0, 3)  # queries scaled
        expected = (query @ key.transpose(1, 2)).softmax(-1) @ value
        assert error(output[start : start + length].double(), expected.transpose(0, 1).flatten(1)) < (
            1e-5 if dtype == torch.float32 else 0.03
        )
        start += length


def test_operators_that_compute_something_else_are_not_used(monkeypatch, no_private_operators):
    wrong = SimpleNamespace(
        _reorder_linear_weight=lambda weight: weight,
        _linear_pointwise=lambda x, weight, bias, *rest: x @ weight.T,
        qlinear_prepack=lambda steps, shape: steps,
        embedding_bag_byte_prepack=lambda x: torch.zeros(len(x), x.shape[1] + 8, dtype=torch.uint8),
        qlinear_pointwise=lambda x, a, zero_point, steps, scale, *rest: (x.float() - zero_point) @ steps.float().T,
    )
    monkeypatch.setattr(torch.ops, "mkldnn", wrong)
    monkeypatch.setattr(torch.ops, "onednn", wrong)
    monkeypatch.setattr(torch.ops, "quantized", wrong)
    assert not kernels._operators_work("linear", torch.float32)
    assert not kernels._operators_work("linear", torch.bfloat16)
    assert not byte_kernels._int8_operators_work()
    assert not byte_kernels._fused_rows_work()
