"""Texts of others in a page of Markdown: shown as they are, whatever is in them."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

from converters.messages import visible

# What Markdown gives a meaning within a line; no underscore within a word, as in the names of columns.
_MARKS = re.compile(r"[\\`*\[\]|~$]|(?<!\w)_|_(?!\w)")
_NO_CODE = re.compile(r"[`|<>&]")


def plain(text: str) -> str:
    """Markdown that shows a text as it is, in one line: nothing in it is a mark, a link, a table's border or HTML."""
    return _MARKS.sub(r"\\\g<0>", html.escape(visible(" ".join(text.split())), quote=False))


def code(value: object) -> str:
    """A name or value as code, or, where that would end the code or the table's cell, as plain text."""
    text = str(value)
    return plain(text) if _NO_CODE.search(text) or visible(text, line=True) != text else f"`{text}`"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells that are Markdown already."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
