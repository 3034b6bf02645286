"""Pieces of a text as columns: a text may have millions, too many for a Python object each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, overload

import numpy as np
from numpy.typing import NDArray

NORMAL: Final = "normal"
UNKNOWN: Final = "unknown"
CONTROL: Final = "control"
DIGIT_COMMA: Final = "digit-comma split"
ADDED: Final = "added"
# The first six are SentencePiece's own.
KINDS: Final = (NORMAL, UNKNOWN, CONTROL, "user-defined", "unused", "byte", DIGIT_COMMA, ADDED)
CODES: Final = {kind: code for code, kind in enumerate(KINDS)}
_AT_ONCE = 4096


@dataclass(frozen=True)
class Piece:
    """A piece of a text: `text[start:end]` is what it stands for. `kind`: one of KINDS."""

    id: int
    piece: str
    start: int
    end: int
    kind: str = NORMAL


class Pieces(Sequence[Piece]):
    """The pieces of a text in order.

    `ids`, `starts`, `ends` int32 (pieces), `kinds` uint8 (pieces), places in KINDS; `texts`: what each piece is called.
    """

    def __init__(
        self,
        ids: Any,
        texts: list[str],
        starts: Any,
        ends: Any,
        kinds: Any,
    ) -> None:
        """Arrays, or anything that becomes an array, of the types above."""
        self.ids: NDArray[np.int32] = np.asarray(ids, np.int32)
        self.texts = texts
        self.starts: NDArray[np.int32] = np.asarray(starts, np.int32)
        self.ends: NDArray[np.int32] = np.asarray(ends, np.int32)
        self.kinds: NDArray[np.uint8] = np.asarray(kinds, np.uint8)

    @classmethod
    def of(cls, pieces: Iterable[Piece]) -> Pieces:
        """The columns of pieces."""
        if isinstance(pieces, Pieces):
            return pieces
        rows = [(piece.id, piece.piece, piece.start, piece.end, CODES[piece.kind]) for piece in pieces]
        ids, texts, starts, ends, kinds = zip(*rows, strict=True) if rows else ((), (), (), (), ())
        return cls(ids, list(texts), starts, ends, kinds)

    @classmethod
    def joined(cls, parts: Iterable[Iterable[Piece]]) -> Pieces:
        """The pieces of all parts, one part after another."""
        every = [part for part in map(cls.of, parts) if part]
        if len(every) < 2:
            return every[0] if every else cls.of([])
        texts = [text for part in every for text in part.texts]
        ids, starts, ends, kinds = (
            np.concatenate([getattr(part, name) for part in every]) for name in ("ids", "starts", "ends", "kinds")
        )
        return cls(ids, texts, starts, ends, kinds)

    def moved(self, by: int) -> Pieces:
        """The same pieces in a text with so many characters more before it."""
        return Pieces(self.ids, self.texts, self.starts + by, self.ends + by, self.kinds) if by else self

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Pieces):
            return NotImplemented
        arrays = ("ids", "starts", "ends", "kinds")
        same = all(np.array_equal(getattr(self, name), getattr(other, name)) for name in arrays)
        return same and self.texts == other.texts

    __hash__ = None  # type: ignore[assignment]

    def __len__(self) -> int:
        return len(self.texts)

    @overload
    def __getitem__(self, place: int) -> Piece: ...
    @overload
    def __getitem__(self, place: slice) -> Pieces: ...
    def __getitem__(self, place: int | slice) -> Piece | Pieces:
        ids, texts, starts, ends = self.ids[place], self.texts[place], self.starts[place], self.ends[place]
        if isinstance(texts, str):
            return Piece(int(ids), texts, int(starts), int(ends), KINDS[self.kinds[place]])
        return Pieces(ids, texts, starts, ends, self.kinds[place])

    def __iter__(self) -> Iterator[Piece]:
        for low in range(0, len(self), _AT_ONCE):
            part = slice(low, low + _AT_ONCE)
            columns = (self.ids[part].tolist(), self.texts[part], self.starts[part].tolist(), self.ends[part].tolist())
            for number, text, start, end, code in zip(*columns, self.kinds[part].tolist(), strict=True):
                yield Piece(number, text, start, end, KINDS[code])
