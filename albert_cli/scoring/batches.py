"""Texts through the encoder in batches of like length, some of their tokens masked; logits of these alone.

All is computed in fp32, unless the caller asks for another precision (albert_cli.machine). A result depends neither on
its neighbours nor on the size of a batch, but for rounding. Of equal scores the lower id comes first.
"""

from __future__ import annotations

import contextlib
import itertools
import warnings
from array import array
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from albert_cli.batching import evaluation_batches
from albert_cli.embedding.embedder import BATCH_TOKENS
from albert_cli.errors import HeadError, Notice
from albert_cli.finite import check_finite
from albert_cli.memory import out_of_memory
from albert_cli.model.pretraining_heads import PreTrainingModel
from albert_cli.scoring.load import without_head
from albert_cli.scoring.messages import raise_if_any
from albert_cli.tokenization.batch import TokenBatch
from albert_cli.tokenization.tokenizer import Tokenizer

# Called with how much is done now, and how much there is in all.
Tick = Callable[[int, int], None]
# What happens to a text longer than the model's positions: its end is left out, or it is refused.
OnTruncate = Literal["warn", "error"]

# Texts that are scored, and whose scores are held, at once.
TEXTS = 1024
# Logits held at once: 64 MiB of them.
_LOGITS = 2**24


class Queries(NamedTuple):
    """Texts to run, each with some tokens masked: `rows` (runs) of the texts, `places` of the masked tokens in the flat
    ids, run after run, and `counts` (runs) of them."""

    rows: NDArray[np.int64]
    places: NDArray[np.int64]
    counts: NDArray[np.int64]


def logits_of(
    model: PreTrainingModel,
    tokens: TokenBatch,
    queries: Queries,
    mask_id: int,
    batch_tokens: int | None,
    tick: Tick | None,
) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
    """Numbers of masked tokens (n) and their logits (n, V), some at a time; only these tokens are projected."""
    head, device = model.mlm, model.encoder.embeddings.words.weight.device
    if head is None:
        raise without_head(model.config, "mlm")
    words = model.encoder.embeddings.words.weight
    ends = np.cumsum(queries.counts)
    at_once = max(1, _LOGITS // len(words))
    for batch in batches(tokens.lengths[queries.rows], model, batch_tokens):
        rows, counts = queries.rows[batch], queries.counts[batch]
        numbers = np.concatenate([np.arange(ends[run] - queries.counts[run], ends[run]) for run in batch])
        row = torch.from_numpy(np.repeat(np.arange(len(batch)), counts)).to(device)
        column = torch.from_numpy(queries.places[numbers] - np.repeat(tokens.starts[rows], counts)).to(device)
        with torch.inference_mode(), memory():
            input_ids, attention_mask, token_type_ids = inputs(tokens, rows, model)
            input_ids[row, column] = mask_id
            hidden = model.encoder(input_ids, attention_mask, token_type_ids).sequence_output[row, column]  # (n, H)
        for low in range(0, len(hidden), at_once):
            with torch.inference_mode(), memory():
                logits: Tensor = head(hidden[None, low : low + at_once], words)[0].float()
            check_finite(logits, HeadError, lambda bad, rows: "the model's scores")
            yield numbers[low : low + at_once], logits
        if tick:
            tick(len(batch), len(queries.rows))


def batches(lengths: NDArray[np.int64], model: PreTrainingModel, batch_tokens: int | None) -> list[NDArray[np.int64]]:
    device = model.encoder.embeddings.words.weight.device.type
    return evaluation_batches(lengths, len(lengths), tokens=batch_tokens or BATCH_TOKENS.get(device, 1024))


def inputs(
    tokens: TokenBatch, rows: NDArray[np.int64], model: PreTrainingModel
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Ids, mask and token types (rows, width) on the model's device; no mask where nothing is padded."""
    device = model.encoder.embeddings.words.weight.device
    padded = {name: torch.from_numpy(array).to(device) for name, array in tokens.padded(rows).items()}
    mask = padded["attention_mask"]
    return padded["input_ids"], None if bool(mask.all()) else mask, padded["token_type_ids"]


def ranks_of(logits: Tensor, ids: Tensor) -> Tensor:
    """The place of id `ids[i]` in row i of the logits (n, V), from 1; of equals the lower id comes first."""
    own = logits.gather(1, ids[:, None])
    earlier = torch.arange(logits.shape[1], device=logits.device) < ids[:, None]
    return 1 + ((logits > own) | ((logits == own) & earlier)).sum(-1)


def in_turns(texts: Collection[str]) -> Iterator[list[str]]:
    """As many texts at a time as are scored at once."""
    iterator = iter(texts)
    while some := list(itertools.islice(iterator, TEXTS)):
        yield some


def check_texts(
    model: PreTrainingModel,
    tokenizer: Tokenizer,
    texts: Collection[str],
    where: Callable[[int], str],
    on_truncate: OnTruncate,
) -> int:
    """How many tokens of the texts the model takes, special ones left out.

    Of a text longer than the model's positions the end is left out, with a Notice; with `on_truncate="error"` a
    HeadError lists all of them. Another is raised where there is no token.
    """
    added, lengths, truncated = tokenizer.template.added(pair=False), array("q"), array("q")
    for some in in_turns(texts):
        tokens = tokenizer.encode_batch(some, max_length=model.config.max_tokens)
        lengths.extend(tokens.lengths.tolist())
        truncated.extend(tokens.truncated.tolist())
    count = sum(lengths) - added * len(lengths)
    if not count:
        raise HeadError(f"{where(0) if len(texts) == 1 else 'every text'} is empty; there is nothing to score")
    report_cut(lengths, truncated, model, where, on_truncate)
    return count


def report_cut(
    lengths: Sequence[int],
    truncated: Sequence[int],
    model: PreTrainingModel,
    where: Callable[[int], str],
    on_truncate: OnTruncate,
) -> None:
    """A Notice of texts of which `truncated` tokens were left out, `lengths` kept; or a HeadError that lists them."""
    limit, long = model.config.max_tokens, [row for row, count in enumerate(truncated) if count]
    if on_truncate == "error":
        raise_if_any(
            [f"{where(row)} has {lengths[row] + truncated[row]:,} tokens" for row in long],
            f"the model takes at most {limit}, [CLS] and [SEP] counted; shorten or split the text, or --on-truncate "
            "warn leaves the rest out",
        )
    elif long:
        warnings.warn(
            f"{len(long):,} of {len(lengths):,} texts are longer than the {limit} tokens the model takes: "
            f"{sum(truncated):,} tokens were left out; --on-truncate error refuses such texts",
            Notice,
            stacklevel=3,
        )


def memory() -> contextlib.AbstractContextManager[None]:
    message = "out of memory; lower --batch-tokens, or compute on --device cpu"
    memory: contextlib.AbstractContextManager[None] = out_of_memory(lambda: message, HeadError)
    return memory
