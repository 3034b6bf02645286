"""How Julia's files hold TensorFlow's variables, as one of them (npz) and the other (bson) do.

A matrix is transposed: column-major, so that the raw bytes are TensorFlow's own. A vector of n stays one, but ALBERT.jl
makes it 1 x n; both are read. Transformers.jl leaves one matrix of BERT's as it is (`Family.julia_untransposed`).
"""

from __future__ import annotations

from collections.abc import Collection

from converters.config import EncoderConfig
from converters.families import family_of
from converters.names import SAME, Layout, NameTable, Row, T

_MATRIX = T
_VECTOR = Layout(lambda array, config: array.reshape(-1), lambda array, config: array)
_ROW = Layout(lambda array, config: array.reshape(-1), lambda array, config: array.reshape(1, -1))


def names(config: EncoderConfig, components: Collection[str], prefix: str = "") -> NameTable:
    """Google's variables of a model with these components in Julia's orientation, their names after `prefix`.

    What Google has no name for, as all of a RoBERTa, has Hugging Face's.
    """
    family = family_of(config)
    google = family.google(components)
    named = {row.canonical for row in google.rows}
    others = [row for row in family.hf.rows if row.canonical not in named]

    def layout(row: Row) -> Layout:
        if family.ranks[row.canonical] == 1:
            return _ROW if family.julia_rows else _VECTOR
        return SAME if row.canonical in family.julia_untransposed else _MATRIX

    return google.extended(others).within(layout, prefix)
