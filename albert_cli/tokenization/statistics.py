"""What a corpus looks like to a tokenizer: lengths, unknown characters, frequent pieces; one pass, constant memory."""

from __future__ import annotations

import itertools
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from albert_cli.console import Table
from albert_cli.errors import TextError
from albert_cli.tokenization.tokenizer import Tokenizer
from converters.messages import escaped

LIMITS = (128, 256, 512)
# Upper ends of the histogram's classes.
_CLASSES = (8, 16, 32, 64, 128, 256, 512, 1024)
_TEXTS_AT_ONCE = 4096
_MOST_FREQUENT = 20
_BAR = 40


def corpus_statistics(tokenizer: Tokenizer, texts: Iterable[str], *, special_tokens: bool = True) -> dict[str, Any]:
    """The figures that `albert tokenize --stats` shows, ready for JSON. Lengths count the special tokens if wanted.

    Raises TextError where there are no texts.
    """
    counts = np.zeros(len(tokenizer), np.int64)
    lengths: Counter[int] = Counter()
    unknown: Counter[str] = Counter()
    characters = 0
    around = tokenizer.template.added(pair=False) if special_tokens else 0
    iterator = iter(texts)
    while block := list(itertools.islice(iterator, _TEXTS_AT_ONCE)):
        batch = tokenizer.encode_batch(block, special_tokens=False)
        characters += sum(map(len, block))
        counts += np.bincount(batch.ids, minlength=len(counts))
        lengths.update((batch.lengths + around).tolist())
        places = np.flatnonzero(batch.ids == tokenizer.unk_id)
        for row in np.unique(np.searchsorted(batch.starts, places, side="right") - 1).tolist():
            for piece in tokenizer.segmenter.pieces(block[row]):
                if piece.kind == "unknown":
                    unknown.update(block[row][piece.start : piece.end])
    if not lengths:
        raise TextError("there is no text to take statistics of")
    tokens, unknown_tokens, rows = int(counts.sum()), int(counts[tokenizer.unk_id]), lengths.total()
    return {
        "texts": rows,
        "characters": characters,
        "tokens": tokens,
        "tokens_per_character": tokens / characters if characters else None,
        "unknown_tokens": unknown_tokens,
        "unknown_rate": unknown_tokens / tokens if tokens else 0.0,
        "unknown_characters": dict(unknown.most_common()),
        "special_tokens_per_text": around,
        "length": {
            "mean": sum(length * count for length, count in lengths.items()) / rows,
            "median": _quantile(lengths, 0.5),
            "p95": _quantile(lengths, 0.95),
            "p99": _quantile(lengths, 0.99),
            "max": max(lengths),
        },
        "longer_than": {str(limit): sum(n for length, n in lengths.items() if length > limit) for limit in LIMITS},
        "histogram": _histogram(lengths),
        "most_frequent": [
            {"id": number, "piece": tokenizer.segmenter.piece(number), "count": int(counts[number])}
            for number in np.argsort(-counts, kind="stable")[:_MOST_FREQUENT].tolist()
            if counts[number]
        ],
    }


def tables(figures: dict[str, Any]) -> Iterator[Table]:
    """The figures for people."""
    texts, ratio = figures["texts"], figures["tokens_per_character"]
    length = f"length with {figures['special_tokens_per_text']} special tokens"
    yield Table(
        [
            ("texts", f"{texts:,}"),
            ("characters", f"{figures['characters']:,}"),
            ("tokens", f"{figures['tokens']:,}"),
            ("tokens per character", "-" if ratio is None else f"{ratio:.4f}"),
            ("unknown tokens", f"{figures['unknown_tokens']:,}"),
            ("unknown rate", f"{figures['unknown_rate']:.4%}"),
            (f"{length}: mean", f"{figures['length']['mean']:.1f}"),
            *((f"{length}: {name}", f"{figures['length'][name]:,}") for name in ("median", "p95", "p99", "max")),
        ],
        right=(1,),
    )
    yield Table(
        [(f"over {limit}", f"{n:,}", f"{n / texts:.2%}") for limit, n in figures["longer_than"].items()],
        ("length", "texts", "share"),
        right=(1, 2),
    )
    widest = max(figures["histogram"].values())
    yield Table(
        [
            (name, f"{n:,}", f"{n / texts:.1%}", "█" * -(-_BAR * n // widest))
            for name, n in figures["histogram"].items()
        ],
        ("length", "texts", "share", ""),
        right=(0, 1, 2),
    )
    if figures["unknown_characters"]:
        worst = itertools.islice(figures["unknown_characters"].items(), _MOST_FREQUENT)
        yield Table(
            [(escaped(c), f"U+{ord(c):04X}", unicodedata.name(c, "-"), f"{n:,}") for c, n in worst],
            ("unknown", "code", "name", "times"),
            right=(3,),
        )
    yield Table(
        [(escaped(item["piece"]), str(item["id"]), f"{item['count']:,}") for item in figures["most_frequent"]],
        ("piece", "id", "times"),
        right=(1, 2),
    )


def _quantile(lengths: Counter[int], share: float) -> int:
    """The least length that `share` of the texts do not exceed."""
    wanted, seen = share * lengths.total(), 0
    for length in sorted(lengths):
        seen += lengths[length]
        if seen >= wanted:
            return length
    return max(lengths)


def _histogram(lengths: Counter[int]) -> dict[str, int]:
    """Texts by class of length; the classes beyond the longest text are left out."""
    classes: dict[str, int] = {}
    low = 0
    for high in (*_CLASSES, max(lengths)):
        if low <= max(lengths) and high >= low:
            classes[f"{low}-{high}"] = sum(n for length, n in lengths.items() if low <= length <= high)
            low = high + 1
    return classes
