"""Tags of words: the spans that they mark, and the scores of these.

A tag is O, or a letter, a dash and a kind: B-PER. B begins a span, I continues it, E ends it, S is a whole one; L and U
are E and S (BILOU). As CoNLL's own evaluation has it, a span also begins at an I or E that continues none of its kind,
so IOB1, IOB2 and BIOES are read alike. A tag without a letter stands for itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from albert_cli.training.score_bars import Score

OUTSIDE = "O"
_LETTERS = frozenset("BIESLU")


class Span(NamedTuple):
    """Words `start` to `end` (left out) are one of this kind."""

    kind: str
    start: int
    end: int


def parted(tag: str) -> tuple[str, str] | None:
    """The letter and the kind of a tag that marks spans, both empty of O; None of another tag."""
    if tag == OUTSIDE:
        return "", ""
    letter, dash, kind = tag.partition("-")
    return (letter, kind) if letter in _LETTERS and dash and kind else None


def mark_spans(tags: Iterable[str]) -> bool:
    """Whether these tags mark spans: all that are not O."""
    every = set(tags) - {OUTSIDE}
    return bool(every) and all(parted(tag) for tag in every)


def spans(tags: Sequence[str]) -> list[Span]:
    """The spans of a sentence's tags in order."""
    found: list[Span] = []
    kind, start = "", 0
    for place, tag in enumerate(tags):
        letter, new = parted(tag) or ("B", tag)
        if kind and (new != kind or letter in "BSU"):
            found.append(Span(kind, start, place))
            kind = ""
        if new and not kind:
            kind, start = new, place
        if kind and letter in ("E", "S", "L", "U"):
            found.append(Span(kind, start, place + 1))
            kind = ""
    if kind:
        found.append(Span(kind, start, len(tags)))
    return found


def in_order(tags: Iterable[str]) -> tuple[str, ...]:
    """Tags as labels: O first, then by kind; of those that mark spans each kind with every letter that is in use."""
    every = set(tags)
    if mark_spans(every):
        letters = sorted({(parted(tag) or ("", ""))[0] for tag in every} - {""})
        kinds = sorted({(parted(tag) or ("", ""))[1] for tag in every} - {""})
        return (OUTSIDE, *(f"{letter}-{kind}" for kind in kinds for letter in letters))
    return tuple(sorted(every, key=lambda tag: (tag != OUTSIDE, tag)))


def scores(true: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]], *, by_tag: bool = False) -> list[Score]:
    """What was found of each kind of span, as CoNLL and seqeval count: right is what agrees in kind and both ends.

    `by_tag`: of each tag instead, word by word.
    """
    right, found, wanted = Counter[str](), Counter[str](), Counter[str]()
    for ours, theirs in zip(predicted, true, strict=True):
        if by_tag:
            found.update(ours)
            wanted.update(theirs)
            right.update(a for a, b in zip(ours, theirs, strict=True) if a == b)
            continue
        here, there = set(spans(ours)), set(spans(theirs))
        found.update(span.kind for span in here)
        wanted.update(span.kind for span in there)
        right.update(span.kind for span in here & there)
    return [Score(name, right[name], found[name], wanted[name]) for name in sorted({*found, *wanted})]
