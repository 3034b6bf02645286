"""Labels of a data set: cells that hold none, labels that are hardly meant to be two, classes and numbers of labels.

Everything wrong with a column is reported once, with line numbers.
"""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from albert_cli.errors import DataError
from albert_cli.tasks.examples import Examples
from converters.messages import LINES, brief, counted, listing, shortened

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# What pandas and others write for a missing value. A class may well be called "none" or "NA": these stay labels.
_MISSING = frozenset({"None", "null", "NULL", "<NA>", "NaT", "#N/A"})
# Labels that may mean that there is none; lower case.
_DOUBTFUL = frozenset({"na", "n/a", "n.a.", "none", "nil", "null", "missing", "undefined", "unlabeled", "-", "--", "?"})
_NAN = re.compile(r"[+-]?nan(\(.*\))?", re.IGNORECASE)
_NUMBER = re.compile(r"[+-]?(0|[1-9]\d*)?(\.\d*)?([eE][+-]?\d+)?", re.ASCII)
# What float() accepts but no table means is left out: 1_000, digits of other scripts.
_REAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
# Squares of larger labels, and weights times them, would not fit the numbers that models are made of.
LARGEST = 1e30
_DIGITS = 60  # of a number in a message


def why_missing(label: str) -> str | None:
    """Why a cell holds no class, as the end of "line 3 ..."; None where it does."""
    if not label.strip():
        return "is empty"
    if label in _MISSING or _NAN.fullmatch(label):
        return f"has {brief(label)}"
    if "\0" in label:
        return f"has {brief(label)}, which holds a NUL character"
    return f"has {'a list' if label[0] == '[' else 'an object'}, {_short(label)}" if _is_nested(label) else None


def may_be_missing(label: str) -> bool:
    """Whether a class has a name that others write where there is no label, as NA or none."""
    return why_missing(label) is None and label.lower() in _DOUBTFUL


def number_of(label: str, value_range: tuple[float, float] | None) -> float | None:
    """The label of a regression, None where it is no number that can be learnt."""
    value = float(label) if _REAL.fullmatch(label) else math.nan
    low, high = value_range or (-LARGEST, LARGEST)
    return value if low <= value <= high else None


def shown(label: str) -> str:
    """A label that is no number to be learnt, as a message shows it."""
    if not _REAL.fullmatch(label):
        return brief(label)
    text = shortened(label, _DIGITS)
    return text if abs(float(label)) <= LARGEST else f"{text}, which is beyond {LARGEST:g}"


def same_number(labels: Iterable[str]) -> list[list[str]]:
    """Labels that are one number written in several ways, as 1 and 1.0; codes with a leading zero are no numbers."""
    found: dict[float, list[str]] = defaultdict(list)
    for label in sorted(set(labels)):
        if any(map(str.isdigit, label)) and _NUMBER.fullmatch(label):
            found[float(label)].append(label)
    return [group for group in found.values() if len(group) > 1]


def mixes_truth_and_numbers(labels: Iterable[str]) -> bool:
    """Whether true or false stand beside 0 or 1."""
    kinds = {label.lower() for label in labels}
    return bool(kinds & {"true", "false"}) and bool(kinds & {"0", "1", "0.0", "1.0"})


def alike(labels: Iterable[str]) -> list[list[str]]:
    """Labels that differ only in case or in white space."""
    found: dict[str, list[str]] = defaultdict(list)
    for label in sorted(set(labels)):
        found["".join(label.casefold().split())].append(label)
    return [group for group in found.values() if len(group) > 1]


def described(labels: Sequence[str], counts: Sequence[int]) -> str:
    """Labels and their rows, if they are few and short; else how many there are."""
    text = ", ".join(f"{label} {count}" for label, count in zip(labels, counts, strict=True))
    if len(labels) <= 12 and len(text) <= 160:
        return f"labels: {text}"
    return f"{len(labels)} labels of {min(counts)} to {max(counts)} rows each"


def _is_nested(label: str) -> bool:
    """Whether a cell is a list or an object, of JSON or as Python writes them."""
    if label[0] + label[-1] not in ("[]", "{}"):
        return False
    for text in (label, label.replace("'", '"')):
        try:
            json.loads(text)
        except ValueError:
            continue
        except RecursionError:
            pass
        return True
    return False


def _short(label: str) -> str:
    return label if len(label) <= 40 else label[:39] + "…"


# --- Columns of labels


def found_labels(examples: Examples) -> tuple[str, ...]:
    """The labels of a training set in order, numbers by value.

    DataError for cells that hold no label, for one label written in several ways, for fewer than two labels or far too
    many.
    """
    check_spelling(examples)
    labels = set(examples.required_labels())
    if len(labels) < 2:
        raise DataError(
            f"{examples.where}: every row has the label {brief(min(labels))}; a classifier needs at least two"
        )
    if len(labels) > 1000 or len(labels) > len(examples) / 2 + 2:
        raise DataError(
            f"{examples.where}: {len(labels)} different labels in {len(examples)} rows; "
            "is it the right --label-column, or do you want --regression?"
        )
    return in_order(labels)


def in_order(labels: Iterable[str]) -> tuple[str, ...]:
    """Labels sorted, by value where all are numbers."""
    try:
        return tuple(sorted(labels, key=lambda label: (float(label), label)))
    except ValueError:
        return tuple(sorted(labels))


def check_spelling(examples: Examples) -> None:
    """Refuse cells without a label, with their lines, and spellings of one label that would be two."""
    found = examples.required_labels()
    missing = [
        f"line {line} {why}" for line, label in zip(examples.lines, found, strict=True) if (why := why_missing(label))
    ]
    if missing:
        raise DataError(
            f"{examples.where}: {counted(missing, 'row')} without a label: {listing(missing, LINES)}; fill them in "
            "(a class of such a name needs another one), or leave the rows out with --skip-bad"
        )
    doubts = [f"{' and '.join(group)} are one number" for group in same_number(found)] + [
        "true and false stand beside numbers"
    ] * mixes_truth_and_numbers(found)
    if doubts:
        suspects = {label for group in same_number(found) for label in group}
        if mixes_truth_and_numbers(found):
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


def alike_notes(examples: Examples) -> list[str]:
    """Notes on labels that differ only in case or white space, which stay different labels."""
    return [
        f"{examples.where}: {' and '.join(map(repr, group))} differ only in case or white space; they are "
        f"{len(group)} labels"
        for group in alike(examples.required_labels())
    ]


def doubtful_notes(examples: Examples) -> list[str]:
    """A note on labels that others write for a missing one, and that are classes here."""
    found = examples.required_labels()
    doubtful = sorted({label for label in found if may_be_missing(label)})
    if not doubtful:
        return []
    shares = ", ".join(
        f"{brief(label)} ({counted([item for item in found if item == label], 'row')})" for label in doubtful
    )
    return [
        f"{examples.where}: taken as a class: {shares}; where that stands for a missing label, leave the cell empty"
    ]


def usable(examples: Examples, good: Callable[[str], bool]) -> Examples:
    """The rows with a label that is good; the lines of the others are kept. DataError where none is."""
    found = examples.required_labels()
    rows = [row for row, label in enumerate(found) if good(label)]
    if not rows:
        raise DataError(f"{examples.where}: no row has a label that can be used")
    kept = frozenset(rows)
    without = [line for row, line in enumerate(examples.lines) if row not in kept]
    if not without:
        return examples
    return replace(examples.take(rows), left_out={**examples.left_out, "without a usable label": without})


def class_numbers(examples: Examples, labels: Sequence[str]) -> NDArray[np.int64]:
    """Each row's label as its place in `labels`; one DataError lists every unknown one with its line."""
    import numpy as np

    numbers = {label: number for number, label in enumerate(labels)}
    found = examples.required_labels()
    unknown = [
        f"line {line} has {brief(label)}"
        for line, label in zip(examples.lines, found, strict=True)
        if label not in numbers
    ]
    if unknown:
        raise DataError(
            f"{examples.where}: {counted(unknown, 'unknown label')}: {listing(unknown)}; known: "
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


def numeric_labels(examples: Examples, value_range: tuple[float, float] | None) -> NDArray[np.float64]:
    """Each row's label as a number within the range; one DataError lists every fault with its line."""
    import numpy as np

    values = [number_of(label, value_range) for label in examples.required_labels()]
    faults = [
        f"line {line} has {shown(label)}"
        for line, label, value in zip(examples.lines, examples.required_labels(), values, strict=True)
        if value is None
    ]
    if faults:
        wanted = f"a number from {value_range[0]:g} to {value_range[1]:g}" if value_range else "a finite number"
        raise DataError(
            f"{examples.where}: {counted(faults, 'label')} not {wanted}: {listing(faults, LINES)}; correct them, or "
            "leave such rows out with --skip-bad"
        )
    return np.array(values, np.float64)
