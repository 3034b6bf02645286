"""The graph of a model: PyTorch's exporter, and what is taken out of what it makes."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import torch

from albert_cli.errors import ExportError
from albert_cli.onnx.checking import example
from albert_cli.onnx.heads import Exportable

# The first opset with Gelu and its tanh form, which is ALBERT's.
_OPSET = 20
# A length of 1 in the example would be fixed in the graph; the checks then prove that length 1 works, too.
_EXAMPLE = (2, 7)


def graph_of(model: Exportable) -> bytes:
    """The bytes of the model as ONNX, the same for the same model."""
    positions = model.checkpoint.config.max_tokens
    batch, tokens = _EXAMPLE[0], min(_EXAMPLE[1], positions)
    sizes = [torch.export.Dim("batch"), torch.export.Dim("sequence", max=positions)]
    if model.choices:
        sizes.insert(1, torch.export.Dim("choices"))
    try:
        with quiet("torch.onnx"):
            program = torch.onnx.export(
                model.module,
                tuple(example(model, batch, tokens).values()),
                dynamo=True,
                verbose=False,
                opset_version=_OPSET,
                input_names=list(model.inputs),
                output_names=list(model.outputs),
                dynamic_shapes=(dict(enumerate(sizes)),) * len(model.inputs),
            )
    except torch.onnx.OnnxExporterError as error:
        raise ExportError(f"PyTorch cannot export this model to ONNX ({str(error).splitlines()[0]})") from error
    if program is None:
        raise ExportError("PyTorch's exporter gave no program")
    return as_bytes(program.model_proto)


def as_bytes(made: Any) -> bytes:
    """The bytes of a model, without what was noted for debugging."""
    _strip(made)
    data: bytes = made.SerializeToString(deterministic=True)
    return data


def _strip(message: Any) -> None:
    """Remove what the exporter notes for debugging: paths of this machine, lines of source, names of classes."""
    for name in ("metadata_props", "doc_string"):
        if name in message.DESCRIPTOR.fields_by_name:
            message.ClearField(name)
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in value if field.is_repeated else (value,):
                _strip(part)


@contextlib.contextmanager
def quiet(name: str | None) -> Iterator[None]:
    """Keep a library's remarks on its own workings from the user; `name` is that of its logger, None the root."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
