"""Google's text preparation (google-research/albert, tokenization.py, preprocess_text), and the way back to the source.

White space is collapsed, then NFKD, combining characters dropped, lower-cased. `keep_accents` leaves out the middle
two, as Hugging Face's option of that name does.
"""

from __future__ import annotations

import itertools
import re
import unicodedata

# Half of a UTF-16 pair is no character and has no UTF-8 form.
_SURROGATE = re.compile("[\ud800-\udfff]")
_REPLACEMENT = "\ufffd"
_WORD = re.compile(r"\S+")


def prepare(text: str, *, lowercase: bool, keep_accents: bool) -> str:
    """The text as Google hands it to SentencePiece."""
    text = " ".join(encodable(text).split())
    if not keep_accents and not text.isascii():
        text = "".join(itertools.filterfalse(unicodedata.combining, unicodedata.normalize("NFKD", text)))
    return text.lower() if lowercase else text


def prepare_with_sources(text: str, *, lowercase: bool, keep_accents: bool) -> tuple[str, list[int]]:
    """The prepared text and, for each of its characters, the index in `text` of the character it comes from."""
    characters: list[str] = []
    sources: list[int] = []
    for word in _WORD.finditer(encodable(text)):
        if characters:
            characters.append(" ")
            sources.append(word.start() - 1)
        for source, character in enumerate(word[0], word.start()):
            # NFKD takes each character by itself; what it reorders are combining characters, which are dropped.
            expanded = character if keep_accents else unicodedata.normalize("NFKD", character)
            kept = [c for c in expanded if keep_accents or not unicodedata.combining(c)]
            characters += kept
            sources += [source] * len(kept)
    prepared = "".join(characters)
    if not lowercase:
        return prepared, sources
    lowered = prepared.lower()  # as a whole: a final sigma depends on its neighbours
    if len(lowered) != len(prepared):
        sources = [source for c, source in zip(characters, sources, strict=True) for _ in c.lower()]
    return lowered, sources


def encodable(text: str) -> str:
    """The text with lone surrogates replaced by U+FFFD, so that it has a UTF-8 form."""
    return text if text.isascii() else _SURROGATE.sub(_REPLACEMENT, text)
