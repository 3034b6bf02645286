"""Text -> words, as BERT's BasicTokenizer cuts them (google-research/bert, tokenization.py), and the way back.

Characters without a meaning are dropped, white space and Chinese characters part words; a lower-cased model's words
lose their capitals and accents; then each punctuation mark is a word. Which character is what, Python's unicodedata
says. One rule of ELECTRA's differs: `drop_category_c`.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from albert_cli.tokenization.lookups import Characters

_CHINESE = (
    (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F), (0x2B820, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F),
)  # fmt: skip
_WORD = re.compile(r"\S+")
_ASCII_WORD = re.compile(r"[A-Za-z0-9]+|[!-/:-@\[-`{-~]")
_BLANK = re.compile("[ \t\n\r]")
# Characters whose words are found with their places at once: of each, its place and the text it becomes are held.
_AT_ONCE = 1 << 16
# White space to Python's str.split(), but control characters here, so they part no words.
_NO_BLANKS = "\x0b\x0c\x1c\x1d\x1e\x1f\x85"
_WITHOUT_THEM = dict.fromkeys(map(ord, _NO_BLANKS))


@dataclass(frozen=True)
class Rules:
    """How a text is cut.

    `strip_accents`: words are decomposed and lose their combining marks. `chinese_chars`: each Chinese character is a
    word. `drop_category_c`: characters of all categories C are dropped, not only of Cc and Cf.
    """

    lowercase: bool
    strip_accents: bool
    chinese_chars: bool = True
    drop_category_c: bool = False

    def of(self, text: str) -> list[str]:
        """The words of a text."""
        text = text.translate(self._clean)
        if self.lowercase:
            text = text.lower()
        if self.strip_accents:
            text = unicodedata.normalize("NFD", text)
        return text.translate(self._marks).split()

    def with_sources(self, text: str) -> Iterator[tuple[str, Sequence[int]]]:
        """The words of a text and, for each of their characters, the index in `text` of the one it comes from."""
        low = 0
        while low < len(text):
            # A blank parts words, so what is between two of them can be cut alone.
            blank = _BLANK.search(text, low + _AT_ONCE)
            high = blank.end() if blank else len(text)
            for word, sources in self._with_sources(text[low:high]):
                yield word, sources if not low else [source + low for source in sources]
            low = high

    def _with_sources(self, text: str) -> Iterable[tuple[str, Sequence[int]]]:
        if text.isascii() and text.isprintable():
            lowered = text.lower() if self.lowercase else text
            return ((word[0], range(*word.span())) for word in _ASCII_WORD.finditer(lowered))
        characters, sources = _translated(text, range(len(text)), self._clean)
        if self.lowercase:
            lowered = characters.lower()  # as a whole: a final sigma depends on its neighbours
            if len(lowered) != len(characters):
                sources = [source for c, source in zip(characters, sources, strict=True) for _ in c.lower()]
            characters = lowered
        if self.strip_accents:
            characters, sources = _decomposed(characters, sources)
        characters, sources = _translated(characters, sources, self._marks)
        return ((word[0], sources[word.start() : word.end()]) for word in _WORD.finditer(characters))

    @cached_property
    def _clean(self) -> Mapping[int, str]:
        return Characters(self._cleaned)

    @cached_property
    def _marks(self) -> Mapping[int, str]:
        return Characters(self._marked)

    def _cleaned(self, character: str) -> str:
        category = unicodedata.category(character)
        if character in "\t\n\r" or category == "Zs":
            return " "
        # Half of a UTF-16 pair (Cs) is no character.
        if character == "\ufffd" or category in ("Cc", "Cf", "Cs") or (self.drop_category_c and category[0] == "C"):
            return ""
        chinese = self.chinese_chars and any(low <= ord(character) <= high for low, high in _CHINESE)
        return f" {character} " if chinese else character

    def _marked(self, character: str) -> str:
        category = unicodedata.category(character)
        if self.strip_accents and category == "Mn":
            return ""
        return f" {character} " if category[0] == "P" or character in "$+<=>^`|~" else character


def splittable(texts: Sequence[str]) -> Sequence[str]:
    """The texts without the characters at which str.split() parts words and BERT does not."""
    together = "".join(texts)
    if any(blank in together for blank in _NO_BLANKS):
        return [text.translate(_WITHOUT_THEM) for text in texts]
    return texts


def _translated(text: str, sources: Sequence[int], table: Mapping[int, str]) -> tuple[str, list[int]]:
    made = [table[ord(character)] for character in text]
    return "".join(made), [source for part, source in zip(made, sources, strict=True) for _ in part]


def _decomposed(text: str, sources: Sequence[int]) -> tuple[str, list[int]]:
    """Normal form D: each character decomposed, and combining characters in a row sorted by their class."""
    parts = [
        (character, source)
        for composed, source in zip(text, sources, strict=True)
        for character in unicodedata.normalize("NFD", composed)
    ]
    ordered: list[tuple[str, int]] = []
    for _, run in itertools.groupby(parts, key=lambda part: unicodedata.combining(part[0]) != 0):
        ordered += sorted(run, key=lambda part: unicodedata.combining(part[0]))
    return "".join(character for character, _ in ordered), [source for _, source in ordered]
