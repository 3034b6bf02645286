"""Metrics of the tasks, computed by scikit-learn and scipy; every one is better when larger, but for `rmse`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Values = NDArray[np.generic]


def _accuracy(wanted: Values, given: Values) -> float:
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(wanted, given))


def _f1(wanted: Values, given: Values) -> float:
    """F1 of class 1, as GLUE scores MRPC and QQP."""
    from sklearn.metrics import f1_score

    return float(f1_score(wanted, given, zero_division=0))


def _macro_f1(wanted: Values, given: Values) -> float:
    from sklearn.metrics import f1_score

    return float(f1_score(wanted, given, average="macro", zero_division=0))


def _matthews(wanted: Values, given: Values) -> float:
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(wanted, given))


def _pearson(wanted: Values, given: Values) -> float:
    from scipy.stats import pearsonr

    return 0.0 if _constant(wanted, given) else float(pearsonr(wanted, given).statistic)


def _spearman(wanted: Values, given: Values) -> float:
    from scipy.stats import spearmanr

    return 0.0 if _constant(wanted, given) else float(spearmanr(wanted, given).statistic)


def _rmse(wanted: Values, given: Values) -> float:
    from sklearn.metrics import root_mean_squared_error

    return float(root_mean_squared_error(wanted, given))


def _constant(*sides: Values) -> bool:
    """A correlation with a constant is not defined; 0 is what it means."""
    return any(len(side) < 2 or (side == side[0]).all() for side in sides)


SMALLER_IS_BETTER = frozenset({"rmse"})
METRICS: dict[str, Callable[[Values, Values], float]] = {
    "accuracy": _accuracy,
    "f1": _f1,
    "macro_f1": _macro_f1,
    "matthews": _matthews,
    "pearson": _pearson,
    "spearman": _spearman,
    "rmse": _rmse,
}


def compute(names: Sequence[str], wanted: Values, given: Values) -> dict[str, float]:
    """The named metrics of predictions `given` (classes or values) against `wanted`."""
    return {name: METRICS[name](wanted, given) for name in names}
