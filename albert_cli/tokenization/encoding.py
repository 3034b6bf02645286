"""Encoding: one text or pair as a model takes it, with what each token stands for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from albert_cli.errors import TokenizerError
from albert_cli.tokenization.pieces import CODES, CONTROL, KINDS, Piece, Pieces
from converters.messages import html_table
from converters.tokenizers.template import Template

_AT_ONCE = 4096
_SPECIAL = -1
# Pieces that the short form shows.
_SHOWN = 12


@dataclass(frozen=True, eq=False, repr=False)
class Encoding:
    """A text or pair as a model takes it; every list has one entry per token.

    `offsets` are spans (start, end) in characters of the original text, or of the second where `sequence_ids` is 1; a
    special token has the span (0, 0) and no sequence. `kinds`: normal, unknown, user-defined, byte, control, added, or
    "digit-comma split". `truncated` counts the tokens left out; `overflowing` holds the further windows.

    The lists are made when they are first asked for, from columns: `tokens`, `sequences` int8 (tokens; -1 for a special
    one), `types` uint8 (tokens), `real`: the tokens before the padding.
    """

    tokens: Pieces
    sequences: NDArray[np.int8]
    types: NDArray[np.uint8]
    real: int
    truncated: int = 0
    overflowing: list[Encoding] = field(default_factory=list)

    def __repr__(self) -> str:
        more = f" … {len(self) - _SHOWN} more" if len(self) > _SHOWN else ""
        return f"<Encoding of {len(self)} tokens: {' '.join(self.pieces[:_SHOWN])}{more}>"

    def _repr_html_(self) -> str:
        """A table for notebooks, of the first tokens where there are very many."""
        part = next(self.parts(), self)
        columns = (part.ids, part.pieces, part.kinds, part.offsets, part.token_type_ids, part.attention_mask)
        return html_table(zip(*columns, strict=True), ("id", "piece", "kind", "span", "type", "mask"), title=repr(self))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Encoding):
            return NotImplemented
        mine, theirs = ((one.tokens, one.real, one.truncated, one.overflowing) for one in (self, other))
        same = np.array_equal(self.sequences, other.sequences) and np.array_equal(self.types, other.types)
        return same and mine == theirs

    __hash__ = None  # type: ignore[assignment]

    def __len__(self) -> int:
        return len(self.tokens)

    @cached_property
    def ids(self) -> list[int]:
        found: list[int] = self.tokens.ids.tolist()
        return found

    @property
    def pieces(self) -> list[str]:
        return self.tokens.texts

    @cached_property
    def kinds(self) -> list[str]:
        return [KINDS[code] for code in self.tokens.kinds.tolist()]

    @cached_property
    def offsets(self) -> list[tuple[int, int]]:
        return list(zip(self.tokens.starts.tolist(), self.tokens.ends.tolist(), strict=True))

    @cached_property
    def sequence_ids(self) -> list[int | None]:
        return [None if number == _SPECIAL else number for number in self.sequences.tolist()]

    @cached_property
    def token_type_ids(self) -> list[int]:
        found: list[int] = self.types.tolist()
        return found

    @cached_property
    def attention_mask(self) -> list[int]:
        return [1] * self.real + [0] * (len(self) - self.real)

    @cached_property
    def special_tokens_mask(self) -> list[int]:
        return [int(code == CODES[CONTROL]) for code in self.tokens.kinds.tolist()]

    def windows(self) -> Iterator[Encoding]:
        """This encoding, then the further ones."""
        yield self
        yield from self.overflowing

    def parts(self) -> Iterator[Encoding]:
        """Its tokens, some thousand at a time, so that the lists of all need not be held."""
        for low in range(0, len(self), _AT_ONCE):
            part = slice(low, low + _AT_ONCE)
            tokens = self.tokens[part]
            yield Encoding(tokens, self.sequences[part], self.types[part], min(max(0, self.real - low), len(tokens)))


def join(
    template: Template[Piece],
    first: Pieces,
    second: Pieces | None,
    *,
    truncated: int = 0,
    pad: Piece | None = None,
    pad_to: int | None = None,
) -> Encoding:
    """The encoding of pieces in a template, padded with `pad` to `pad_to` tokens; TokenizerError where it is longer."""
    parts = [(part.tokens, part.sequence, part.type) for part in template.parts(first, second)]
    real = sum(len(tokens) for tokens, _, _ in parts)
    if pad and pad_to is not None:
        if real > pad_to:
            raise TokenizerError(f"{real} tokens do not fit a length of {pad_to}; truncate first")
        padding: Sequence[Piece] = [pad] * (pad_to - real)
        parts.append((padding, None, 0))
    sizes = [len(tokens) for tokens, _, _ in parts]
    sequences = [_SPECIAL if sequence is None else sequence for _, sequence, _ in parts]
    return Encoding(
        Pieces.joined(tokens for tokens, _, _ in parts),
        np.repeat(np.array(sequences, np.int8), sizes),
        np.repeat(np.array([kind for _, _, kind in parts], np.uint8), sizes),
        real,
        truncated,
    )
