"""The random numbers of a pretraining run: a stream for each purpose, which none of the others disturbs.

A draw is a function of the seed, the place in the run and the purpose, so a resumed run draws what it would have drawn.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What random numbers are drawn for. The numbers are part of what a seed means: none is ever changed."""

    SEQUENCES = 1  # order, pairs and cuts of an epoch
    DISTILLATION = 2  # order of the sentences that a teacher's vectors are of
    CHOICE = 3  # which sentences of the corpus these are
    MASKS = 4  # which tokens are masked, and by what


def generator(stream: Stream, seed: int, *place: int) -> np.random.Generator:
    """The generator of a stream at a place of the run, such as an epoch and a batch."""
    return np.random.default_rng((seed, *place, int(stream)))
