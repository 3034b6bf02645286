"""How long texts and pairs are cut to a length."""

from __future__ import annotations

from typing import Literal

from albert_cli.errors import TokenizerError

Truncation = Literal["longest_first", "only_first", "only_second"]
TRUNCATIONS: tuple[Truncation, ...] = ("longest_first", "only_first", "only_second")


class Limit:
    """How many tokens of a text, or of two, fit a length of which `added` are special tokens.

    Raises TokenizerError where that cannot be.
    """

    def __init__(self, max_length: int | None, strategy: Truncation, *, pair: bool, added: int) -> None:
        if strategy not in TRUNCATIONS:
            raise TokenizerError(f"truncation is {strategy!r}, not one of {', '.join(TRUNCATIONS)}")
        if strategy == "only_second" and not pair:
            raise TokenizerError("truncation only_second needs a pair of texts")
        if max_length is not None and max_length <= added:
            raise TokenizerError(
                f"a maximal length of {max_length} leaves no room for text beside {added} special tokens"
            )
        self.strategy = strategy
        self.tokens = None if max_length is None else max_length - added

    def kept(self, first: int, second: int = 0) -> tuple[int, int]:
        """How many of these tokens are kept."""
        if self.tokens is None or first + second <= self.tokens:
            return first, second
        if self.strategy == "longest_first":
            # One by one from the longer, from the second where both are as long (Google's _truncate_seq_pair).
            half = self.tokens // 2
            if second <= half:
                return self.tokens - second, second
            if first <= self.tokens - half:
                return first, self.tokens - first
            return self.tokens - half, half
        side = self.strategy == "only_second"
        other = first if side else second
        if other >= self.tokens:
            long, short = ("first", "second") if side else ("second", "first")
            raise TokenizerError(
                f"the {long} text alone has {other} tokens of {self.tokens}; nothing of the {short} would be left"
            )
        return (first, self.tokens - first) if side else (self.tokens - second, second)
