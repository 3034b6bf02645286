"""Tables as lines of a terminal: within its width, and no figure, name or path is broken."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence

GAP = 2
# What stands below the row it belongs to is set in so far.
_INDENT = 4

Row = Sequence[str]


def width_of(text: str) -> int:
    """The columns that a terminal takes for a text: two for wide characters, none for marks on others."""
    if text.isascii():
        return len(text)
    return sum(
        0
        if unicodedata.combining(c) or unicodedata.category(c) == "Cf"
        else 1 + (unicodedata.east_asian_width(c) in "WF")
        for c in text
    )


def cropped(text: str, width: int) -> str:
    """The beginning of a text, with … where something is left out."""
    if width_of(text) <= width:
        return text
    while text and width_of(text) >= width:
        text = text[:-1]
    return text.rstrip() + "…"


def lines(rows: Sequence[Row], headers: Row = (), *, right: Sequence[int] = (), width: int) -> list[list[str]]:
    """The lines of the headers, if any, and of each row.

    Where the columns are too wide together, prose is continued below between words; where that does not do, the last
    columns stand on a line of their own below the row. A single word that is wider still is left to the terminal, in
    one piece.
    """
    table = [headers, *rows] if headers else list(rows)
    if not table:
        return []
    columns = len(table[0])
    least = [max(_longest(row[n]) if n not in right else width_of(row[n]) for row in table) for n in range(columns)]
    most = [max(width_of(row[n]) for row in table) for n in range(columns)]
    room = width - GAP * (columns - 1)
    if sum(most) <= room:
        return [[_joined(row, most, right)] for row in table]
    if sum(least) <= room:
        widths = _shared(least, most, room)
        return [list(_wrapped(row, widths, right)) for row in table]
    first = columns - 1
    while first > 1 and sum(least[:first]) + GAP * (first - 1) > width:
        first -= 1
    if first < 1:
        return [[row[0]] for row in table]
    inside = [n for n in right if n < first]
    below = [n - first for n in right if n >= first]
    upper = lines([row[:first] for row in table], right=inside, width=width)
    lower = lines([row[first:] for row in table], right=below, width=max(width - _INDENT, 1))
    return [[*up, *(" " * _INDENT + line for line in down if line)] for up, down in zip(upper, lower, strict=True)]


def _longest(text: str) -> int:
    return max(map(width_of, text.split()), default=0)


def _shared(least: Sequence[int], most: Sequence[int], room: int) -> list[int]:
    """Widths between the least and the most of each column, which fill the room as evenly as they can."""
    widths, left = list(least), room - sum(least)
    while left > 0:
        growing = [n for n in range(len(widths)) if widths[n] < most[n]]
        if not growing:
            break
        for n in sorted(growing, key=lambda n: widths[n])[:left]:
            widths[n] += 1
            left -= 1
    return widths


def _wrapped(row: Row, widths: Sequence[int], right: Sequence[int]) -> Iterator[str]:
    cells = [list(_words(cell, width)) for cell, width in zip(row, widths, strict=True)]
    for number in range(max(map(len, cells))):
        yield _joined([cell[number] if number < len(cell) else "" for cell in cells], widths, right)


def _words(text: str, width: int) -> Iterator[str]:
    """Lines of whole words; a text that fits keeps its spaces."""
    if width_of(text) <= width:
        yield text
        return
    line = ""
    for word in text.split():
        if line and width_of(line) + 1 + width_of(word) > width:
            yield line
            line = word
        else:
            line = f"{line} {word}" if line else word
    yield line


def _joined(row: Row, widths: Sequence[int], right: Sequence[int]) -> str:
    cells = []
    for number, (cell, width) in enumerate(zip(row, widths, strict=True)):
        space = " " * (width - width_of(cell))
        cells.append(space + cell if number in right else cell + space)
    return (" " * GAP).join(cells).rstrip()
