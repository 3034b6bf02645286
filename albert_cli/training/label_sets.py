"""Labels of rows that have any number of them: `a|b` in a cell of text, a list in JSON and Parquet.

That is how `albert predict` writes them. An empty cell, or an empty list, is a row without any label.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from albert_cli.errors import DataError
from albert_cli.tables import nested
from albert_cli.tables.write import BETWEEN_ITEMS
from albert_cli.tasks.examples import Examples
from albert_cli.training import labels as columns_of_labels
from converters.messages import LINES, brief, counted, listing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class _NoLabels(ValueError):
    """A cell that holds no labels; the text is the end of "line 3 …"."""


def labels_in(cell: str) -> tuple[str, ...]:
    """The labels of a cell, each once, in the order in which they are written; ValueError says what else it holds."""
    cell = cell.strip()
    if not cell:
        return ()
    found = _listed(cell)
    items = cell.split(BETWEEN_ITEMS) if found is None else found
    names = []
    for item in items:
        if isinstance(item, bool) or not isinstance(item, (str, int)):
            raise _NoLabels(f"has {brief(item)} in its list, which is no label")
        name = str(item).strip()
        if BETWEEN_ITEMS in name:
            raise _NoLabels(f"has {name!r}, and a label may not contain {BETWEEN_ITEMS}")
        if not name and len(items) > 1:
            raise _NoLabels(f"has an empty label in {brief(cell)}")
        if why := columns_of_labels.why_missing(name):
            raise _NoLabels(why)
        names.append(name)
    return tuple(dict.fromkeys(names))


def _listed(cell: str) -> list[Any] | None:
    """The items of a list, of JSON or as Python writes it; None where the cell is no list."""
    if cell[0] + cell[-1] != "[]":
        return None
    for parse in (nested.parsed, ast.literal_eval):
        try:
            found = parse(cell)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(found, list):
            return [nested.cleaned(item) for item in found]  # Python's lists, too, can name half of a pair
    return None


def sets(examples: Examples) -> list[tuple[str, ...]]:
    """The labels of each row; one DataError lists every cell that holds none, with its line."""
    found, faults = [], []
    for line, cell in zip(examples.lines, examples.required_labels(), strict=True):
        try:
            found.append(labels_in(cell))
        except _NoLabels as error:  # noqa: PERF203 (all faults are collected)
            faults.append(f"line {line} {error}")
    if faults:
        raise DataError(
            f"{examples.where}: {counted(faults, 'row')} whose labels cannot be read: {listing(faults, LINES)}; "
            f"write them as a{BETWEEN_ITEMS}b or as a list of texts (nothing where there is none), or leave the "
            "rows out with --skip-bad"
        )
    return found


def one_by_one(examples: Examples) -> Examples:
    """A row for each label of each row, its text left out: what is checked of labels is checked of these."""
    found = sets(examples)
    rows = [row for row, names in enumerate(found) for _ in names]
    return replace(examples.take(rows), labels=[name for names in found for name in names])


def found_labels(examples: Examples) -> tuple[tuple[str, ...], list[str]]:
    """The labels of a training set in order, numbers by value, and notes; DataError for none or far too many."""
    every = one_by_one(examples)
    if not every.labels:
        raise DataError(f"{examples.where}: no row has a label; is it the right --label-column?")
    columns_of_labels.check_spelling(every)
    labels = columns_of_labels.in_order(set(every.labels))
    if len(labels) > 1000 or len(labels) > len(examples) / 2 + 2:
        raise DataError(
            f"{examples.where}: {len(labels)} different labels in {len(examples)} rows; is it the right "
            f"--label-column? {BETWEEN_ITEMS} is what separates the labels of a row"
        )
    notes = columns_of_labels.alike_notes(every) + columns_of_labels.doubtful_notes(every)
    return labels, notes + _separator_notes(examples, labels)


def _separator_notes(examples: Examples, labels: Sequence[str]) -> list[str]:
    """A note where the labels may have been separated by something else."""
    if any(len(names) > 1 for names in sets(examples)):
        return []
    separated = sorted(label for label in labels if "," in label or ";" in label)
    if not separated:
        return [f"{examples.where}: no row has more than one label"]
    return [f"{examples.where}: {separated[0]!r} is taken as one label; several are written as a{BETWEEN_ITEMS}b"]


def usable(examples: Examples, labels: Sequence[str]) -> Examples:
    """The rows whose labels can be read and are all known (any, where none are known yet)."""
    known = frozenset(labels)

    def good(cell: str) -> bool:
        try:
            found = labels_in(cell)
        except _NoLabels:
            return False
        return not known or known.issuperset(found)

    return columns_of_labels.usable(examples, good)


def matrix(examples: Examples, labels: Sequence[str]) -> NDArray[np.float32]:
    """1 where a row has a label, (rows, labels); one DataError lists every unknown label with its line."""
    import numpy as np

    columns_of_labels.class_numbers(one_by_one(examples), labels)
    places = {label: number for number, label in enumerate(labels)}
    targets = np.zeros((len(examples), len(labels)), np.float32)
    for row, names in enumerate(sets(examples)):
        targets[row, [places[name] for name in names]] = 1
    return targets


def rarest(examples: Examples) -> list[str]:
    """Of each row its rarest label, and nothing where it has none: what a held-out part must leave one of."""
    found = sets(examples)
    counts = Counter(name for names in found for name in names)
    return [min(names, key=lambda name: (counts[name], name), default="") for names in found]
