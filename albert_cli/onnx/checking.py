"""An ONNX file run by onnxruntime on inputs of many shapes, and compared with PyTorch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from albert_cli.onnx.heads import Exportable

CHOICES = 3


def example(model: Exportable, batch: int, tokens: int) -> dict[str, Tensor]:
    """Any ids, two segments, and rows that are padded more and more, by input; the same for the same sizes."""
    config = model.checkpoint.config
    rows = batch * CHOICES if model.choices else batch
    places = torch.arange(rows * tokens).reshape(rows, tokens)
    lengths = torch.tensor([max(1, tokens - row * tokens // (rows + 1)) for row in range(rows)])
    mask = torch.arange(tokens) < lengths[:, None]
    padding = max(0, config.position_offset - 1)  # by its id RoBERTa finds the positions
    types = (torch.arange(tokens) >= tokens // 2).long().expand(rows, tokens) % config.type_vocab_size
    found = {
        "input_ids": torch.where(mask, places * 7919 % config.vocab_size, padding),
        "attention_mask": mask.long(),
        "token_type_ids": types.contiguous(),
    }
    return {name: shaped(model, found[name]) for name in model.inputs}


def shaped(model: Exportable, values: Tensor) -> Tensor:
    """Rows (rows, sequence) as the model takes them."""
    return values.reshape(-1, CHOICES, values.shape[1]) if model.choices else values


class Runner:
    """A file in onnxruntime, on the CPU."""

    def __init__(self, file: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self._session: Any = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])

    def __call__(self, inputs: Mapping[str, Tensor]) -> list[Tensor]:
        """The outputs, in their order."""
        found = self._session.run(None, {name: value.numpy() for name, value in inputs.items()})
        return [torch.from_numpy(value) for value in found]


def compared(model: Exportable, file: Path) -> tuple[list[tuple[int, ...]], float, float]:
    """Run the file on inputs of several shapes, which are returned; the largest difference from PyTorch where there is
    no padding, NaN where either gives any; and the largest value of PyTorch's.
    """
    runner, most = Runner(file), model.checkpoint.config.max_tokens
    shapes, gaps, sizes = [], [], []
    for batch, tokens in sorted({(n, min(m, most)) for n, m in ((1, 1), (1, 16), (3, 5), (2, 128), (1, most))}):
        inputs = example(model, batch, tokens)
        shapes.append(tuple(inputs["input_ids"].shape))
        with torch.inference_mode():
            wanted = model.module(*inputs.values())
        pairs = zip(*(real(model, outputs, inputs) for outputs in (runner(inputs), wanted)), strict=True)
        for one, other in pairs:
            gaps.append((one - other).abs().max())
            sizes.append(other.abs().max())
    return shapes, float(torch.stack(gaps).max()), float(torch.stack(sizes).max())


def real(model: Exportable, outputs: Sequence[Tensor], inputs: Mapping[str, Tensor]) -> list[Tensor]:
    """The outputs, those that are of every token at real ones alone: (tokens, …)."""
    mask = inputs["attention_mask"].bool()
    return [output[mask] if each else output for output, each in zip(outputs, model.of_tokens, strict=True)]
