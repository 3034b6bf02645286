"""Weights in int8: onnxruntime's dynamic quantization, and what it costs.

Matrices have a scale for each column, embeddings one each; activations are quantized while the model runs, with one
scale for all that is computed together. Products of attention, LayerNorm and softmax stay in float32.

A weight takes 7 of the 8 bits: a CPU with AVX2 or AVX-512 but without VNNI adds two products in 16 bits, which overflow
with 8 (255 * 127 * 2 > 32767), as onnxruntime's documentation warns. So the file gives the same on every CPU.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from albert_cli.errors import ExportError
from albert_cli.onnx import texts
from albert_cli.onnx.checking import Runner, example, real
from albert_cli.onnx.graph import as_bytes, quiet
from albert_cli.onnx.heads import Exportable
from converters.messages import listing
from converters.scratch import temporary_directory

KINDS = ("int8",)


@dataclass(frozen=True)
class OutputCost:
    """How an output in int8 compares with that in float32: cosines of its vectors, and the largest difference.

    A vector is what stands at the last axis: a token's, or a row's. Outputs of one value for each token or row
    (`start_logits`, a regression) are one vector as a whole.
    """

    output: str
    mean_cosine: float
    lowest_cosine: float
    max_abs_difference: float


@dataclass(frozen=True)
class Quantized:
    """What quantization did. `texts`: the rows compared were texts, not any ids; `bytes_before`: the float32 file."""

    kind: str
    bytes_before: int
    bytes: int
    rows: int
    texts: bool
    outputs: Sequence[OutputCost]


def quantize(model: Exportable, file: Path, target: Path) -> Quantized:
    """Write the model of a file in int8 to `target`, and remove `file`; what that did. ExportError for NaN."""
    with temporary_directory("albert-onnx-") as folder:
        before = folder / file.name
        shutil.move(file, before)
        target.write_bytes(_quantized(before))
        found = _cost(model, before, target)
    if bad := [cost.output for cost in found.outputs if not math.isfinite(cost.max_abs_difference)]:
        raise ExportError(f"in int8 {listing(bad)} is not finite; export without --quantize")
    return found


def _quantized(file: Path) -> bytes:
    """The model of a file with its matrices and embeddings in int8."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with quiet(None), temporary_directory("albert-onnx-") as folder:
        target = folder / file.name
        quantize_dynamic(
            _folded(onnx.load(file)),
            target,
            op_types_to_quantize=["MatMul", "Gather"],
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
        )
        return as_bytes(onnx.load(target))


def _cost(model: Exportable, before: Path, after: Path) -> Quantized:
    """Compare the two files on fixed English texts, or on any ids where the model has no tokenizer for them."""
    inputs = texts.encoded(model)
    given = inputs if inputs is not None else example(model, 8, min(32, model.checkpoint.config.max_tokens))
    pairs = zip(model.outputs, *(real(model, Runner(file)(given), given) for file in (before, after)), strict=True)
    return Quantized(
        kind=KINDS[0],
        bytes_before=before.stat().st_size,
        bytes=after.stat().st_size,
        rows=len(given["input_ids"]),
        texts=inputs is not None,
        outputs=[_compared(name, one, other) for name, one, other in pairs],
    )


def _compared(name: str, one: Tensor, other: Tensor) -> OutputCost:
    one, other = (x.reshape(1, -1) if x.ndim == 1 or x.shape[-1] == 1 else x for x in (one.double(), other.double()))
    cosines = F.cosine_similarity(one, other, dim=-1)
    return OutputCost(name, float(cosines.mean()), float(cosines.min()), float((one - other).abs().max()))


def _folded(model: Any) -> Any:
    """Weights that are transposed as the model runs are stored transposed, or they would not count as constants."""
    from onnx import numpy_helper

    graph = model.graph
    weights = {weight.name: weight for weight in graph.initializer}
    for node in [node for node in graph.node if node.op_type == "Transpose" and node.input[0] in weights]:
        order = next((list(item.ints) for item in node.attribute if item.name == "perm"), None)
        values = np.ascontiguousarray(numpy_helper.to_array(weights[node.input[0]]).transpose(order))
        graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
        graph.node.remove(node)
    read = {name for node in graph.node for name in node.input}
    for weight in [weight for weight in graph.initializer if weight.name not in read]:
        graph.initializer.remove(weight)
    return model
