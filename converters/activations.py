"""Activations by the names that configs have for them. Several names mean one function."""

from __future__ import annotations

from collections.abc import Mapping

# Name in a config (`hidden_act`) -> the function, which PyTorch (model.encoder, model.kernels) and TensorFlow
# (tensorflow.module) each have a table of. Google's code knows linear, relu, gelu (our gelu_new) and tanh; the rest are
# Hugging Face's names.
ACTIVATIONS: Mapping[str, str] = {
    "gelu": "gelu",
    "gelu_accurate": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_python": "gelu",
    "gelu_python_tanh": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "hardswish": "hardswish",
    "leaky_relu": "leaky_relu",
    "linear": "linear",
    "mish": "mish",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
    "relu2": "relu2",
    "relu6": "relu6",
    "sigmoid": "sigmoid",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}
