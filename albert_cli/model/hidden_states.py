"""Token ids to hidden states for inference: many rows of any lengths, in batches of like length, by either encoder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from albert_cli.batching import by_length, even_chunks
from albert_cli.model.chunk_threads import in_order
from albert_cli.tokenization.batch import TokenBatch, check_range
from converters.config import EncoderConfig


class InferenceEncoder(Protocol):
    """An encoder whose weights are its own copy and whose dropout is off: `PackedEncoder`, `PlainEncoder`."""

    config: EncoderConfig

    @property
    def chunks_at_once(self) -> int:
        """How many calls gain from running side by side, each in a thread of its own."""

    def __call__(self, batch: TokenBatch, layers: Sequence[int]) -> list[Tensor]:
        """The hidden states of one batch, rows packed one after another without padding, in the order of `layers`.

        Each is (tokens, H), float32 whatever it was computed in, on the encoder's device. Layer 0 is the projected
        embeddings, 1 the first layer's output; all numbers are from 0 up.
        """


@dataclass(frozen=True)
class HiddenStates:
    """Some rows of the input: `layers[i]` (tokens, H) is the i-th of the layers asked for, as the encoder gives it.

    Row `rows[n]` of the input is `offsets[n]:offsets[n + 1]` there; `rows` (n) and `offsets` (n + 1) are int64.
    """

    rows: NDArray[np.int64]
    offsets: NDArray[np.int64]
    layers: list[Tensor]


def encode(
    encoder: InferenceEncoder, tokens: TokenBatch, *, batch_tokens: int, layers: Sequence[int] = (-1,)
) -> Iterator[HiddenStates]:
    """The hidden states of all rows, each once, from the longest to the shortest.

    `batch_tokens`: how many tokens are computed at once, padding included (at least one row), on each of several
    threads about so many; it sets speed and memory, and results up to rounding. `layers` counts from the end too: -1 is
    the last layer's output. Layers above the highest are not computed where the encoder can leave them out. Raises
    ValueError, naming the row, for one that is
    empty, too long, or has an id or a type that the model does not have.
    """
    config = encoder.config
    _check(tokens, config)
    states = count(config)
    wanted = [layer + states if layer < 0 else layer for layer in layers]
    if not wanted or min(wanted) < 0 or max(wanted) >= states:
        raise ValueError(f"layers is {tuple(layers)}; the model has hidden states {-states} to {states - 1}")
    lengths = tokens.lengths
    longest_first = np.argsort(-lengths, kind="stable")
    threads = encoder.chunks_at_once
    if threads > 1:
        batches = even_chunks(lengths, batch_tokens, threads, order=longest_first)
    else:
        batches = by_length(lengths, batch_tokens, order=longest_first)
    # the packed encoder wants equal lengths side by side
    chunks = (batch[np.argsort(lengths[batch], kind="stable")] for batch in batches)

    def compute(rows: NDArray[np.int64]) -> HiddenStates:
        part = tokens.take(rows)
        return HiddenStates(rows, part.starts, encoder(part, wanted))

    if (at_once := min(threads, len(batches))) > 1:
        yield from in_order(compute, chunks, at_once)
    else:
        yield from map(compute, chunks)


def count(config: EncoderConfig) -> int:
    """How many hidden states a model has: the projected embeddings and the output of every inner layer."""
    return 1 + len(config.layer_uses)


def _check(tokens: TokenBatch, config: EncoderConfig) -> None:
    lengths, limit = tokens.lengths, config.max_tokens
    if lengths.min(initial=1) < 1:
        raise ValueError(f"input_ids: sequence {lengths.argmin()} is empty; give it its special tokens")
    if lengths.max(initial=0) > limit:
        row = int((lengths > limit).argmax())
        has = f"sequence {row} has {lengths[row]} tokens"
        raise ValueError(f"{has}, the model takes at most {limit}; truncate or split it")
    check_range(tokens.ids, tokens.starts, "input_ids", 0, config.vocab_size - 1)
    check_range(tokens.token_type_ids, tokens.starts, "token_type_ids", 0, config.type_vocab_size - 1)
