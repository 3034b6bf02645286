"""Spans: which characters of the original text a piece stands for.

Spans neither begin nor end in white space, grow monotonously, and leave out no other character of a word that has a
piece.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Final

SPACE: Final = "▁"


def is_blank(character: str) -> bool:
    """Whether it is white space to SentencePiece, which takes a literal ▁ for a space."""
    return character.isspace() or character == SPACE


def spans_of(
    text: str, lengths: Sequence[int], normalised: str, starts: Sequence[int], sources: Sequence[int]
) -> list[tuple[int, int]]:
    """The span in `text` of each piece, given the normalised characters it takes.

    `starts` (one more than characters) leads from normalised to prepared text, `sources` from there to `text`. A lone
    `▁` has an empty span where the next piece begins.
    """
    ends = list(starts)
    for i in range(len(normalised) - 1, -1, -1):
        ends[i] = starts[i + 1] if starts[i + 1] > starts[i] else ends[i + 1]
    spans: list[tuple[int, int] | None] = []
    position = 0
    for length in lengths:
        taken = [i for i in range(position, position + length) if normalised[i] != SPACE]
        position += length
        if not length and spans:
            spans.append(spans[-1])
        elif taken and ends[taken[-1]] > starts[taken[0]]:
            start, last = sources[starts[taken[0]]], sources[starts[taken[-1]]]
            end = max(last, sources[ends[taken[-1]] - 1]) + 1
            while end > last + 1 and is_blank(text[end - 1]):
                end -= 1
            spans.append((start, end))
        else:
            spans.append(None)
    return without_gaps(text, spans)


def without_gaps(
    text: str, spans: Sequence[tuple[int, int] | None], blank: Callable[[str], bool] = is_blank
) -> list[tuple[int, int]]:
    """Give characters that have no piece (dropped accents, control characters) to their neighbours in the word."""
    real = [list(span) for span in spans if span]
    edges: Iterator[tuple[list[int] | None, list[int] | None]] = itertools.pairwise([None, *real, None])
    for before, after in edges:
        low = before[1] if before else 0
        high = after[0] if after else len(text)
        while before and low < high and not blank(text[low]):
            low += 1
        while after and high > low and not blank(text[high - 1]):
            high -= 1
        if before:
            before[1] = max(before[1], low)
        if after:
            after[0] = min(after[0], high)
    placed: list[tuple[int, int]] = []
    upcoming = len(text)
    left = len(real)
    for span in reversed(spans):
        if span:
            left -= 1
            upcoming = real[left][0]
            placed.append((real[left][0], real[left][1]))
        else:
            # One character may stand for several words: then a `▁` between them shares its span.
            placed.append((upcoming, max(upcoming, real[left - 1][1] if left else 0)))
    return placed[::-1]


def trimmed(text: str, start: int, end: int, blank: Callable[[str], bool] = is_blank) -> tuple[int, int]:
    """A span without the blanks at its ends."""
    while start < end and blank(text[start]):
        start += 1
    while start < end and blank(text[end - 1]):
        end -= 1
    return start, end
