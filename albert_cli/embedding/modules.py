"""What a Sentence-Transformers model does after the pooling: its Dense and LayerNorm layers, and Normalize."""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from converters.errors import CorruptError

if TYPE_CHECKING:
    from converters.sentence_files import SentenceFiles, Step


class Modules:
    """The steps in their order, in fp32 on the processor. Raises CorruptError for weights that are none or do not fit.

    `digest` is the SHA-256 of what they compute; empty where there is no step.
    """

    def __init__(self, steps: tuple[Step, ...], files: SentenceFiles | None, where: str) -> None:
        self.steps = steps
        self._weights = [_weights(step, files, where) if files else {} for step in steps]
        sha = hashlib.sha256()
        for step, weights in zip(steps, self._weights, strict=True):
            sha.update(repr((step.kind, step.activation, step.residual)).encode())
            for name, tensor in sorted(weights.items()):
                sha.update(f"{name} {list(tensor.shape)}".encode() + tensor.numpy().tobytes())
        self.digest = sha.hexdigest() if steps else ""

    @torch.inference_mode()
    def __call__(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Vectors (rows, numbers after the pooling) to vectors (rows, numbers after the last step)."""
        found = torch.from_numpy(vectors)
        for step, weights in zip(self.steps, self._weights, strict=True):
            found = _applied(step, weights, found)
        return found.numpy()

    def describe(self) -> str:
        return ", ".join(step.describe() for step in self.steps)


def _applied(step: Step, weights: Mapping[str, Tensor], vectors: Tensor) -> Tensor:
    if step.kind == "Normalize":
        return nn.functional.normalize(vectors, dim=-1)
    if step.kind == "LayerNorm":
        return nn.functional.layer_norm(vectors, (step.inputs,), weights["norm.weight"], weights["norm.bias"])
    linear = nn.functional.linear(vectors, weights["linear.weight"], weights.get("linear.bias"))
    found: Tensor = getattr(nn, step.activation)()(linear)
    if not step.residual:
        return found
    projection = weights.get("residual.weight")
    return found + (vectors if projection is None else nn.functional.linear(vectors, projection))


def _shapes(step: Step) -> dict[str, tuple[int, ...]]:
    """The weights of a step by their names in its file."""
    if step.kind == "Normalize":
        return {}
    if step.kind == "LayerNorm":
        return {"norm.weight": (step.inputs,), "norm.bias": (step.inputs,)}
    shapes: dict[str, tuple[int, ...]] = {"linear.weight": (step.outputs, step.inputs)}
    shapes |= {"linear.bias": (step.outputs,)} if step.bias else {}
    projected = step.residual and step.inputs != step.outputs
    return shapes | ({"residual.weight": (step.outputs, step.inputs)} if projected else {})


def _weights(step: Step, files: SentenceFiles, where: str) -> dict[str, Tensor]:
    found, wanted = files.weights(step), _shapes(step)
    if not wanted or found is None:
        return {}
    name, content = found
    stored = _read(content, name, where)
    shapes = {key: tuple(tensor.shape) for key, tensor in stored.items()}
    if shapes != wanted:
        raise CorruptError(where, f"{name} holds {_shown(shapes)}, and its config.json asks for {_shown(wanted)}")
    return {key: tensor.detach().float() for key, tensor in stored.items()}


def _read(content: bytes, name: str, where: str) -> dict[str, Tensor]:
    """The tensors of a file of weights."""
    import safetensors.torch

    try:
        if name.endswith(".safetensors"):
            tensors: dict[str, Tensor] = safetensors.torch.load(content)
            return tensors
        found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (safetensors.SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).split("\n", maxsplit=1)[0]
        raise CorruptError(where, f"{name} is no sound file of weights ({reason})") from None
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        raise CorruptError(where, f"{name} holds no weights by name")
    return dict(found)


def _shown(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{key} {list(shape)}" for key, shape in sorted(shapes.items())) or "nothing"
