"""Hidden states of many texts, packed one after another, to one vector per text."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from albert_cli.embedding.settings import POOLINGS
from albert_cli.errors import EmbeddingError


def pooled(
    states: Tensor,
    offsets: NDArray[np.int64],
    how: str,
    pooler: nn.Linear | None = None,
    *,
    skip: NDArray[np.int64] | None = None,
) -> Tensor:
    """The vectors (rows, H) float32 of packed `states` (tokens, H), where row i is `states[offsets[i]:offsets[i + 1]]`.

    mean, max: over all tokens, [CLS] and [SEP] among them, as sentence-transformers does. weighted: the mean with
    weights 1, 2, 3, … by position (SGPT, arXiv 2202.08904, section 3.1). mean_sqrt_len_tokens: the sum, divided by the
    square root of the number of tokens. cls, lasttoken: the first and the last token. pooler: its dense layer and tanh
    over the first token. Several, joined by +, are concatenated: (rows, their number * H).

    `skip`, (rows): tokens at the beginning of each row that are not pooled, those of a prompt; the others keep their
    weights by position. Where it leaves none the vector is 0, of cls that of the first token; pooler does not heed it.

    A model is trained through it; where none is, `pool` does the same and keeps no graph. Raises EmbeddingError for
    another name, ValueError for an empty row.
    """
    if np.diff(offsets).min(initial=1) < 1:
        raise ValueError("a row has no tokens; even an empty text has [CLS] and [SEP]")
    rows = _Rows(states, offsets, skip)
    return torch.cat([_pooled(rows, mode, pooler) for mode in how.split("+")], 1)


pool = torch.inference_mode()(pooled)


class _Rows:
    """The tokens that are pooled: `states` (tokens, H) float32, `place` of each in its row from 1, `bounds` of rows.

    `first` and `last`: the numbers of a row's first and last token among all that there are.
    """

    def __init__(self, states: Tensor, offsets: NDArray[np.int64], skip: NDArray[np.int64] | None) -> None:
        self.all, device = states, states.device
        whole = torch.from_numpy(offsets).to(device)
        lengths = whole.diff()
        self.begin, self.first, self.last = whole[:-1], whole[:-1], whole[1:] - 1
        place = torch.arange(len(states), device=device) - self.begin.repeat_interleave(lengths) + 1
        if skip is None:
            self.lengths, self.bounds, self.place, self.states = lengths, whole, place, states.float()
            return
        left_out = torch.from_numpy(skip).to(device).minimum(lengths)
        kept = place > left_out.repeat_interleave(lengths)
        self.lengths = lengths - left_out
        self.first = self.begin + torch.where(self.lengths > 0, left_out, 0)
        self.bounds = nn.functional.pad(self.lengths.cumsum(0), (1, 0))
        self.place, self.states = place[kept], states[kept].float()

    def reduced(self, values: Tensor, how: str) -> Tensor:
        """`sum` or `max` of the values of each row, 0 where it has none."""
        if not len(values):
            return values.new_zeros(len(self.lengths), values.shape[1])
        found = torch.segment_reduce(values, how, offsets=self.bounds, axis=0)
        return torch.where((self.lengths > 0)[:, None], found, 0)


def _pooled(rows: _Rows, how: str, pooler: nn.Linear | None) -> Tensor:
    counts = rows.lengths.clamp(min=1)
    match how:
        case "cls":
            return rows.all[rows.first].float()
        case "lasttoken":
            return torch.where((rows.lengths > 0)[:, None], rows.all[rows.last].float(), 0)
        case "pooler" if pooler is not None:
            first = rows.all[rows.begin].float()
            return torch.tanh(nn.functional.linear(first, pooler.weight.float(), pooler.bias.float()))
        case "mean":
            return rows.reduced(rows.states, "sum") / counts[:, None]
        case "mean_sqrt_len_tokens":
            return rows.reduced(rows.states, "sum") / counts[:, None].sqrt()
        case "max":
            return rows.reduced(rows.states, "max")
        case "weighted":
            total = rows.reduced(rows.place[:, None].float(), "sum")[:, 0].clamp(min=1)
            weights = rows.place / total.repeat_interleave(rows.lengths)
            return rows.reduced(rows.states * weights[:, None], "sum")
    raise EmbeddingError(f"pooling {how!r} is not one of {', '.join(POOLINGS)} for this model")


def joined_windows(
    vectors: NDArray[np.float32], how: str, firsts: NDArray[np.int64], tokens: NDArray[np.int64]
) -> NDArray[np.float32]:
    """The vectors of texts from those of their windows, (windows, numbers); text i has those from `firsts[i]` on.

    `tokens` (windows): those that were pooled. max: the largest number; mean_sqrt_len_tokens, mean: what it is over all
    tokens; of the others each window counts by its tokens.
    """
    modes = how.split("+")
    parts = zip(np.split(vectors, len(modes), axis=1), modes, strict=True)
    return np.concatenate([_joined(part, mode, firsts, tokens) for part, mode in parts], 1)


def _joined(
    vectors: NDArray[np.float32], how: str, firsts: NDArray[np.int64], tokens: NDArray[np.int64]
) -> NDArray[np.float32]:
    if how == "max":
        largest: NDArray[np.float32] = np.maximum.reduceat(vectors, firsts)
        return largest
    counts: NDArray[Any] = np.maximum(tokens, 0).astype(np.float32)
    weights = np.sqrt(counts) if how == "mean_sqrt_len_tokens" else counts
    total = np.add.reduceat(vectors * weights[:, None], firsts)
    by = np.maximum(np.add.reduceat(counts, firsts), np.float32(1))
    divided: NDArray[Any] = total / (np.sqrt(by) if how == "mean_sqrt_len_tokens" else by)[:, None]
    return divided
