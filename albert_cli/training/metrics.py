"""Metrics of the tasks, computed by scikit-learn and scipy; every one is better when larger, but for `rmse`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Values = NDArray[np.generic]


def _accuracy(targets: Values, predictions: Values) -> float:
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(targets, predictions))


def _f1(targets: Values, predictions: Values) -> float:
    """F1 of class 1, as GLUE scores MRPC and QQP."""
    from sklearn.metrics import f1_score

    return float(f1_score(targets, predictions, zero_division=0))


def _macro_f1(targets: Values, predictions: Values) -> float:
    from sklearn.metrics import f1_score

    return float(f1_score(targets, predictions, average="macro", zero_division=0))


def _micro_f1(targets: Values, predictions: Values) -> float:
    """Of all labels of all rows together."""
    from sklearn.metrics import f1_score

    return float(f1_score(targets, predictions, average="micro", zero_division=0))


def _matthews(targets: Values, predictions: Values) -> float:
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(targets, predictions))


def _pearson(targets: Values, predictions: Values) -> float:
    from scipy.stats import pearsonr

    return 0.0 if _undefined(targets, predictions) else float(pearsonr(targets, predictions).statistic)


def _spearman(targets: Values, predictions: Values) -> float:
    from scipy.stats import spearmanr

    return 0.0 if _undefined(targets, predictions) else float(spearmanr(targets, predictions).statistic)


def _rmse(targets: Values, predictions: Values) -> float:
    from sklearn.metrics import root_mean_squared_error

    return float(root_mean_squared_error(targets, predictions))


def _undefined(targets: Values, predictions: Values) -> bool:
    """A correlation with a constant is not defined; 0 is what it means."""
    return len(targets) < 2 or bool((targets == targets[0]).all()) or alike(predictions)


def alike(values: Values) -> bool:
    """Whether outputs of a model differ by no more than its arithmetic in float32 does: there is nothing to measure."""
    import numpy as np

    return bool(np.ptp(values) <= _ROUNDING * np.abs(values).max())


# Of the largest value: some units in the last place of float32.
_ROUNDING = 4.8e-7

SMALLER_IS_BETTER = frozenset({"rmse"})
METRICS: dict[str, Callable[[Values, Values], float]] = {
    "accuracy": _accuracy,
    "f1": _f1,
    "macro_f1": _macro_f1,
    "micro_f1": _micro_f1,
    "subset_accuracy": _accuracy,  # the share of rows with all labels right
    "matthews": _matthews,
    "pearson": _pearson,
    "spearman": _spearman,
    "rmse": _rmse,
}


def compute(names: Sequence[str], targets: Values, predictions: Values) -> dict[str, float]:
    """The named metrics of `predictions` against `targets`: classes or values (rows), or several labels' yes or no."""
    return {name: METRICS[name](targets, predictions) for name in names}
