"""Memory for arrays that are read one after the other: reused instead of freed and allocated again.

The system clears all memory that it hands out, and a virtual machine may first have to get it from its host: with
fresh arrays a conversion was seen to spend more time in the kernel than on hashing. Memory comes in small pages here,
for the large ones that numpy asks for are those that a host takes back first.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

# Below this, numpy's own allocator caches memory.
_LEAST_BYTES = 2**20

_lock = threading.RLock()  # taken again when an array dies while another is made
_users = 0
_free: list[mmap.mmap] = []


@contextlib.contextmanager
def reused() -> Iterator[None]:
    """Within this, or a function under `@reused()`, `empty` takes over the memory of arrays that are gone.

    Once the last such block ends, memory that no array uses is given back.
    """
    global _users  # noqa: PLW0603
    with _lock:
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if not _users:
                _free.clear()


def empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """As numpy.empty. Never more is held than the arrays alive at once: what is too small for a new one is let go."""
    size = math.prod(shape) * dtype.itemsize
    if size < _LEAST_BYTES or not _users:
        return np.empty(shape, dtype)
    with _lock:
        fitting = min((memory for memory in _free if len(memory) >= size), key=len, default=None)
        if fitting is None:
            _free.clear()
            try:
                fitting = _fresh(size)
            except (OSError, OverflowError) as error:
                raise MemoryError(f"{size} bytes for an array") from error
        else:
            _free.remove(fitting)
    array = np.frombuffer(fitting, dtype, math.prod(shape))
    weakref.finalize(array, _give_back, fitting)  # every view of the array keeps it alive
    return array.reshape(shape)


def _fresh(size: int) -> mmap.mmap:
    """Memory private to this process; Linux clears it in one call, not at the first use of each page."""
    populated = getattr(mmap, "MAP_POPULATE", None)
    if populated is None:
        return mmap.mmap(-1, size, access=mmap.ACCESS_COPY)
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | populated)


def _give_back(memory: mmap.mmap) -> None:
    with _lock:
        if _users:
            _free.append(memory)
