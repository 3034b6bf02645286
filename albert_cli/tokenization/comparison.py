"""The same text under two tokenizers, side by side."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from albert_cli.tokenization.encoding import Encoding
from albert_cli.tokenization.tokenizer import Tokenizer
from converters.messages import escaped

HEADERS = ("id", "piece", "", "id", "piece")
RIGHT_ALIGNED = (0, 3)
SAME, OTHER_ID, DIFFERENT = " ", "id", "≠"


@dataclass(frozen=True)
class Comparison:
    """A text, or pair, under two tokenizers."""

    text: str
    pair: str | None
    first: Encoding
    second: Encoding

    @property
    def equal(self) -> bool:
        return self.first.ids == self.second.ids

    def rows(self, index_base: int) -> list[tuple[str, ...]]:
        """Both sides aligned by their pieces, in the order of HEADERS; the middle column marks what differs."""
        left, right = _cells(self.first, index_base), _cells(self.second, index_base)
        matcher = difflib.SequenceMatcher(None, self.first.pieces, self.second.pieces, autojunk=False)
        table: list[tuple[str, ...]] = []
        for kind, a, b, c, d in matcher.get_opcodes():
            for n in range(max(b - a, d - c)):
                one = left[a + n] if a + n < b else ("", "")
                two = right[c + n] if c + n < d else ("", "")
                mark = DIFFERENT if kind != "equal" else SAME if one[0] == two[0] else OTHER_ID
                table.append((*one, mark, *two))
        return table

    def as_json(self, index_base: int) -> dict[str, Any]:
        data: dict[str, Any] = {"text": self.text} | ({} if self.pair is None else {"pair": self.pair})
        for name, encoding in (("first", self.first), ("second", self.second)):
            ids = [number + index_base for number in encoding.ids]
            data[name] = {"input_ids": ids, "tokens": encoding.pieces}
        return data | {"equal": self.equal}


def compare(
    first: Tokenizer, second: Tokenizer, texts: Iterable[tuple[str, str | None]], **settings: Any
) -> Iterator[Comparison]:
    """Each text or pair under both tokenizers; `settings` as for Tokenizer.encode."""
    for text, pair in texts:
        yield Comparison(text, pair, first.encode(text, pair, **settings), second.encode(text, pair, **settings))


def _cells(encoding: Encoding, index_base: int) -> list[tuple[str, str]]:
    return [
        (str(number + index_base), escaped(piece)) for number, piece in zip(encoding.ids, encoding.pieces, strict=True)
    ]
