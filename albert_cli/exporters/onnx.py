"""ONNX: the encoder and pooler, or a model with one head, for onnxruntime, optimum and transformers.js; written only.

Inputs `input_ids`, `attention_mask` and, of a model of several token types, `token_type_ids`, each int64 (batch,
sequence) of any size, of a multiple choice (batch, choices, sequence). Outputs by transformers' names:
`last_hidden_state` (batch, sequence, H) and, of a model with a pooler, `pooler_output` (batch, H); with a head
`logits`, of question answering `start_logits` and `end_logits`, each (batch, sequence).
Exported by PyTorch, then run by onnxruntime and compared with PyTorch before anything takes its place.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from albert_cli.errors import ExportError
from albert_cli.exporters import AUTO, Exported
from converters.checkpoint import Checkpoint
from converters.errors import SpecError
from converters.files import file_errors
from converters.hf_directory import OWN_HEAD, write_beside
from converters.libraries import require_library
from converters.messages import is_text, listing
from converters.roles import HEADS
from converters.staging import atomic_write, check_target
from converters.tokenizers.files import FILE_NAMES

if TYPE_CHECKING:
    from albert_cli.onnx.heads import Exportable

NAME = "onnx"
DESCRIPTION = "ONNX, one file or a directory (model.onnx, config.json, tokenizer): encoder, or model with one head"
SUFFIX = ".onnx"

ALLOWED = 1e-4
# Of values above 10, such as logits of words, float32 has fewer digits behind the point.
_OF_LARGEST = 1e-5
# Where optimum and transformers.js look for them.
_FILE, _QUANTIZED = "model.onnx", "model_quantized.onnx"
_OURS = re.compile(rf"model(_quantized)?\.onnx|config\.json|{FILE_NAMES}")
# A protocol buffer ends at 2 GiB; graph and names take little.
_MOST_BYTES = 2**31 - 2**24


def export(
    checkpoint: Checkpoint,
    target: Path,
    *,
    force: bool = False,
    source: Path | None = None,
    head: str = AUTO,
    quantize: str | None = None,
) -> Exported:
    """Write `target`: one file if it is named .onnx, else a directory with config and tokenizer beside it.

    `head` as `albert_cli.onnx.heads.chosen`. `quantize` "int8": the weights of matrices and embeddings in int8, once
    the float32 graph is found right. Raises ExportError where outputs differ by more than `ALLOWED`, or of large values
    1e-5 of the largest, and for a head that is not there; then nothing is left behind.
    """
    ours = check(target, force=force, source=source)
    from albert_cli.onnx import graph, heads, quantization
    from albert_cli.onnx.checking import compared

    name = heads.chosen(checkpoint, head, source)
    _check_sizes(heads.only(checkpoint, name))
    model = heads.exportable(checkpoint, name, source)
    with atomic_write(target, force=force, ours=ours) as beside:
        file = beside if ours is None else beside / _FILE
        file.write_bytes(graph.graph_of(model))
        shapes, difference, largest = compared(model, file)
        allowed = max(ALLOWED, _OF_LARGEST * largest)
        if not difference <= allowed:
            raise ExportError(
                f"{target}: onnxruntime's outputs differ from PyTorch's by {difference:.3g}, more than {allowed:.3g}, "
                "so nothing was kept"
            )
        cost = None
        if quantize:
            into = file if ours is None else beside / _QUANTIZED
            file, cost = into, quantization.quantize(model, file, into)
        if ours is not None:
            write_beside(model.checkpoint, beside)
        size = file.stat().st_size
    return Exported(
        source=checkpoint.where,
        target=str(target),
        source_format=checkpoint.format,
        target_format=NAME,
        head=model.head,
        title=model.title,
        inputs=model.inputs,
        outputs=model.outputs,
        parameters=sum(parameter.numel() for parameter in model.module.parameters()),
        bytes=size,
        shapes=shapes,
        max_abs_difference=difference,
        allowed_difference=allowed,
        quantized=cost,
        left_out=_left_out(checkpoint, model),
        dropped={what: count for what, count in checkpoint.dropped.items() if not (model.mlp and what == OWN_HEAD)},
        tokenizer=_tokenizer(checkpoint, one_file=ours is None),
        notes=[*checkpoint.notes, *checkpoint.tokenizer.notes],
    )


def _left_out(checkpoint: Checkpoint, model: Exportable) -> list[str]:
    """What the model has and the export has not."""
    parts, held, sentence = checkpoint.components, model.checkpoint.components, checkpoint.sentence
    return [
        *(what for part, what in HEADS.items() if part in parts and part not in held),
        *([f"Sentence-Transformers files ({listing(sentence.files)})"] if sentence else []),
    ]


def _tokenizer(checkpoint: Checkpoint, *, one_file: bool) -> str:
    from converters.convert import describe_tokenizer

    if one_file and checkpoint.tokenizer:
        return "left out, as one file has no place for it; name a directory to have it beside model.onnx"
    return describe_tokenizer(checkpoint)


def check(target: Path, *, force: bool = False, source: Path | None = None) -> re.Pattern[str] | None:
    """Refuse a target, or a machine, that cannot be written to or with, before any work; the names of our files."""
    if not is_text(str(target)):
        raise ExportError(
            target, "a name that is not UTF-8, which onnxruntime cannot open to check it", "rename the file afterwards"
        )
    for library in ("torch", "onnx", "onnxscript", "onnxruntime"):
        require_library(library, "writing ONNX")
    ours = None if target.suffix.lower() == SUFFIX and not target.is_dir() else _OURS
    sources = [] if source is None else [source, *(source.iterdir() if source.is_dir() else ())]
    with file_errors(target):
        check_target(target, force=force, sources=sources, ours=ours)
    return ours


def _check_sizes(checkpoint: Checkpoint) -> None:
    size = sum(tensor.nbytes for tensor in checkpoint.tensors.values())
    if size > _MOST_BYTES:
        raise SpecError(f"{checkpoint.where}: {size} bytes of weights in float32, more than an ONNX file's 2 GiB")
    positions = checkpoint.config.max_tokens
    if positions < 2:
        raise SpecError(f"{checkpoint.where}: max_position_embeddings is {positions}; ONNX needs at least 2")
