"""ONNX: the encoder and pooler for onnxruntime, optimum and transformers.js; written only.

Inputs `input_ids`, `attention_mask`, `token_type_ids`, each int64 (batch, sequence) of any size; outputs
`last_hidden_state` (batch, sequence, H) and, of a model with a pooler, `pooler_output` (batch, H): transformers' names.
Exported by PyTorch, then run by onnxruntime and compared with PyTorch before anything takes its place.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from albert_cli.errors import ExportError
from albert_cli.exporters import Exported
from converters import roles, spec
from converters.checkpoint import Checkpoint
from converters.errors import SpecError
from converters.files import file_errors
from converters.libraries import require_library
from converters.messages import listing
from converters.staging import atomic_write, check_target
from converters.tokenizers.files import FILE_NAMES

if TYPE_CHECKING:
    import torch

    from albert_cli.model.encoder import Encoder

NAME = "onnx"
DESCRIPTION = "ONNX, one file or a directory (model.onnx, config.json, tokenizer): encoder and pooler, for onnxruntime"
SUFFIX = ".onnx"

ALLOWED = 1e-4
_FILE = "model.onnx"
_OURS = re.compile(rf"model\.onnx|config\.json|{FILE_NAMES}")
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_OUTPUTS = ("last_hidden_state", "pooler_output")
# The first opset with Gelu and its tanh form, which is ALBERT's.
_OPSET = 20
# A protocol buffer ends at 2 GiB; graph and names take little.
_MOST_BYTES = 2**31 - 2**24
# A length of 1 in the example would be fixed in the graph; the checks then prove that length 1 works, too.
_EXAMPLE = (2, 7)


def export(checkpoint: Checkpoint, target: Path, *, force: bool = False, source: Path | None = None) -> Exported:
    """Write `target`: one file if it is named .onnx, else a directory with config and tokenizer beside it.

    Raises ExportError where outputs differ by more than `ALLOWED`, and then leaves nothing behind.
    """
    ours = check(target, force=force, source=source)
    from albert_cli.model.loading import load_model
    from converters import convert
    from converters.hf_directory import write_beside

    _check_sizes(checkpoint)
    model = load_model(checkpoint).encoder
    with atomic_write(target, force=force, ours=ours) as beside:
        file = beside if ours is None else beside / _FILE
        file.write_bytes(_exported(model))
        shapes, difference = _compared(model, file)
        if not difference <= ALLOWED:
            raise ExportError(
                f"{target}: onnxruntime's outputs differ from PyTorch's by {difference:.3g}, more than {ALLOWED:g}, so "
                "nothing was kept"
            )
        if ours is not None:
            write_beside(dataclasses.replace(checkpoint, sentence=None), beside)
        size = file.stat().st_size
    parts, sentence = checkpoint.components, checkpoint.sentence
    return Exported(
        source=checkpoint.where,
        target=str(target),
        source_format=checkpoint.format,
        target_format=NAME,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        bytes=size,
        shapes=shapes,
        max_abs_difference=difference,
        allowed_difference=ALLOWED,
        left_out=[
            *(what for part, what in roles.HEADS.items() if part in parts),
            *([f"Sentence-Transformers files ({listing(sentence.files)})"] if sentence else []),
        ],
        tokenizer="none: a directory as target carries it" if ours is None else convert.describe_tokenizer(checkpoint),
    )


def check(target: Path, *, force: bool = False, source: Path | None = None) -> re.Pattern[str] | None:
    """Refuse a target, or a machine, that cannot be written to or with, before any work; the names of our files."""
    for library in ("torch", "onnx", "onnxscript", "onnxruntime"):
        require_library(library, "writing ONNX")
    ours = None if target.suffix.lower() == SUFFIX and not target.is_dir() else _OURS
    sources = [] if source is None else [source, *(source.iterdir() if source.is_dir() else ())]
    with file_errors(target):
        check_target(target, force=force, sources=sources, ours=ours)
    return ours


def _check_sizes(checkpoint: Checkpoint) -> None:
    wanted = spec.spec(checkpoint.config)
    heads = {name for name in checkpoint.tensors if wanted[name].component in roles.HEADS}
    size = 4 * sum(tensor.size for name, tensor in checkpoint.tensors.items() if name not in heads)
    if size > _MOST_BYTES:
        raise SpecError(f"{checkpoint.where}: {size} bytes of weights in float32, more than an ONNX file's 2 GiB")
    positions = checkpoint.config.max_tokens
    if positions < 2:
        raise SpecError(f"{checkpoint.where}: max_position_embeddings is {positions}; ONNX needs at least 2")


def _exported(model: Encoder) -> bytes:
    """The bytes of the model as ONNX, the same for the same model."""
    import torch

    class Outputs(torch.nn.Module):
        """The encoder with its outputs in a plain tuple."""

        def __init__(self) -> None:
            super().__init__()
            self.encoder = model

        def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any) -> tuple[torch.Tensor, ...]:
            output = self.encoder(input_ids, attention_mask, token_type_ids)
            outputs = (output.sequence_output, output.pooled_output)
            return tuple(value for value in outputs if value is not None)

    positions = model.config.max_tokens
    batch, tokens = _EXAMPLE[0], min(_EXAMPLE[1], positions)
    sizes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence", max=positions)}
    try:
        with _quiet():
            program = torch.onnx.export(
                Outputs().eval(),
                _inputs(model, batch, tokens),
                dynamo=True,
                verbose=False,
                opset_version=_OPSET,
                input_names=list(_INPUTS),
                output_names=list(_OUTPUTS[: 1 if model.pooler is None else 2]),
                dynamic_shapes=(sizes,) * len(_INPUTS),
            )
    except torch.onnx.OnnxExporterError as error:
        raise ExportError(f"PyTorch cannot export this model to ONNX ({str(error).splitlines()[0]})") from error
    if program is None:
        raise ExportError("PyTorch's exporter gave no program")
    made = program.model_proto
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
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks on its own workings and on libraries that are not needed from the user."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


def _inputs(model: Encoder, batch: int, tokens: int) -> tuple[torch.Tensor, ...]:
    """Any ids, two segments, and rows that are padded more and more; the same for the same sizes."""
    import torch

    config = model.config
    places = torch.arange(batch * tokens).reshape(batch, tokens)
    ids = places * 7919 % config.vocab_size
    lengths = torch.tensor([max(1, tokens - row * tokens // (batch + 1)) for row in range(batch)])
    mask = (torch.arange(tokens) < lengths[:, None]).long()
    types = (torch.arange(tokens) >= tokens // 2).long().expand(batch, tokens) % config.type_vocab_size
    return ids, mask, types.contiguous()


def _compared(model: Encoder, file: Path) -> tuple[list[tuple[int, int]], float]:
    """Run the file on inputs of several shapes; the largest difference from PyTorch at tokens that are not padding."""
    import onnxruntime
    import torch

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    most = model.config.max_tokens
    shapes = sorted({(batch, min(tokens, most)) for batch, tokens in ((1, 1), (1, 16), (3, 5), (2, 128), (1, most))})
    largest = 0.0
    for batch, tokens in shapes:
        inputs = _inputs(model, batch, tokens)
        found = session.run(None, {name: value.numpy() for name, value in zip(_INPUTS, inputs, strict=True)})
        with torch.inference_mode():
            wanted = model(*inputs)
        real = inputs[1].bool()
        pairs = [(torch.from_numpy(found[0])[real], wanted.sequence_output[real])]
        if wanted.pooled_output is not None:
            pairs.append((torch.from_numpy(found[1]), wanted.pooled_output))
        largest = max(largest, *(float((one - other).abs().max()) for one, other in pairs))
    return shapes, largest
