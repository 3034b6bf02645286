"""All hidden states of some rows at once, in the order of the rows."""

from typing import NamedTuple

import numpy as np
import torch

from albert_cli.model import hidden_states
from albert_cli.tokenization.batch import TokenBatch


class States(NamedTuple):
    """`hidden_states[i]` (tokens, H): the i-th layer asked for; row n is `offsets[n]:offsets[n + 1]` in it."""

    hidden_states: list[torch.Tensor]
    offsets: np.ndarray


def encode(encoder, ids, types=None, *, layers=(-1,), batch_tokens=1024):
    tokens = TokenBatch.of_rows(ids, types)
    found = [torch.full((len(tokens.ids), encoder.config.hidden_size), torch.nan) for _ in layers]
    for batch in hidden_states.encode(encoder, tokens, batch_tokens=batch_tokens, layers=layers):
        places = torch.from_numpy(tokens.places(batch.rows))
        for layer, states in zip(found, batch.layers, strict=True):
            assert states.dtype == torch.float32
            layer[places] = states.cpu()
    return States(found, tokens.starts)
