"""Two segments: ALBERT's sentence-order prediction, or BERT's of the next sentence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from albert_cli.errors import HeadError
from albert_cli.finite import check_finite
from albert_cli.model.pretraining_heads import PreTrainingModel
from albert_cli.scoring.batches import OnTruncate, Tick, batches, inputs, memory
from albert_cli.scoring.load import without_head
from albert_cli.scoring.messages import labeller, raise_if_any
from albert_cli.tokenization.batch import TokenBatch
from albert_cli.tokenization.tokenizer import Tokenizer


class Order(NamedTuple):
    """`in_order` float64 (pairs): how likely it is that the second text follows the first (ALBERT: rather than before
    it; BERT: rather than being of another document). `n_tokens`, `truncated`
    (pairs): tokens read, and left out."""

    in_order: NDArray[np.float64]
    n_tokens: NDArray[np.int64]
    truncated: NDArray[np.int32]


def sentence_order(
    model: PreTrainingModel,
    tokenizer: Tokenizer,
    firsts: Sequence[str],
    seconds: Sequence[str],
    *,
    on_truncate: OnTruncate = "warn",
    places: Sequence[str] | None = None,
    batch_tokens: int | None = None,
    tick: Tick | None = None,
) -> Order:
    """Whether segments follow one another or were swapped, ALBERT's sentence-order prediction; of a BERT whether the
    second is the next sentence or a random one. Both are label 0 of the pair head.

    A pair that is longer than the model's positions loses tokens of its longer text, or with `on_truncate="error"` is
    refused. Raises HeadError, listing all of them, for pairs refused and for those with an empty text.
    """
    where = labeller(len(firsts), places, "pair")
    config, head = model.config, model.pair
    if head is None:
        raise without_head(config, "pair")
    if config.type_vocab_size < 2:
        raise HeadError(f"the model knows {config.type_vocab_size} type of token, so it takes no pairs of texts")
    tokens = tokenizer.encode_batch(firsts, seconds, max_length=config.max_tokens)
    _check(tokens, tokenizer, config.max_tokens, on_truncate, where)
    logits = np.empty((len(firsts), 2), np.float64)
    for batch in batches(tokens.lengths, model, batch_tokens):
        with torch.inference_mode(), memory():
            encoded = model.encoder(*inputs(tokens, batch, model))
            logits[batch] = head(encoded.pooled_output).float().cpu()
        if tick:
            tick(len(batch), len(firsts))
    check_finite(logits, HeadError, lambda bad, rows: "the model's scores")
    in_order = np.exp(-np.logaddexp(0, logits[:, 1] - logits[:, 0]))  # softmax, without overflow
    return Order(in_order, tokens.lengths, tokens.truncated)


def _check(tokens: TokenBatch, tokenizer: Tokenizer, limit: int, on_truncate: str, where: Callable[[int], str]) -> None:
    """Raise HeadError for pairs with an empty text, and for pairs that are cut where that is an error."""
    template = tokenizer.template
    of_second = np.add.reduceat(tokens.token_type_ids, tokens.starts[:-1], dtype=np.int64) - len(template.after)
    of_first = tokens.lengths - of_second - template.added(pair=True)
    empty = [
        (row, side)
        for row in range(len(tokens.lengths))
        for side, count in (("first", of_first), ("second", of_second))
        if not count[row]
    ]
    raise_if_any([f"{where(row)}: the {side} segment is empty" for row, side in empty], "both must hold text")
    if on_truncate == "error":
        long = np.flatnonzero(tokens.truncated).tolist()
        raise_if_any(
            [f"{where(row)} has {tokens.lengths[row] + tokens.truncated[row]:,} tokens" for row in long],
            f"the model takes at most {limit}; shorten the segments, or --on-truncate warn leaves the rest out",
        )
