"""What a command computes on: the device, the processor's threads, the numbers.

All of this is of the machine, not of a run: it sets speed, memory and rounding, and stands in no run.toml but for the
precision of a training.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from albert_cli.errors import DeviceError, ThreadsError

DeviceName = Literal["auto", "cpu", "cuda", "mps"]
# Of what is computed by PyTorch's own layers; vectors have int8 instead of fp16 (albert_cli.embedding.settings).
Precision = Literal["auto", "fp32", "bf16", "fp16"]
# What libraries start beside those that compute: for reading ahead, for files, for their own pools.
_FURTHER_THREADS = 4


@dataclass(frozen=True)
class Machine:
    """What the options --device, --threads and --precision say; `threads` None: all cores."""

    device: DeviceName = "auto"
    threads: int | None = None
    precision: Precision = "auto"

    @contextlib.contextmanager
    def at_work(self) -> Iterator[str]:
        """Compute in this precision and on this many threads for a while; the type of the device is given.

        auto is fp32. Raises DeviceError for a device that is not there, and for fp16 on a processor.
        """
        import torch

        device = find_device(self.device)
        if self.precision == "fp16" and device == "cpu":
            raise DeviceError("--precision fp16 needs a GPU; choose bf16 or fp32")
        dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.precision)
        with on_threads(self.threads), torch.autocast(device, dtype=dtype, enabled=dtype is not None):
            yield device


def find_device(wanted: DeviceName = "auto") -> str:
    """The type of the device to compute on; DeviceError for one that PyTorch does not find."""
    import torch

    found = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return next(name for name, present in found.items() if present)
    if not found[wanted]:
        raise DeviceError(f"--device {wanted}: PyTorch {torch.__version__} finds no such device; choose cpu or auto")
    return wanted


def check_threads(count: int) -> None:
    """Raise ThreadsError where the system does not give so many: libraries abort the process when they find that."""
    done, started = threading.Event(), []
    try:
        for _ in range(count):
            thread = threading.Thread(target=done.wait, daemon=True)
            thread.start()
            started.append(thread)
    except RuntimeError:
        raise ThreadsError from None
    finally:
        done.set()
        for thread in started:
            thread.join()


@contextlib.contextmanager
def on_threads(count: int | None) -> Iterator[None]:
    """Set PyTorch's number of threads for a while; ThreadsError where the system does not give them."""
    import torch

    before = torch.get_num_threads()
    check_threads((count or before) + _FURTHER_THREADS)
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
