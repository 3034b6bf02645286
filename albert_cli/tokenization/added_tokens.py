"""Added tokens: found in a text as `transformers` finds them; what stands between is cut as a text of its own.

The `tokenizers` library finds them, so that each flag means what it means there.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Sequence
from typing import Any

from albert_cli.tokenization.pieces import ADDED, Piece, Pieces
from albert_cli.tokenization.preparation import encodable
from albert_cli.tokenization.segmenters import BYTE_SPACE, Segmenter
from albert_cli.tokenization.spans import trimmed
from converters.libraries import require_library
from converters.tokenizers.files import AddedToken

_BETWEEN = "between"


class AddedTokenSegmenter:
    """A segmenter of a vocabulary with added tokens beside it.

    `normalizers`: the preparation, in the terms of the library, in which normalized tokens are looked for.
    """

    def __init__(self, inner: Segmenter, added: Sequence[AddedToken], normalizers: Sequence[dict[str, Any]]) -> None:
        require_library("tokenizers", "a tokenizer with added tokens")
        from tokenizers import Tokenizer

        self.inner = inner
        self.special_tokens, self.mark = inner.special_tokens, inner.mark
        self._by_id = {token.id: token for token in added}
        self._by_content = {token.content: token.id for token in added}
        self._looked_for = [token for token in added if token.in_text]
        flags = ("content", "single_word", "lstrip", "rstrip", "normalized", "special")
        # In the finder, what is between the tokens is one word that it does not know, of id 0.
        finder = {
            "version": "1.0",
            "added_tokens": [
                {"id": number, **{flag: getattr(token, flag) for flag in flags}}
                for number, token in enumerate(self._looked_for, 1)
            ],
            "normalizer": {"type": "Sequence", "normalizers": list(normalizers)} if normalizers else None,
            "model": {"type": "WordLevel", "vocab": {_BETWEEN * 9: 0}, "unk_token": _BETWEEN * 9},
        }
        self._finder = Tokenizer.from_str(json.dumps(finder))

    def __len__(self) -> int:
        return max(len(self.inner), 1 + max(self._by_id))

    @property
    def special_added(self) -> dict[int, str]:
        """The added tokens that are no part of a text."""
        return {number: token.content for number, token in self._by_id.items() if token.special}

    def is_added(self, piece: str) -> bool:
        return piece in self._by_content

    def ids(self, texts: Sequence[str], threads: int) -> list[list[int]]:
        texts = [encodable(text) for text in texts]
        rows = self._cut(texts)
        between = [
            text[start:end] for text, row in zip(texts, rows, strict=True) for token, start, end in row if token is None
        ]
        cut = iter(self.inner.ids(between, threads))
        parts = ([next(cut) if token is None else [token] for token, _, _ in row] for row in rows)
        return [list(itertools.chain.from_iterable(row)) for row in parts]

    def pieces(self, text: str, *, continued: bool = False) -> Pieces:
        text = encodable(text)
        parts: list[Iterable[Piece]] = []
        for number, low, high in self._cut([text])[0]:
            if number is not None:
                parts.append([Piece(number, self.piece(number), *trimmed(text, low, high), ADDED)])
                continue
            parts.append(self.inner.pieces(text[low:high], continued=continued and low == 0).moved(low))
        return Pieces.joined(parts)

    def _cut(self, texts: Sequence[str]) -> list[list[tuple[int | None, int, int]]]:
        """Each text as added tokens (id, start, end) and what is between them (None, start, end)."""
        rows = []
        for text, found in zip(texts, self._finder.encode_batch(list(texts), add_special_tokens=False), strict=True):
            row: list[tuple[int | None, int, int]] = []
            position = 0
            for number, (start, end) in zip(found.ids, found.offsets, strict=True):
                if number == 0:
                    continue
                row += [(None, position, start)] if start > position else []
                row.append((self._looked_for[number - 1].id, start, end))
                position = end
            if position < len(text) or not row:
                row.append((None, position, len(text)))
            rows.append(row)
        return rows

    def prepare(self, text: str) -> str:
        return self.inner.prepare(text)

    def piece(self, number: int) -> str:
        return self._by_id[number].content if number in self._by_id else self.inner.piece(number)

    def id_of(self, piece: str) -> int | None:
        found = self._by_content.get(piece)
        return self.inner.id_of(piece) if found is None else found

    def score(self, number: int) -> float | None:
        return None if number in self._by_id else self.inner.score(number)

    def decode(self, ids: Sequence[int]) -> str:
        words: list[str] = []
        run: list[int] = []
        for number in ids:
            if number not in self._by_id:
                run.append(number)
                continue
            words += [self.inner.decode(run)] if run else []
            run = []
            words.append(self._by_id[number].content)
        between = "" if self.mark == BYTE_SPACE else " "
        return between.join([*words, self.inner.decode(run)] if run else words)
