"""WordPiece: words cut into the longest pieces of a list (google-research/bert, tokenization.py)."""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Mapping, Sequence

import numpy as np

from albert_cli.tokenization import basic
from albert_cli.tokenization.lookups import WordIds
from albert_cli.tokenization.pieces import CODES, NORMAL, UNKNOWN, Pieces
from albert_cli.tokenization.segmenters import CONTINUED, Mark
from albert_cli.tokenization.spans import blanks, without_gaps
from converters.tokenizers.files import WORD_LIMIT, WORDPIECE_TOKENS


class WordPieceSegmenter:
    """A WordPiece list: each word is cut from the left, each time the longest piece there is.

    A word with a part that is no piece, or of more than `word_limit` characters, is unknown as a whole.
    """

    mark: Mark = CONTINUED

    def __init__(
        self,
        tokens: Sequence[str],
        rules: basic.Rules,
        *,
        special_tokens: Mapping[str, str] = WORDPIECE_TOKENS,
        word_limit: int = WORD_LIMIT,
    ) -> None:
        """`tokens`: those of each id; of one that is there twice the last id counts. `unk` must be among them."""
        self.rules, self.special_tokens, self.word_limit = rules, special_tokens, word_limit
        self._tokens = tokens
        self._ids = {token: number for number, token in enumerate(tokens)}
        self._unknown = self._ids[special_tokens["unk"]]
        self._first = _by_text(self._ids)
        self._further = _by_text({t[len(CONTINUED) :]: n for t, n in self._ids.items() if t.startswith(CONTINUED)})
        self._of_word = WordIds(self._cut)
        self._between_blanks = WordIds(lambda text: tuple(self._chained(self.rules.of(text))))

    def __len__(self) -> int:
        return len(self._tokens)

    def prepare(self, text: str) -> str:
        return " ".join(self.rules.of(text))

    def ids(self, texts: Sequence[str], threads: int) -> list[list[int]]:
        known, chain = self._between_blanks.__getitem__, itertools.chain.from_iterable
        return [list(chain(map(known, text.split()))) for text in basic.splittable(texts)]

    def pieces(self, text: str, *, continued: bool = False) -> Pieces:
        found, starts, ends = array("i"), array("i"), array("i")
        least = most = 0
        for word, sources in self.rules.with_sources(text):
            low = 0
            for number in self._of_word[word]:
                high = len(word) if number == self._unknown else low + self._length(number, first=not low)
                # Normal form D may swap characters; spans never go back.
                least = max(least, min(sources[low:high]))
                most = max(most, 1 + max(sources[low:high]))
                found.append(number)
                starts.append(least)
                ends.append(most)
                low = high
        ids = np.array(found, np.int32)
        kinds = np.where(ids == self._unknown, CODES[UNKNOWN], CODES[NORMAL])
        spans = without_gaps(np.array(starts, np.int32), np.array(ends, np.int32), blanks(text, str.isspace))
        return Pieces(ids, [self._tokens[number] for number in found], *spans, kinds)

    def piece(self, number: int) -> str:
        return self._tokens[number] if number < len(self._tokens) else ""

    def id_of(self, piece: str) -> int | None:
        return self._ids.get(piece)

    def score(self, number: int) -> float | None:
        return None

    def decode(self, ids: Sequence[int]) -> str:
        pieces = [piece for piece in map(self.piece, ids) if piece]
        further = (p.removeprefix(CONTINUED) if p.startswith(CONTINUED) else f" {p}" for p in pieces[1:])
        return "".join([*pieces[:1], *further])

    def _chained(self, words: Sequence[str]) -> itertools.chain[int]:
        return itertools.chain.from_iterable(map(self._of_word.__getitem__, words))

    def _length(self, number: int, *, first: bool) -> int:
        return len(self._tokens[number]) - (0 if first else len(CONTINUED))

    def _cut(self, word: str) -> tuple[int, ...]:
        """The ids of one word."""
        if len(word) > self.word_limit:
            return (self._unknown,)
        ids: list[int] = []
        start, (listed, longest) = 0, self._first
        while start < len(word):
            for end in range(min(len(word), start + longest), start, -1):
                number = listed.get(word[start:end])
                if number is not None:
                    break
            else:
                return (self._unknown,)
            ids.append(number)
            start, (listed, longest) = end, self._further
        return tuple(ids)


def _by_text(ids: Mapping[str, int]) -> tuple[dict[str, int], int]:
    """The ids by text, and the length of the longest text."""
    return dict(ids), max(map(len, ids), default=0)
