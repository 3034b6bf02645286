"""What a command computes on: the device, the processor's threads, the numbers.

All of this is of the machine, not of a run: it sets speed, memory and rounding, and stands in no run.toml but for the
precision of a training.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal

from albert_cli.errors import DeviceError, ThreadsError
from converters.messages import brief

DeviceName = Literal["auto", "cpu", "cuda", "mps"]
# Of what is computed by PyTorch's own layers; vectors have int8 instead of fp16 (albert_cli.embedding.settings).
Precision = Literal["auto", "fp32", "bf16", "fp16"]
# What libraries start beside those that compute: for reading ahead, for files, for their own pools.
_FURTHER_THREADS = 4
# The fastest first.
_DEVICES = ("cuda", "mps", "cpu")


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

    if wanted == "auto":
        return next(name for name in _DEVICES if _is_there(name))
    if wanted not in _DEVICES:
        raise DeviceError(f"device {brief(wanted)} is not one of auto, {', '.join(_DEVICES)}")
    if not _is_there(wanted):
        raise DeviceError(f"--device {wanted}: PyTorch {torch.__version__} finds no such device; choose cpu or auto")
    return wanted


@cache
def check_threads(count: int) -> None:
    """Raise ThreadsError where the system does not give so many: libraries abort the process when they find that.

    Tried once for each number of them.
    """
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


def _is_there(device: str) -> bool:
    import torch

    return device == "cpu" or bool({"cuda": torch.cuda, "mps": torch.backends.mps}[device].is_available())


# What is asked of a CPU's instructions, by PyTorch's names; oneDNN's fast products of bytes and of bfloat16 need some.
_INSTRUCTIONS = {
    "avx2": "AVX2", "avx512_f": "AVX-512", "avx_vnni": "AVX-VNNI", "avx512_vnni": "AVX512-VNNI",
    "avx512_bf16": "AVX512-BF16", "amx_int8": "AMX-INT8", "amx_bf16": "AMX-BF16", "neon": "NEON", "arm_bf16": "BF16",
    "sve": "SVE", "sve_bf16": "SVE-BF16",
}  # fmt: skip
# Whose versions matter in a report of a fault, beside PyTorch's.
_LIBRARIES = (
    "numpy",
    "pyarrow",
    "safetensors",
    "sentencepiece",
    "tokenizers",
    "tensorflow-cpu",
    "tensorflow",
    "onnxruntime",
)


def described() -> list[tuple[str, str]]:
    """The version of this program, and what else a report of a fault should hold, each with its name.

    A PyTorch that is not there, or broken, is one of the facts.
    """
    import platform
    from importlib.metadata import PackageNotFoundError, version

    from albert_cli import __version__

    facts = [("albert", __version__), ("python", f"{platform.python_version()} on {platform.platform()}")]
    found = []
    for name in _LIBRARIES:
        with contextlib.suppress(PackageNotFoundError):
            found.append(f"{name} {version(name)}")
    libraries = ("libraries", ", ".join(found))
    try:
        import torch
    except (ImportError, OSError) as error:
        return [*facts, ("torch", f"cannot be imported: {' '.join(str(error).split())}"), libraries]
    devices = [name for name in _DEVICES if _is_there(name)]
    names = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())] if "cuda" in devices else []
    from albert_cli.model import passes

    how = "one pass of compiled code between products" if passes.work() else "PyTorch's operators between products"
    facts.append(("torch", torch.__version__))
    facts.append(("devices", ", ".join([*devices, *names])))
    facts.append(
        ("cpu", f"{torch.get_num_threads()} threads; {', '.join(_instructions()) or 'no instruction sets known'}")
    )
    return [*facts, ("int8", how), libraries]


def _instructions() -> list[str]:
    """The instruction sets of the processor that make a difference here."""
    import torch

    if not hasattr(torch.cpu, "get_capabilities"):  # an older PyTorch names the best one that it uses
        return [torch.backends.cpu.get_cpu_capability()]
    capabilities = torch.cpu.get_capabilities()
    return [shown for name, shown in _INSTRUCTIONS.items() if capabilities.get(name)]


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
