"""Encoding: one text or pair as a model takes it, with what each token stands for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from albert_cli.errors import TokenizerError
from albert_cli.tokenization.segmenters import CONTROL, Piece
from converters.tokenizers.template import Template


@dataclass(frozen=True)
class Encoding:
    """A text or pair as a model takes it; every list has one entry per token.

    `offsets` are spans (start, end) in characters of the original text, or of the second where `sequence_ids` is 1; a
    special token has the span (0, 0) and no sequence. `kinds`: normal, unknown, user-defined, byte, control, added, or
    "digit-comma split". `truncated` counts the tokens left out; `overflowing` holds the further windows.
    """

    ids: list[int]
    pieces: list[str]
    kinds: list[str]
    offsets: list[tuple[int, int]]
    sequence_ids: list[int | None]
    token_type_ids: list[int]
    attention_mask: list[int]
    special_tokens_mask: list[int]
    truncated: int = 0
    overflowing: list[Encoding] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ids)

    def windows(self) -> Iterator[Encoding]:
        """This encoding, then the further ones."""
        yield self
        yield from self.overflowing


def join(
    template: Template[Piece],
    first: Sequence[Piece],
    second: Sequence[Piece] | None,
    *,
    truncated: int = 0,
    pad: Piece | None = None,
    pad_to: int | None = None,
) -> Encoding:
    """The encoding of pieces in a template, padded with `pad` to `pad_to` tokens; TokenizerError where it is longer."""
    parts = template.parts(first, second)
    pieces = [piece for part in parts for piece in part.tokens]
    sequences = [part.sequence for part in parts for _ in part.tokens]
    types = [part.type for part in parts for _ in part.tokens]
    real = len(pieces)
    if pad and pad_to is not None:
        if real > pad_to:
            raise TokenizerError(f"{real} tokens do not fit a length of {pad_to}; truncate first")
        padding = pad_to - real
        pieces, sequences, types = pieces + [pad] * padding, sequences + [None] * padding, types + [0] * padding
    return Encoding(
        ids=[piece.id for piece in pieces],
        pieces=[piece.piece for piece in pieces],
        kinds=[piece.kind for piece in pieces],
        offsets=[(piece.start, piece.end) for piece in pieces],
        sequence_ids=sequences,
        token_type_ids=types,
        attention_mask=[int(n < real) for n in range(len(pieces))],
        special_tokens_mask=[int(piece.kind == CONTROL) for piece in pieces],
        truncated=truncated,
    )
