"""How Julia's files hold TensorFlow's variables, as one of them (npz) and the other (bson) do.

A matrix is transposed, a vector of n becomes 1 x n (and n is read too): column-major, so that the raw bytes are
TensorFlow's own.
"""

from __future__ import annotations

from converters.families import families
from converters.names import Layout, NameTable, Row, T

_MATRIX = T
_VECTOR = Layout(lambda array, config: array.reshape(-1), lambda array, config: array.reshape(1, -1))
_FAMILY = families()["albert"]


def names(prefix: str = "") -> NameTable:
    """Google's variables in Julia's orientation, their names after `prefix`."""
    return _FAMILY.google.within(_layout, prefix)


def _layout(row: Row) -> Layout:
    return _VECTOR if _FAMILY.ranks[row.canonical] == 1 else _MATRIX
