"""What the curves of both trainings share."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Sequence

from albert_cli.errors import Notice

# Okabe and Ito's colours, which colour-blind readers can distinguish, too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def smooth(values: Sequence[float]) -> list[float]:
    """An exponential mean over about a twentieth of the curve."""
    keep = 1 - 1 / max(1.0, len(values) / 20)
    means: list[float] = []
    for value in values:
        means.append(value if not means else keep * means[-1] + (1 - keep) * value)
    return means


def draws() -> bool:
    """Whether runs have pictures: where matplotlib, an optional library, is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def warn_of_no_pictures() -> None:
    """A Notice where runs have no pictures."""
    if not draws():
        warnings.warn(
            "note: the run will have no pictures, which need matplotlib: pip install 'matplotlib'", Notice, stacklevel=2
        )
