"""A freshly initialised model, as Google's code makes one: truncated normal weights, zero biases, unit LayerNorm."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Collection

import numpy as np

from converters import roles, spec
from converters.buffer_pool import empty
from converters.checkpoint import Array, Checkpoint, Tensor
from converters.config import EncoderConfig
from converters.families import family_of
from converters.tokenizers.files import TokenizerFiles

_BLOCK = 1 << 22


def initialize(
    config: EncoderConfig, tokenizer: TokenizerFiles, *, seed: int, heads: Collection[str] | None = None, free: int = 2
) -> Checkpoint:
    """A model with those heads (components), by default the ones that its family is pre-trained with.

    `free`: sizes that follow from no config, as the number of labels. The tokenizer becomes one of the family.
    Each tensor's values follow from the seed and its name, and come when read. Weights are normal with stddev
    `initializer_range`, redrawn beyond two deviations (modeling.py create_initializer).
    """
    parts = (*roles.REQUIRED, *(spec.fresh(config) if heads is None else heads))
    wanted = {name: item for name, item in spec.spec(config).items() if item.component in parts and not item.optional}
    return Checkpoint(
        config=config,
        tensors={
            name: Tensor(shape, np.dtype(np.float32), functools.partial(_values, name, item, shape, config, seed))
            for name, item in wanted.items()
            for shape in [tuple(free if size is None else size for size in item.shape)]
        },
        tokenizer=tokenizer.of_family(family_of(config).tokenizer),
        global_step=0,
    )


def _values(name: str, item: spec.TensorSpec, shape: tuple[int, ...], config: EncoderConfig, seed: int) -> Array:
    if item.is_norm:
        return np.full(shape, float(name.endswith(".weight")), np.float32)
    if name.endswith(".bias"):
        return np.zeros(shape, np.float32)
    random = np.random.Generator(np.random.PCG64([seed, zlib.crc32(item.owner.encode())]))
    values = empty(shape, np.dtype(np.float32))
    flat = values.reshape(-1)
    for start in range(0, flat.size, _BLOCK):
        block = flat[start : start + _BLOCK]
        random.standard_normal(out=block, dtype=np.float32)
        while len(far := np.flatnonzero(np.abs(block) > 2)):
            block[far] = random.standard_normal(len(far), dtype=np.float32)
    values *= np.float32(config.initializer_range)
    return values
