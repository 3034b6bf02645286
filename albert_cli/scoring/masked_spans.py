"""Words for masked spans, by SpanBERT's span-boundary head: from the two tokens around a span (arXiv 1907.10529, 3.2).

SpanBERT is trained on the sum of two losses, that of this head (SBO) and that of the masked-word head (MLM), whose
probabilities of a word are thus multiplied: `both`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from albert_cli.errors import HeadError
from albert_cli.finite import check_finite
from albert_cli.model.pretraining_heads import PreTrainingModel
from albert_cli.scoring.batches import OnTruncate, Tick, batches, inputs, memory
from albert_cli.scoring.fill_mask import best, encode_masked, filled_in
from albert_cli.scoring.load import without_head
from albert_cli.scoring.messages import labeller, raise_if_any
from albert_cli.tokenization.batch import TokenBatch
from albert_cli.tokenization.tokenizer import Tokenizer

# Logits of one head held at once: 64 MiB of them.
_LOGITS = 2**24


class Word(NamedTuple):
    """A piece for one place of a span: its place among all, and how likely it is."""

    rank: int
    id: int
    piece: str
    probability: float


class MaskedSpan(NamedTuple):
    """Masks that stand next to each other: `start` and `end` in the text, the pieces right `before` and `after` them,
    which may be `[CLS]` and `[SEP]`, and for each mask the likeliest words by each head: `both`, `sbo` and `mlm`, or
    `sbo` alone where the model has no masked-word head."""

    start: int
    end: int
    before: str
    after: str
    places: list[dict[str, list[Word]]]


class FilledSpans(NamedTuple):
    """The spans of a text, and the text with the likeliest word at every place."""

    text: str
    spans: list[MaskedSpan]
    filled: str


class _Masks(NamedTuple):
    """All masks (n): the row of their text, the places in its ids of each and of its span's borders, its place in the
    span."""

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    places: NDArray[np.int64]


def fill_spans(
    model: PreTrainingModel,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    *,
    top: int = 5,
    on_truncate: OnTruncate = "warn",
    places: Sequence[str] | None = None,
    batch_tokens: int | None = None,
    tick: Tick | None = None,
) -> list[FilledSpans]:
    """For each text, for each place of its masked spans, the `top` likeliest pieces by each head.

    A span is masks with no other token between them. The words of a span are found each for itself, as in training.
    Probabilities are over the whole vocabulary. `places`: what messages call the texts; texts that are too long, and
    `on_truncate`, as in `fill_masks`. Raises HeadError, listing all of them, for texts without a mask, or with a span
    longer than the head knows places; and for a model without the head.
    """
    if model.sbo is None:
        raise without_head(model.config, "sbo")
    where = labeller(len(texts), places)
    tokens, in_text = encode_masked(model, tokenizer, texts, places, on_truncate)
    masks = _masks(tokens, tokenizer.mask_id)
    known = len(model.sbo.positions.weight)
    _refuse_long(masks, known, where)
    words: list[dict[str, list[Word]]] = [{}] * len(masks.rows)
    for numbers, heads in _logits(model, tokens, masks, batch_tokens, tick):
        found = {name: _words(logits, tokenizer, top) for name, logits in heads.items()}
        for at, number in enumerate(numbers):
            words[number] = {name: rows[at] for name, rows in found.items()}
    at_text = np.searchsorted(masks.rows, np.arange(len(texts) + 1))
    return [
        _filled(
            text,
            in_text[row],
            _Masks(*(values[at_text[row] : at_text[row + 1]] for values in masks)),
            words[at_text[row] : at_text[row + 1]],
            [tokenizer.segmenter.piece(int(number)) for number in tokens[row]],
            tokenizer,
        )
        for row, text in enumerate(texts)
    ]


def _masks(tokens: TokenBatch, mask_id: int) -> _Masks:
    flat = np.flatnonzero(tokens.ids == mask_id)
    rows = np.searchsorted(tokens.starts, flat, side="right") - 1
    begins = np.flatnonzero(np.diff(flat, prepend=-2) != 1)  # of runs; there are special tokens between two texts
    lengths = np.diff(begins, append=len(flat))
    first = np.repeat(flat[begins], lengths)
    starts = tokens.starts[rows]
    return _Masks(rows, flat - starts, first - 1 - starts, first + np.repeat(lengths, lengths) - starts, flat - first)


def _refuse_long(masks: _Masks, known: int, where: Callable[[int], str]) -> None:
    lengths = masks.right - masks.left - 1
    first = np.flatnonzero((masks.places == 0) & (lengths > known))
    raise_if_any(
        [f"{where(int(masks.rows[number]))} has a span of {lengths[number]} masks" for number in first],
        f"the span-boundary head knows {known} places; shorten the span, or leave out --span",
    )


def _logits(
    model: PreTrainingModel, tokens: TokenBatch, masks: _Masks, batch_tokens: int | None, tick: Tick | None
) -> Iterator[tuple[NDArray[np.int64], Mapping[str, Tensor]]]:
    """Numbers of masks (n) and the logarithms of probabilities (n, V) by each head, some at a time."""
    assert model.sbo is not None
    words = model.encoder.embeddings.words.weight
    at_once = max(1, _LOGITS // len(words))
    ends = np.searchsorted(masks.rows, np.arange(len(tokens.lengths) + 1))
    for batch in batches(tokens.lengths, model, batch_tokens):
        numbers = np.concatenate([np.arange(ends[row], ends[row + 1]) for row in batch])
        place = np.repeat(np.arange(len(batch)), ends[batch + 1] - ends[batch])
        row, column, left, right, places = (
            torch.from_numpy(values).to(words.device) for values in (place, *(values[numbers] for values in masks[1:]))
        )
        with torch.inference_mode(), memory():
            hidden = model.encoder(*inputs(tokens, batch, model)).sequence_output
            around = torch.cat([hidden[row, left], hidden[row, right]], -1)  # (n, 2H)
            own = hidden[row, column]  # (n, H)
        for low in range(0, len(own), at_once):
            part = slice(low, low + at_once)
            with torch.inference_mode(), memory():
                found = {"sbo": model.sbo.at(around[part], places[part], words).float()}
                if model.mlm is not None:
                    found["mlm"] = model.mlm(own[None, part], words)[0].float()
                for logits in found.values():
                    check_finite(logits, HeadError, lambda bad, rows: "the model's scores")
                logs = {name: logits.log_softmax(-1) for name, logits in found.items()}
                if "mlm" in logs:
                    logs = {"both": (logs["sbo"] + logs["mlm"]).log_softmax(-1), **logs}
            yield numbers[part], logs
        if tick:
            tick(len(batch), len(tokens.lengths))


def _words(logs: Tensor, tokenizer: Tokenizer, top: int) -> list[list[Word]]:
    """The `top` likeliest pieces of each row (n, V); ids without a piece are none."""
    logs = logs[:, : len(tokenizer)].cpu()
    return [
        [
            Word(rank, number, tokenizer.segmenter.piece(number), float(row[number].exp()))
            for rank, number in enumerate(ids, 1)
        ]
        for row, ids in zip(logs, best(logs, min(top, len(tokenizer))), strict=True)
    ]


def _filled(
    text: str,
    in_text: Sequence[tuple[int, int]],
    masks: _Masks,
    words: Sequence[dict[str, list[Word]]],
    pieces: Sequence[str],
    tokenizer: Tokenizer,
) -> FilledSpans:
    """The spans of one text, whose masks stand at `in_text` and whose tokens are `pieces`."""
    spans = []
    for first in np.flatnonzero(masks.places == 0).tolist():
        left, right = int(masks.left[first]), int(masks.right[first])
        last = first + right - left - 2
        place = (in_text[first][0], in_text[last][1])
        spans.append(MaskedSpan(*place, pieces[left], pieces[right], list(words[first : last + 1])))
    filled = text
    for span, heads in zip(reversed(in_text), reversed(words), strict=True):  # from the end, so that places stay
        filled = filled_in(filled, span, next(iter(heads.values()))[0].id, tokenizer)
    return FilledSpans(text, spans, filled)
