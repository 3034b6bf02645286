"""One text under the tokenizer, as text for people and scripts; every function yields pieces of output as it goes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from albert_cli.console import Table
from albert_cli.strict_json import strict_json
from albert_cli.tokenization.encoding import Encoding
from albert_cli.tokenization.tokenizer import Tokenizer
from converters.messages import escaped

HEADERS = ("id", "piece", "score", "kind", "span", "text", "type", "mask")
RIGHT_ALIGNED = (0, 2, 6, 7)
_AT_ONCE = 4096
_CHARACTERS_AT_ONCE = 1 << 16


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


@dataclass(frozen=True)
class TokenRows(Collection[tuple[str, ...]]):
    """A row per token, made anew whenever they are gone through; `columns`: places in HEADERS."""

    tokenizer: Tokenizer
    record: Record
    encoding: Encoding
    index_base: int
    columns: Sequence[int] = range(len(HEADERS))

    def __len__(self) -> int:
        return len(self.encoding)

    def __contains__(self, row: object) -> bool:
        return any(row == one for one in self)

    def __iter__(self) -> Iterator[tuple[str, ...]]:
        score_of = self.tokenizer.segmenter.score
        for part in self.encoding.parts():
            for n, number in enumerate(part.ids):
                score = score_of(number)
                row = (
                    str(number + self.index_base),
                    escaped(part.pieces[n]),
                    "" if score is None else f"{score:.4g}",
                    part.kinds[n],
                    "" if part.sequence_ids[n] is None else "{}:{}".format(*part.offsets[n]),
                    escaped(self.record.source(n, part)),
                    str(part.token_type_ids[n]),
                    str(part.attention_mask[n]),
                )
                yield tuple([row[column] for column in self.columns])


def table(tokenizer: Tokenizer, record: Record, encoding: Encoding, index_base: int) -> Table:
    """A row per token under HEADERS; without the scores where no piece has one, as in a list of words and a BPE."""
    ids = np.unique(encoding.tokens.ids).tolist()
    scored = any(tokenizer.segmenter.score(number) is not None for number in ids)
    shown = [n for n, name in enumerate(HEADERS) if name != "score" or scored]
    right = [place for place, n in enumerate(shown) if n in RIGHT_ALIGNED]
    rows = TokenRows(tokenizer, record, encoding, index_base, shown)
    return Table(rows, [HEADERS[n] for n in shown], right)


@dataclass(frozen=True)
class Column:
    """A list of JSON that is written part by part."""

    encoding: Encoding
    values: Callable[[Encoding], Sequence[Any]]


def as_json(record: Record, index_base: int) -> dict[str, Any]:
    """Everything about the record under the field's usual names, for `json_lines` and `json_array`."""
    data: dict[str, Any] = {"text": record.text}
    if record.pair is not None:
        data["pair"] = record.pair
    return data | _encoding_json(record.encoding, index_base)


def _encoding_json(encoding: Encoding, index_base: int) -> dict[str, Any]:
    columns: dict[str, Callable[[Encoding], Sequence[Any]]] = {
        "input_ids": lambda part: [number + index_base for number in part.ids],
        "tokens": lambda part: part.pieces,
        "kinds": lambda part: part.kinds,
        "offset_mapping": lambda part: part.offsets,
        "sequence_ids": lambda part: part.sequence_ids,
        "token_type_ids": lambda part: part.token_type_ids,
        "attention_mask": lambda part: part.attention_mask,
        "special_tokens_mask": lambda part: part.special_tokens_mask,
    }
    data: dict[str, Any] = {name: Column(encoding, values) for name, values in columns.items()}
    data["truncated"] = encoding.truncated
    if encoding.overflowing:
        data["overflowing"] = [_encoding_json(window, index_base) for window in encoding.overflowing]
    return data


def _json(item: Any) -> Iterator[str]:
    """The text of a value, columns part by part."""
    if isinstance(item, Mapping):
        for number, (key, value) in enumerate(item.items()):
            yield f"{', ' if number else '{'}{strict_json(key, ensure_ascii=False)}: "
            yield from _json(value)
        yield "}" if item else "{}"
    elif isinstance(item, Column):
        between = "["
        for part in item.encoding.parts():
            yield between + strict_json(item.values(part), ensure_ascii=False)[1:-1]
            between = ", "
        yield "[]" if between == "[" else "]"
    elif isinstance(item, list) and any(isinstance(value, Mapping) for value in item):
        for number, value in enumerate(item):
            yield ", " if number else "["
            yield from _json(value)
        yield "]"
    else:
        yield strict_json(item, ensure_ascii=False)


def json_lines(items: Iterable[Any]) -> Iterator[str]:
    """One JSON value per line."""
    for item in items:
        yield from _gathered(_json(item), "\n")


def json_array(items: Iterable[Any]) -> Iterator[str]:
    """One JSON array, an item per line, without holding it."""
    opening = "[\n"
    for item in items:
        yield from _gathered(chain([opening], _json(item)))
        opening = ",\n"
    yield "[]\n" if opening == "[\n" else "\n]\n"


def id_lines(rows_of_ids: Iterable[NDArray[np.int32]], index_base: int) -> Iterator[str]:
    """The ids of a row per line."""
    for ids in rows_of_ids:
        parts = (ids[low : low + _AT_ONCE].tolist() for low in range(0, len(ids), _AT_ONCE))
        yield from _line([str(number + index_base) for number in part] for part in parts)


def token_lines(records: Iterable[Record]) -> Iterator[str]:
    """The pieces of a window per line."""
    for record in records:
        for window in record.encoding.windows():
            yield from _line(map(escaped, part.pieces) for part in window.parts())


def _line(parts: Iterable[Iterable[str]]) -> Iterator[str]:
    """A line of words with a space between them."""
    spaced = (" " * (number > 0) + " ".join(words) for number, words in enumerate(parts))
    return _gathered(spaced, "\n")


def _gathered(pieces: Iterable[str], end: str = "") -> Iterator[str]:
    """The same text in few pieces, as each may be a write of its own."""
    held, size = [], 0
    for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size >= _CHARACTERS_AT_ONCE:
            yield "".join(held)
            held, size = [], 0
    yield "".join([*held, end])
