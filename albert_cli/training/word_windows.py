"""Words as a model takes them: pieces in windows, and the token that speaks for each word.

That is the word's first piece, as in BERT's paper (section 5.3). A sentence that does not fit is cut, between words,
into windows that overlap by up to a half; a word is read in the window that shows the most around it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from albert_cli.tokenization.batch import TokenBatch
from albert_cli.tokenization.segmenters import BYTE_SPACE
from albert_cli.tokenization.tokenizer import Tokenizer
from albert_cli.tokenization.truncation import Limit

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class WordWindows:
    """Sentences as rows of `tokens`, one for each window.

    `sentence` (rows) is the sentence of each window; `words` per window: which of its words are read there, `places`
    the token of each.
    """

    tokens: TokenBatch
    sentence: NDArray[np.int64]
    words: list[NDArray[np.int64]]
    places: list[NDArray[np.int64]]

    @property
    def cut(self) -> int:
        """How many sentences are in several windows."""
        import numpy as np

        return int((np.bincount(self.sentence) > 1).sum()) if len(self.sentence) else 0


def windows(sentences: Sequence[Sequence[str]], tokenizer: Tokenizer, max_length: int) -> WordWindows:
    """Windows of at most `max_length` tokens, special ones counted, over the words of each sentence.

    Each word is cut into pieces by itself, with a space before it where a byte-level BPE wants one. A word without
    pieces is an unknown one; of a word of more pieces than fit a window the rest is left out.
    """
    import numpy as np

    template = tokenizer.template
    room = Limit(max_length, "longest_first", pair=False, added=template.added(pair=False)).tokens
    assert room is not None
    before = len(template.before)
    pieces = _pieces(sentences, tokenizer)
    ids, owners, truncated = [], [], []
    words: list[NDArray[np.int64]] = []
    places: list[NDArray[np.int64]] = []
    for number, sentence in enumerate(sentences):
        parts = [pieces[word][:room] for word in sentence]
        lengths = np.array([len(part) for part in parts], np.int64)
        cuts = _cuts(lengths.tolist(), room)
        owner = _owners(cuts, len(parts))
        for place, (start, end) in enumerate(cuts):
            row = [piece for part in parts[start:end] for piece in part]
            ids.append(template.frame(row)[0])
            truncated.append(sum(len(pieces[word]) for word in sentence[start:end]) - len(row))
            mine = np.flatnonzero(owner[start:end] == place)
            firsts = before + np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths[start:end])])
            owners.append(number)
            words.append(mine + start)
            places.append(firsts[mine])
    tokens = replace(TokenBatch.of_rows(ids, pad_id=tokenizer.pad_id), truncated=np.array(truncated, np.int32))
    return WordWindows(tokens, np.array(owners, np.int64), words, places)


def _pieces(sentences: Sequence[Sequence[str]], tokenizer: Tokenizer) -> dict[str, list[int]]:
    """The ids of each different word."""
    different = list(dict.fromkeys(word for sentence in sentences for word in sentence))
    space = " " if tokenizer.segmenter.mark == BYTE_SPACE else ""
    found = tokenizer.ids([space + word for word in different])
    return {word: ids or [tokenizer.unk_id] for word, ids in zip(different, found, strict=True)}


def _cuts(lengths: Sequence[int], room: int) -> list[tuple[int, int]]:
    """The windows over words of these lengths, as (first, one after the last): as many as fit, overlapping."""
    found, start = [], 0
    while True:
        end, size = start, 0
        while end < len(lengths) and size + lengths[end] <= room:
            size += lengths[end]
            end += 1
        found.append((start, end))
        if end == len(lengths):
            return found
        start += 1
        size -= lengths[start - 1]
        # So far that the overlap is at most a half, and the next word fits.
        while start < end and (size > room // 2 or size + lengths[end] > room):
            size -= lengths[start]
            start += 1


def _owners(cuts: Sequence[tuple[int, int]], count: int) -> NDArray[np.int64]:
    """The window that each word is read in: where the nearer end at which text is cut off is farthest, the first."""
    import numpy as np

    best, owner = np.full(count, -1), np.zeros(count, np.int64)
    for number, (start, end) in enumerate(cuts):
        at = np.arange(start, end)
        left = at - start if start else np.full(len(at), count)
        right = end - 1 - at if end < count else np.full(len(at), count)
        context = np.minimum(left, right)
        better = context > best[start:end]
        owner[start:end] = np.where(better, number, owner[start:end])
        best[start:end] = np.maximum(context, best[start:end])
    return owner
