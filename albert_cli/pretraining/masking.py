"""n-gram masking (arXiv 1909.11942, section 4.1; Google's create_pretraining_data.py, create_masked_lm_predictions)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from albert_cli.pretraining.sequences import Tokens
from albert_cli.tokenization.segmenters import CONTINUED
from albert_cli.tokenization.tokenizer import Tokenizer

MASK_RATE = 0.15  # of the tokens of a sequence
LONGEST = 3  # words of an n-gram
MASKED, RANDOM = 0.8, 0.1  # the rest stays as it is


@dataclass(frozen=True)
class Vocabulary:
    """What masking must know of the vocabulary: `begins` (V): pieces that begin a word; `special` (V): control pieces,
    never masked; `ordinary`: the ids that may stand in for another."""

    begins: NDArray[np.bool_]
    special: NDArray[np.bool_]
    ordinary: NDArray[np.int64]
    mask_id: int

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Vocabulary:
        """That of a tokenizer."""
        pieces = [tokenizer.segmenter.piece(number) for number in range(len(tokenizer))]
        special = np.zeros(len(pieces), bool)
        template = tokenizer.template
        special[[*template.before, *template.between, *template.after, tokenizer.mask_id, tokenizer.pad_id]] = True
        # Google's _is_start_piece_sp: a piece continues a word if it starts with a letter or digit.
        mark = tokenizer.segmenter.mark
        if mark == CONTINUED:
            begins = np.array([not piece.startswith(mark) for piece in pieces])
        else:
            begins = np.array([piece.startswith(mark) or not piece[:1].isalnum() for piece in pieces])
        begins |= np.array([tokenizer.is_added(piece) for piece in pieces])
        return cls(begins, special, np.flatnonzero(~special), tokenizer.mask_id)


@dataclass(frozen=True)
class Masked:
    """`input_ids` (rows, tokens) with masks in; `rows`, `columns` and `labels` (masked tokens): what was there."""

    input_ids: NDArray[np.int64]
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    labels: NDArray[np.int64]


def mask(
    batch: Tokens,
    vocabulary: Vocabulary,
    random: np.random.Generator,
    *,
    rate: float = MASK_RATE,
    whole_words: bool = True,
) -> Masked:
    """Choose `rate` of each row's tokens in n-grams of 1 to 3 words (or pieces), n with probability 1/n; 80 % become
    `[MASK]`, 10 % another piece, 10 % stay."""
    rows: list[int] = []
    columns: list[int] = []
    for row, length in enumerate(batch.attention_mask.sum(axis=1).tolist()):
        ids = batch.input_ids[row, :length]
        chosen = choose(
            vocabulary.begins[ids] if whole_words else np.ones(length, bool),
            vocabulary.special[ids],
            max(1, round(rate * length)),
            random,
        )
        rows += [row] * len(chosen)
        columns += chosen
    at = np.array(rows, np.int64), np.array(columns, np.int64)
    labels = batch.input_ids[at]
    draw = random.random(len(labels))
    others = vocabulary.ordinary[random.integers(0, len(vocabulary.ordinary), len(labels))]
    replaced = np.where(draw < MASKED, vocabulary.mask_id, np.where(draw < MASKED + RANDOM, others, labels))
    input_ids = batch.input_ids.copy()
    input_ids[at] = replaced
    return Masked(input_ids, *at, labels)


def choose(begins: NDArray[np.bool_], special: NDArray[np.bool_], count: int, random: np.random.Generator) -> list[int]:
    """Places to mask in one sequence, at most `count`, in order.

    N-grams are drawn at random places until there are `count` tokens; one that would be too much is shortened, or left
    out; none overlaps another or crosses a special token.
    """
    tokens = len(begins)
    # Units are words: each begins at a piece that is marked so, or after a special token.
    first = (begins | np.concatenate([[True], special[:-1]])) & ~special
    starts = np.flatnonzero(first)
    if not len(starts):
        return []
    breaks = np.flatnonzero(special)
    after = np.append(breaks, tokens)[np.searchsorted(breaks, starts)]  # the special token that ends each segment
    nexts = np.append(starts[1:], tokens)
    ends = np.minimum(nexts, after).tolist()
    segment = after.tolist()
    begin = starts.tolist()
    lengths = random.choice(LONGEST, len(begin), p=_CHANCES) + 1
    covered = np.zeros(tokens, bool)
    left = count
    for unit in random.permutation(len(begin)).tolist():
        if not left:
            break
        low = begin[unit]
        for n in range(int(lengths[unit]), 0, -1):
            last = unit + n - 1
            if last >= len(begin) or segment[last] != segment[unit]:
                continue
            high = ends[last]
            if high - low <= left:
                if not covered[low:high].any():
                    covered[low:high] = True
                    left -= high - low
                break
    chosen: list[int] = np.flatnonzero(covered).tolist()
    return chosen


_CHANCES = np.array([1 / n for n in range(1, LONGEST + 1)])
_CHANCES /= _CHANCES.sum()
