"""Parts of messages: lists cut short, counted nouns."""

from __future__ import annotations

from collections.abc import Iterable, Sized

# So many names are listed in a message, and so many lines of a file.
NAMES, LINES = 8, 50


def listing(items: Iterable[str], shown: int = NAMES) -> str:
    """The first `shown` items, separated by commas, and how many more there are."""
    items = list(items)
    rest = len(items) - shown
    return ", ".join(items[:shown]) + (f" and {rest} more" if rest > 0 else "")


def counted(items: Sized, noun: str) -> str:
    """How many items there are, as "1 row" or "3 rows"."""
    return f"{len(items)} {noun}{'' if len(items) == 1 else 's'}"
