"""TokenBatch: the ids of many texts as a model takes them, without a Python object per token."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from albert_cli import batching
from albert_cli.errors import TokenizerError
from converters.tokenizers.template import Template


@dataclass(frozen=True)
class TokenBatch:
    """Rows of ids: row i is `ids[starts[i]:starts[i + 1]]`.

    `ids` int32 (tokens), `token_type_ids` uint8 (tokens), `starts` int64 (rows + 1), `truncated` int32 (rows): how many
    tokens of the row were left out.
    """

    ids: NDArray[np.int32]
    token_type_ids: NDArray[np.uint8]
    starts: NDArray[np.int64]
    truncated: NDArray[np.int32]
    pad_id: int

    @classmethod
    def of_rows(cls, ids: Sequence[Any], token_type_ids: Sequence[Any] | None = None, *, pad_id: int = 0) -> TokenBatch:
        """A batch of rows of ids, lists or arrays of whole numbers with special tokens; token types are 0 by default.

        Raises ValueError, naming the row, for one of another kind, and for ids and types of different lengths.
        """
        flat, starts = _flat(ids, "input_ids", np.int32)
        types = np.zeros(len(flat), np.uint8)
        if token_type_ids is not None:
            types, starts_of_types = _flat(token_type_ids, "token_type_ids", np.uint8)
            if not np.array_equal(starts, starts_of_types):
                raise ValueError("token_type_ids and input_ids are not of the same lengths")
        return cls(flat, types, starts, np.zeros(len(ids), np.int32), pad_id)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, row: int) -> NDArray[np.int32]:
        if not -len(self) <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        row %= len(self)
        return self.ids[self.starts[row] : self.starts[row + 1]]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens per row."""
        return self.starts[1:] - self.starts[:-1]

    def places(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """The places in `ids` of the tokens of some rows, one row after another."""
        return batching.ranges(self.starts[rows], self.lengths[rows])

    def take(self, rows: NDArray[np.int64]) -> TokenBatch:
        """Some of the rows, in that order."""
        places = self.places(rows)
        starts = batching.starts(self.lengths[rows])
        return TokenBatch(self.ids[places], self.token_type_ids[places], starts, self.truncated[rows], self.pad_id)

    def padded(self, rows: Any = slice(None), *, length: int | None = None, multiple_of: int = 1) -> dict[str, Any]:
        """`input_ids`, `token_type_ids` and `attention_mask` of some rows, int64 (rows, width), padded on the right.

        `rows` is anything that indexes an array. The width is that of the longest row, or `length`, rounded up.
        """
        starts, lengths = self.starts[:-1][rows], self.lengths[rows]
        width = int(lengths.max(initial=0)) if length is None else length
        width = -(-width // multiple_of) * multiple_of
        if lengths.max(initial=0) > width:
            raise TokenizerError(f"a row of {lengths.max()} tokens does not fit a width of {width}; truncate first")
        columns = np.arange(width)
        mask = columns < lengths[:, None]  # (rows, width)
        places = (starts[:, None] + columns)[mask]
        input_ids = np.full(mask.shape, self.pad_id, np.int64)
        input_ids[mask] = self.ids[places]
        token_type_ids = np.zeros(mask.shape, np.int64)
        token_type_ids[mask] = self.token_type_ids[places]
        return {"input_ids": input_ids, "token_type_ids": token_type_ids, "attention_mask": mask.astype(np.int64)}


def framed(
    firsts: Sequence[Sequence[int]], seconds: Sequence[Sequence[int]] | None, template: Template[int]
) -> tuple[NDArray[np.int32], NDArray[np.uint8], NDArray[np.int64]]:
    """Texts or pairs in a template: all ids (tokens) and token types (tokens), and the length of each row.

    The same as `template.frame` row by row, without a loop over them.
    """
    around = template.around(pair=seconds is not None)
    texts = firsts if seconds is None else [text for row in zip(firsts, seconds, strict=True) for text in row]
    side = np.arange(len(texts)) % len(around)  # (texts): 0 for a first one, 1 for a second one
    bare = np.array([len(text) for text in texts], np.int64)
    sizes = bare + np.array([len(left) + len(right) for left, right in around])[side]
    ends = np.cumsum(sizes)
    ids = np.empty(int(sizes.sum()), np.int32)
    plain = np.ones(len(ids), bool)
    for number, (left, right) in enumerate(around):
        begins, stops = (ends - sizes)[side == number], ends[side == number]
        for offset, token in enumerate(left):
            ids[begins + offset], plain[begins + offset] = token, False
        for offset, token in enumerate(right, -len(right)):
            ids[stops + offset], plain[stops + offset] = token, False
    ids[plain] = np.fromiter(itertools.chain.from_iterable(texts), np.int32, int(bare.sum()))
    types = np.repeat(np.array(template.types, np.uint8)[side], sizes)
    return ids, types, sizes.reshape(-1, len(around)).sum(axis=1)


def check_range(values: NDArray[Any], starts: NDArray[np.int64], name: str, least: int, most: int) -> None:
    """ValueError, naming the row, for a value below `least` or above `most`."""
    outside = (values < least) | (values > most)
    if outside.any():
        place = int(outside.argmax())
        row = int(np.searchsorted(starts, place, side="right")) - 1
        raise ValueError(f"{name}: sequence {row} has {values[place]}, outside {least} to {most}")


def _flat(rows: Sequence[Any], name: str, dtype: Any) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """All values (tokens), and where each row begins and the last one ends (rows + 1)."""
    arrays = [np.asarray(row) for row in rows]
    for number, array in enumerate(arrays):
        if array.ndim != 1 or (len(array) and array.dtype.kind not in "iu"):
            raise ValueError(
                f"{name}: sequence {number} is {array.dtype} of shape {array.shape}, not a row of whole numbers"
            )
    starts = batching.starts([len(array) for array in arrays])
    flat = np.concatenate([np.zeros(0, np.int64), *(array.astype(np.int64, copy=False) for array in arrays)])
    check_range(flat, starts, name, np.iinfo(dtype).min, np.iinfo(dtype).max)
    return flat.astype(dtype), starts
