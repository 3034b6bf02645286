"""Parts of messages: lists and values cut short, counted nouns."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence, Sized

# The most names that a message lists, the most lines of a file, and the most characters of a value.
NAMES, LINES = 8, 50
_CHARACTERS = 60
# What a terminal obeys, or XML refuses: C0 and C1 but for tab and line feed, line separators, embeddings and overrides
# of the direction of writing, lone surrogates, noncharacters.
_CONTROLS = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


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


def is_text(name: str) -> bool:
    """Whether a name is one in UTF-8, too: of others Python keeps the bytes, but no file of text can hold them."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def shortened(text: str, most: int) -> str:
    """The beginning of a text, and an ellipsis where it is longer."""
    return text if len(text) <= most else text[:most] + "…"


def escaped(text: str) -> str:
    """A text in which characters that print as nothing, or move the cursor, are written as escapes."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def visible(text: str, *, line: bool = False) -> str:
    """A text of any script whose controls are written as escapes, so that a terminal, SVG or HTML shows them.

    Tabs and line feeds stay, unless it is to be one `line`. What JSON lets stand in a string becomes an escape of JSON.
    """
    text = _CONTROLS.sub(_escape, text)
    return text.replace("\t", "\\t").replace("\n", "\\n") if line else text


def html_table(rows: Iterable[Sequence[object]], headers: Sequence[str], *, title: str = "") -> str:
    """Rows as a table of HTML, for notebooks; whatever the cells hold, they are text in it."""

    def cells(row: Sequence[object], kind: str) -> str:
        return "".join(f"<{kind}>{html.escape(visible(str(cell), line=True))}</{kind}>" for cell in row)

    caption = f"<caption>{html.escape(visible(title, line=True))}</caption>" if title else ""
    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    return f"<table>{caption}<thead><tr>{cells(headers, 'th')}</tr></thead><tbody>{body}</tbody></table>"


def _escape(found: re.Match[str]) -> str:
    char = found[0]
    return char.encode("unicode_escape").decode() if char < " " else f"\\u{ord(char):04x}"
