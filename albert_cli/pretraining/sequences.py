"""Sequences of sentence pairs from documents, as Google's create_pretraining_data.py makes them for ALBERT.

Consecutive sentences are packed to the wanted length and split at a random sentence; half of the pairs are swapped
(sentence-order prediction, arXiv 1909.11942 section 3.1). One in ten sequences is made short. What an epoch looks like
is a function of seed and epoch, so any place in it is found again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from albert_cli.batching import by_length, pooled_order, shuffled
from albert_cli.pretraining.corpus import Corpus
from albert_cli.pretraining.random_streams import Stream, generator
from albert_cli.tokenization.batch import TokenBatch
from albert_cli.tokenization.tokenizer import Tokenizer
from converters.tokenizers.template import CLS_A_SEP_B_SEP

SHORT = 0.1  # of the sequences; Google's short_seq_prob
IN_ORDER, SWAPPED, NO_ORDER = 0, 1, -100
TEMPLATE = CLS_A_SEP_B_SEP
# Sequences are sorted by length within pools of this many batches.
_POOL = 32


@dataclass(frozen=True)
class Sequences:
    """Places of sequences in a corpus: `spans` (rows, 4) are where the two segments begin and end in its ids (an empty
    second one: there is none); `orders` (rows): IN_ORDER, SWAPPED, or NO_ORDER where that is not to be judged."""

    spans: NDArray[np.int64]
    orders: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.orders)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each, special ones included."""
        first, second = self.spans[:, 1] - self.spans[:, 0], self.spans[:, 3] - self.spans[:, 2]
        return first + second + np.where(second > 0, TEMPLATE.added(pair=True), TEMPLATE.added(pair=False))

    def take(self, rows: NDArray[np.int64]) -> Sequences:
        """Those rows, in that order."""
        return Sequences(self.spans[rows], self.orders[rows])


@dataclass(frozen=True)
class Tokens:
    """A batch as the model takes it: all (rows, tokens) but `orders` (rows)."""

    input_ids: NDArray[np.int64]
    token_type_ids: NDArray[np.int64]
    attention_mask: NDArray[np.int64]
    orders: NDArray[np.int64]


def tokens(corpus: Corpus, sequences: Sequences, tokenizer: Tokenizer) -> Tokens:
    """Read the sequences and put the special tokens around them."""
    template = replace(tokenizer.template, types=TEMPLATE.types)  # the order is learnt from them
    rows = [
        template.frame(corpus.ids[a:b].tolist(), corpus.ids[c:d].tolist() if d > c else None)
        for a, b, c, d in sequences.spans.tolist()
    ]
    batch = TokenBatch.of_rows([ids for ids, _ in rows], [types for _, types in rows], pad_id=tokenizer.pad_id)
    return Tokens(**batch.padded(), orders=sequences.orders)


def epoch_batches(
    corpus: Corpus,
    documents: NDArray[np.int64],
    *,
    weights: NDArray[np.float64],
    ordered: NDArray[np.bool_],
    max_length: int,
    batch_tokens: int,
    seed: int,
    epoch: int,
) -> Iterator[Sequences]:
    """The batches of one epoch, each of about `batch_tokens` tokens of sequences of like length.

    `weights` and `ordered` go by source: how often each document occurs (2.5: twice, and half of the time once more)
    and whether its sentences follow on one another.
    """
    random = generator(Stream.SEQUENCES, seed, epoch)
    wanted = weights[corpus.sources[documents]]
    times = np.floor(wanted).astype(np.int64) + (random.random(len(documents)) < wanted % 1)
    order = random.permutation(np.repeat(documents, times))
    pool_rows = max(1, _POOL * batch_tokens // max_length)
    pooled: list[Sequences] = []
    rows = 0
    for document in order.tolist():
        made = of_document(corpus, document, max_length, random, ordered=bool(ordered[corpus.sources[document]]))
        pooled.append(made)
        rows += len(made)
        if rows >= pool_rows:
            yield from _batches(pooled, batch_tokens, random)
            pooled, rows = [], 0
    if rows:
        yield from _batches(pooled, batch_tokens, random)


def of_document(
    corpus: Corpus, document: int, max_length: int, random: np.random.Generator, *, ordered: bool = True
) -> Sequences:
    """The sequences of one document: each starts where the one before ended."""
    first, last = corpus.documents[document : document + 2].tolist()
    starts = corpus.sentences[first : last + 1].tolist()  # where sentences begin, and where the last one ends
    starts = [start for start, after in zip(starts, [*starts[1:], None], strict=True) if start != after]  # none empty
    spans: list[tuple[int, int, int, int]] = []
    orders: list[int] = []
    at = 0
    while at < len(starts) - 1:
        room = max_length - TEMPLATE.added(pair=True)
        target = int(random.integers(2, room + 1)) if random.random() < SHORT else room
        end = at + 1
        while end < len(starts) - 1 and starts[end] - starts[at] < target:
            end += 1
        if ordered and end - at > 1:
            middle = int(random.integers(at + 1, end))
            a, b = (starts[at], starts[middle]), (starts[middle], starts[end])
            swapped = random.random() < 0.5
            if swapped:
                a, b = b, a
            # Cut after swapping: which one loses the odd token must not give the order away.
            a, b = _truncate(a, b, target, random)
            spans.append((*a, *b))
            orders.append(SWAPPED if swapped else IN_ORDER)
        else:
            low, high = starts[at], starts[end]
            alone = target + len(TEMPLATE.between)  # which one segment does not need
            excess = max(0, high - low - alone)
            low += int(random.integers(0, excess + 1))
            spans.append((low, min(high, low + alone), 0, 0))
            orders.append(NO_ORDER)
        at = end
    return Sequences(np.array(spans, np.int64).reshape(-1, 4), np.array(orders, np.int64))


def _truncate(
    a: tuple[int, int], b: tuple[int, int], room: int, random: np.random.Generator
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Cut tokens off the longer segment, at either end at random, until both fit (Google's truncate_seq_pair)."""
    ends = [list(a), list(b)]
    while (excess := sum(high - low for low, high in ends) - room) > 0:
        sizes = [high - low for low, high in ends]
        longer = ends[0] if sizes[0] > sizes[1] else ends[1]
        # Until both are as long all cuts go to one segment: how many of them in front is binomial.
        count = min(excess, max(1, abs(sizes[0] - sizes[1])))
        front = int(random.binomial(count, 0.5))
        longer[0] += front
        longer[1] -= count - front
    (a0, a1), (b0, b1) = ends
    return (a0, a1), (b0, b1)


def _batches(pooled: list[Sequences], batch_tokens: int, random: np.random.Generator) -> Iterator[Sequences]:
    """Batches of like length from a pool, in random order."""
    pool = Sequences(np.concatenate([item.spans for item in pooled]), np.concatenate([item.orders for item in pooled]))
    order = pooled_order(random, pool.lengths, len(pool))
    for rows in shuffled(random, by_length(pool.lengths, batch_tokens, order=order)):
        yield pool.take(rows)
