"""Outputs of a model that are not numbers are never a result: the one place where they are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from converters.errors import AlbertError


def check_finite(
    values: NDArray[Any] | torch.Tensor,
    error: type[AlbertError],
    subject: Callable[[int, int], str],
    *,
    advice: str = "its weights are damaged",
) -> None:
    """Raise `error` where a row of `values` (rows, …) holds a NaN or an infinity.

    `subject` is what the message begins with, from the number of such rows and of all.
    """
    import numpy as np

    finite = np.isfinite(values) if isinstance(values, np.ndarray) else values.isfinite()
    if finite.all():
        return
    rows = finite.reshape(len(finite), -1).all(1)
    raise error(f"{subject(int((~rows).sum()), len(rows))} are not finite (NaN or infinite); {advice}")
