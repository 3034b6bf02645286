"""Positional attention initialisation: heads that attend to a neighbour from the first step on.

A small model that has to discover positions by itself stays long at what word frequencies alone allow. Positions
start as sinusoids (arXiv 1706.03762, section 3.5) in a few of the E dimensions; a rotation of each frequency's plane
leads from one position to another (the same section), and a head's query and key get that rotation.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from albert_cli.errors import TrainingError
from albert_cli.model.encoder import Layer
from albert_cli.model.pretraining_heads import PreTrainingModel
from albert_cli.pretraining.settings import OFFSETS
from converters.config import EncoderConfig

# Wavelengths in tokens, from the shortest that distinguishes neighbours.
_SHORTEST, _LONGEST = 4.0, 256.0
# By how much the logit of the intended neighbour is above that of the token after it: e ** 5 times the attention.
_LOGIT_MARGIN = 5.0
# Of the E dimensions, those that positions share with words.
_SHARE = 1 / 4


def frequency_count(config: EncoderConfig, heads: int) -> int:
    """How many sinusoids (of two dimensions each) a head and the embeddings have room for.

    Raises TrainingError when that is none, or when the model has fewer heads than `heads`.
    """
    if heads > config.num_attention_heads:
        raise TrainingError(f"local_heads is {heads}, but the model has {config.num_attention_heads} attention heads")
    count = int(min(config.head_size, config.embedding_size * _SHARE)) // 2
    if not count:
        raise TrainingError(
            "local_heads needs attention heads of 2 dimensions and embeddings of 8, "
            f"not {config.head_size} and {config.embedding_size}"
        )
    return count


@torch.no_grad()
def initialize_local_heads(model: PreTrainingModel, heads: int) -> None:
    """Write sinusoids over the position embeddings, and the rotations into query and key of the first `heads` heads of
    every layer. Raises TrainingError as `frequency_count` does."""
    config = model.config
    embeddings, encoder = model.encoder.embeddings, model.encoder
    assert encoder.projection is not None
    count = frequency_count(config, heads)
    first = config.embedding_size - 2 * count  # of the dimensions that positions take
    frequencies = 2 * np.pi / np.geomspace(_SHORTEST, _LONGEST, count)
    angles = np.arange(config.max_position_embeddings)[:, None] * frequencies
    spread = embeddings.words.weight.square().mean().sqrt().item()
    table = np.concatenate([np.sin(angles), np.cos(angles)], axis=1) * spread * math.sqrt(2)
    embeddings.positions.weight.zero_()
    embeddings.positions.weight[:, first:] = torch.from_numpy(table).float()
    back = torch.linalg.pinv(encoder.projection.weight)[first:]  # (2 frequencies, H)
    # What LayerNorm makes of a sinusoid's amplitude, then the score a head would give with a scale of 1.
    amplitude = 2 / (1 + len(back) / config.embedding_size)
    gap = amplitude * float((1 - np.cos(frequencies)).sum()) / math.sqrt(config.head_size)
    scale = math.sqrt(_LOGIT_MARGIN / gap)
    for layer in (module for module in encoder.modules() if isinstance(module, Layer)):
        for head, offset in enumerate(OFFSETS[:heads]):
            rows = slice(head * config.head_size, head * config.head_size + len(back))
            layer.query.weight[rows] = scale * _rotation(frequencies, offset) @ back
            layer.key.weight[rows] = scale * back


def _rotation(frequencies: np.ndarray, offset: int) -> torch.Tensor:
    """The matrix that makes the sinusoids of position p those of position p + offset."""
    cosines, sines = np.diag(np.cos(frequencies * offset)), np.diag(np.sin(frequencies * offset))
    return torch.from_numpy(np.block([[cosines, sines], [-sines, cosines]])).float()
