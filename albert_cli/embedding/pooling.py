"""Hidden states of many texts, packed one after another, to one vector per text."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from albert_cli.errors import EmbeddingError

VectorPooling = Literal["mean", "cls", "pooler", "max", "weighted"]


@torch.inference_mode()
def pool(states: Tensor, offsets: NDArray[np.int64], how: VectorPooling, pooler: nn.Linear | None = None) -> Tensor:
    """The vectors (rows, H) float32 of packed `states` (tokens, H), where row i is `states[offsets[i]:offsets[i + 1]]`.

    mean, max: over all tokens, [CLS] and [SEP] among them, as sentence-transformers does. weighted: the mean with
    weights 1, 2, 3, … by position (SGPT, arXiv 2202.08904, section 3.1). cls: the first token. pooler: its dense layer
    and tanh over the first token. Raises EmbeddingError for another name, ValueError for an empty row.
    """
    if np.diff(offsets).min(initial=1) < 1:
        raise ValueError("a row has no tokens; even an empty text has [CLS] and [SEP]")
    bounds = torch.from_numpy(offsets).to(states.device)
    lengths = bounds.diff()
    match how:
        case "cls":
            return states[bounds[:-1]].float()
        case "pooler" if pooler is not None:
            first = states[bounds[:-1]].float()
            return torch.tanh(nn.functional.linear(first, pooler.weight.float(), pooler.bias.float()))
        case "mean":
            return torch.segment_reduce(states.float(), "mean", offsets=bounds, axis=0)
        case "max":
            return torch.segment_reduce(states.float(), "max", offsets=bounds, axis=0)
        case "weighted":
            place = torch.arange(len(states), device=states.device) - bounds[:-1].repeat_interleave(lengths) + 1
            total = lengths * (lengths + 1) / 2  # 1 + 2 + … + length
            weights = place / total.repeat_interleave(lengths)
            return torch.segment_reduce(states.float() * weights[:, None], "sum", offsets=bounds, axis=0)
    raise EmbeddingError(f"pooling {how!r} is not one of {', '.join(get_args(VectorPooling))} for this model")
