"""NameTable: one table of rows (canonical, foreign, layout) serves reading and writing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from converters.config import EncoderConfig

    Array = np.ndarray[Any, Any]
    Move = Callable[[Array, EncoderConfig], Array]

# Optimizer slots of Google's AdamWeightDecay and LAMB optimizers: `<variable>/adam_m` and so on.
SLOTS = ("adam_m", "adam_v", "lamb_m", "lamb_v")


@dataclass(frozen=True)
class Layout:
    """How an array lies in a file against PyTorch's orientation; both moves give views, never copies."""

    to_canonical: Move
    to_foreign: Move

    def then(self, outer: Layout) -> Layout:
        """This layout, and `outer` on top of it in the file."""
        return Layout(
            lambda array, config: self.to_canonical(outer.to_canonical(array, config), config),
            lambda array, config: outer.to_foreign(self.to_foreign(array, config), config),
        )


SAME = Layout(lambda array, config: array, lambda array, config: array)
T = Layout(lambda array, config: array.T, lambda array, config: array.T)


def _by_head(array: Array, config: EncoderConfig, *shape: int) -> Array:
    if array.shape != shape:
        raise ValueError(f"{config.num_attention_heads} heads of {config.hidden_size} make it {list(shape)}")
    return array


def _heads_in(array: Array, config: EncoderConfig) -> Array:
    H, A = config.hidden_size, config.num_attention_heads
    return _by_head(array, config, H, A, H // A).reshape(H, H).T


def _heads_out(array: Array, config: EncoderConfig) -> Array:
    H, A = config.hidden_size, config.num_attention_heads
    if array.shape == (H, H):  # in the first modules of TF-Hub
        return array.T
    return _by_head(array, config, A, H // A, H).reshape(H, H).T


def _bias_of_heads(array: Array, config: EncoderConfig) -> Array:
    H, A = config.hidden_size, config.num_attention_heads
    return _by_head(array, config, A, H // A).reshape(H)


# Kernels by head: from the hidden size to the heads (H, A, H/A), from the heads back (A, H/A, H), and biases (A, H/A).
TO_HEADS = Layout(_heads_in, lambda array, config: array.T.reshape(array.shape[1], config.num_attention_heads, -1))
FROM_HEADS = Layout(_heads_out, lambda array, config: array.T.reshape(config.num_attention_heads, -1, array.shape[0]))
OF_HEADS = Layout(_bias_of_heads, lambda array, config: array.reshape(config.num_attention_heads, -1))


@dataclass(frozen=True)
class Row:
    """One tensor: its canonical name, its name in the format, and how it lies there."""

    canonical: str
    foreign: str
    layout: Layout = SAME


class Names:
    """A table expanded to the exact names of one config."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.by_canonical = {row.canonical: row for row in rows}
        self.by_foreign = {row.foreign: row for row in rows}


class NameTable:
    """Two-way rows; `{group}`, `{inner}` and `{layer}` stand for every place of a layer in the config.

    `drop` holds patterns of foreign names that carry no weights and are left out on purpose, each with its reason.
    Raises ValueError for a table that is not one-to-one.
    """

    def __init__(self, rows: Iterable[Row], drop: dict[str, str] | None = None) -> None:
        self.rows = tuple(rows)
        self._drop = [(re.compile(pattern), reason) for pattern, reason in (drop or {}).items()]
        for side in ("canonical", "foreign"):
            seen: set[str] = set()
            for row in self.rows:
                name = getattr(row, side)
                if name in seen:
                    raise ValueError(f"{side} name {name!r} stands in two rows")
                seen.add(name)
        for row in self.rows:
            if _indices(row.canonical) != _indices(row.foreign):
                raise ValueError(f"the two names of row {row.canonical!r} have different indices")

    def expand(self, config: EncoderConfig) -> Names:
        """The exact rows for a config."""
        rows = []
        for row in self.rows:
            places = config.places if _indices(row.canonical) else [{}]
            rows += [
                replace(row, canonical=row.canonical.format(**at), foreign=row.foreign.format(**at)) for at in places
            ]
        return Names(rows)

    def dropped(self, foreign: str) -> str | None:
        """Why a foreign name is left out on purpose, or None."""
        for pattern, reason in self._drop:
            if pattern.fullmatch(foreign):
                return reason
        return None

    def extended(self, rows: Iterable[Row]) -> NameTable:
        """This table and further rows."""
        return NameTable((*self.rows, *rows), {pattern.pattern: reason for pattern, reason in self._drop})

    def within(self, layout_of: Callable[[Row], Layout], prefix: str = "") -> NameTable:
        """The same table for a format that stores this one's arrays under `prefix`, each in a further layout."""
        rows = (replace(row, foreign=prefix + row.foreign, layout=row.layout.then(layout_of(row))) for row in self.rows)
        return NameTable(rows, {re.escape(prefix) + pattern.pattern: reason for pattern, reason in self._drop})


def slot_of(name: str, separator: str = "/") -> tuple[str, str] | None:
    """Split an optimizer slot `variable/adam_m` into variable and slot; None for anything else."""
    variable, found, slot = name.rpartition(separator)
    return (variable, slot) if found and slot in SLOTS else None


def _indices(name: str) -> set[str]:
    return set(re.findall(r"\{(\w+)\}", name))
