"""Many processes that train one model: started by a launcher, one of them the main one that writes."""

from __future__ import annotations

import contextlib
import datetime
import re
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import InitProcessGroupKwargs, broadcast_object_list

from albert_cli import processes
from albert_cli.errors import DeviceError, LostProcessError, TrainingError
from albert_cli.machine import DeviceName, find_device
from converters.errors import AlbertError

T = TypeVar("T")
_APART = 1_000_003  # seeds of processes, so that those of neighbouring runs are not the same
# The others wait as long as the main process tokenizes or predicts; one that died is noticed by its connection.
_PATIENCE = datetime.timedelta(days=7)
_LOST = re.compile(r"gloo|nccl|connection|broken pipe|socket|peer|store", re.IGNORECASE)


def accelerator_for(precision: str, device: DeviceName = "auto") -> Accelerator:
    """What to compute with; the precision auto is bf16 on a GPU that has it.

    Without a GPU the processes of a launcher share the work on their processors. Raises TrainingError for fp16 without
    a GPU, DeviceError for a device that is not there.
    """
    wanted = find_device(device)
    gpu = wanted == "cuda"
    if precision == "auto":
        precision = "bf16" if gpu and torch.cuda.is_bf16_supported() else "fp32"
    if precision == "fp16" and not gpu:
        raise TrainingError("--precision fp16 needs a GPU; choose bf16 or fp32")
    many = processes.world() > 1
    if not many:
        AcceleratorState._reset_state()  # an earlier run of this process may have had another precision
    accelerator = Accelerator(
        mixed_precision="no" if precision == "fp32" else precision,
        cpu=device == "cpu" or (many and not gpu),
        kwargs_handlers=[InitProcessGroupKwargs(timeout=_PATIENCE)] if many else None,
    )
    if device not in ("auto", accelerator.device.type):
        raise DeviceError(f"--device {device}: accelerate computes on {accelerator.device.type} here; leave it out")
    if accelerator.num_processes != processes.world():
        raise TrainingError(
            f"{processes.world()} processes were started, but {accelerator.num_processes} can share the work; start "
            "them with torchrun or accelerate launch, or start one"
        )
    return accelerator


def on_main(accelerator: Accelerator, work: Callable[[], T]) -> T:
    """Let the main process do something; its result, or its AlbertError, is that of every process."""
    if accelerator.num_processes == 1:
        return work()
    outcome: list[Any] = [None, None]
    if accelerator.is_main_process:
        try:
            outcome[0] = work()
        except AlbertError as error:
            outcome[1] = error
    broadcast_object_list(outcome)
    if outcome[1] is not None:
        raise outcome[1]
    result: T = outcome[0]
    return result


def own_dropout(accelerator: Accelerator, seed: int) -> None:
    """Let every further process draw its own random numbers: with those of the first, their rows would drop alike."""
    if rank := accelerator.process_index:
        torch.manual_seed(seed + _APART * rank)


@contextlib.contextmanager
def peers(accelerator: Accelerator) -> Iterator[None]:
    """Turn the loss of another process into a LostProcessError."""
    try:
        yield
    except RuntimeError as error:
        if accelerator.num_processes == 1 or not _LOST.search(str(error)):
            raise
        raise LostProcessError(
            "another process of this run has ended; --resume continues from what was saved last"
        ) from error
