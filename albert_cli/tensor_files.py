"""Tensors that a run keeps for itself as safetensors: written in one step, the library's errors made ours."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from converters.errors import CorruptError
from converters.staging import atomic_write

if TYPE_CHECKING:
    from torch import Tensor

# The library has one exception for everything, and the system's number only in its text.
_OF_SYSTEM = re.compile(r"\(os error (\d+)\)")


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write or replace a file; FileError where the system refuses, as on a full disk, and the old file stays."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with atomic_write(path, force=True, ours=None) as beside:
        try:
            save_file({name: item.cpu().contiguous() for name, item in tensors.items()}, beside, metadata)
        except SafetensorError as error:
            if number := _OF_SYSTEM.search(str(error)):
                raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error
            raise


def read_tensors(path: Path, what: str, advice: str = "") -> dict[str, Tensor]:
    """All tensors of a file; CorruptError where it is not `what` it should be."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise CorruptError(path, f"not {what} ({first_line(error)})", advice) from None


def first_line(error: Exception) -> str:
    """What a library says, which may go on for many lines."""
    return str(error).split("\n", maxsplit=1)[0]
