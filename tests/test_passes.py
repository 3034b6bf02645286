"""The compiled passes between products of bytes against formulas, with every set of instructions that is here."""

import pytest
import torch
from torch import nn

from albert_cli.model import passes
from albert_cli.model.byte_kernels import ByteLinear, QuantizedRows
from albert_cli.model.encoder import activation

if passes._library() is None:
    pytest.skip("passes.c was not compiled at installation", allow_module_level=True)

LEVELS = {"plain": 0, "AVX2": 1, "AVX-512": 2}


@pytest.fixture(params=LEVELS.values(), ids=LEVELS.keys(), autouse=True)
def instructions(request):
    """Only these, or fewer."""
    used = passes._library().albert_instructions(request.param)
    yield
    passes._library().albert_instructions(2)
    if used != request.param:
        pytest.skip(f"this CPU has no more than level {used}")


def layer_of(sums, act="linear"):
    width = sums.shape[1]
    return ByteLinear(lambda x, zero_point: sums, torch.randn(width), torch.randn(width), act, activation(act))


def rows_of(count, low):
    return QuantizedRows(
        torch.empty(0, dtype=torch.uint8), torch.rand(count, 1) + 0.5, torch.randn(count, 1) if low else None
    )


def numbers(rows):
    steps = rows.quantized.double()
    return (steps - 128) * rows.scale if rows.low is None else steps * rows.scale + rows.low


def exact(layer, rows):
    sums = layer.sums(rows).double() * rows.scale + layer.bias
    return layer.function(sums if rows.low is None else sums + rows.low.double() * layer.columns)


def assert_near(rows, expected):
    """Each number is the nearest step, and the steps reach from end to end."""
    assert ((numbers(rows) - expected).abs() <= rows.scale * 0.501 + 1e-5).all()
    spread = expected.abs().amax(1) * 2 if rows.low is None else expected.amax(1) - expected.amin(1)
    assert (rows.scale[:, 0] <= spread / 253 + 1e-6).all()


@pytest.mark.parametrize("low", [False, True])
@pytest.mark.parametrize("act", ["linear", "relu", "gelu", "gelu_new"])
@pytest.mark.parametrize("width", [1, 15, 16, 100, 1000])
def test_activate(act, width, low):
    torch.manual_seed(width)
    layer, rows = layer_of(torch.randn(9, width) * 3, act), rows_of(9, low)
    assert_near(passes.activate(layer, rows), exact(layer, rows))


@pytest.mark.parametrize("act", ["gelu", "gelu_new"])
def test_gelu_is_within_3e_6_of_its_formula(act):
    """Rows of two numbers are given exactly: the least is `low`, the largest 255 steps above it."""
    x = torch.linspace(-9, 9, 20001)
    sums = torch.stack([x, torch.full_like(x, 100.0)], 1)  # GELU of 100 is 100
    layer = ByteLinear(lambda rows, zero_point: sums, torch.zeros(2), torch.zeros(2), act, activation(act))
    rows = QuantizedRows(torch.empty(0, dtype=torch.uint8), torch.ones(len(x), 1))
    found = passes.activate(layer, rows).low[:, 0].double()
    assert (found - activation(act)(x.double())).abs().max() < 3e-6


@pytest.mark.parametrize("low", [False, True])
@pytest.mark.parametrize("width", [1, 48, 130])
def test_norm(width, low):
    torch.manual_seed(width)
    layer, rows, residual = layer_of(torch.randn(7, width)), rows_of(7, low), torch.randn(7, width)
    last = nn.LayerNorm(width, eps=1e-3)
    nn.init.normal_(last.weight)
    nn.init.normal_(last.bias)
    output, new = passes.norm(layer, rows, residual, last)
    expected = last.double()(exact(layer, rows) + residual).detach()
    assert (output - expected).abs().max() < 1e-5
    assert_near(new, expected)


@pytest.mark.parametrize("size", [16, 32, 48, 64, 128])
def test_attention(size):
    torch.manual_seed(size)
    lengths, heads = [1, 1, 3, 4, 15, 16, 17, 31, 32, 33, 48, 64, 81, 130], 2
    M, H = sum(lengths), heads * size
    layer, rows = layer_of(torch.randn(M, 3 * H)), rows_of(M, low=False)
    found = passes.attention(layer, rows, lengths, size)
    expected = []
    for own in exact(layer, rows).split(lengths):
        query, key, value = own.view(len(own), 3, heads, size).permute(1, 2, 0, 3)
        expected.append(((query @ key.transpose(1, 2)).softmax(-1) @ value).transpose(0, 1).flatten(1))
    assert_near(found, torch.cat(expected))


def test_scores_far_apart():
    """exp of what lies far below the largest score is 0."""
    sums = torch.zeros(3, 48)
    sums[:, :16], sums[:, 32:] = 1e3, torch.arange(3.0)[:, None]
    sums[2, 16:32] = 1e3
    layer = ByteLinear(lambda x, zero_point: sums, torch.zeros(48), torch.zeros(48), "linear", activation("linear"))
    rows = QuantizedRows(torch.empty(0, dtype=torch.uint8), torch.ones(3, 1))
    assert (numbers(passes.attention(layer, rows, [3], 16)) - 2).abs().max() < 1e-6


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_are_none_stay_so(bad):
    """They must reach the check of the finished vectors."""
    sums = torch.randn(4, 96)
    sums[2, 5] = bad
    rows = rows_of(4, low=False)
    assert not torch.isfinite(passes.activate(layer_of(sums), rows).scale[2])
    output, new = passes.norm(layer_of(sums), rows, torch.zeros(4, 96), nn.LayerNorm(96))
    assert not torch.isfinite(output[2]).any()
    assert not torch.isfinite(new.scale[2])
    assert torch.isfinite(output[[0, 1, 3]]).all()
    assert torch.isnan(passes.attention(layer_of(sums), rows, [4], 32).scale).any()


def test_what_disagrees_is_not_used(monkeypatch):
    passes._agrees.cache_clear()
    assert passes.work()
    passes._agrees.cache_clear()
    monkeypatch.setattr(passes, "_near", lambda rows, expected: False)
    assert not passes.work()
    passes._agrees.cache_clear()


def test_a_file_of_another_machine_is_not_loaded(monkeypatch):
    def fail(path):
        raise OSError("wrong ELF class")

    passes._library.cache_clear()
    monkeypatch.setattr(passes.ctypes, "CDLL", fail)
    assert passes._library() is None
    assert not passes.work()
    monkeypatch.undo()
    passes._library.cache_clear()
    assert passes._library() is not None
