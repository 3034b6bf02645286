"""Memory that runs out, on any device, as an error that says what to lower."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def out_of_memory(message: Callable[[], str], error: type[Exception]) -> Iterator[None]:
    """Raise `error` with that message where PyTorch runs out of memory; other errors pass."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError as cause:
        raise error(message()) from cause
    except (MemoryError, RuntimeError) as cause:
        if isinstance(cause, MemoryError) or "not enough memory" in str(cause) or "allocate memory" in str(cause):
            raise error(message()) from cause
        raise
