"""The state of an unfinished run in one file, written whole or not at all: weights, optimizer, generators, place.

A safetensors file, so that nothing in it is executed; what is no tensor stands as JSON in its metadata. Each process of
a run draws its own dropout, so the random generators of all of them are kept: those of the first as `random.cpu` and
`random.cuda`, those of process 1 as `random.1.cpu`, and so on.
"""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn

from albert_cli.errors import Notice, RunError
from converters import spec
from converters.config import EncoderConfig
from converters.staging import atomic_write


class Stateful(Protocol):
    """An optimizer, or several that are used as one."""

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs of it."""

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        """Put that back."""


@dataclass
class Progress:
    """Where a run is. `batch` counts the batches done of `epoch`; `stale` the evaluations since the best one.

    `best` is the metric that chooses the model, and `best_loss` the loss, both of the best evaluation; None before.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    best: float | None = None
    best_loss: float | None = None
    best_step: int = 0
    stale: int = 0
    log_bytes: int = 0
    epoch_seconds: float = 0.0
    finished: bool = False


def trained_tensors(model: nn.Module) -> dict[str, Tensor]:
    """What training changes, each once: parameters with gradients, and the buffers of their modules (batch norm).

    Under canonical names, which stay the same whatever the attributes of the PyTorch model are called.
    """
    config = getattr(model, "config", None)
    names = spec.canonical_names(config) if isinstance(config, EncoderConfig) else {}
    tensors = {names.get(name, name): item.detach() for name, item in model.named_parameters() if item.requires_grad}
    return tensors | dict(model.named_buffers())


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
    from safetensors.torch import save_file

    tensors = {f"model.{name}": tensor for name, tensor in trained_tensors(model).items()}
    optimizer_state = optimizer.state_dict()
    for number, slots in optimizer_state["state"].items():
        tensors |= {f"optimizer.{number}.{slot}": torch.as_tensor(value) for slot, value in slots.items()}
    tensors |= generators
    scaler = accelerator.scaler
    metadata = {
        "progress": json.dumps(dataclasses.asdict(progress)),
        "groups": json.dumps(optimizer_state["param_groups"]),
        "scaler": json.dumps(scaler.state_dict() if scaler is not None else None),
        "processes": str(accelerator.num_processes),
    }
    with atomic_write(path, force=True, ours=None) as beside:
        save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, beside, metadata)


def load(path: Path, model: nn.Module, optimizer: Stateful, accelerator: Accelerator) -> Progress:
    """Put a saved state back; RunError where it is damaged or another model's, a Notice where the processes differ."""
    from safetensors import SafetensorError, safe_open

    scaler = accelerator.scaler
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        progress = Progress(**json.loads(metadata["progress"]))
        groups = json.loads(metadata["groups"])
        scaler_state = json.loads(metadata["scaler"])
        before = int(metadata.get("processes", 1))
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise RunError(f"{path}: not a sound state of a run ({error}); restart with --force") from None
    wanted = trained_tensors(model)
    stored = {name.removeprefix("model."): item for name, item in tensors.items() if name.startswith("model.")}
    if {name: item.shape for name, item in wanted.items()} != {name: item.shape for name, item in stored.items()}:
        raise RunError(f"{path}: the state of another model; restart with --force")
    with torch.no_grad():
        for name, tensor in wanted.items():
            tensor.copy_(stored[name])
    slots: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, number, slot = name.split(".")
            slots.setdefault(int(number), {})[slot] = tensor
    optimizer.load_state_dict({"state": slots, "param_groups": groups})
    _restore_generators(tensors, accelerator.process_index)
    if before != accelerator.num_processes:
        warnings.warn(
            f"{path}: saved by a run of {before} process{'es' * (before > 1)}, resumed by {accelerator.num_processes}: "
            "rounding and dropout differ, so the result is not bit-identical to that of a run that was not stopped",
            Notice,
            stacklevel=2,
        )
    if scaler is not None and scaler_state:
        scaler.load_state_dict(scaler_state)
    return progress


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
