"""What `albert tokenize` prints: each method of View yields text and tables as the inputs come."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

from albert_cli.console import Table
from albert_cli.errors import TokenizerError
from albert_cli.tokenization import comparison, page, records, statistics
from albert_cli.tokenization.added_tokens import AddedTokenSegmenter
from albert_cli.tokenization.records import Record
from albert_cli.tokenization.segmenters import SentencePieceSegmenter
from albert_cli.tokenization.tokenizer import Tokenizer
from converters.messages import escaped

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Output = Iterator[str | Table]
Inputs = Iterable[tuple[str, str | None]]

_ROWS_AT_ONCE = 4096
_SAMPLED_FROM = 64  # as in Google's tokenization.py, encode_pieces


@dataclass(frozen=True)
class View:
    """A tokenizer and how its work is shown. `settings` as for Tokenizer.encode; `index_base` is added to ids."""

    tokenizer: Tokenizer
    format: str = "table"
    index_base: int = 0
    settings: dict[str, Any] = field(default_factory=dict)

    def records(self, inputs: Inputs) -> Output:
        """The tokens of each text or pair."""
        if self.format == "ids":
            yield from records.id_lines(self._id_rows(inputs), self.index_base)
            return
        encoded = (Record(text, pair, self.tokenizer.encode(text, pair, **self.settings)) for text, pair in inputs)
        if self.format == "tokens":
            yield from records.token_lines(encoded)
        elif self.format == "html":
            yield from page.page(self.tokenizer, encoded, index_base=self.index_base)
        elif self.format == "table":
            for number, record in enumerate(encoded):
                yield from self._tables(record, first=number == 0)
        else:
            yield from self._json(records.as_json(record, self.index_base) for record in encoded)

    def statistics(self, inputs: Inputs) -> Output:
        """Figures of all texts; of a pair, both texts count."""
        texts = (text for pair in inputs for text in pair if text is not None)
        wanted = self.settings.get("special_tokens", True)
        figures = statistics.corpus_statistics(self.tokenizer, texts, special_tokens=wanted)
        if self.format != "table":
            yield from self._json([figures], single=True)
            return
        for number, table in enumerate(statistics.tables(figures)):
            yield "\n" if number else ""
            yield table

    def comparison(self, other: Tokenizer, inputs: Inputs, *, only_different: bool) -> Output:
        """The texts under two tokenizers; of a file only those that differ, and how many do."""
        total = different = 0

        def shown() -> Iterator[comparison.Comparison]:
            nonlocal total, different
            for item in comparison.compare(self.tokenizer, other, inputs, **self.settings):
                total += 1
                different += not item.equal
                if not (item.equal and only_different):
                    yield item

        if self.format != "table":
            yield from self._json(item.as_json(self.index_base) for item in shown())
            return
        for item in shown():
            yield escaped(item.text) + (f" ‖ {escaped(item.pair)}" if item.pair is not None else "") + "\n"
            yield Table(item.rows(self.index_base), comparison.HEADERS, comparison.RIGHT_ALIGNED)
            yield "\n"
        share = f" ({different / total:.2%})" if total else ""
        yield f"{different:,} of {total:,} texts differ{share}\n"

    def decoded(self, lines: Iterable[str]) -> Output:
        """The text of each line of ids."""
        texts = (
            self.tokenizer.decode(_parse_ids(line, number, self.index_base)) for number, line in enumerate(lines, 1)
        )
        if self.format != "table":
            yield from self._json({"text": text} for text in texts)
            return
        for text in texts:
            yield text + "\n"

    def alternatives(self, inputs: Inputs, nbest: int | None, *, alpha: float | None, seed: int) -> Output:
        """The `nbest` likeliest ways to cut each text, or with `alpha` one drawn at random, with their scores."""
        segmenter = self.tokenizer.segmenter
        if isinstance(segmenter, AddedTokenSegmenter):
            raise TokenizerError("alternatives need a SentencePiece model without added tokens beside it")
        if not isinstance(segmenter, SentencePieceSegmenter):
            raise TokenizerError(
                "alternatives need a SentencePiece model; WordPiece, BPE and tokenizer.json know one way only"
            )
        random = Random(seed)

        def found() -> Iterator[dict[str, Any]]:
            for text in (text for pair in inputs for text in pair if text is not None):
                if alpha is None:
                    ways = segmenter.nbest(text, nbest or 1)
                else:
                    ways = [segmenter.sample(text, random, alpha=alpha, nbest=nbest or _SAMPLED_FROM)]
                yield {
                    "text": text,
                    "alternatives": [
                        {
                            "score": score,
                            "input_ids": [piece.id + self.index_base for piece in pieces],
                            "tokens": [piece.piece for piece in pieces],
                        }
                        for score, pieces in ways
                    ],
                }

        if self.format != "table":
            yield from self._json(found())
            return
        for number, item in enumerate(found()):
            yield ("\n" if number else "") + escaped(item["text"]) + "\n"
            yield Table(
                [
                    (
                        f"{way['score']:.4f}",
                        " ".join(map(escaped, way["tokens"])),
                        " ".join(map(str, way["input_ids"])),
                    )
                    for way in item["alternatives"]
                ],
                ("score", "pieces", "ids"),
                (0,),
            )

    def _id_rows(self, inputs: Inputs) -> Iterator[NDArray[np.int32]]:
        """The ids of each text, or of each of its windows."""
        in_full = ("special_in_text", "stride", "pad_to")
        fast = {key: value for key, value in self.settings.items() if key not in in_full}
        if any(self.settings.get(key) not in (None, False) for key in in_full):
            for text, pair in inputs:
                for window in self.tokenizer.encode(text, pair, **self.settings).windows():
                    yield window.tokens.ids
            return
        iterator = iter(inputs)
        while block := list(itertools.islice(iterator, _ROWS_AT_ONCE)):
            texts = [text for text, _ in block]
            pairs = [pair for _, pair in block if pair is not None] or None
            batch = self.tokenizer.encode_batch(texts, pairs, **fast)
            for row in range(len(batch)):
                yield batch[row]

    def _tables(self, record: Record, *, first: bool) -> Output:
        yield ("" if first else "\n") + escaped(record.text) + "\n"
        if record.pair is not None:
            yield escaped(record.pair) + "\n"
        for window in record.encoding.windows():
            yield records.table(self.tokenizer, record, window, self.index_base)
            if window.truncated:
                yield f"{window.truncated} tokens left out\n"

    def _json(self, items: Iterable[Any], *, single: bool = False) -> Iterator[str]:
        if single or self.format == "jsonl":
            return records.json_lines(items)
        return records.json_array(items)


def _parse_ids(line: str, number: int, index_base: int) -> list[int]:
    """Ids separated by blanks or commas, in brackets or not."""
    ids = []
    for word in line.replace(",", " ").replace("[", " ").replace("]", " ").split():
        if not word.isdecimal():
            raise TokenizerError(
                f"line {number}: {word!r} is not an id; ids are whole numbers separated by blanks or commas"
            )
        ids.append(int(word) - index_base)
    return ids
