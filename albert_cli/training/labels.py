"""What stands in a label column that is no label, and labels that are hardly meant to be two."""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

# What pandas and others write for a missing value. A class may well be called "none" or "NA": these stay labels.
_MISSING = frozenset({"None", "null", "NULL", "<NA>", "NaT", "#N/A"})
# Labels that may mean that there is none; lower case.
_DOUBTFUL = frozenset({"na", "n/a", "n.a.", "none", "nil", "null", "missing", "undefined", "unlabeled", "-", "--", "?"})
_NAN = re.compile(r"[+-]?nan(\(.*\))?", re.IGNORECASE)
_NUMBER = re.compile(r"[+-]?(0|[1-9]\d*)?(\.\d*)?([eE][+-]?\d+)?", re.ASCII)
# What float() takes and nobody writes in a table is left out: 1_000, digits of other scripts.
_REAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
# Squares of larger labels, and weights times them, would not fit the numbers that models are made of.
LARGEST = 1e30


def why_missing(label: str) -> str | None:
    """Why a cell holds no class, as the end of "line 3 ..."; None where it does."""
    if not label.strip():
        return "is empty"
    if label in _MISSING or _NAN.fullmatch(label):
        return f"has {label!r}"
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
        return repr(label)
    return label if abs(float(label)) <= LARGEST else f"{label}, which is beyond {LARGEST:g}"


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
