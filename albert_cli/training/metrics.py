"""Metrics of the tasks, with the numbers of scikit-learn and SciPy; all are better when larger, but for `rmse`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Values = NDArray[Any]


def _accuracy(targets: Values, predictions: Values) -> float:
    """The share of rows that are right, of several labels in all of them."""
    right = targets == predictions
    return float((right if right.ndim == 1 else right.all(axis=1)).mean())


def _f1(targets: Values, predictions: Values) -> float:
    """F1 of class 1, as GLUE scores MRPC and QQP."""
    return _f1_of(targets == 1, predictions == 1)


def _macro_f1(targets: Values, predictions: Values) -> float:
    """The mean over the classes that occur; over all labels, where there are several for a row."""
    import numpy as np

    if targets.ndim > 1:
        each = [_f1_of(*columns) for columns in zip(targets.T > 0, predictions.T > 0, strict=True)]
    else:
        each = [_f1_of(targets == item, predictions == item) for item in np.union1d(targets, predictions)]
    return float(np.mean(each))


def _micro_f1(targets: Values, predictions: Values) -> float:
    """Of all labels of all rows together."""
    return _f1_of(targets > 0, predictions > 0)


def _f1_of(wanted: NDArray[np.bool_], found: NDArray[np.bool_]) -> float:
    """The harmonic mean of precision and recall; 0 where nothing is wanted and nothing found."""
    total = int(wanted.sum()) + int(found.sum())
    return 2 * int((wanted & found).sum()) / total if total else 0.0


def _matthews(targets: Values, predictions: Values) -> float:
    """Matthews' correlation, of several classes Gorodkin's R_K; 0 where it is not defined."""
    import numpy as np

    classes = np.union1d(targets, predictions)[:, None]
    wanted, found = (targets == classes).sum(1), (predictions == classes).sum(1)  # rows of each class
    rows = len(targets)
    together = int((targets == predictions).sum()) * rows - int(wanted @ found)
    spread = (rows**2 - int(wanted @ wanted)) * (rows**2 - int(found @ found))
    return float(together / np.sqrt(spread)) if spread else 0.0


def _pearson(targets: Values, predictions: Values) -> float:
    return 0.0 if _undefined(targets, predictions) else _correlation(targets, predictions)


def _spearman(targets: Values, predictions: Values) -> float:
    """Pearson's correlation of the ranks; equal values share the mean of theirs."""
    return 0.0 if _undefined(targets, predictions) else _correlation(ranks(targets), ranks(predictions))


def _correlation(first: Values, second: Values) -> float:
    import numpy as np

    one, other = (values - values.mean() for values in map(_moderate, (first, second)))
    found = float((one / np.linalg.norm(one)) @ (other / np.linalg.norm(other)))
    return min(1.0, max(-1.0, found))


def _moderate(values: Values) -> Values:
    """The numbers as float64, scaled where their squares would be infinite or 0."""
    import numpy as np

    numbers: Values = values.astype(np.float64)
    largest = float(np.abs(numbers).max(initial=0))
    return numbers if 1e-100 < largest < 1e100 or not largest else numbers / largest


def ranks(values: Values) -> Values:
    """Of each value, from 1 for the smallest; equal ones share the mean of theirs."""
    import numpy as np

    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    found: Values = (np.cumsum(counts) - (counts - 1) / 2)[places]
    return found


def _rmse(targets: Values, predictions: Values) -> float:
    import numpy as np

    return float(np.sqrt(np.mean(np.square(targets.astype(np.float64) - predictions))))


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
