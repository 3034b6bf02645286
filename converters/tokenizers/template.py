"""The special tokens around a text or a pair, as data: `[CLS] A [SEP] B [SEP]`, `<s> A </s></s> B </s>`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True)
class Part(Generic[T]):
    """Tokens of one text (`sequence` 0 or 1), or special ones (None), and their token type."""

    tokens: Sequence[T]
    sequence: int | None
    type: int


@dataclass(frozen=True)
class Template(Generic[T]):
    """What stands before the first text, between the two, and after the last one.

    A token is anything: a role such as "cls", an id, a piece. `types` are the token types of the first and the second
    text; special tokens have that of the text they stand at, those between that of the first.
    """

    before: tuple[T, ...]
    between: tuple[T, ...]
    after: tuple[T, ...]
    types: tuple[int, int] = (0, 1)

    def added(self, *, pair: bool) -> int:
        """How many special tokens there are around one text, or around two."""
        return len(self.before) + len(self.between) * pair + len(self.after)

    def around(self, *, pair: bool) -> list[tuple[tuple[T, ...], tuple[T, ...]]]:
        """For each text the special tokens right before and right after it."""
        return [(self.before, self.between), ((), self.after)] if pair else [(self.before, self.after)]

    def parts(self, first: Sequence[T], second: Sequence[T] | None = None) -> list[Part[T]]:
        """The texts and the special tokens in order; parts may be empty."""
        texts = [first] if second is None else [first, second]
        return [
            part
            for sequence, (text, (left, right)) in enumerate(zip(texts, self.around(pair=len(texts) > 1), strict=True))
            for kind in (self.types[sequence],)
            for part in (Part(left, None, kind), Part(text, sequence, kind), Part(right, None, kind))
        ]

    def frame(self, first: Sequence[T], second: Sequence[T] | None = None) -> tuple[list[T], list[int]]:
        """The tokens of a text or a pair with the special ones, and the token type of each."""
        parts = self.parts(first, second)
        tokens = [token for part in parts for token in part.tokens]
        return tokens, [part.type for part in parts for _ in part.tokens]

    def map(self, function: Callable[[T], U]) -> Template[U]:
        """The same template of other tokens, such as ids in place of roles."""
        before, between, after = (tuple(map(function, part)) for part in (self.before, self.between, self.after))
        return Template(before, between, after, self.types)


CLS_A_SEP_B_SEP = Template(("cls",), ("sep",), ("sep",))
# RoBERTa has no token types: all are 0.
S_A_S_S_B_S = Template(("cls",), ("sep", "sep"), ("sep",), types=(0, 0))
