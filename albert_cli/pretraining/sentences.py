"""Paragraphs -> sentences, in any script: Unicode's boundaries (UAX #29), but not after a usual abbreviation."""

from __future__ import annotations

import re

from unicode_segmentation_rs import unicode_sentences

# UAX #29 does not end a sentence at an ellipsis, nor before a number with a small letter after
# it: "In 1950. 12 men came."
_FURTHER = re.compile(r"""(?:[.!?]["'”’»)\]]*\s+(?=["'“‘«(\[]?\d)|…["'”’»)\]]*\s+(?=["'“‘«(\[]?[^\W_]))""")
_ABBREVIATION = re.compile(
    r"\b(?:([^\W\d_])|Mr|Mrs|Ms|Dr|St|Mt|Gen|Col|Capt|Lt|Hon|Rev|Prof|No|vs|e\.g|i\.e|etc|cf|al|Sr|Jr)\.$"
)
_LONGEST_ABBREVIATION = 8
# "What?" he asked: what was said ends here, not the sentence.
_CLOSING = "\"'”’»)]…"
_OPENING = "\"'“‘«„([ "


def sentences(paragraph: str) -> list[str]:
    """A paragraph's sentences, without the white space between them; nothing else is lost."""
    parts, start = [], 0
    for end in _boundaries(paragraph):
        sentence = paragraph[start:end].strip()
        if sentence and not _continues(sentence, paragraph, end):
            parts.append(sentence)
            start = end
    rest = paragraph[start:].strip()
    return [*parts, rest] if rest else parts


def _boundaries(paragraph: str) -> list[int]:
    """Where a further sentence may begin, in order."""
    found = [match.end() for match in _FURTHER.finditer(paragraph)]
    at = 0
    for sentence in unicode_sentences(paragraph):  # leaves out those without a letter or digit
        begin = paragraph.index(sentence, at)
        if at:
            found.append(begin)
        at = begin + len(sentence)
    return sorted(set(found))


def _continues(sentence: str, paragraph: str, end: int) -> bool:
    if sentence.endswith("."):
        match = _ABBREVIATION.search(sentence[-_LONGEST_ABBREVIATION:])
        return bool(match and (match[1] is None or match[1].isupper()))
    following = paragraph[end : end + 4].lstrip(_OPENING)[:1]
    return sentence[-1] in _CLOSING and following.islower()
