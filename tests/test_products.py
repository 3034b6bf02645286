"""Products in training: oneDNN's against plain PyTorch's, and only where there is something to train."""

import dataclasses
import subprocess
import sys

import pytest
import torch
from torch.nn import functional as F

from albert_cli.model import products
from albert_cli.model.encoder import Encoder
from converters.families import albert

CONFIG = dataclasses.replace(albert.PRESETS["tiny"], hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
ONEDNN = "mkldnn::_linear_pointwise"


@pytest.fixture(autouse=True)
def afresh():
    products._works.cache_clear()
    yield
    products._works.cache_clear()


@pytest.mark.parametrize(
    ("rows", "inputs", "outputs"), [((1,), 1, 1), ((3, 5), 7, 48), ((2, 64), 128, 96), ((200,), 33, 2)]
)
@pytest.mark.parametrize("biased", [True, False])
def test_outputs_and_gradients_are_those_of_pytorch(rows, inputs, outputs, biased):
    torch.manual_seed(0)
    x, weight, bias = torch.randn(*rows, inputs), torch.randn(outputs, inputs), torch.randn(outputs)
    upstream = torch.randn(*rows, outputs)
    found = []
    for product in (products.linear, F.linear):
        parts = [part.clone().requires_grad_() for part in ([x, weight, bias] if biased else [x, weight])]
        output = product(*parts, *([] if biased else [None]))
        found.append([output.detach(), *torch.autograd.grad(output, parts, upstream)])
    for one, other in zip(*found, strict=True):
        assert one.shape == other.shape
        assert (one - other).abs().max() <= 1e-4 * other.abs().max().clamp(min=1)


def operations(encoder, **settings):
    with torch.profiler.profile() as profile, torch.set_grad_enabled(settings.pop("grad", True)):
        output = encoder(torch.arange(12).view(2, 6)).sequence_output
        if output.requires_grad:
            output.sum().backward()
    return {event.key for event in profile.key_averages()}


def test_onednn_computes_but_what_is_exported_or_of_another_precision():
    encoder = Encoder(CONFIG)
    assert products._works()
    assert ONEDNN in operations(encoder.train())
    assert ONEDNN in operations(encoder.eval(), grad=False)

    class Sequence(torch.nn.Module):
        def forward(self, ids):
            return encoder(ids).sequence_output

    exported = torch.export.export(Sequence(), (torch.arange(12).view(2, 6),))
    assert not any("mkldnn" in str(node.target) for node in exported.graph.nodes)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert ONEDNN not in operations(encoder.train())


def test_inference_that_comes_first_computes_as_training_does():
    """Else a run that is resumed at an evaluation ended with other bits."""
    encoder = Encoder(CONFIG).eval()
    with torch.inference_mode():
        assert ONEDNN in operations(encoder, grad=False)
    assert ONEDNN in operations(encoder.train())


def test_what_is_frozen_gets_no_gradient():
    encoder = Encoder(CONFIG).train()
    encoder.layers[0].query.weight.requires_grad_(False)
    encoder(torch.arange(12).view(2, 6)).sequence_output.sum().backward()
    assert encoder.layers[0].query.weight.grad is None
    assert encoder.layers[0].key.weight.grad is not None


@pytest.mark.parametrize("fault", ["missing", "wrong"])
def test_without_the_operator_pytorch_computes(monkeypatch, fault):
    def onednn(x, weight, bias=None):
        if fault == "missing":
            raise AttributeError("no such operator")
        return F.linear(x, weight, bias) + 1

    monkeypatch.setattr(products, "onednn", onednn)
    x, weight, bias = torch.randn(4, 8), torch.randn(6, 8, requires_grad=True), torch.randn(6)
    assert torch.equal(products.linear(x, weight, bias), F.linear(x, weight, bias))


MANY_SHAPES = """
import torch
from albert_cli.model import products

torch.set_num_threads(1)

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 1e6

weight = torch.randn(256, 256, requires_grad=True)
for tokens in range(100, 700):
    products.linear(torch.randn(tokens, 256), weight, None).sum().backward()
    if tokens == 199:
        before = resident()
print(resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells the memory")
def test_batches_of_many_shapes_take_no_memory():
    """600 shapes, each with its products of the gradients: oneDNN and PyTorch by themselves would keep 590 MB."""
    result = subprocess.run([sys.executable, "-c", MANY_SHAPES], capture_output=True, text=True, check=True)
    assert float(result.stdout) <= 100
