"""The state of an unfinished run in one file, written whole or not at all: weights, optimizer, generators, place.

A safetensors file, so that nothing in it is executed; what is no tensor stands as JSON in its metadata, beside a
SHA-256 of it all: a damaged state would train on, and nobody would know. Each process of a run draws its own dropout,
so the random generators of all of them are kept: those of the first as `random.cpu` and `random.cuda`, those of
process 1 as `random.1.cpu`, and so on.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn, Protocol

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn

from albert_cli.declared import Within, faults_of
from albert_cli.errors import Notice, RunError
from albert_cli.phases import phase
from albert_cli.tensor_files import write_tensors
from converters import spec
from converters.config import EncoderConfig
from converters.messages import listing

_LARGEST = sys.float_info.max
_FINITE = Within(-_LARGEST, _LARGEST)
_Count = Annotated[int, Within(0)]
_DIGEST = "sha256"


class Stateful(Protocol):
    """An optimizer, or several that are used as one."""

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Its groups of parameters, in the order in which its state numbers them."""

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs of it."""

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        """Put that back."""


@dataclass
class Progress:
    """Where a run is. `batch` counts the batches done of `epoch`; `stale` the evaluations since the best one.

    `best` is the metric that chooses the model, and `best_loss` the loss, both of the best evaluation; None before.
    """

    step: _Count = 0
    epoch: _Count = 0
    batch: _Count = 0
    best: Annotated[float | None, _FINITE] = None
    best_loss: Annotated[float | None, _FINITE] = None
    best_step: _Count = 0
    stale: _Count = 0
    log_bytes: _Count = 0
    log_sha256: str = ""
    epoch_seconds: Annotated[float, Within(0, _LARGEST)] = 0.0
    finished: bool = False


def trained_tensors(model: nn.Module) -> dict[str, Tensor]:
    """What training changes, each once: parameters with gradients, and the buffers of their modules (batch norm).

    Under canonical names, which stay the same whatever the attributes of the PyTorch model are called.
    """
    config = getattr(model, "config", None)
    names = spec.canonical_names(config) if isinstance(config, EncoderConfig) else {}
    tensors = {names.get(name, name): item.detach() for name, item in model.named_parameters() if item.requires_grad}
    return tensors | dict(model.named_buffers())


@phase("saving")
def save(path: Path, progress: Progress, model: nn.Module, optimizer: Stateful, accelerator: Accelerator) -> None:
    """Write everything that a resumed run needs. Every process calls it, the main one writes."""
    generators = _generators()
    if accelerator.num_processes > 1:
        generators = {}
        for rank, one in enumerate(gather_object([_generators()])):
            generators |= {_of_rank(name, rank): state for name, state in one.items()}
    if accelerator.is_main_process:
        _write(path, progress, model, optimizer, accelerator, generators)
    accelerator.wait_for_everyone()


def _write(
    path: Path,
    progress: Progress,
    model: nn.Module,
    optimizer: Stateful,
    accelerator: Accelerator,
    generators: Mapping[str, Tensor],
) -> None:
    tensors = {f"model.{name}": tensor for name, tensor in trained_tensors(model).items()}
    optimizer_state = optimizer.state_dict()
    for number, slots in optimizer_state["state"].items():
        tensors |= {f"optimizer.{number}.{slot}": torch.as_tensor(value) for slot, value in slots.items()}
    tensors |= generators
    scaler = accelerator.scaler
    metadata = {
        "tensors": json.dumps(list(tensors)),
        "progress": json.dumps(dataclasses.asdict(progress)),
        "groups": json.dumps(optimizer_state["param_groups"]),
        "scaler": json.dumps(scaler.state_dict() if scaler is not None else None),
        "processes": str(accelerator.num_processes),
    }
    write_tensors(path, tensors, sealed(tensors, metadata))


def sealed(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> dict[str, str]:
    """The metadata with a SHA-256 of the tensors, their names and kinds, and of all that else stands in it."""
    sha = hashlib.sha256()
    for name in sorted(tensors):
        item = tensors[name].cpu().contiguous()
        sha.update(json.dumps([name, str(item.dtype), list(item.shape)]).encode())
        sha.update(item.reshape(-1).view(torch.uint8).numpy().data)
    said = {key: value for key, value in metadata.items() if key != _DIGEST}
    sha.update(json.dumps(said, sort_keys=True).encode())
    return said | {_DIGEST: sha.hexdigest()}


@dataclass(frozen=True)
class _Stored:
    """What a file holds; `processes`: how many of them saved it."""

    tensors: Mapping[str, Tensor]
    progress: Progress
    groups: list[dict[str, Any]]
    scaler: dict[str, Any] | None
    processes: int


def load(path: Path, model: nn.Module, optimizer: Stateful, accelerator: Accelerator) -> Progress:
    """Put a saved state back; RunError where it is damaged or another model's, a Notice where the processes differ."""
    stored = _read(path)
    wanted = trained_tensors(model)
    weights = {name.removeprefix("model."): item for name, item in stored.tensors.items() if name.startswith("model.")}
    if _kinds(wanted) != _kinds(weights):
        raise RunError(f"{path}: the state of another model; restart with --force")
    slots = _slots(path, stored, optimizer)
    with torch.no_grad():
        for name, tensor in wanted.items():
            tensor.copy_(weights[name])
    optimizer.load_state_dict({"state": slots, "param_groups": stored.groups})
    try:
        _restore_generators(stored.tensors, accelerator.process_index)
    except (RuntimeError, TypeError) as error:
        unsound(path, f"random generator: {error}")
    if stored.processes != accelerator.num_processes:
        warnings.warn(
            f"{path}: saved by a run of {stored.processes} process{'es' * (stored.processes > 1)}, resumed by "
            f"{accelerator.num_processes}: rounding and dropout differ, so the result is not bit-identical to that of "
            "a run that was not stopped",
            Notice,
            stacklevel=2,
        )
    if accelerator.scaler is not None and stored.scaler:
        accelerator.scaler.load_state_dict(stored.scaler)
    return stored.progress


def unsound(path: Path, why: object) -> NoReturn:
    """Raise the RunError of a damaged state."""
    raise RunError(f"{path}: not a sound state of a run ({why}); restart with --force") from None


def _read(path: Path) -> _Stored:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        progress = json.loads(metadata["progress"])
        missing = [str(name) for name in json.loads(metadata["tensors"]) if name not in tensors]
        stored = _Stored(
            tensors,
            Progress(**progress),
            json.loads(metadata["groups"]),
            json.loads(metadata["scaler"]),
            int(metadata.get("processes", 1)),
        )
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        unsound(path, error)
    if sealed(tensors, metadata) != metadata:
        unsound(path, "its SHA-256 is not the one that was written")
    if missing:
        unsound(path, f"{listing(missing)} missing")
    if faults := faults_of(progress, Progress, complete=True):
        unsound(path, "; ".join(faults))
    return stored


def _kinds(tensors: Mapping[str, Tensor]) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {name: (item.shape, item.dtype) for name, item in tensors.items()}


def _slots(path: Path, stored: _Stored, optimizer: Stateful) -> dict[int, dict[str, Tensor]]:
    """The optimizer's own tensors by the number of their parameter, each of its shape; RunError for others."""
    groups = json.loads(json.dumps(optimizer.state_dict()["param_groups"]))
    given = stored.groups if isinstance(stored.groups, list) else []
    alike = len(given) == len(groups) and all(
        isinstance(group, dict) and all(key == "lr" or group.get(key) == value for key, value in now.items())
        for group, now in zip(given, groups, strict=True)
    )
    if not alike:
        unsound(path, "its groups of parameters are those of another optimizer")
    shapes = [tuple(item.shape) for group in optimizer.param_groups for item in group["params"]]
    slots: dict[int, dict[str, Tensor]] = {}
    for name, tensor in stored.tensors.items():
        if not name.startswith("optimizer."):
            continue
        number, _, slot = name.removeprefix("optimizer.").partition(".")
        if not (slot and number.isascii() and number.isdigit() and int(number) < len(shapes)):
            unsound(path, f"{name} is of no parameter")
        shape = () if slot == "step" else shapes[int(number)]
        if tuple(tensor.shape) != shape or not tensor.is_floating_point():
            unsound(path, f"{name} is {tensor.dtype} of shape {list(tensor.shape)}, not numbers of {list(shape)}")
        slots.setdefault(int(number), {})[slot] = tensor
    return slots


def _generators() -> dict[str, Tensor]:
    found = {"random.cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        found["random.cuda"] = torch.cuda.get_rng_state()
    return found


def _of_rank(name: str, rank: int) -> str:
    return name.replace(".", f".{rank}.") if rank else name


def _restore_generators(tensors: Mapping[str, Tensor], rank: int) -> None:
    """Continue the random numbers of this process; one that was not there before keeps its own."""
    if (cpu := tensors.get(_of_rank("random.cpu", rank))) is not None:
        torch.set_rng_state(cpu)
    if torch.cuda.is_available() and (cuda := tensors.get(_of_rank("random.cuda", rank))) is not None:
        torch.cuda.set_rng_state(cuda)
