"""Self-attention over packed rows on the CPU: all sequences of one length at a time, so without masks."""

from __future__ import annotations

from itertools import groupby

import torch
from torch import Tensor
from torch.nn import functional as F

# In bfloat16 PyTorch's fused attention is mostly slower than its parts for fewer than 80 keys that are no multiple of
# 16, and faster otherwise; measured with AMX on lengths from 8 to 128.
_LEFT_OVER, _LONG = 16, 80


def attend(query_key_value: Tensor, lengths: list[int], head_size: int) -> Tensor:
    """(tokens, 3H) -> (tokens, H), of the same type; `lengths` of the sequences in it, ascending.

    Queries come scaled already (by 1/√head_size).
    """
    contexts, start = [], 0
    for length, group in groupby(lengths):
        stop = start + length * len(list(group))
        heads = query_key_value[start:stop].view(-1, length, 3, query_key_value.shape[1] // 3 // head_size, head_size)
        parts = heads.permute(2, 0, 3, 1, 4)  # each (sequences, heads, length, head_size)
        by_parts = heads.dtype == torch.bfloat16 and length < _LONG and length % _LEFT_OVER
        context = (_by_parts if by_parts else _fused)(parts)
        contexts.append(context.transpose(1, 2).reshape(stop - start, -1))
        start = stop
    return contexts[0] if len(contexts) == 1 else torch.cat(contexts)


def _fused(parts: Tensor) -> Tensor:
    query, key, value = parts
    return F.scaled_dot_product_attention(query, key, value, scale=1.0)


def _by_parts(parts: Tensor) -> Tensor:
    """(3, sequences, heads, length, head_size) -> (sequences, heads, length, head_size), softmax in float32."""
    query, key, value = parts.flatten(1, 2)
    scores = torch.bmm(query, key.transpose(1, 2)).float()
    return torch.bmm(scores.softmax(-1).to(query.dtype), value).view(parts.shape[1:])
