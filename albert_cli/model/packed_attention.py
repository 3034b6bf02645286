"""Self-attention over packed rows on the CPU: all sequences of one length at a time, so without masks."""

from __future__ import annotations

from itertools import groupby

import torch
from torch import Tensor
from torch.nn import functional as F

# PyTorch's fused attention of bfloat16 numbers is slow for fewer than 80 keys that are no multiple of 16 (measured with
# AMX on lengths from 8 to 128), so there it is computed in float32. Products of bfloat16 matrices (`torch.bmm`) are no
# way out: oneDNN makes one for every length and number of sequences, and keeps about half a megabyte for each.
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
        in_float32 = heads.dtype == torch.bfloat16 and length < _LONG and length % _LEFT_OVER
        context = _fused(parts.float()).to(parts.dtype) if in_float32 else _fused(parts)
        contexts.append(context.transpose(1, 2).reshape(stop - start, -1))
        start = stop
    return contexts[0] if len(contexts) == 1 else torch.cat(contexts)


def _fused(parts: Tensor) -> Tensor:
    query, key, value = parts
    return F.scaled_dot_product_attention(query, key, value, scale=1.0)
