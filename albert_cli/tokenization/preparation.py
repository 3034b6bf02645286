"""Google's text preparation (google-research/albert, tokenization.py, preprocess_text), and the way back to the source.

White space is collapsed, then NFKD, combining characters dropped, lower-cased. `keep_accents` leaves out the middle
two, as Hugging Face's option of that name does.
"""

from __future__ import annotations

import re
import unicodedata
from array import array
from collections.abc import Sequence
from typing import Any

from albert_cli.errors import TokenizerError
from converters.messages import brief

# Half of a UTF-16 pair is no character and has no UTF-8 form.
_SURROGATE = re.compile("[\ud800-\udfff]")
_REPLACEMENT = "\ufffd"
_WORD = re.compile(r"\S+")
# SentencePiece takes TAB, LF, CR and the space for blanks, and drops these, which also part words to Google.
_UNKNOWN_BLANKS = "\x0b\x0c\x1c\x1d\x1e\x1f"
_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")


class _WithoutAccents(dict[int, str]):
    """NFKD without combining characters, by code point, as str.translate wants it; filled as characters come.

    A table by character is exact: NFKD decomposes each by itself, and what it reorders are combining characters.
    """

    def __missing__(self, code: int) -> str:
        decomposed = unicodedata.normalize("NFKD", chr(code))
        self[code] = "".join(c for c in decomposed if not unicodedata.combining(c))
        return self[code]


_without_accents = _WithoutAccents()


def prepare(text: str, *, lowercase: bool, keep_accents: bool) -> str:
    """The text as Google hands it to SentencePiece."""
    text = " ".join(encodable(text).split())
    if not keep_accents and not text.isascii():
        text = _NOT_ASCII.sub(lambda run: run[0].translate(_without_accents), text)
    return text.lower() if lowercase else text


def prepare_with_sources(text: str, *, lowercase: bool, keep_accents: bool) -> tuple[str, Sequence[int]]:
    """The prepared text and, for each of its characters, the index in `text` of the character it comes from."""
    parts: list[str] = []
    sources = array("i")
    for word in _WORD.finditer(encodable(text)):
        if parts:
            parts.append(" ")
            sources.append(word.start() - 1)
        if keep_accents or word[0].isascii():
            parts.append(word[0])
            sources.extend(range(*word.span()))
            continue
        for source, character in enumerate(word[0], word.start()):
            kept = character if character.isascii() else _without_accents[ord(character)]
            parts.append(kept)
            sources.extend([source] * len(kept))
    prepared = "".join(parts)
    if not lowercase:
        return prepared, sources
    lowered = prepared.lower()  # as a whole: a final sigma depends on its neighbours
    if len(lowered) != len(prepared):
        sources = array("i", (source for c, source in zip(prepared, sources, strict=True) for _ in c.lower()))
    return lowered, sources


def prepare_for_sentencepiece(texts: Sequence[str], *, lowercase: bool, keep_accents: bool) -> list[str]:
    """Each text prepared, but for blanks that SentencePiece collapses by itself: most ASCII needs lower-casing only."""
    together = "".join(texts)
    if any(blank in together for blank in _UNKNOWN_BLANKS):
        return [prepare(text, lowercase=lowercase, keep_accents=keep_accents) for text in texts]
    if lowercase:
        return [
            text.lower() if text.isascii() else prepare(text, lowercase=True, keep_accents=keep_accents)
            for text in texts
        ]
    return [text if text.isascii() else prepare(text, lowercase=False, keep_accents=keep_accents) for text in texts]


def check_texts(texts: Sequence[Any]) -> None:
    """TokenizerError for one text, whose characters would be taken for texts, and for a list with what is no text."""
    if isinstance(texts, str):
        raise TokenizerError(f"{brief(texts)} is one text, where a list of texts is wanted; write [text]")
    wrong = next((place for place, text in enumerate(texts) if not isinstance(text, str)), None)
    if wrong is not None:
        raise TokenizerError(f"text {wrong + 1} is {brief(texts[wrong])}, not a text")


def encodable(text: str) -> str:
    """The text with lone surrogates replaced by U+FFFD, so that it has a UTF-8 form."""
    return text if text.isascii() else _SURROGATE.sub(_REPLACEMENT, text)
