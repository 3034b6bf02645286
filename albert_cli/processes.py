"""The processes that a launcher (torchrun, accelerate launch, mpirun) starts for one run: which is this, who speaks.

Only the first process prints. An error is reported once, by the process that meets it first.
"""

from __future__ import annotations

import os
import socket
import sys
from importlib.abc import MetaPathFinder
from typing import TextIO

_alone = False  # whether the process is the command line's, and nobody's who imports this package
_WORLD = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
_RANK = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")


def world() -> int:
    """How many processes share this run; 1 without a launcher."""
    return max(1, _number(_WORLD, 1))


def rank() -> int:
    """The number of this process, from 0."""
    return _number(_RANK, 0) if world() > 1 else 0


def alone() -> None:
    """Say that the whole process is one command."""
    global _alone  # noqa: PLW0603
    _alone = True


def spare_pandas() -> None:
    """Let pyarrow go without pandas, a second's import where it is installed, if the process is one command.

    pyarrow imports it to ask whether a list is one of its arrays, and asks once.
    """
    if not _alone or "pandas" in sys.modules:
        return
    import pyarrow as pa

    absent = _Absent()
    sys.meta_path.insert(0, absent)
    try:
        pa.array([])
    finally:
        sys.meta_path.remove(absent)


class _Absent(MetaPathFinder):
    """Finds no pandas."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(name=name)


def hush() -> TextIO:
    """Silence all processes but the first; returns standard error, for what must be reported anyway."""
    stderr = sys.stderr
    if world() > 1:
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")  # a lost process is reported by us
    if rank():
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    return stderr


def first_to_tell(*, of_others: bool) -> bool:
    """Whether no other process of this run has reported an error yet; asked once, by each that fails.

    `of_others`: the error is that another process has ended. The store that counts may have ended with it, so then
    every process reports.
    """
    if world() == 1:
        return True
    try:
        import datetime

        from torch import distributed

        attempt = f"{os.environ.get('TORCHELASTIC_RUN_ID')}-{os.environ.get('TORCHELASTIC_RESTART_COUNT')}"
        host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        with socket.create_connection((host, port), timeout=5):  # torch would wait, and complain, where none listens
            pass
        store = distributed.TCPStore(  # type: ignore[attr-defined]
            host, port, is_master=False, timeout=datetime.timedelta(seconds=5)
        )
        return bool(store.add(f"albert-error-{attempt}", 1) == 1)
    except (ImportError, KeyError, ValueError, OSError, RuntimeError):  # no such store, or it ended with its process
        return rank() == 0 or of_others


def _number(names: tuple[str, ...], default: int) -> int:
    for name in names:
        text = os.environ.get(name, "")
        if text.isdecimal():
            return int(text)
    return default
