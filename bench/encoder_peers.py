"""Other encoders than ours for bench/embed.py: each gives mean vectors of rows of ids, or why it is not here.

All take the same directory of Hugging Face's, and rows sorted by length.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

Ids = list[list[int]]
# Rows and how many of them make a batch -> mean vectors (rows, H)
Side = Callable[[Ids, int], torch.Tensor]
# input_ids and attention_mask (rows, width) -> hidden states (rows, width, H)
Run = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

BATCHES = (2, 4, 8, 16, 32)


def makers(folder: Path, family: str, threads: int, scratch: Path) -> dict[str, Callable[[], Side | str]]:
    """What makes each peer, by name."""
    peers: dict[str, Callable[[], Side | str]] = {
        "transformers fp32": partial(_transformers, folder, torch.float32),
        "transformers bf16": partial(_transformers, folder, torch.bfloat16),
        "ONNX Runtime fp32": partial(_onnx_runtime, folder, threads, scratch, quantized=False),
        "ONNX Runtime int8": partial(_onnx_runtime, folder, threads, scratch, quantized=True),
        "OpenVINO f32": partial(_openvino, folder, threads, scratch, "f32"),
        "OpenVINO default": partial(_openvino, folder, threads, scratch, None),
    }
    if family == "bert":  # CTranslate2 has no ALBERT
        for kind in ("float32", "int8", "bfloat16"):
            peers[f"CTranslate2 {kind}"] = partial(_ctranslate2, folder, threads, scratch, kind)
    return peers


def _padded(run: Run) -> Side:
    """Batches of rows by length, padded to the longest."""

    def side(ids: Ids, size: int) -> torch.Tensor:
        vectors = torch.empty(0)
        for numbers, batch in _sorted_batches(ids, size):
            tokens = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in batch], batch_first=True)
            mask = torch.arange(tokens.shape[1]) < torch.tensor([len(row) for row in batch])[:, None]
            means = _means(run(tokens, mask.long()), mask)
            if not len(vectors):
                vectors = torch.empty(len(ids), means.shape[1])
            vectors[numbers] = means
        return vectors

    return side


def _sorted_batches(ids: Ids, size: int) -> Iterator[tuple[list[int], Ids]]:
    order = sorted(range(len(ids)), key=lambda n: len(ids[n]))
    for start in range(0, len(ids), size):
        numbers = order[start : start + size]
        yield numbers, [ids[n] for n in numbers]


def _means(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return (states.float() * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


def _model(folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers.AutoModel.from_pretrained(folder, dtype=dtype).eval()


def _transformers(folder: Path, dtype: torch.dtype) -> Side:
    model = _model(folder, dtype)
    return _padded(lambda ids, mask: model(input_ids=ids, attention_mask=mask).last_hidden_state)


def _export(folder: Path, scratch: Path) -> Path:
    path = scratch / "model.onnx"
    if not path.is_file():
        model = _model(folder)
        example, mask = torch.ones(2, 2, 16, dtype=torch.int64)
        mask[1, 9:] = 0  # of ones alone, transformers leaves the mask out of the graph

        class Wrapped(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.model = model

            def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
                states: torch.Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
                return states

        dims = {0: torch.export.Dim("batch"), 1: torch.export.Dim("tokens", max=512)}
        torch.onnx.export(
            Wrapped(),
            (example, mask),
            str(path),
            input_names=["input_ids", "attention_mask"],
            output_names=["last_hidden_state"],
            dynamic_shapes=(dims, dims),
            dynamo=True,
            verbose=False,
        )
    return path


def _onnx_runtime(folder: Path, threads: int, scratch: Path, *, quantized: bool) -> Side | str:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  (what torch.onnx.export needs)
    except ImportError as error:
        return f"not installed ({error.name})"
    path = _export(folder, scratch)
    if quantized:
        from onnxruntime.quantization import quantize_dynamic

        source, path = path, scratch / "model.int8.onnx"
        if not path.is_file():
            quantize_dynamic(source, path, per_channel=True, op_types_to_quantize=["MatMul", "Gemm"])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        feeds = {"input_ids": ids.numpy(), "attention_mask": mask.numpy()}
        return torch.from_numpy(session.run(None, feeds)[0])

    return _padded(run)


def _openvino(folder: Path, threads: int, scratch: Path, precision: str | None) -> Side | str:
    try:
        import onnxscript  # noqa: F401
        import openvino as ov
    except ImportError as error:
        return f"not installed ({error.name})"
    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    if precision:
        settings["INFERENCE_PRECISION_HINT"] = precision
    compiled = ov.Core().compile_model(str(_export(folder, scratch)), "CPU", settings)

    def run(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(compiled([ids.numpy(), mask.numpy()])[0])

    return _padded(run)


def _ctranslate2(folder: Path, threads: int, scratch: Path, kind: str) -> Side | str:
    try:
        import ctranslate2
    except ImportError as error:
        return f"not installed ({error.name})"
    target = scratch / f"ctranslate2-{kind}"
    if not target.is_dir():
        _to_ctranslate2(folder, scratch / "for-ctranslate2", target, kind)
    if kind not in ctranslate2.get_supported_compute_types("cpu"):
        return f"does not compute in {kind} here"
    encoder = ctranslate2.Encoder(str(target), device="cpu", compute_type=kind, inter_threads=1, intra_threads=threads)

    def side(ids: Ids, size: int) -> torch.Tensor:
        # It leaves padding out of the products by itself.
        vectors = torch.empty(0)
        for numbers, batch in _sorted_batches(ids, size):
            output = encoder.forward_batch(batch).last_hidden_state
            if kind == "bfloat16":
                output = output.to(ctranslate2.DataType.float32)
            states = torch.from_numpy(np.array(output))
            mask = torch.arange(states.shape[1]) < torch.tensor([len(row) for row in batch])[:, None]
            means = _means(states, mask)
            if not len(vectors):
                vectors = torch.empty(len(ids), means.shape[1])
            vectors[numbers] = means
        return vectors

    return side


def _to_ctranslate2(folder: Path, copy: Path, target: Path, kind: str) -> None:
    from ctranslate2.converters import TransformersConverter

    if not copy.is_dir():
        shutil.copytree(folder, copy)
        config = json.loads((copy / "config.json").read_text())
        config["position_embedding_type"] = "absolute"  # transformers 5 writes it no more, the converter asks for it
        (copy / "config.json").write_text(json.dumps(config))
        if not (copy / "vocab.txt").is_file():
            special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
            names = special + [f"w{n}" for n in range(config["vocab_size"] - len(special))]
            (copy / "vocab.txt").write_text("\n".join(names))
            (copy / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    TransformersConverter(str(copy)).convert(str(target), quantization=kind)
