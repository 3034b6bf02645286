"""From a checkpoint of any format to a PyTorch model, and back."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from albert_cli.model import task_heads
from albert_cli.model.pretraining_heads import PreTrainingModel
from albert_cli.phases import phase
from converters import spec
from converters.checkpoint import Array, Checkpoint, Tensor, same_bits
from converters.config import EncoderConfig
from converters.errors import SpecError
from converters.families import family_of
from converters.messages import listing
from converters.roles import HEADS
from converters.tokenizers.files import TokenizerFiles

# numpy has no bfloat16 of its own, so its two bytes cross as int16.
_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
_NUMPY_DTYPES = {
    torch.float64: np.dtype(np.float64),
    torch.float32: np.dtype(np.float32),
    torch.float16: np.dtype(np.float16),
    torch.bfloat16: _BFLOAT16,
}


@phase("loading the model")
def load_model(
    path_or_checkpoint: str | Path | Checkpoint,
    *,
    format: str | None = None,
    dtype: torch.dtype = torch.float32,
) -> PreTrainingModel:
    """The encoder with the pooler and pre-training heads that the checkpoint holds, in eval mode on the CPU.

    The weights are cast to `dtype`. Heads of fine-tuned models (classification, question answering) are not part of
    this model and stay in the checkpoint. Raises AlbertError's children (SpecError: tensors that do not
    fit the config, or differ where `config.share` ties them).
    """
    checkpoint = _checkpoint(path_or_checkpoint, format)
    parts = checkpoint.components
    places = next((name for name, item in spec.spec(checkpoint.config).items() if item.role == "sbo.positions"), "")
    with shapes_only():
        model = PreTrainingModel(
            checkpoint.config,
            pooler="pooler" in parts,
            mlm="mlm" in parts,
            pair=family_of(checkpoint.config).pair in parts,
            rtd="rtd" in parts,
            spans=checkpoint.tensors[places].shape[0] if "sbo" in parts else 0,
            untied=untied(checkpoint),
        )
    assign(model, checkpoint, dtype=dtype)
    return model.eval()


@phase("loading the model")
def load_task_model(
    path_or_checkpoint: str | Path | Checkpoint, *, format: str | None = None, dtype: torch.dtype = torch.float32
) -> nn.Module:
    """The encoder with the head of a fine-tuned model (`albert_cli.model.task_heads`), in eval mode on the CPU.

    As `load_model`; SpecError where there is no such head, or one that has no module here.
    """
    checkpoint = _checkpoint(path_or_checkpoint, format)
    config, parts = checkpoint.config, checkpoint.components
    labels = checkpoint.labels or 0
    makers: dict[str, Callable[[], nn.Module]] = {
        "classifier": lambda: task_heads.Classifier(config, labels),
        "first_token": lambda: task_heads.FirstTokenClassifier(config, labels),
        "tokens": lambda: task_heads.TokenClassifier(config, labels),
        "choice": lambda: task_heads.MultipleChoice(config, summary="summary" in parts),
        "qa": lambda: task_heads.QuestionAnswering(config),
    }
    kind = next((kind for kind in makers if kind in parts), None)
    if kind is None:
        held = ", ".join(HEADS[part] for part in parts if part in HEADS) or "none"
        raise SpecError(checkpoint.where, f"no head of a fine-tuned model that is computed here (heads: {held})")
    with shapes_only():
        model = makers[kind]()
    assign(model, checkpoint, dtype=dtype)
    return model.eval()


def _checkpoint(path_or_checkpoint: str | Path | Checkpoint, format: str | None) -> Checkpoint:
    if isinstance(path_or_checkpoint, Checkpoint):
        checkpoint = path_or_checkpoint
    else:
        from converters import convert

        checkpoint = convert.load(path_or_checkpoint, format=format)
    spec.check(checkpoint.config, {name: tensor.shape for name, tensor in checkpoint.tensors.items()}, checkpoint.where)
    return checkpoint


def untied(checkpoint: Checkpoint) -> list[str]:
    """What of `weight` and `bias` the masked-word head has of its own, untied (`model.pretraining_heads`)."""
    wanted = spec.spec(checkpoint.config)
    own = [name for name in checkpoint.tensors if name in wanted and wanted[name].role == "mlm.decoder"]
    return [wanted[name].attribute.rpartition(".")[2] for name in own]


class _SkipInit(TorchFunctionMode):
    """Leaves out what torch.nn.init does."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def shapes_only() -> Iterator[None]:
    """Modules made within have parameters on the meta device, without values.

    Drawing these would draw nothing, but torch imports its compiler for it, which takes longer than loading a model.
    """
    with torch.device("meta"), _SkipInit():
        yield


def assign(model: nn.Module, checkpoint: Checkpoint, *, dtype: torch.dtype = torch.float32) -> None:
    """Replace the parameters of `model`, whose names are roles, by the checkpoint's, one array at a time.

    Tensors that the model does not name are left alone. Parameters on the meta device become real ones on the CPU.
    Raises SpecError, and changes nothing, where the checkpoint lacks a tensor or holds different values under the
    names of one shared parameter.
    """
    canonical = spec.canonical_names(checkpoint.config)
    attributes: dict[nn.Parameter, dict[str, str]] = {}  # of each parameter, by canonical name
    for name, parameter in model.named_parameters(remove_duplicate=False):
        attributes.setdefault(parameter, {})[canonical.get(name, name)] = name
    missing = [name for names in attributes.values() for name in names if name not in checkpoint.tensors]
    if missing:
        raise SpecError(f"{checkpoint.where}: has no {listing(missing)}, which the model needs")
    state: dict[str, torch.Tensor] = {}
    differing = []
    for names in attributes.values():
        first, *copies = names
        array = checkpoint.tensors[first].read()
        differing += [
            f"{name} differs from {first}" for name in copies if not same_bits(array, checkpoint.tensors[name].read())
        ]
        state |= dict.fromkeys(names.values(), _to_torch(array).to(dtype))
    if differing:
        raise SpecError(
            f"{checkpoint.where}: share is {checkpoint.config.share!r}, yet {listing(differing, separator='; ')}; "
            "set share to 'none' in its config if every layer has weights of its own"
        )
    model.load_state_dict(state, assign=True)


def to_checkpoint(
    model: nn.Module, config: EncoderConfig, tokenizer: TokenizerFiles, global_step: int | None = None
) -> Checkpoint:
    """The model's weights under their canonical names, in the order of computation; names outside the spec: SpecError.

    On the CPU the arrays are the weights themselves, read when asked for: save before training on.
    """
    canonical = spec.canonical_names(config)
    state = {canonical.get(name, name): tensor for name, tensor in model.state_dict().items()}
    spec.check(config, {name: tuple(tensor.shape) for name, tensor in state.items()}, "the model")
    tensors = {
        name: Tensor(tuple(state[name].shape), _NUMPY_DTYPES[state[name].dtype], partial(_to_numpy, state[name]))
        for name in canonical.values()
        if name in state
    }
    return Checkpoint(config, tensors, tokenizer, global_step=global_step, where="the model")


def _to_torch(array: Array) -> torch.Tensor:
    bfloat16 = array.dtype == _BFLOAT16
    if bfloat16:
        array = array.view(np.int16)
    # torch may write to its weights, so an array that must not be written to is copied.
    tensor = torch.from_numpy(array) if array.flags.writeable else torch.tensor(array)
    return (tensor.view(torch.bfloat16) if bfloat16 else tensor).contiguous()


def _to_numpy(tensor: torch.Tensor) -> Array:
    tensor = tensor.detach().cpu()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(_BFLOAT16)
    array: Array = tensor.numpy()
    return array
