"""Parts of messages: lists and values cut short, counted nouns."""

from __future__ import annotations

from collections.abc import Iterable, Sized

# The most names that a message lists, the most lines of a file, and the most characters of a value.
NAMES, LINES = 8, 50
_CHARACTERS = 60


def listing(items: Iterable[str], shown: int = NAMES, *, separator: str = ", ") -> str:
    """The first `shown` items and how many more there are, on one line whatever a file calls them."""
    items = list(items)
    rest = len(items) - shown
    return separator.join(map(escaped, items[:shown])) + (f" and {rest} more" if rest > 0 else "")


def counted(items: Sized, noun: str) -> str:
    """How many items there are, as "1 row" or "3 rows"."""
    return f"{len(items)} {noun}{'' if len(items) == 1 else 's'}"


def brief(value: object, most: int = _CHARACTERS) -> str:
    """A value of a file: as Python writes it, so escaped, and cut short."""
    return shortened(repr(value), most)


def shortened(text: str, most: int) -> str:
    """The beginning of a text, and an ellipsis where it is longer."""
    return text if len(text) <= most else text[:most] + "…"


def escaped(text: str) -> str:
    """A text in which characters that print as nothing, or move the cursor, are written as escapes."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
