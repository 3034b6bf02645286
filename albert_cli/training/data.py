"""The labels of examples: classes or numbers. Everything wrong with a file is reported once, with line numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from albert_cli.errors import DataError
from albert_cli.tasks.examples import Examples
from albert_cli.training import labels as labels_module
from converters.messages import LINES, counted, listing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def found_labels(examples: Examples) -> tuple[str, ...]:
    """The labels of a training set in order, numbers by value.

    DataError for cells that hold no label, for one label written in several ways, for fewer than two labels or far too
    many.
    """
    _check_labels(examples)
    labels = set(_labels(examples))
    if len(labels) < 2:
        raise DataError(f"{examples.where}: every row has the label {min(labels)!r}; a classifier needs at least two")
    if len(labels) > 1000 or len(labels) > len(examples) / 2 + 2:
        raise DataError(
            f"{examples.where}: {len(labels)} different labels in {len(examples)} rows; "
            "is it the right --label-column, or do you want --regression?"
        )
    try:
        return tuple(sorted(labels, key=lambda label: (float(label), label)))
    except ValueError:
        return tuple(sorted(labels))


def _check_labels(examples: Examples) -> None:
    """Refuse cells without a label, told with their lines, and what is hardly meant to be two labels."""
    found = _labels(examples)
    missing = [
        f"line {line} {why}"
        for line, label in zip(examples.lines, found, strict=True)
        if (why := labels_module.why_missing(label))
    ]
    if missing:
        raise DataError(
            f"{examples.where}: {counted(missing, 'row')} without a label: {listing(missing, LINES)}; fill them in "
            "(a class of such a name needs another one), or leave the rows out with --skip-bad"
        )
    doubts = [f"{' and '.join(group)} are one number" for group in labels_module.same_number(found)] + [
        "true and false stand beside numbers"
    ] * labels_module.mixes_truth_and_numbers(found)
    if doubts:
        suspects = {label for group in labels_module.same_number(found) for label in group}
        if labels_module.mixes_truth_and_numbers(found):
            suspects |= {label for label in found if label.lower() in ("true", "false", "0", "1", "0.0", "1.0")}
        common = max(suspects, key=found.count)
        lines = [
            f"line {line} has {label}"
            for line, label in zip(examples.lines, found, strict=True)
            if label in suspects and label != common
        ]
        raise DataError(
            f"{examples.where}: labels written in several ways: {', '.join(doubts)}: {listing(lines, LINES)}; "
            "write each label in one way"
        )


def alike_labels(examples: Examples) -> list[str]:
    """Notes on labels that differ only in case or white space, which stay different labels."""
    return [
        f"{examples.where}: {' and '.join(map(repr, group))} differ only in case or white space; they are "
        f"{len(group)} labels"
        for group in labels_module.alike(_labels(examples))
    ]


def doubtful_labels(examples: Examples) -> list[str]:
    """A note on labels that others write for a missing one, and that are classes here."""
    found = _labels(examples)
    doubtful = sorted({label for label in found if labels_module.may_be_missing(label)})
    if not doubtful:
        return []
    shares = ", ".join(f"{label!r} ({counted([item for item in found if item == label], 'row')})" for label in doubtful)
    return [
        f"{examples.where}: taken as a class: {shares}; where that stands for a missing label, leave the cell empty"
    ]


def without_bad_labels(
    examples: Examples, kind: str, labels: Sequence[str], value_range: tuple[float, float] | None
) -> Examples:
    """The rows that have a label one can learn (or, with `labels`, one of these); the lines of the others are kept."""

    def good(label: str) -> bool:
        if kind == "regression":
            return labels_module.number_of(label, value_range) is not None
        return label in known if known else labels_module.why_missing(label) is None

    known = frozenset(labels)
    rows = [row for row, label in enumerate(_labels(examples)) if good(label)]
    if not rows:
        raise DataError(f"{examples.where}: no row has a label that can be used")
    kept = frozenset(rows)
    without = [line for row, line in enumerate(examples.lines) if row not in kept]
    if not without:
        return examples
    return replace(examples.take(rows), left_out={**examples.left_out, "without a usable label": without})


def class_numbers(examples: Examples, labels: Sequence[str]) -> NDArray[np.int64]:
    """Each row's label as its place in `labels`; one DataError tells every unknown one with its line."""
    import numpy as np

    numbers = {label: number for number, label in enumerate(labels)}
    found = _labels(examples)
    unknown = [
        f"line {line} has {label!r}" for line, label in zip(examples.lines, found, strict=True) if label not in numbers
    ]
    if unknown:
        raise DataError(
            f"{examples.where}: {counted(unknown, 'unknown label')}: {listing(unknown, LINES)}; known: "
            f"{listing(labels)}; correct them, or leave such rows out with --skip-bad"
        )
    return np.array([numbers[label] for label in found], np.int64)


def check_classes(numbers: NDArray[np.int64], labels: Sequence[str], where: str, hint: str = "") -> None:
    """Refuse training data in which a class has no row (DataError)."""
    absent = [label for number, label in enumerate(labels) if not (numbers == number).any()]
    if absent:
        raise DataError(
            f"{where}: no training row has the label {listing(map(repr, absent))} (of {listing(labels)}), "
            f"which the model could not learn; {hint or 'add such rows'}"
        )


def targets(examples: Examples, value_range: tuple[float, float] | None) -> NDArray[np.float64]:
    """Each row's label as a number within the range; one DataError tells every fault with its line."""
    import numpy as np

    values = [labels_module.number_of(label, value_range) for label in _labels(examples)]
    faults = [
        f"line {line} has {labels_module.shown(label)}"
        for line, label, value in zip(examples.lines, _labels(examples), values, strict=True)
        if value is None
    ]
    if faults:
        wanted = f"a number from {value_range[0]:g} to {value_range[1]:g}" if value_range else "a finite number"
        raise DataError(
            f"{examples.where}: {counted(faults, 'label')} not {wanted}: {listing(faults, LINES)}; correct them, or "
            "leave such rows out with --skip-bad"
        )
    return np.array(values, np.float64)


def _labels(examples: Examples) -> list[str]:
    if examples.labels is None:
        raise DataError(f"{examples.where}: has no labels; it can only be predicted: albert predict RUN --in FILE")
    return examples.labels
