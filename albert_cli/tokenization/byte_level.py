"""GPT-2's byte-level BPE (openai/gpt-2, encoder.py), which RoBERTa has: every text has pieces, and none is unknown.

A text is cut into words with the space before them, each word into bytes, and these are joined pair by pair, the most
important pair first. Which character is a letter or a number, Python's unicodedata says.
"""

from __future__ import annotations

import heapq
import re
import unicodedata
from array import array
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, pairwise

from albert_cli.tokenization.lookups import Characters, WordIds
from albert_cli.tokenization.pieces import CODES, NORMAL, Pieces
from albert_cli.tokenization.preparation import encodable
from albert_cli.tokenization.segmenters import BYTE_SPACE, Mark
from albert_cli.tokenization.spans import trimmed
from converters.tokenizers.bpe import byte_symbols
from converters.tokenizers.files import BPE_TOKENS

# For texts in which characters beyond ASCII have been replaced by others of their kind.
_WORDS = re.compile(
    r"'s|'t|'re|'ve|'m|'ll|'d| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+",
    re.ASCII,
)
# What stands between white space, with the space before it. Each can be cut alone: no word goes beyond it.
_PARTS = re.compile(r" ?[\S\x1c-\x1f]+|[^\S\x1c-\x1f]+(?![\S\x1c-\x1f])|[^\S\x1c-\x1f]+")
_LETTER, _NUMBER, _BLANK, _OTHER = "a", "0", "\t", "!"


class ByteLevelSegmenter:
    """A byte-level BPE. `prefix_space`: a text begins with a space, if it does not already."""

    mark: Mark = BYTE_SPACE

    def __init__(
        self,
        pieces: Sequence[str],
        merges: Sequence[tuple[str, str]],
        *,
        special_tokens: Mapping[str, str] = BPE_TOKENS,
        prefix_space: bool = False,
    ) -> None:
        """`pieces`: those of each id, with one for each byte and each result of a merge; `merges`: in order."""
        self.special_tokens, self.prefix_space = special_tokens, prefix_space
        self._pieces = pieces
        self._ids = {piece: number for number, piece in enumerate(pieces)}
        self._ranks = {pair: rank for rank, pair in enumerate(merges)}
        self._of_word = WordIds(lambda word: tuple(self._ids[piece] for piece in self._cut(word)))
        self._of_part = WordIds(lambda part: tuple(chain.from_iterable(map(self._of_word.__getitem__, _words(part)))))

    def __len__(self) -> int:
        return len(self._pieces)

    def prepare(self, text: str) -> str:
        return f" {text}" if self.prefix_space and text and text[0] != " " else text

    def ids(self, texts: Sequence[str], threads: int) -> list[list[int]]:
        known, parts = self._of_part.__getitem__, _PARTS.findall
        return [list(chain.from_iterable(map(known, parts(self.prepare(encodable(text)))))) for text in texts]

    def pieces(self, text: str, *, continued: bool = False) -> Pieces:
        text = encodable(text)
        prepared = text if continued else self.prepare(text)
        ids, starts, ends, kinds = array("i"), array("i"), array("i"), bytearray()
        low = len(text) - len(prepared)
        for word in _words(prepared):
            # The character of each byte, with one more at each end.
            sources = [i for i, character in enumerate(word, low) for _ in character.encode()]
            sources = [-2, *sources, len(text)]
            at = 1
            for number in self._of_word[word]:
                piece = self._pieces[number]
                first, last = sources[at], sources[at + len(piece) - 1]
                within = first == sources[at - 1] or last == sources[at + len(piece)]
                start, end = trimmed(text, max(first, 0), last + 1, str.isspace)
                ids.append(number)
                starts.append(start)
                ends.append(end)
                kinds.append(CODES["byte" if within else NORMAL])
                at += len(piece)
            low += len(word)
        return Pieces(ids, [self._pieces[number] for number in ids], starts, ends, kinds)

    def piece(self, number: int) -> str:
        return self._pieces[number] if number < len(self._pieces) else ""

    def id_of(self, piece: str) -> int | None:
        return self._ids.get(piece)

    def score(self, number: int) -> float | None:
        return None

    def decode(self, ids: Sequence[int]) -> str:
        return b"".join(map(_bytes_of, map(self.piece, ids))).decode(errors="replace")

    def _cut(self, word: str) -> list[str]:
        """The pieces of one word."""
        parts = list(word.encode().decode("latin-1").translate(_SYMBOLS))
        end = len(parts)
        # What is there before and after each part.
        left, right = (array("l", range(first, first + end)) for first in (-1, 1))
        ranks = self._ranks
        queue = [(ranks[pair], at) for at, pair in enumerate(pairwise(parts)) if pair in ranks]
        heapq.heapify(queue)
        while queue:
            rank, joined = queue[0][0], []
            # All pairs of one kind are joined, from left to right, before any that comes of it is looked at.
            while queue and queue[0][0] == rank:
                _, at = heapq.heappop(queue)
                after = right[at]
                if after == end or ranks.get((parts[at], parts[after])) != rank:
                    continue  # one of the two has been joined with another
                parts[at] += parts[after]
                parts[after] = ""
                right[at] = right[after]
                if right[at] < end:
                    left[right[at]] = at
                joined.append(at)
            for at in {place for made in joined for place in (left[made], made)}:
                if at >= 0 and right[at] < end and (new := ranks.get((parts[at], parts[right[at]]))) is not None:
                    heapq.heappush(queue, (new, at))
        return [part for part in parts if part]


def _words(text: str) -> Iterator[str]:
    """A text cut into words with the space before them; white space makes words of its own."""
    if text.isascii():
        return (found[0] for found in _WORDS.finditer(text))
    return (text[slice(*found.span())] for found in _WORDS.finditer(text.translate(_ALIKE)))


def _alike(character: str) -> str:
    """A character of ASCII that the cutting into words treats as this one."""
    if character.isascii():
        return character
    if character.isalpha():
        return _LETTER
    if unicodedata.category(character)[0] == "N":
        return _NUMBER
    return _BLANK if character.isspace() else _OTHER


_ALIKE = Characters(_alike)
_SYMBOLS = dict(byte_symbols())
_BYTES = {symbol: bytes([byte]) for byte, symbol in byte_symbols().items()}


def _bytes_of(piece: str) -> bytes:
    return b"".join(_BYTES.get(symbol) or symbol.encode() for symbol in piece)
