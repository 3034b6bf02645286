"""Spans: which characters of the original text a piece stands for.

Spans neither begin nor end in white space, grow monotonously, and leave out no other character of a word that has a
piece. All is computed on arrays, as a text may be one line of many megabytes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

SPACE: Final = "▁"
# No white space has a code point above this one's.
_LAST_BLANK: Final = 0x3000

Spans = tuple[NDArray[np.int32], NDArray[np.int32]]
"""Where each piece starts, and where it ends: (pieces), (pieces)."""


def is_blank(character: str) -> bool:
    """Whether it is white space to SentencePiece, which takes a literal ▁ for a space."""
    return character.isspace() or character == SPACE


def spans_of(
    text: str, lengths: NDArray[np.int32], normalised: str, starts: NDArray[np.int32], sources: Sequence[int]
) -> Spans:
    """The span in `text` of each piece, given the normalised characters it takes: `lengths` (pieces).

    `starts` (one more than characters) leads from normalised to prepared text, `sources` from there to `text`. A lone
    `▁` has an empty span where the next piece begins.
    """
    begins, origins, size = starts, np.asarray(sources, np.int32), len(normalised)
    # Where a character of the prepared text ends: at the beginning of the next that begins elsewhere.
    stops = begins[np.minimum(_following(begins[1:] > begins[:-1]) + 1, size)]
    shown = _codes(normalised) != ord(SPACE)
    after = np.cumsum(lengths, dtype=np.int32)
    before = after - lengths
    # The first and the last character of each piece that is not a ▁.
    first, last = _following(shown)[before], _preceding(shown)[after]
    real = (lengths > 0) & (first <= last)
    real[real] = stops[last[real]] > begins[first[real]]
    begins_at, ends_at = begins[first[real]], begins[last[real]]
    low = origins[begins_at]
    least = origins[ends_at] + 1
    high = np.maximum(least, origins[stops[last[real]] - 1] + 1)
    blank = blanks(text)
    high = np.maximum(least, _preceding(~blank)[high] + 1)
    # A piece without a character of its own shares the span of the one before it.
    from_place = np.arange(len(lengths), dtype=np.int32)
    from_place = np.maximum.accumulate(np.where((lengths == 0) & (from_place > 0), 0, from_place))
    has_span = real[from_place]
    which = (np.cumsum(real, dtype=np.int32) - 1)[from_place][has_span]
    low, high = without_gaps(low[which], high[which], blank)
    return _placed(low, high, has_span, len(text))


def without_gaps(starts: NDArray[np.int32], ends: NDArray[np.int32], blank: NDArray[np.bool_]) -> Spans:
    """Give characters that have no piece (dropped accents, control characters) to their neighbours in the word.

    `blank` (characters of the text): whether it is white space.
    """
    if not len(starts):
        return starts, ends
    size = np.int32(len(blank))
    # The gaps before the first span, between each two, and after the last one.
    low, high = np.concatenate([[np.int32(0)], ends]), np.concatenate([starts, [size]])
    reached = np.where(low < high, np.minimum(high, _following(blank)[low]), low)
    reached[0] = 0
    left = np.where(high > reached, np.maximum(reached, _preceding(blank)[high] + 1), high)
    return np.minimum(starts, left[:-1]), np.maximum(ends, reached[1:])


def _placed(low: NDArray[np.int32], high: NDArray[np.int32], has_span: NDArray[np.bool_], size: int) -> Spans:
    """The spans of all pieces; one without a span of its own has an empty one where the next piece begins.

    One character may stand for several words: then a `▁` between them shares its span.
    """
    done = np.cumsum(has_span, dtype=np.int32)  # how many there are up to each piece, itself included
    upcoming = np.append(low, np.int32(size))[done - has_span]
    ends = np.append(np.int32(0), high)[done]
    return upcoming, np.where(has_span, ends, np.maximum(upcoming, ends))


def blanks(text: str, blank: Callable[[str], bool] = is_blank) -> NDArray[np.bool_]:
    """Whether each character of a text is white space, (characters)."""
    return _blank_codes(blank)[np.minimum(_codes(text), _LAST_BLANK + 1)]


@functools.cache
def _blank_codes(blank: Callable[[str], bool]) -> NDArray[np.bool_]:
    """By code point; the last of them stands for all above."""
    return np.array([*(blank(chr(code)) for code in range(_LAST_BLANK + 1)), False])


def trimmed(text: str, start: int, end: int, blank: Callable[[str], bool] = is_blank) -> tuple[int, int]:
    """A span without the blanks at its ends."""
    while start < end and blank(text[start]):
        start += 1
    while start < end and blank(text[end - 1]):
        end -= 1
    return start, end


def _codes(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def _following(wanted: NDArray[np.bool_]) -> NDArray[np.int32]:
    """For each place, and the one after all, the first wanted one from there on; their number where there is none."""
    size = len(wanted)
    places: NDArray[Any] = np.full(size + 1, size, np.int32)
    np.copyto(places[:-1], np.arange(size, dtype=np.int32), where=wanted)
    return np.minimum.accumulate(places[::-1])[::-1]


def _preceding(wanted: NDArray[np.bool_]) -> NDArray[np.int32]:
    """For each place, and the one after all, the last wanted one before it; -1 where there is none."""
    places: NDArray[Any] = np.full(len(wanted) + 1, -1, np.int32)
    np.copyto(places[1:], np.arange(len(wanted), dtype=np.int32), where=wanted)
    return np.maximum.accumulate(places)
