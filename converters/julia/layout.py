"""How Julia's files hold TensorFlow's variables, as one of them (npz) and the other (bson) do.

A matrix is transposed, a vector of n becomes 1 x n (and n is read too): column-major, so that the raw bytes are
TensorFlow's own.
"""

from __future__ import annotations

from converters.config import EncoderConfig
from converters.families import family_of
from converters.names import Layout, NameTable, Row, T

_MATRIX = T
_VECTOR = Layout(lambda array, config: array.reshape(-1), lambda array, config: array.reshape(1, -1))


def names(config: EncoderConfig, prefix: str = "") -> NameTable:
    """Google's variables of a model's family in Julia's orientation, their names after `prefix`."""
    family = family_of(config)

    def layout(row: Row) -> Layout:
        return _VECTOR if family.ranks[row.canonical] == 1 else _MATRIX

    return family.google.within(layout, prefix)
