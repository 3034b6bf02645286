"""One text under the tokenizer, as text for people and scripts; every function yields pieces of output as it goes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from albert_cli.console import Table
from albert_cli.strict_json import strict_json
from albert_cli.tokenization.encoding import Encoding
from albert_cli.tokenization.tokenizer import Tokenizer
from converters.messages import escaped

HEADERS = ("id", "piece", "score", "kind", "span", "text", "type", "mask")
RIGHT_ALIGNED = (0, 2, 6, 7)


@dataclass(frozen=True)
class Record:
    """A text, or pair, and what the tokenizer made of it."""

    text: str
    pair: str | None
    encoding: Encoding

    def source(self, token: int, encoding: Encoding | None = None) -> str:
        """What the token stands for in the original text."""
        encoding = encoding or self.encoding
        text = self.pair if encoding.sequence_ids[token] == 1 else self.text
        start, end = encoding.offsets[token]
        return (text or "")[start:end]


def rows(tokenizer: Tokenizer, record: Record, encoding: Encoding, index_base: int) -> list[tuple[str, ...]]:
    """A row per token, in the order of HEADERS."""
    table: list[tuple[str, ...]] = []
    for n, number in enumerate(encoding.ids):
        score = tokenizer.segmenter.score(number)
        table.append(
            (
                str(number + index_base),
                escaped(encoding.pieces[n]),
                "" if score is None else f"{score:.4g}",
                encoding.kinds[n],
                "" if encoding.sequence_ids[n] is None else "{}:{}".format(*encoding.offsets[n]),
                escaped(record.source(n, encoding)),
                str(encoding.token_type_ids[n]),
                str(encoding.attention_mask[n]),
            )
        )
    return table


def table(rows: Sequence[Sequence[str]]) -> Table:
    """The rows under HEADERS; without the scores where no piece has one, as in a list of words and a BPE."""
    shown = [n for n, name in enumerate(HEADERS) if name != "score" or any(row[n] for row in rows)]
    right = [place for place, n in enumerate(shown) if n in RIGHT_ALIGNED]
    return Table([[row[n] for n in shown] for row in rows], [HEADERS[n] for n in shown], right)


def as_json(record: Record, index_base: int) -> dict[str, Any]:
    """Everything about the record under the field's usual names."""
    data: dict[str, Any] = {"text": record.text}
    if record.pair is not None:
        data["pair"] = record.pair
    return data | _encoding_json(record.encoding, index_base)


def _encoding_json(encoding: Encoding, index_base: int) -> dict[str, Any]:
    data: dict[str, Any] = {
        "input_ids": [number + index_base for number in encoding.ids],
        "tokens": encoding.pieces,
        "kinds": encoding.kinds,
        "offset_mapping": [list(span) for span in encoding.offsets],
        "sequence_ids": encoding.sequence_ids,
        "token_type_ids": encoding.token_type_ids,
        "attention_mask": encoding.attention_mask,
        "special_tokens_mask": encoding.special_tokens_mask,
        "truncated": encoding.truncated,
    }
    if encoding.overflowing:
        data["overflowing"] = [_encoding_json(window, index_base) for window in encoding.overflowing]
    return data


def json_lines(items: Iterable[Any]) -> Iterator[str]:
    """One JSON value per line."""
    for item in items:
        yield strict_json(item, ensure_ascii=False) + "\n"


def json_array(items: Iterable[Any]) -> Iterator[str]:
    """One JSON array, an item per line, without holding it."""
    opening = "[\n"
    for item in items:
        yield opening + strict_json(item, ensure_ascii=False)
        opening = ",\n"
    yield "[]\n" if opening == "[\n" else "\n]\n"


def id_lines(rows_of_ids: Iterable[Sequence[int]], index_base: int) -> Iterator[str]:
    """The ids of a row per line."""
    for ids in rows_of_ids:
        yield " ".join([str(number + index_base) for number in ids]) + "\n"


def token_lines(records: Iterable[Record]) -> Iterator[str]:
    """The pieces of a window per line."""
    for record in records:
        for window in record.encoding.windows():
            yield " ".join(escaped(piece) for piece in window.pieces) + "\n"
