"""Training text without held-out texts, their near-copies, and whatever quotes them.

A sentence is left out where it is a held-out text but for case, accents, punctuation and white space (`same`), where
four fifths of the words of the two together are in both (`near`: a Jaccard index of their sets of words), and where it
holds one of four words or more, word for word (`quotes`).
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Literal

from albert_cli.pretraining.sentences import sentences

NEAR = Fraction(4, 5)
SHORTEST_QUOTED = 4  # words
Likeness = Literal["same", "near", "quotes"]
_MASK = re.compile(r"\[MASK\]|<mask>")
_APOSTROPHE = re.compile(r"(?<=\w)['\u2019](?=\w)")
_WORD = re.compile(r"[^\W_]+")


def words(text: str) -> list[str]:
    """The words of a text in small letters, without accents and punctuation."""
    text = text.casefold()
    if not text.isascii():
        text = "".join(letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))
    return _WORD.findall(_APOSTROPHE.sub("", text))


class HeldOut:
    """Texts that training text is compared with, each whole and sentence by sentence.

    Found quickly, because few are compared: two sets of words that are alike share one of their rarest words
    (prefix filtering: Chaudhuri et al. 2006, Bayardo et al. 2007), and a quoted text is looked for only where its
    rarest word is. A text with a mask is never looked for as a quotation: it is the beginning of many.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        lists: dict[tuple[str, ...], bool] = {}  # whether it may be quoted
        for text in texts:
            for part in [text, *sentences(text)]:
                found = tuple(words(_MASK.sub(" ", part)))
                if len(found) >= (SHORTEST_QUOTED if part != text else 1):
                    lists[found] = lists.get(found, False) or not _MASK.search(part)
        frequency = Counter(word for parts in lists for word in set(parts))
        rarest_first = sorted(frequency, key=lambda word: (frequency[word], word))
        self._rank = {word: rank for rank, word in enumerate(rarest_first)}
        self._same = {"".join(parts) for parts in lists}
        self._sets = [frozenset(parts) for parts in lists]
        self._near: dict[int, list[int]] = defaultdict(list)
        self._quotable: dict[int, list[str]] = defaultdict(list)
        for number, (parts, quotable) in enumerate(lists.items()):
            ranks = sorted(self._rank[word] for word in self._sets[number])
            for rank in ranks[: _prefix(len(ranks))]:
                self._near[rank].append(number)
            if quotable and len(parts) >= SHORTEST_QUOTED:
                self._quotable[ranks[0]].append(f" {' '.join(parts)} ")

    def likeness(self, text: str) -> Likeness | None:
        """How the text is like a held-out one; None: it is not."""
        parts = words(text)
        if "".join(parts) in self._same:
            return "same"
        mine = frozenset(parts)
        ranks = sorted(self._rank[word] for word in mine if word in self._rank)
        # Words of no held-out text are the rarest of all, and shared with none.
        for rank in ranks[: max(0, _prefix(len(mine)) - (len(mine) - len(ranks)))]:
            for number in self._near.get(rank, ()):
                theirs = self._sets[number]
                if NEAR.denominator * len(mine & theirs) >= NEAR.numerator * len(mine | theirs):
                    return "near"
        line = f" {' '.join(parts)} "
        for rank in ranks:
            if any(quoted in line for quoted in self._quotable.get(rank, ())):
                return "quotes"
        return None


def cleaned(lines: Iterable[str], held_out: HeldOut, removed: Counter[str]) -> Iterator[str]:
    """The lines without the sentences that are like held-out texts, and without those that then are like one as a
    whole; `removed` counts sentences by likeness. Empty lines stay: they end documents."""
    for line in lines:
        parts = sentences(line)
        likes = [held_out.likeness(part) for part in parts]
        removed.update(like for like in likes if like)
        kept = [part for part, like in zip(parts, likes, strict=True) if not like]
        if len(kept) > 1 and (like := held_out.likeness(" ".join(kept))):
            removed[like] += len(kept)
            kept = []
        if len(kept) == len(parts):
            yield line
        elif kept:
            yield " ".join(kept)


def _prefix(count: int) -> int:
    """Of so many words in a common order, how many must share one with any set that is like theirs."""
    return count - -(-NEAR.numerator * count // NEAR.denominator) + 1
